"""Cost and receptive field against torch's own counter and the networks' own gradients; published costs: test_costs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from posekit import analysis, create_model, list_models
from posekit.analysis import Layer
from posekit.codecs.associative_embedding import TagMaps

TINY = [name for name in list_models() if name.startswith("tiny_")]


class Mixed(nn.Module):
    """Grouped, dilated, transposed and linear layers, attention, and a part that never runs."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), nn.MaxPool2d(2),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(8, 8, 4, 2, 1, bias=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 5)
        self.auxiliary = nn.Conv2d(8, 7, 1)

    def forward(self, x):
        x = self.up(self.backbone(x))
        tokens = x.flatten(2).transpose(1, 2)
        return self.out(self.attention(tokens, tokens, tokens)[0])


def test_true_multiply_adds_are_half_of_torchs_flops():
    from torch.utils.flop_counter import FlopCounterMode

    model = Mixed().eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, 32, 24))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert analysis.complexity(model, (32, 24)).count == counter.get_total_flops() / 2


def test_conventions_differ_by_what_they_say():
    model = Mixed()
    costs = {name: analysis.complexity(model, (32, 24), name) for name in ("mac", "official", "mmcv", "transpose")}
    up = {name: next(layer.count for layer in cost.layers if layer.name == "up") for name, cost in costs.items()}
    assert up == {
        "mac": 8 * 8 * 16 * 48,
        "official": 4 * 8 * 8 * 16 * 48,
        "mmcv": up["mac"],
        "transpose": 4 * up["mac"],
    }
    norm = {name: next(layer.count for layer in c.layers if layer.name == "backbone.1") for name, c in costs.items()}
    assert norm == {"mac": 0, "official": 0, "mmcv": 2 * 8 * 16 * 12, "transpose": 4 * 8 * 16 * 12}
    attention = {
        name: next(layer.count for layer in c.layers if layer.name == "attention") for name, c in costs.items()
    }
    tokens, width = 192, 8
    assert attention["mac"] == 4 * tokens * width**2 + 2 * tokens**2 * width
    assert attention["mmcv"] == 0


def test_parameters_are_split_and_the_network_is_left_alone():
    model = Mixed().train()
    model.up.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost = analysis.complexity(model, (32, 24), training_only=("auxiliary.",))
    assert cost.params == sum(p.numel() for p in model.parameters())
    assert cost.params_training_only == cost.params_unused == 8 * 7 + 7
    assert cost.params_backbone == sum(p.numel() for p in model.backbone.parameters())
    assert model.training and model.backbone.training and not model.up.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", TINY)
def test_layers_add_up_to_the_network(name):
    model = create_model(name)
    for cost in analysis.complexities(model).values():
        assert sum(layer.params for layer in cost.layers) == cost.params == sum(p.numel() for p in model.parameters())
        assert sum(layer.count for layer in cost.layers) == pytest.approx(cost.count, rel=1e-12)
        parts = {"backbone": cost.params_backbone, "other": cost.params_other}
        parts["training-only"] = cost.params_training_only
        for part, params in parts.items():
            assert sum(layer.params for layer in cost.layers if layer.part == part) == params
        assert not any(layer.count for layer in cost.layers if layer.part == "training-only")


