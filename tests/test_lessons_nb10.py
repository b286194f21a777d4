"""Notebook 10's helpers: enlarged maps, the cost of heads, the live arms, figures with and without recorded runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from posekit import create_model
from posekit.analysis import quantization_bound
from posekit.course.lessons import nb10, nb10_runs
from posekit.data import CropLoader, Mannequin
from posekit.experiments.ablations import ABLATIONS
from posekit.experiments.ablations.analysis import judge
from posekit.models.simple_baseline import SimpleHead
from posekit.models.srpose import SRHead
from posekit.training import ArrayLoader


@pytest.mark.parametrize("factor", nb10.FACTORS)
def test_a_learned_map_follows_the_closed_form_and_an_interpolated_one_does_not(factor):
    bound = quantization_bound(4 / factor)
    assert nb10.reading_error("SR head", factor, samples=1000) == pytest.approx(bound, rel=0.06)
    interpolated = nb10.reading_error("interpolation", factor, samples=1000)
    # The highest of the new cells lies 1 / (2 factor) of an old cell beside the old middle: the square that is left
    # reaches from -1/(2f) to 1/2 - 1/(2f) of a cell on each axis.
    step = 0.5 / factor if factor > 1 else 0.0
    side = np.linspace(-step, 0.5 - step, 801)
    closed = 4 * np.hypot(*np.meshgrid(side, side)).mean()
    assert interpolated == pytest.approx(closed, rel=0.06)


def test_interpolating_twice_is_the_quarter_offset():
    assert nb10.same_as_quarter(noise=0.0) == 1.0
    assert 0.6 < nb10.same_as_quarter(noise=0.1) < 1.0


@pytest.mark.parametrize("channels", [32, 256])
def test_costs_are_those_of_the_networks_parts(channels):
    def params(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert nb10.head_cost("SR head", 4, channels=channels).params == params(SRHead(channels, 17))
    for factor, doublings in ((1, 0), (2, 1), (4, 2)):
        head = SimpleHead(channels, 17, widths=(channels,) * doublings)
        cost = nb10.head_cost("transposed convolutions", factor, channels=channels)
        assert cost.params == params(head)


def test_costs_meet_the_published_table():
    """SRPose, COCO: HRNet-W32 with SR head 7.98 over 7.70 G and 0.09 M more."""
    cost = nb10.head_cost("SR head", 4, channels=32)
    plain = nb10.head_cost("interpolation", 1, channels=32)
    assert (cost.macs - plain.macs) / 1e9 == pytest.approx(7.98 - 7.70, abs=0.005)
    assert cost.params / 1e6 == pytest.approx(0.09, abs=0.005)
    rows = {row["network"]: row for row in nb10.head_table(["simple_baseline_r50", "r50_srpose", "hrnet_w32_srpose"])}
    for name, backbone, head, giga in (
        ("simple_baseline_r50", 23.51, 10.49, 5.46),
        ("r50_srpose", 23.51, 1.29, 4.61),
        ("hrnet_w32_srpose", 29.305, 0.65, 8.28),
    ):
        assert rows[name]["backbone"] == pytest.approx(backbone, abs=0.005)
        assert rows[name]["head"] == pytest.approx(head, abs=0.005)
        assert rows[name]["as SRPose counts"] == pytest.approx(giga, abs=0.005)
    assert rows["simple_baseline_r50"]["training only"] == 0 < rows["r50_srpose"]["training only"]


def test_targets_of_coarser_outputs_are_averages_with_lower_peaks():
    outputs = nb10.srpose_outputs()
    assert [output.size for output in outputs] == [(8, 6), (64, 48), (64, 48), (64, 48), (256, 192)]
    assert [output.weight for output in outputs] == [1e-4, 1, 1, 1, 1]
    assert outputs[0].target.max() < 0.5 < outputs[1].target.max() < outputs[-1].target.max()
    final = outputs[-1].target
    assert np.allclose(outputs[0].target, final.reshape(8, 32, 6, 32).mean((1, 3)), atol=1e-6)


def test_arms_differ_in_the_head_alone():
    nets = {arm: nb10_runs.build(arm, seed=0).eval() for arm in nb10_runs.ARMS}
    crop = torch.zeros(1, 3, *nb10_runs.SIZE)
    shapes = [tuple(net(crop).shape) for net in nets.values()]
    assert shapes == [(1, 17, 16, 12), (1, 17, 64, 48), (1, 17, 64, 48)]
    assert [net.codec.stride for net in nets.values()] == [4, 1, 1]
    for a, b, c in zip(*(net.backbone.parameters() for net in nets.values())):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    count = [sum(p.numel() for p in net.parameters()) for net in nets.values()]
    assert count[0] == count[1] < count[2]
    assert sum(p.numel() for p in create_model("tiny_sr", input_size=nb10_runs.SIZE).parameters()) == count[2]


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> nb10_runs.Crops:
    """A few people, learned by heart: trained and tested on the same crops."""
    dataset = Mannequin("val", level="bib", view="front", scenes=6, root=tmp_path_factory.mktemp("mannequin"))
    people = dataset.trainable()
    batch = next(iter(CropLoader(people, nb10_runs.SIZE, batch_size=len(people.people))))
    train = ArrayLoader(batch.images, batch.keypoints, batch.visibility, batch_size=8)
    return nb10_runs.Crops(train, batch, people.people.select(batch.person.numpy()))


def test_a_trained_arm_is_read_in_every_way(crops):
    one = nb10_runs.train_head("SR head", crops, samples=600, seed=0)
    untrained = nb10_runs.train_head("SR head", crops, samples=1, seed=0)
    assert one.maps.shape == (len(crops.people), 17, *nb10_runs.SIZE)
    assert {"argmax", "quarter", "dark", "shift 0", "shift 1"} <= set(one.oks)
    assert one.mean("dark") > untrained.mean("dark") + 5
    # The published reading of a map at stride 1 has the quarter offset and no shift.
    assert np.array_equal(one.oks["quarter"], one.oks["shift 0"])
    assert abs(one.gain("quarter", "argmax")[0]) < 3
    figure = nb10_runs.trained_figure({"SR head": one}, crops)
    assert len(figure.get_axes()) == 3


def test_gain_is_paired():
    oks = {"quarter": np.array([51.0, 62.0, 93.0]), "argmax": np.array([50.0, 61.0, 92.0])}
    gain, low, high = nb10_runs.Trained(1, oks, np.zeros(1)).gain("quarter", "argmax")
    assert gain == pytest.approx(1.0)
    assert low == high == pytest.approx(1.0)  # every person gains one point, however different they are


def test_widget_marks_what_it_reads():
    for state in ((4, "SR head", "argmax", 0.0, 32), (8, "interpolation", "dark", 0.1, 256)):
        figure = nb10.draw_super_resolution(*state)
        left, middle, right = figure.axes
        # Where a title stands is the style's affair, and another test may have applied it.
        assert (left.get_title("left") or left.get_title()) == f"cells of {4 / state[0]:g} px"
        factor, error = middle.lines[-1].get_xydata()[0]
        kind = "interpolation" if state[1] == "interpolation" else "SR head"
        assert (factor, error) == (state[0], nb10.reading_error(kind, state[0], state[2], noise=state[3]))
        assert error <= middle.get_ylim()[1]
        widths = [bar.get_width() for bar in right.patches]
        assert widths == [nb10.head_cost(head, state[0], channels=state[4]).macs / 1e9 for head in nb10.HEADS]


# Recorded runs


def fake_runs() -> dict[str, dict[int, dict[str, float]]]:
    """Two arms of twelve, three seeds each: the loss is exactly 2 and 0.5 whatever the seed."""
    runs: dict[str, dict[int, dict[str, float]]] = {
        f"{b}, {kind}": {} for b in nb10_runs.BACKBONES for kind in nb10_runs.SCHEMES
    }
    for arm, loss in (("ResNet, simple", 2.0), ("HRNet, SRPose", 0.5)):
        runs[arm] = {seed: {nb10_runs.WITH: 50.0 + seed, nb10_runs.WITHOUT: 50.0 + seed - loss} for seed in (1, 2, 3)}
    return runs


def test_figure_draws_what_is_recorded_and_says_what_is_not():
    figure = nb10_runs.heads_figure(fake_runs())
    _, middle, bottom = figure.axes
    assert [text.get_text() for text in middle.texts] == ["not recorded yet"] * 10
    drawn = [container.lines[0].get_ydata()[0] for container in bottom.containers]
    assert drawn == pytest.approx([2.0, 0.5])
    filled = sorted(float(c.lines[0].get_ydata()[0]) for c in middle.containers)
    assert filled == pytest.approx([50.0, 51.5, 52.0, 52.0])
    published = sorted(float(line.get_ydata()[0]) for line in bottom.lines if line.get_marker() == "D")
    assert published[-4:] == pytest.approx([1.9, 1.9, 2.1, 2.2])
    assert "3 seeds" in middle.get_title(loc="left") + middle.get_title()
    empty = nb10_runs.heads_figure({arm: {} for arm in fake_runs()})
    assert len(empty.axes[1].texts) == 12
    assert set(ABLATIONS["post_processing"].arms) == set(fake_runs())


def test_published_heads_are_the_table():
    table = nb10_runs.published_heads()
    assert len(table) == 12
    assert table["HRNet", "SR"] == (75.6, 75.4)
    assert table["TransPose", "simple"] == (71.8, 69.7)


def test_comparisons_show_recorded_contrasts(monkeypatch):
    ablation = ABLATIONS["flip_shift_stride1_trained"]
    runs = {
        arm: {seed: {"AP, shift 0": 40.0 + seed, "AP, shift 1": 39.0 + seed - 0.1 * (seed == 2)} for seed in (1, 2, 3)}
        for arm in ablation.arms
    }
    cells = judge(ablation, runs, "quick").cells
    row = type("Row", (), {"cells": cells})
    monkeypatch.setattr(nb10_runs, "recorded_comparison", lambda name: row if name == ablation.name else None)
    compared = nb10_runs.comparisons()
    known = [one for one in compared if np.isfinite(one.mean)]
    assert [one.name for one in known] == ["U02  SR: shift 0 minus shift 1", "U02  SRPose: shift 0 minus shift 1"]
    assert known[0].mean == pytest.approx(1 + 0.1 / 3)
    assert known[0].low < known[0].mean < known[0].high
    assert [one.published for one in compared[:4]] == [0.7, 1.1, 1.4, 1.0]
    ax = nb10_runs.comparisons_figure(compared).axes[0]
    assert sum(text.get_text() == "not run yet" for text in ax.texts) == len(compared) - 2
