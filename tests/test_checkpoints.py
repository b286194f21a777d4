"""What files from elsewhere hold besides a whole network: backbones alone, paths nobody reads, containers, damage."""

from __future__ import annotations

import collections
import io
import os
import pickle
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch

from posekit.models import ModelError, create_model, load_weights, save_weights
from posekit.models.own_files import read_safetensors


def meta_model(name: str, **options) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name, **options)


def meta_entries(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def imagenet_hrnet() -> dict[str, torch.Tensor]:
    """Names and shapes of an ImageNet HRNet-W32: all four outputs, a classifier behind them."""
    trunk = meta_model("hrnet_w32_srpose").backbone.state_dict()  # the network that computes all four outputs
    classifier = {"incre_modules.0.0.conv1.weight": (32, 32, 1, 1), "classifier.weight": (1000, 2048)}
    return trunk | meta_entries(classifier)


def imagenet_resnet() -> dict[str, torch.Tensor]:
    return meta_model("simple_baseline_r50").backbone.state_dict() | meta_entries({"fc.weight": (1000, 2048)})


def test_a_whole_networks_file_does_not_pass_for_a_backbone():
    """HRNet's pose files share all but the head with the SR head's network."""
    state = {
        name.removeprefix("backbone.").removeprefix("head."): v
        for name, v in meta_model("hrnet_w32").state_dict().items()
    }
    state = {name: torch.zeros(value.shape) for name, value in state.items()}
    with pytest.raises(ModelError, match=r"no place in the network \(final_layer.weight, final_layer.bias\)"):
        load_weights(create_model("hrnet_w32_sr"), state)


@pytest.mark.parametrize(
    "name, options, file",
    [
        *(("hrnet_w32", {"predict_from": branch}, imagenet_hrnet) for branch in (1, 2, 3)),
        ("hrnet_w32", {"exchange": "final"}, imagenet_hrnet),
        ("hrnet_w32", {"exchange": "across"}, imagenet_hrnet),
        ("hrnet_w32", {"attention": "psa"}, imagenet_hrnet),
        ("hrnet_w32", {"attention": "psa_released", "exchange": "final"}, imagenet_hrnet),
        ("dpn2_hrnet", {}, imagenet_hrnet),
        ("transpose_r_a4", {}, imagenet_resnet),
    ],
)
def test_pretrained_backbones_reach_every_network_on_them(name: str, options: dict, file):
    model, entries = meta_model(name, **options), file()
    report = load_weights(model, entries)
    assert report.backbone_only and len(report.matched) + len(report.ignored) == len(entries)
    new = ("head.", "backbone.bridge.", "backbone.dpm.", "backbone.conv2.0.", "backbone.conv2.1.")
    new += ("backbone.reduce.", "backbone.global_encoder.", "backbone.pos_embedding")
    assert report.missing and all(key.startswith(new) or ".attention." in key for key in report.missing)
    del entries["layer1.0.conv2.weight"]  # what the trunk does need is still asked for
    with pytest.raises(ModelError, match="1 entry is missing from the file"):
        load_weights(model, entries)


def test_a_whole_file_of_other_exchange_units_is_still_refused():
    entries = create_model("tiny_hrnet").state_dict()
    with pytest.raises(ModelError, match="have no place in the network"):
        load_weights(create_model("tiny_hrnet", exchange="final"), entries)


def test_half_of_an_encoder_is_not_taken_for_a_backbone():
    entries = {k: v for k, v in create_model("tiny_transpose").state_dict().items() if not k.startswith("head.")}
    del entries["backbone.reduce.weight"]
    with pytest.raises(ModelError, match=r"1 entry is missing from the file \(backbone.reduce.weight\)"):
        load_weights(create_model("tiny_transpose"), entries)


def test_attention_keeps_its_first_values_beside_a_backbone_without_it():
    model = create_model("tiny_hrnet", attention="psa")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    entries = {k: v + 1 for k, v in create_model("tiny_hrnet").backbone.state_dict().items()}
    report = load_weights(model, entries)
    gates = {key for key in before if ".attention." in key}
    assert gates and gates < set(report.missing) and not gates & set(report.matched)
    for key, value in model.state_dict().items():
        kept = key in gates or key.startswith("head.")
        assert torch.equal(value, before[key] if kept else entries[key.removeprefix("backbone.")])
    one = min(gates)
    with pytest.raises(ModelError, match=f"{len(gates) - 1} entries are missing from the file"):
        load_weights(model, entries | {one.removeprefix("backbone."): before[one]})


def test_hrformer_files_may_lack_the_paths_nobody_reads():
    model = meta_model("hrformer_s")
    entries = {k.partition(".")[2]: v for k, v in model.state_dict().items()}
    paths = tuple(f"stage4.1.fuse_layers.{row}." for row in (1, 2, 3))
    short = {k: v for k, v in entries.items() if not k.startswith(paths)}
    report = load_weights(model, short)
    assert len(report.unread) == len(entries) - len(short) > 100 and not report.backbone_only
    assert set(report.unread) == set(report.missing) and f"{len(report.unread)} of them read by nobody" in str(report)
    for needed in ("stage4.1.fuse_layers.0.1.0.weight", "stage4.0.fuse_layers.1.0.0.0.weight"):
        with pytest.raises(ModelError, match="1 entry is missing"):
            load_weights(model, {k: v for k, v in short.items() if k != needed})
    with pytest.raises(ModelError, match="are missing"):  # SRPose reads all four outputs
        load_weights(meta_model("hrformer_s_srpose"), short)


def test_an_entry_of_another_shape_is_counted_once():
    with pytest.raises(ModelError) as caught:
        load_weights(
            create_model("tiny_hrnet", num_keypoints=5), create_model("tiny_hrnet", num_keypoints=4).state_dict()
        )
    assert "2 entries have another shape" in str(caught.value) and "missing" not in str(caught.value)
    entries = create_model("tiny_hrnet").state_dict() | {"stranger": torch.zeros(1)}
    with pytest.raises(ModelError, match="1 entry has no place in the network"):
        load_weights(create_model("tiny_hrnet"), entries)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.03, 0.5, 0.97])
