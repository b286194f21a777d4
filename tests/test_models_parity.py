"""Networks against the originals: outputs, parameter names, parameter counts, and every file format.

Outputs of the original networks under a deterministic fill come from POSEKIT_PARITY; those of SimpleBaseline, CPN and
the stacked hourglass, which it does not hold, were made the same way from the public code and lie in data/.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from posekit.models import ModelError, create_model, load_weights, save_weights

OUR_GOLDENS = Path(__file__).parent / "data" / "model_outputs.npz"
TOLERANCE = 2e-5  # times the largest value of the original


@pytest.fixture(scope="session")
def fill(parity: Path):
    """The parity folder's deterministic filling of tensors by their original names."""
    spec = importlib.util.spec_from_file_location("parity_fill", parity / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def key_list(parity: Path, name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((parity / "keys" / f"{name}.json").read_text()).items()}


def filled_state(fill, keys: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """A state dict of the original's names; integer buffers, which the original computes, stay out."""
    whole = ("num_batches_tracked", "relative_position_index")
    arrays = {key: fill.fill_array(key, shape, not key.endswith(whole)) for key, shape in keys.items()}
    return {key: torch.from_numpy(np.array(array)) for key, array in arrays.items() if array is not None}


def predict(fill, name: str, state: dict[str, torch.Tensor]) -> np.ndarray:
    model = create_model(name)
    load_weights(model, state)
    with torch.inference_mode():
        output = model.eval()(torch.from_numpy(fill.golden_input()))
    return (torch.cat(list(output), dim=1) if isinstance(output, tuple) else output).numpy()


@pytest.mark.parity
@pytest.mark.parametrize(
    "name, golden, keys",
    [
        ("hrnet_w32", "official_hrnet_w32", "official_hrnet_w32"),
        ("hrnet_w32_srpose", "srpose_hrnet_w32_srpose", "srpose_hrnet_w32_srpose"),
        ("r50_srpose", "srpose_resnet50_srpose", "srpose_resnet50_srpose"),
        ("bottomup_hrnet_w32_sr", "srpose_hrnet_w32_bottomup_sr", "srpose_hrnet_w32_bottomup_sr"),
        ("transpose_r_a4", "transpose_r_a4_simple", "transpose_r_a4"),
        ("hrformer_s", "hrformer_s_simple", "srpose_hrformer_s_simple"),
    ],
)
def test_output_equals_the_original(parity: Path, fill, name: str, golden: str, keys: str):
    output = predict(fill, name, filled_state(fill, key_list(parity, keys)))
    reference = np.load(parity / f"{golden}.npz")
    if "out" in reference:
        expected, largest = reference["out"], np.abs(reference["out"]).max()
    else:
        prefix = "out0" if "out0_s4" in reference else "out"
        assert output.shape == tuple(reference[f"{prefix}_shape"])
        largest = np.abs(reference[f"{prefix}_max"]).max()
        np.testing.assert_array_equal(output.reshape(*output.shape[:2], -1).argmax(-1), reference[f"{prefix}_argmax"])
        expected, output = reference[f"{prefix}_s4"], output[:, :, 1::4, 2::4]
    assert np.abs(output - expected).max() <= TOLERANCE * largest


@pytest.mark.parity
@pytest.mark.parametrize("name", ["simple_baseline_r50", "cpn_r50", "hourglass8"])
def test_output_equals_the_original_where_parity_has_none(fill, name: str):
    with torch.device("meta"):
        ours = create_model(name).state_dict()
    original = {original_name(name, key): tuple(value.shape) for key, value in ours.items()}
    reference = np.load(OUR_GOLDENS)
    output = predict(fill, name, filled_state(fill, original))[:, :, ::4, ::4]
    assert np.abs(output - reference[name]).max() <= TOLERANCE * reference[f"{name}_max"]


def original_name(name: str, key: str) -> str:
    """Our name as the public code of SimpleBaseline, CPN and the hourglass has it."""
    part, rest = key.split(".", 1)
    return f"resnet.{rest}" if name == "cpn_r50" and part == "backbone" else rest


@pytest.mark.parity
@pytest.mark.parametrize(
    "name, keys",
    [
        ("hrnet_w32", "official_hrnet_w32"),
        ("hrnet_w48", "official_hrnet_w48"),
        ("simple_baseline_r50", "official_simplebaseline_r50"),
        ("hrnet_w32", "mmpose1x_hrnet_w32"),
        ("simple_baseline_r50", "mmpose1x_simplebaseline_r50"),
        ("hrformer_s", "srpose_hrformer_s_simple"),
        ("hrformer_s_srpose", "srpose_hrformer_s_srpose"),
        ("hrnet_w32_srpose", "srpose_hrnet_w32_srpose"),
        ("r50_srpose", "srpose_resnet50_srpose"),
        ("bottomup_r50_sr", "srpose_resnet50_bottomup_sr"),
        ("bottomup_hrnet_w32_sr", "srpose_hrnet_w32_bottomup_sr"),
        ("transpose_r_a4", "transpose_r_a4"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_key_finds_its_place(parity: Path, name: str, keys: str, wrapped: bool):
    state = {key: torch.empty(shape, device="meta") for key, shape in key_list(parity, keys).items()}
    with torch.device("meta"):
        model = create_model(name)
    entries = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}} if wrapped else state
    report = load_weights(model, entries)
    assert len(report.matched) == len(state) == len(model.state_dict())
    assert report.ignored == report.missing == ()


# models.md section 2 in millions: backbone, other, training only. Two figures there are corrected, see the comments.
PARAMETERS = {
    "hrnet_w32": (28.535552, 0.000561, 0),
    "hrnet_w48": (63.594912, 0.000833, 0),
    "simple_baseline_r50": (23.508032, 10.491665, 0),
    "simple_baseline_r101": (42.500160, 10.491665, 0),
    "simple_baseline_r152": (58.143808, 10.491665, 0),
    "cpn_r50": (23.508032, 3.477794, 0.421),
    "hourglass8": (25.437960, 0, 0),  # the port's 32.823176 less its 7.385216 unused shortcuts; 25.397 drops used ones
    "r50_sr": (23.508, 10.593, 0),
    "r50_srpose": (23.508, 1.289, 0.3177),  # 1.607 with the training-only heads
    "hrnet_w32_sr": (28.536, 0.0906, 0),
    "hrnet_w32_srpose": (29.3055, 0.649, 0.3177),
    "transpose_r_a4": (4.932, 1.053, 0),
    "transpose_r_a4_sr": (4.932, 1.155, 0),
    "transpose_r_a4_srpose": (4.932, 0.551, None),
    "hrformer_s": (7.891, 0.0006, 0),
    "hrformer_s_sr": (7.891, 0.0906, 0),
    "hrformer_s_srpose": (7.891, 0.649, 0.3177),
    "bottomup_r50": (23.508, 10.496, 0),
    "bottomup_r50_sr": (23.508, 10.598, 0),
    "bottomup_hrnet_w32": (28.536, 0.0011, 0),
    "bottomup_hrnet_w32_sr": (28.536, 0.0912, 0),
}


def split_parameters(name: str, **options) -> tuple[float, float, float]:
    with torch.device("meta"):
        model = create_model(name, **options)
    counts = [0, 0, 0]
    for key, parameter in model.named_parameters():
        counts[2 if key.startswith(model.training_only) else key.startswith("head.")] += parameter.numel()
    return tuple(count / 1e6 for count in counts)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_measured_ones(name: str):
    for ours, measured in zip(split_parameters(name), PARAMETERS[name]):
        if measured is not None:
            digits = len(str(measured).partition(".")[2])
            assert ours == pytest.approx(measured, abs=0.501 * 10**-digits)


@pytest.mark.parametrize(
    "name, keypoints, bridge, millions",
    [
        ("dpn4_64", 17, False, 3.2705),
        ("dpn4_64", 17, True, 3.3409),
        ("dpn4_64", 16, False, 3.2702),
        ("dpn4_64", 16, True, 3.3406),
        ("dpn4_32", 17, False, 0.6876),
        ("dpn4_32", 17, True, 0.7054),
        ("dpn4_32", 16, False, 0.6874),
        ("dpn4_32", 16, True, 0.7052),
        ("dpn2_hrnet", 17, False, 29.3934),
        ("dpn2_hrnet", 17, True, 29.4638),
    ],
)
def test_dpn_parameters_under_both_readings(name: str, keypoints: int, bridge: bool, millions: float):
    total = sum(split_parameters(name, num_keypoints=keypoints, bridge=bridge))
    assert total == pytest.approx(millions, abs=0.501e-4)


def test_polarized_attention_adds_what_the_leaderboard_says():
    """UDP-Pose-PSA has 70.1 M parameters and UDP-Pose, the same network without, 63.8 M."""
    extra = sum(split_parameters("hrnet_w48", attention="psa")) - sum(split_parameters("hrnet_w48"))
    assert extra == pytest.approx(70.1 - 63.8, abs=0.1)


# --- files ---------------------------------------------------------------------------------------------------------


def small() -> torch.nn.Module:
    return create_model("tiny_hrnet", num_keypoints=4)


def official_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Fresh weights under the names that an official file would use: no backbone, no head."""
    generator = torch.Generator().manual_seed(1)
    return {
        key.split(".", 1)[1]: torch.randn(value.shape, generator=generator)
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


@pytest.fixture
def foreign_modules():
    """Classes as a toolbox's logger pickles them; the module is gone by the time the file is read."""
    module = types.ModuleType("strange_toolbox")

    class History:
        def __init__(self):
            self.values = np.arange(3.0)
            self.by_name = {"loss": 1}

    History.__module__, History.__qualname__ = module.__name__, "History"
    module.History = History
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_foreign_objects_loads_without_them(tmp_path: Path, foreign_modules, zipped: bool):
    from collections import defaultdict

    model = small()
    state = official_state(model)
    named = {("head." if key.startswith("final_layer") else "backbone.") + key: value for key, value in state.items()}
    hub = {"log": foreign_modules.History(), "scores": defaultdict(list, loss=[1.0, 2.0]), "lr": np.float64(0.1)}
    path = tmp_path / "toolbox.pth"
    torch.save(
        {"meta": {"path": Path("config.py"), "seed": 3}, "state_dict": named, "message_hub": hub},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    del sys.modules["strange_toolbox"]
    report = load_weights(model, path)
    assert len(report.matched) == len(state)
    assert all(name.endswith("num_batches_tracked") for name in report.missing)
    torch.testing.assert_close(model.state_dict()["head.final_layer.bias"], state["final_layer.bias"])


class Command:
    """Asks the reader of a pickle to run a command."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("through", ["system", "exec", "subprocess"])
def test_a_hostile_file_runs_nothing(tmp_path: Path, zipped: bool, through: str):
    import subprocess

    model, mark = small(), tmp_path / "mark"
    attack = {
        "system": Command(os.system, f"touch {mark}"),
        "exec": Command(exec, f"open({str(mark)!r}, 'w')"),
        "subprocess": Command(subprocess.call, ["touch", str(mark)]),
    }[through]
    path = tmp_path / "hostile.pth"
    torch.save({"state_dict": official_state(model), "meta": attack}, path, _use_new_zipfile_serialization=zipped)
    if through == "system":
        with pytest.raises(ModelError, match="without running code"):
            load_weights(model, path)
    else:
        load_weights(model, path)
    assert not mark.exists()


def test_a_bare_hostile_pickle_is_refused(tmp_path: Path):
    mark = tmp_path / "mark"
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Command(os.system, f"touch {mark}"), protocol=2))
    with pytest.raises(ModelError, match=r"weights\.pth"):
        load_weights(small(), tmp_path / "weights.pth")
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, suffix: str):
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="broken"):
        load_weights(small(), path)


def test_a_mismatch_names_the_first_keys_and_changes_nothing():
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = official_state(model)
    state["final_layer.weight"] = torch.zeros(9, 12, 1, 1)
    state["what_is_this.weight"] = torch.zeros(1)
    del state["conv1.weight"]
    with pytest.raises(ModelError) as caught:
        load_weights(model, state)
    message = str(caught.value)
    assert "final_layer.weight is 9x12x1x1 there and 4x12x1x1 here" in message
    assert "backbone.conv1.weight" in message and "what_is_this.weight" in message and "\n" not in message
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def imagenet_names(model: torch.nn.Module, extra: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    state = {key: torch.empty(value.shape, device="meta") for key, value in model.backbone.state_dict().items()}
    return state | {key: torch.empty(shape, device="meta") for key, shape in extra.items()}


@pytest.mark.parametrize(
    "name, extra",
    [
        ("simple_baseline_r50", {"fc.weight": (1000, 2048), "fc.bias": (1000,)}),
        ("deeppose_r50", {"fc.weight": (1000, 2048), "fc.bias": (1000,)}),
        ("cpn_r50", {"fc.weight": (1000, 2048), "fc.bias": (1000,)}),
        (
            "hrnet_w32",
            {
                "incre_modules.0.0.conv1.weight": (32, 32, 1, 1),
                "downsamp_modules.0.0.weight": (256, 128, 3, 3),
                "final_layer.0.weight": (2048, 1024, 1, 1),
                "final_layer.0.bias": (2048,),
                "classifier.weight": (1000, 2048),
                "classifier.bias": (1000,),
                "stage4.2.fuse_layers.1.0.0.0.weight": (64, 32, 3, 3),
            },
        ),
    ],
)
def test_imagenet_files_fill_the_backbone_alone(name: str, extra: dict[str, tuple[int, ...]]):
    with torch.device("meta"):
        model = create_model(name)
    report = load_weights(model, imagenet_names(model, extra))
    assert report.backbone_only and set(report.ignored) == set(extra)
    assert set(report.matched) == {key for key in model.state_dict() if key.startswith("backbone.")}
    assert all(key.startswith("head.") for key in report.missing)


def test_our_weights_hold_their_configuration(tmp_path: Path):
    from posekit.models.checkpoints import read_safetensors

    model = create_model("tiny_hrnet", num_keypoints=5, input_size=(64, 64), exchange="final")
    path = tmp_path / "deep" / "weights.safetensors"
    save_weights(model, path, metadata={"run": "seven"})
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]
    metadata = read_safetensors(path)[1]
    config = json.loads(metadata["model"])
    assert metadata["run"] == "seven"
    again = create_model(**config, weights=path)
    for (key, ours), theirs in zip(model.state_dict().items(), again.state_dict().values()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=key)
    with pytest.raises(ModelError, match="tiny_hrnet"):
        create_model("tiny_hrnet", num_keypoints=6, weights=path)


def test_safetensors_of_other_makers_load_too(tmp_path: Path):
    model = small()
    save_file(official_state(model), tmp_path / "official.safetensors")
    assert load_weights(model, tmp_path / "official.safetensors").ignored == ()