def chain(dilations, kernel):
    channels = [3] + [2] * len(dilations)
    layers = []
    for a, b, d in zip(channels, channels[1:], dilations, strict=False):
        layers += [nn.Conv2d(a, b, kernel, padding=d * (kernel // 2), dilation=d), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("modules", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("order", ["decreasing", "increasing"])
def test_dpm_formula_calculator_and_gradient_agree(kernel, modules, order):
    formula = (kernel - 1) * (2**modules - 1) + 1
    layers = analysis.dpm_layers(modules, kernel)
    layers = layers if order == "decreasing" else layers[::-1]
    assert analysis.dpm_receptive_field(modules, kernel) == analysis.receptive_field(layers).size == formula
    field = analysis.receptive_field(
        chain([layer.dilation for layer in layers], kernel), input_size=(formula + 4, formula + 6)
    )
    assert (field.height, field.width, field.clipped) == (formula, formula, False)
    assert field.mask.sum() == formula**2


def test_strides_pooling_and_start_against_the_gradient():
    layers = [Layer(7, 2), Layer(3, 2), Layer(3), Layer(3, 2, 2), Layer(1), Layer(4, 2, padding=0)]
    net = nn.Sequential(
        nn.Conv2d(3, 2, 7, 2, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(2, 2, 3, 1, 1), nn.GELU(),
        nn.Conv2d(2, 2, 3, 2, 2, dilation=2), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 4, 2),
    )  # fmt: skip
    reach = analysis.receptive_field(layers)
    field = analysis.receptive_field(net, input_size=(256, 256), cell=(3, 5))
    assert (field.height, field.width) == (reach.size, reach.size) and not field.clipped
    rows, columns = field.mask.any(1).nonzero()[0], field.mask.any(0).nonzero()[0]
    assert (rows[0] + rows[-1]) / 2 == reach.start + 3 * reach.jump
    assert (columns[0] + columns[-1]) / 2 == reach.start + 5 * reach.jump


def whole(field, size):
    return (field.height, field.width) == tuple(size) and field.clipped and field.mask.all()


@pytest.mark.parametrize("name", [*TINY, "tiny_hrnet with psa"])
def test_every_network_has_a_receptive_field(name):
    name, _, attention = name.partition(" with ")
    model = create_model(name, **({"attention": attention} if attention else {}))
    field = analysis.receptive_field(model, input_size=model.input_size)
    assert whole(field, model.input_size), "all of the small networks see a crop of their own size whole"


@pytest.mark.parametrize(("dilations", "size"), [("decreasing", 275), ("ones", 67)])
def test_small_dpn_sees_what_its_dilations_say(dilations, size):
    field = analysis.receptive_field(create_model("tiny_dpn", dilations=dilations), input_size=(size + 13, size + 29))
    assert (field.height, field.width, field.clipped) == (size, size, False)


class Gated(nn.Module):
    """Thirty gates in a row, each looking one pixel further: a product of 2^30 factors, and a difference of two."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(30))

    def forward(self, x):
        for conv in self.convs:
            x = x * torch.sigmoid(conv(x)) + x * conv(x)
        return x - x.neg()


def test_gates_neither_overflow_nor_cancel():
    field = analysis.receptive_field(Gated(), input_size=(65, 67))
    assert (field.height, field.width, field.clipped) == (61, 61, False)


class Windows(nn.Module):
    """Attention inside windows of 4x4, written with products and a softmax, or with torch's function."""

    def __init__(self, fused):
        super().__init__()
        self.fused, self.qkv = fused, nn.Conv2d(3, 6, 1)

    def forward(self, x):
        h, w = x.shape[2] // 4, x.shape[3] // 4
        x = self.qkv(x).view(6, h, 4, w, 4).permute(1, 3, 2, 4, 0).reshape(h * w, 16, 6)
        query, key, value = x.split(2, dim=-1)
        if self.fused:
            x = nn.functional.scaled_dot_product_attention(query, key, value)
        else:
            x = (query @ key.transpose(1, 2)).softmax(-1) @ value
        return x.view(h, w, 4, 4, 2).permute(4, 0, 2, 1, 3).reshape(1, 2, 4 * h, 4 * w)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_joins_its_tokens_and_no_others(fused):
    field = analysis.receptive_field(Windows(fused), input_size=(24, 16), cell=(9, 5))
    inside = torch.zeros(24, 16, dtype=torch.bool)
    inside[8:12, 4:8] = True
    assert (field.mask == inside.numpy()).all() and not field.clipped


def test_vectors_see_what_any_of_them_sees():
    head = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 20 * 12, 4))
    assert whole(analysis.receptive_field(head, input_size=(20, 12)), (20, 12))


class Tagged(nn.Module):
    def __init__(self):
        super().__init__()
        self.heatmaps, self.tags = nn.Conv2d(3, 2, 5, padding=2), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return TagMaps(self.heatmaps(x), self.tags(x))


def test_of_heatmaps_and_tags_the_heatmaps_count():
    assert analysis.receptive_field(Tagged(), input_size=(16, 16)).height == 5


@pytest.mark.parametrize(("factor", "says"), [(0.0, "zero everywhere"), (1e308, "not finite")])
def test_a_field_that_cannot_be_read_is_an_error(factor, says):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(x) * factor * factor

    with pytest.raises(ValueError, match=says):
        analysis.receptive_field(Scaled(), input_size=(8, 8))


def test_effective_field_lies_inside_the_theoretical_one():
    torch.manual_seed(0)
    net = chain([4, 2, 1], 3).train()
    theoretical = analysis.receptive_field(net, input_size=(41, 41))
    effective = analysis.effective_receptive_field(net, input_size=(41, 41), samples=4)
    assert effective.sum() == pytest.approx(1)
    assert effective[~theoretical.mask].max() == 0
    assert 1 < analysis.effective_size(effective) < theoretical.height
    assert net.training and all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(("dilation", "share"), [(32, 0.11), (16, 0.37), (8, 0.65), (1, 0.952)])
def test_live_taps_by_counting_ones(dilation, share):
    ones = torch.nn.functional.conv2d(
        torch.ones(1, 1, 32, 24), torch.ones(1, 1, 3, 3), padding=dilation, dilation=dilation
    )
    assert analysis.live_tap_share(dilation, (32, 24)) == pytest.approx(float(ones.mean()) / 9)
    assert analysis.live_tap_share(dilation, (32, 24)) == pytest.approx(share, abs=0.005)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="flops"):
        analysis.complexity(Mixed(), (32, 24), "flops")
    with pytest.raises(ValueError, match="input_size"):
        analysis.complexity(Mixed())
    vectors = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
    with pytest.raises(ValueError, match="no cell"):
        analysis.receptive_field(vectors, input_size=(8, 8), cell=(0, 0))
    with pytest.raises(ValueError, match="needs maps"):
        analysis.receptive_field(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Unflatten(1, (1, 2))), input_size=(8, 8))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Layer(0), "kernel is a whole number from 1 up, not 0"),
        (lambda: Layer(3, stride=0), "stride is a whole number from 1 up, not 0"),
        (lambda: Layer(3, dilation=-2), "dilation is a whole number from 1 up, not -2"),
        (lambda: Layer(3, padding=-1), "padding is a whole number from 0 up, not -1"),
        (lambda: analysis.dpm_receptive_field(-1, 3), "modules is .* not -1"),
        (lambda: analysis.dpm_receptive_field(1.5, 3), r"modules is .* not 1\.5"),
        (lambda: analysis.dpm_receptive_field(3, 0), "kernel is .* not 0"),
        (lambda: analysis.dpm_layers(True), "modules is .* not True"),
        (lambda: analysis.live_tap_share(-1, (4, 4)), "dilation is .* not -1"),
        (lambda: analysis.live_tap_share(1, (0, 3)), "height is .* not 0"),
        (lambda: analysis.live_tap_share(1, (4, 4), kernel=2), "odd, got kernel=2"),
    ],
)
def test_layers_that_cannot_be_are_answered_in_a_sentence(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_probe_is_as_large_as_the_network_was_built_for():
    model = create_model("tiny_simcc", input_size=(64, 64)).eval()
    assert analysis.receptive_field(model).mask.shape == (64, 64)
    assert analysis.effective_receptive_field(model, samples=1).shape == (64, 64)
    assert analysis.receptive_field(nn.Conv2d(3, 2, 3)).mask.shape == (256, 192)