def test_a_file_cut_short_is_called_damaged(tmp_path: Path, zipped: bool, kept: float):
    path = tmp_path / "cut.pth"
    torch.save(create_model("tiny_hrnet").state_dict(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ModelError, match=r"cut\.pth is damaged or not a torch file; download it again"):
        load_weights(create_model("tiny_hrnet"), path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5])
def test_a_file_of_ours_cut_short_is_named_with_its_folder(tmp_path: Path, kept: float):
    path = tmp_path / "cut.safetensors"
    save_weights(create_model("tiny_hrnet"), path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    for read in (lambda: create_model("tiny_hrnet", weights=path), lambda: read_safetensors(path)):
        with pytest.raises(ModelError, match=rf"^{re.escape(str(path))} is no whole .*damaged; copy it again$"):
            read()


def test_a_network_is_not_created_with_a_random_head(tmp_path: Path):
    model = create_model("tiny_hrnet")
    path = tmp_path / "backbone.pth"
    torch.save(model.backbone.state_dict(), path)
    with pytest.raises(ModelError, match=r"backbone\.pth holds a backbone alone.*posekit\.load_weights.*--init"):
        create_model("tiny_hrnet", weights=path)
    assert load_weights(model, path).backbone_only
    save_weights(model, tmp_path / "whole.safetensors")
    create_model("tiny_hrnet", weights=tmp_path / "whole.safetensors")


@pytest.fixture(scope="module")
def reversed_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("own") / "fin.safetensors"
    save_weights(create_model("tiny_dpn", num_keypoints=5, input_size=(64, 64), dilations="reversed"), path)
    return path


def test_our_files_say_how_their_network_is_built(reversed_file: Path):
    known = create_model("tiny_dpn", num_keypoints=5, input_size=(64, 64), dilations="reversed")
    load_weights(known, reversed_file)
    again = create_model("tiny_dpn", weights=reversed_file)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.eval()(images), known.eval()(images)) and again.config == known.config
    other = create_model("tiny_dpn", num_keypoints=5)  # dilations change no shape, so only the options tell
    load_weights(other, reversed_file)
    assert not torch.allclose(other.eval()(images), known(images), rtol=0.01)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "tiny_dpn",
            {"dilations": "ones"},
            "fin.safetensors holds tiny_dpn with dilations='reversed' and not 'ones'; ",
        ),
        ("tiny_dpn", {"input_size": (96, 64)}, r"input_size=\[64, 64\] and not \[96, 64\]; leave input_size out, or "),
        ("tiny_dpn", {"modules": 2}, "modules=1 and not 2; leave modules out, or fill another network on purpose"),
        ("tiny_dpn", {"num_keypoints": 17}, "num_keypoints=5 and not 17; take people of 5 keypoints or other weights"),
        ("tiny_hrnet", {}, "fin.safetensors holds tiny_dpn, not tiny_hrnet"),
        ("tiny_dpn", {"dilations": "reversed", "weights": "mannequin"}, "dilations='decreasing' and not 'reversed'"),
        ("tiny_dpn", {"highres": False, "weights": "mannequin"}, "highres=True and not False"),  # not in that file
    ],
)
def test_what_contradicts_our_file_is_refused(reversed_file: Path, name: str, options: dict, says: str):
    with pytest.raises(ModelError, match=says) as caught:
        create_model(name, **{"weights": reversed_file, **options})
    assert "\n" not in str(caught.value)


