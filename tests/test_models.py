"""The catalogue: every network builds, has the shapes it promises, learns, and says what is wrong in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from posekit.codecs import GaussianHeatmap
from posekit.codecs.associative_embedding import TagMaps
from posekit.models import ModelError, Supervision, create_model, list_models, load_weights, model_options, save_weights
from posekit.models.base import widen_gaussian
from posekit.models.dpn import dilation_schedule
from posekit.models.psa import PolarizedSelfAttention

PAPERS = """
    deeppose_r50 integral_r50 simcc_r50 simcc_hrnet_w32 simple_baseline_r50 simple_baseline_r101 simple_baseline_r152
    hourglass8 cpn_r50 hrnet_w32 hrnet_w48 r50_sr r50_srpose hrnet_w32_sr hrnet_w32_srpose transpose_r_a4
    transpose_r_a4_sr transpose_r_a4_srpose hrformer_s hrformer_s_sr hrformer_s_srpose dpn1_32 dpn2_32 dpn3_32 dpn4_32
    dpn1_64 dpn2_64 dpn3_64 dpn4_64 dpn1_64_highres dpn2_64_highres dpn3_64_highres dpn4_64_highres dpn2_hrnet
    bottomup_r50 bottomup_r50_sr bottomup_hrnet_w32 bottomup_hrnet_w32_sr