def test_a_file_without_our_description_leaves_the_options_free(tmp_path: Path):
    from safetensors.torch import save_file

    model = create_model("tiny_dpn", dilations=(1, 2, 3, 4, 5))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "bare.safetensors")
    create_model("tiny_dpn", dilations="ones", weights=tmp_path / "bare.safetensors")
    save_weights(model, tmp_path / "own.safetensors")
    create_model("tiny_dpn", dilations=(1, 2, 3, 4, 5), weights=tmp_path / "own.safetensors")  # a list in the file


@pytest.mark.parametrize("size", [(256.5, 192), "ab", (256,), 256, (256, 192, 3), (float("nan"), 64), ("256", "192")])
def test_sizes_that_are_not_two_whole_numbers_are_answered_in_a_sentence(size):
    with pytest.raises(ModelError, match=r"tiny_hrnet takes input_size as \(height, width\) in whole pixels"):
        create_model("tiny_hrnet", input_size=size)


class Command:
    """Asks the reader of a pickle to call a function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Lets what one call returns be called by the next."""


def strange_containers() -> tuple[types.ModuleType, list]:
    """Filled objects of classes that exist only while the file is written, with attributes of their own."""
    module = types.ModuleType("strange_containers")
    filled = []
    for base in (dict, list, collections.OrderedDict):
        kind = type(f"Strange{base.__name__}", (base,), {"__module__": module.__name__})
        setattr(module, kind.__name__, kind)
        one = kind([("a", 1), ("b", 2)])
        one.note = "an attribute"
        filled.append(one)
    return module, [*filled, collections.deque([1, 2, 3], maxlen=2)]


@pytest.mark.parametrize("which", range(4), ids=["dict", "list", "OrderedDict", "deque"])
def test_foreign_containers_do_not_stop_a_file(tmp_path: Path, monkeypatch, which: int):
    module, filled = strange_containers()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = create_model("tiny_hrnet")
    path = tmp_path / "toolbox.pth"
    entries = dict(source.named_parameters()) | dict(source.named_buffers())
    torch.save({"meta": filled[which], "state_dict": entries}, path)
    monkeypatch.delitem(sys.modules, module.__name__)
    model = create_model("tiny_hrnet")
    assert len(load_weights(model, path).matched) == len(entries)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[key], rtol=0, atol=0)