"""
TINY = [name for name in list_models() if name.startswith("tiny_")]
BACKBONES = ("hrnet", "transpose", "hrformer")
VARIANTS = [  # what the options of the small networks build, beyond their defaults
    ("tiny_hrnet", {"width": 18}),
    ("tiny_simcc", {"backbone": "hrnet"}),
    *((name, {"backbone": backbone}) for name in ("tiny_sr", "tiny_srpose") for backbone in BACKBONES),
    ("tiny_srpose", {"backbone": "hrnet", "supervise": "last"}),
    ("tiny_dpn", {"highres": False}),
    ("tiny_dpn_hrnet", {"dilations": "ones", "modules": 1}),
]
BUILDS = [*((name, {}) for name in list_models()), *VARIANTS]

ATTENTION_PARTS = ("q_right", "v_right", "up", "q_left", "v_left")


def meta_model(name: str, **options) -> nn.Module:
    """A network of shapes alone, which costs neither memory nor time."""
    with torch.device("meta"):
        return create_model(name, **options)


def final_shapes(output) -> list[tuple[int, ...]]:
    return [tuple(part.shape) for part in output] if isinstance(output, tuple) else [tuple(output.shape)]


def promised_shapes(model: nn.Module, batch: int, keypoints: int) -> list[tuple[int, ...]]:
    """What the codec reads."""
    kind = type(model.codec).__name__
    if kind == "Coordinates":
        return [(batch, keypoints, 2)]
    if kind == "SimCC":
        return [(batch, keypoints, bins) for bins in model.codec.bins]
    maps = (batch, keypoints, *model.codec.heatmap_size)
    return [maps, maps] if kind == "AssociativeEmbedding" else [maps]


def test_the_list_is_the_designs():
    assert [name for name in list_models() if name not in TINY] == PAPERS.split()


def described(build: tuple[str, dict]) -> str:
    name, options = build
    return "-".join([name, *(str(value) for value in options.values())])


@pytest.mark.parametrize("build", BUILDS, ids=described)
def test_any_number_of_keypoints_and_the_smallest_size(build: tuple[str, dict]):
    name, options = build
    published = meta_model(name, **options)
    h, w = published.input_size
    assert published.codec.input_size == (h, w) and h % published.size_multiple == w % published.size_multiple == 0
    smallest = (published.size_multiple, 2 * published.size_multiple)
    model = meta_model(name, num_keypoints=5, input_size=smallest, **options)
    assert model.codec.input_size == model.input_size == smallest
    images = torch.empty(2, 3, *smallest, device="meta")
    if model.supervision is None:
        assert final_shapes(model.eval()(images)) == promised_shapes(model, 2, 5)
    else:
        outputs = model.train()(images)
        assert len(outputs) == len(model.supervision.weights)
        assert final_shapes(outputs[-1]) == promised_shapes(model, 2, 5)


KEYPOINTS = 4
PAIRS = np.array([1, 0, 3, 2])
STEP = {"hrnet_w48": 5e-5, "simcc_hrnet_w32": 2e-5}  # these overshoot with the others' step


def eight_crops(model: nn.Module) -> tuple[torch.Tensor, object, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    h, w = model.input_size
    images = torch.randn(8, 3, h, w, generator=generator)
    people = (3,) if type(model.codec).__name__ == "AssociativeEmbedding" else ()
    keypoints = torch.rand(8, *people, KEYPOINTS, 2, generator=generator) * torch.tensor([w - 1, h - 1])
    return images, *model.codec.encode(keypoints, torch.ones(keypoints.shape[:-1]))


def loss_of(model: nn.Module, images: torch.Tensor, targets, weights: torch.Tensor) -> torch.Tensor:
    output = model(images)
    if isinstance(output, list):
        return model.supervision.loss(model.codec, output, targets, weights)
    return model.codec.loss(output, targets, weights)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("build", BUILDS, ids=described)
def test_learns_saves_and_loads(tmp_path, build: tuple[str, dict]):
    """Every network at the smallest size that its strides allow and that leaves a batch of the coarsest map several
    cells: forward, backward, a falling loss on eight crops, weights through a file, flip test."""
    name, options = build
    torch.manual_seed(0)
    small = {"num_keypoints": KEYPOINTS, "input_size": (64, 64), **options}
    model = create_model(name, **small)
    images, targets, weights = eight_crops(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3 if name in TINY else STEP.get(name, 2e-4))
    losses = []
    for last in (*[False] * (7 if name in TINY else 2), True):
        loss = loss_of(model, images, targets, weights)
        losses.append(loss.item())
        if not last:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    without = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not [key for key in without if not key.endswith("relative_position_bias_table") and "stage4.1" not in key]
    assert losses[-1] < losses[0]

    save_weights(model, tmp_path / "weights.safetensors")
    again = create_model(name, **small)
    report = load_weights(again, tmp_path / "weights.safetensors")
    assert not report.ignored and not report.missing
    with torch.inference_mode():
        ours, theirs = model.eval()(images[:2]), again.eval()(images[:2])
        mirrored = model.codec.flip(model(images[:2].flip(-1)), PAIRS)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert final_shapes(mirrored) == final_shapes(ours)


@pytest.mark.parametrize(
    "build", [("tiny_cpn", {}), ("tiny_srpose", {}), ("tiny_srpose", {"backbone": "transpose"})], ids=described
)
def test_training_only_parameters_do_not_touch_the_prediction(build: tuple[str, dict]):
    name, options = build
    model = create_model(name, **options).eval()
    images = torch.randn(1, 3, *model.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model(images)
        marked = [p for key, p in model.named_parameters() if key.startswith(model.training_only)]
        for parameter in marked:
            parameter.fill_(torch.nan)
        torch.testing.assert_close(model(images), before, rtol=0, atol=0)
    assert marked


def test_transpose_computes_positions_of_other_sizes():
    built = create_model("tiny_transpose", input_size=(96, 64)).eval()
    other = create_model("tiny_transpose", input_size=(64, 64)).eval()
    report = load_weights(other, built.state_dict())
    assert "backbone.pos_embedding" in report.missing
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(built(images), other(images))


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange, units", [("final", 1), ("across", 3), ("within", 8)])
def test_exchange_units_are_those_of_table_6(exchange: str, units: int):
    model = meta_model("hrnet_w32", exchange=exchange)
    assert sum(1 for key, _ in model.named_modules() if key.endswith("fuse_layers")) == units


@pytest.mark.parametrize("branch", [1, 3])
def test_predictions_come_from_the_asked_branch(branch: int):
    model = meta_model("hrnet_w32", predict_from=branch)
    stride = 4 * 2**branch
    output = model.eval()(torch.empty(1, 3, 256, 192, device="meta"))
    assert tuple(output.shape) == (1, 17, 256 // stride, 192 // stride)
    assert model.stride == model.codec.stride == stride
    assert model.head.final_layer.in_channels == 32 * 2**branch


@pytest.mark.parametrize(
    "dilations, expected",
    [
        ("decreasing", (32, 16, 8, 4, 2, 1)),
        ("reversed", (1, 2, 4, 8, 16, 32)),
        ("ones", (1,) * 6),
        (2, (2,) * 6),
        ((3, 1), (3, 1)),
    ],
)
def test_dilations_of_a_module(dilations, expected: tuple[int, ...]):
    assert dilation_schedule(dilations) == expected
    model = meta_model("dpn2_32", dilations=dilations)
    for module in model.backbone.dpm:
        assert tuple(block.conv2.dilation[0] for block in module) == expected


def test_low_resolution_modules_hold_the_same_weights_on_a_quarter_of_the_cells():
    high, low = (meta_model("tiny_dpn", highres=highres).eval() for highres in (True, False))
    cells = []
    for model in (high, low):
        model.backbone.dpm.register_forward_hook(lambda _, args, out: cells.append(tuple(out.shape[-2:])))
        assert tuple(model(torch.empty(1, 3, 96, 64, device="meta")).shape[-2:]) == (24, 16)
    assert cells == [(24, 16), (12, 8)]
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (high, low)]
    assert shapes[0] == shapes[1]


def test_srpose_can_be_supervised_at_its_last_stage_alone():
    model = create_model("tiny_srpose", supervise="last")
    assert model.supervision is None and model.training_only == ()
    assert isinstance(model(torch.zeros(2, 3, 96, 64)), torch.Tensor)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"name": "hrnet_w3"}, "did you mean hrnet_w32"),
        ({"name": "zzzz"}, "list_models"),
        ({"name": "hrnet_w32", "exchanges": "final"}, "no option 'exchanges'; its options are exchange"),
        ({"name": "simple_baseline_r50", "exchange": "final"}, "it has none"),
        ({"name": "tiny_hrnet", "exchange": "often"}, '"final", "across" or "within"'),
        ({"name": "tiny_hrnet", "attention": "yes"}, '"psa"'),
        ({"name": "tiny_hrnet", "predict_from": 3}, "from 0 \\(finest\\) to 2"),
        ({"name": "tiny_dpn", "dilations": "sideways"}, "sideways"),
        ({"name": "tiny_srpose", "supervise": "first"}, '"all" or "last"'),
        ({"name": "tiny_sr", "backbone": "vit"}, '"resnet", "hrnet", "transpose" or "hrformer"'),
        ({"name": "tiny_simcc", "backbone": "vit"}, '"resnet" or "hrnet"'),
        ({"name": "tiny_hrnet", "width": 0}, "at least one channel"),
        ({"name": "tiny_hrnet", "width": 1.5}, r"at least one channel and whole ones, got width=1\.5"),
        ({"name": "tiny_dpn", "modules": 1.5}, r"whole number of modules, 0 or more, not 1\.5"),
        ({"name": "tiny_hrnet", "num_keypoints": 0}, "at least one keypoint"),
        ({"name": "tiny_hrnet", "num_keypoints": 1.5}, r"a whole number, got num_keypoints=1\.5"),
        ({"name": "tiny_hrnet", "num_keypoints": "a"}, "a whole number, got num_keypoints='a'"),
        ({"name": "tiny_hrnet", "num_keypoints": True}, "a whole number, got num_keypoints=True"),
        ({"name": "tiny_hrnet", "predict_from": 1.0}, r"from 0 \(finest\) to 2 \(coarsest\), not 1\.0"),
        ({"name": "tiny_hrnet", "predict_from": True}, r"from 0 \(finest\) to 2 \(coarsest\), not True"),
        ({"name": "tiny_cpn", "ohkm": 0}, "1 or more, or None, not 0"),
        ({"name": "tiny_cpn", "ohkm": -1}, "1 or more, or None, not -1"),
        ({"name": "tiny_cpn", "ohkm": 2.5}, r"1 or more, or None, not 2\.5"),
        ({"name": "tiny_cpn", "ohkm": "x"}, "1 or more, or None, not 'x'"),
        ({"name": "tiny_dpn", "dilations": True}, "a number or one number per layer, not True"),
        ({"name": "tiny_dpn", "highres": 1}, "highres of tiny_dpn is True or False, not 1"),
        ({"name": "dpn1_32", "bridge": "no"}, "bridge of dpn1_32 is True or False, not 'no'"),
        ({"name": "tiny_simcc", "split": 0}, "tiny_simcc cannot be built for 96x64: split and sigma must be positive"),
        ({"name": "tiny_simcc", "split": "a"}, "split of tiny_simcc is a number, not 'a'"),
        ({"name": "tiny_simcc", "split": float("nan")}, "split of tiny_simcc is a number, not nan"),
        (
            {"name": "tiny_transpose", "input_size": (-96, 64)},
            r"in whole pixels, such as \(256, 192\), not \(-96, 64\)",
        ),
        ({"name": "transpose_r_a4_srpose", "input_size": (256, -192)}, r"not \(256, -192\)"),
        ({"name": None}, "no network is called None"),
        ({"name": "tiny_hrnet", "input_size": (100, 64)}, "multiples of 16; 100x64 is not: use for example 96x64"),
        ({"name": "tiny_simple_baseline", "input_size": (90, 61)}, "multiples of 16"),
        ({"name": "tiny_simcc", "input_size": (90, 61)}, "multiples of 16"),
        ({"name": "tiny_hrnet", "weights": "nowhere.pth"}, "there is no file nowhere.pth"),
    ],
)
def test_wrong_calls_are_answered_in_a_sentence(arguments: dict, says: str):
    with pytest.raises(ModelError, match=says) as caught:
        create_model(**arguments)
    assert "\n" not in str(caught.value)


def test_missing_mannequin_weights_are_answered_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("posekit.models.catalog.WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match="no mannequin weights for tiny_hrnet"):
        create_model("tiny_hrnet", weights="mannequin")
    model = create_model("tiny_hrnet")
    save_weights(model, tmp_path / "tiny_hrnet.safetensors")
    again = create_model("tiny_hrnet", weights="mannequin")
    torch.testing.assert_close(again.head.final_layer.weight, model.head.final_layer.weight)


def test_images_of_a_wrong_size_are_answered_in_a_sentence():
    with pytest.raises(ModelError, match="tiny_hrnet takes heights and widths that are multiples of 16; 90x64 is not"):
        create_model("tiny_hrnet")(torch.zeros(1, 3, 90, 64))
    with pytest.raises(ModelError, match="tiny_simcc was built for 96x64 and got 64x64"):
        create_model("tiny_simcc")(torch.zeros(1, 3, 64, 64))


def test_options_are_listed_with_defaults():
    assert model_options("hrnet_w32") == {"exchange": "within", "predict_from": 0, "attention": None}
    assert model_options("dpn4_64") == {"dilations": "decreasing", "bridge": True}


def test_polarized_attention_is_the_papers_formula():
    """Equations 2 and 3 of the paper, written as sums, in the parallel layout."""
    torch.manual_seed(0)
    attention, x = PolarizedSelfAttention(6), torch.randn(2, 6, 3, 4)
    q, v, up, q_mean, v_map = (getattr(attention, f"conv_{part}").weight[:, :, 0, 0] for part in ATTENTION_PARTS)
    where = torch.einsum("oc,bchw->bohw", q, x).flatten(2).softmax(-1).view(2, 3, 4)
    channels = torch.einsum("cd,bd->bc", up, torch.einsum("dc,bchw,bhw->bd", v, x, where)).sigmoid()
    which = torch.einsum("dc,bchw->bd", q_mean, x).div(12).softmax(-1)
    places = torch.einsum("dc,bchw,bd->bhw", v_map, x, which).sigmoid()
    expected = x * channels[:, :, None, None] + x * places[:, None]
    torch.testing.assert_close(attention(x), expected)


# --- supervision ---------------------------------------------------------------------------------------------------


def test_widened_gaussians_are_the_wider_gaussians():
    codec = GaussianHeatmap((256, 192), sigma=1.4, window=None, centre="subpixel")
    keypoints = torch.tensor([[[90.3, 121.7]]], dtype=torch.float64)
    narrow, _ = codec.encode(keypoints, torch.ones(1, 1))
    wide, _ = replace(codec, sigma=2.6).encode(keypoints, torch.ones(1, 1))
    torch.testing.assert_close(widen_gaussian(narrow, 1.4, 2.6 / 1.4), wide, rtol=0, atol=5e-3)


def test_srpose_loss_is_the_published_sum():
    """Mean squared errors against averages of the final target; the low resolution term counts 1e-4."""
    model = create_model("tiny_srpose")
    images, targets, weights = torch.zeros(8, 3, 96, 64), torch.rand(8, 17, 96, 64), torch.ones(8, 17)
    outputs = model(images)
    expected = 0
    for factor, output in zip((1e-4, 1, 1, 1), outputs):
        cells = targets.shape[-1] // output.shape[-1]
        pooled = nn.functional.avg_pool2d(targets, cells) if cells > 1 else targets
        expected = expected + factor * (output - pooled).square().mean()
    torch.testing.assert_close(model.supervision.loss(model.codec, outputs, targets, weights), expected)


def test_cpn_mines_hard_keypoints_in_its_last_output_alone():
    codec = GaussianHeatmap((64, 64), ohkm=2)
    plain = replace(codec, ohkm=None)
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.rand(2, 6, 16, 16, generator=generator) for _ in range(2)]
    targets, weights = torch.rand(2, 6, 16, 16, generator=generator), torch.ones(2, 6)
    loss = Supervision("same", weights=(0.5, 1.0)).loss(codec, outputs, targets, weights)
    expected = 0.5 * plain.loss(outputs[0], targets, weights) + codec.loss(outputs[1], targets, weights)
    torch.testing.assert_close(loss, expected)
    assert loss > 0.5 * plain.loss(outputs[0], targets, weights) + plain.loss(outputs[1], targets, weights)


def test_a_single_output_where_several_are_supervised_is_answered_in_a_sentence():
    model = create_model("tiny_hourglass")
    with pytest.raises(ModelError, match="1 outputs came with 2 loss weights"):
        model.supervision.loss(model.codec, [torch.zeros(1, 17, 24, 16)], torch.zeros(1, 17, 24, 16), torch.ones(1, 17))


def test_bottom_up_networks_name_their_maps():
    model = create_model("tiny_bottomup_sr").eval()
    with torch.inference_mode():
        output = model(torch.zeros(1, 3, 64, 96))
    assert isinstance(output, TagMaps) and output.tags.shape == output.heatmaps.shape == (1, 17, 64, 96)
    torch.testing.assert_close(output.tags[..., ::4, ::4], output.tags[..., 3::4, 3::4])


def test_weights_are_channels_last():
    model = create_model("tiny_simple_baseline")
    assert model.backbone.layer2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