@pytest.mark.parametrize("through", ["system", "eval", "exec", "Popen", "getattr"])
def test_beside_a_foreign_container_nothing_runs(tmp_path: Path, through: str):
    mark = tmp_path / "mark"
    attack = {
        "system": Command(os.system, f"touch {mark}"),
        "eval": Command(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Command(exec, f"open({str(mark)!r}, 'w')"),
        "Popen": Command(subprocess.Popen, ["touch", str(mark)]),
        "getattr": Command(Command(getattr, mark, "touch")),
    }[through]
    path = tmp_path / "hostile.pth"
    torch.save(
        {"meta": [collections.deque([1, 2]), attack], "state_dict": create_model("tiny_hrnet").state_dict()}, path
    )
    try:
        load_weights(create_model("tiny_hrnet"), path)
    except ModelError as error:
        assert "without running code" in str(error)
    assert not mark.exists()
    if through != "Popen":  # which would run beside the test
        torch.load(path, weights_only=False)
        assert mark.exists()  # so the file is one that a careless reader obeys


def torch_zip(pickled: bytes, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as torch writes it, around a pickle of our own."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


def torch_legacy(pickled: bytes) -> bytes:
    """The same in torch's format before 2020."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    return b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system)) + pickled


DEQUE = b"](ccollections\ndeque\n)R(K\x01ee0"  # a filled deque, taken off the stack again: POP is no torch instruction
FOREIGN = b"cstrange\nThing\n)R(K\x01e"  # a container that only the second reader takes
DOUBLED = b")" + b"q\x00h\x00\x86" * 60  # ((), ()) and so on: 2^60 ways through it
DEEP = b")" + b"\x85" * 300_000
BOMBS = {
    "a hash without end": b"}" + DOUBLED + b"K\x01s",
    "a hash too deep for the machine's stack": b"}" + DEEP + b"K\x01s",
    "a set of it": b"cbuiltins\nset\n](" + DOUBLED + b"e\x85R",
    "a text without end": b"]" + b"q\x00](h\x00h\x00e" * 60 + b")R",
    "memory for a memo": b"Nr\xff\xff\xff\x7f",
    "memory for bytes": b"cbuiltins\nbytearray\n\x8a\x08" + b"\xff" * 7 + b"\x0f\x85R",
    "memory for a string": b"\x8d" + b"\xff" * 7 + b"\x3f",
    "a storage without end": b"ctorch.storage\nUntypedStorage\n\x8a\x08" + b"\xff" * 7 + b"\x0f\x85R",
    "an old instance": b"(ios\nsystem\n",
    "an old object": b"(cos\nsystem\nX\x04\x00\x00\x00trueo",
    "a new object": b"cbuiltins\nobject\n)}\x92",
    "a name from the stack": b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R",
    "a dotted name": b"\x8c\x08builtins\x8c\x0deval.__call__\x93",
    "the extension registry": b"\x82\x01",
    "a text as persistent id": b"Pfoo\n",
    "a module as persistent id": b"(X\x06\x00\x00\x00modulecstrange\nThing\nX\x01\x00\x00\x00aX\x01\x00\x00\x00btQ",
    "state for a class": b"ctorch\nTensor\n}X\x01\x00\x00\x00aK\x01sb",
    "too little on the stack": b"\x86",
    "a deque taken away": DEQUE,
}


@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.parametrize("behind", [b"", b"](" + FOREIGN], ids=["alone", "behind a foreign container"])
@pytest.mark.parametrize("wrap", [torch_zip, torch_legacy, bytes], ids=["zip", "legacy", "bare"])
def test_files_made_to_break_the_reader_get_a_sentence(tmp_path: Path, what: str, behind: bytes, wrap):
    body = behind + BOMBS[what] + (b"e" if behind else b"")
    path = tmp_path / "hostile.pth"
    path.write_bytes(wrap(b"\x80\x02" + body + b"."))
    with pytest.raises(ModelError, match=r"hostile\.pth") as caught:
        load_weights(create_model("tiny_deeppose"), path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_an_archive_that_unpacks_to_far_more_than_it_is_stays_packed(tmp_path: Path):
    text = b"\x80\x02X" + (50_000_000).to_bytes(4, "little") + b"a" * 50_000_000 + b"."
    (tmp_path / "bomb.pth").write_bytes(torch_zip(text, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(ModelError, match=r"bomb\.pth is damaged or not a torch file"):
        load_weights(create_model("tiny_deeppose"), tmp_path / "bomb.pth")


def test_a_file_that_holds_itself_ends(tmp_path: Path):
    entries: dict = {"w": torch.zeros(1)}
    entries["state_dict"] = entries
    torch.save(entries, tmp_path / "circle.pth")
    with pytest.raises(ModelError, match=r"circle\.pth does not fit tiny_deeppose"):
        load_weights(create_model("tiny_deeppose"), tmp_path / "circle.pth")


@pytest.mark.parametrize(
    "change, kind",
    [
        (torch.Tensor.to_sparse, "sparse or nested"),
        (lambda t: torch.nested.nested_tensor(list(t[:2])), "sparse or nested"),
        (lambda t: t.to(torch.complex64), "quantized or complex"),
        (lambda t: t.to("meta"), "without numbers"),
    ],
)
def test_entries_that_are_no_plain_tensors_are_named_and_nothing_is_copied(change, kind: str):
    model = create_model("tiny_deeppose")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    entries = {key: value + 1 for key, value in before.items()}
    entries["backbone.conv1.weight"] = change(entries["backbone.conv1.weight"])
    with pytest.raises(ModelError, match=rf"1 entry is no plain tensor \(backbone\.conv1\.weight is {kind}\)"):
        load_weights(model, entries)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_a_files_names_are_shown_on_one_line_and_cut():
    entries = create_model("tiny_deeppose").state_dict() | {"line\n" * 100: torch.zeros(1)}
    with pytest.raises(ModelError, match=r"has no place in the network \(line\\nline") as caught:
        load_weights(create_model("tiny_deeppose"), entries)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
