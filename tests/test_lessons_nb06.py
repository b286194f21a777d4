"""Arithmetic and drawings of notebook 06."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from posekit import analysis, create_model
from posekit.analysis import Layer
from posekit.course.lessons import nb06
from posekit.experiments.tasks import distant_cue
from posekit.viz import figure_png


@pytest.mark.parametrize(
    "layers",
    [
        [Layer(3)],
        [Layer(7, stride=2), Layer(3, stride=2), Layer(3, dilation=4), Layer(3)],
        analysis.dpm_layers(4),
        [Layer(5, dilation=3), Layer(3, stride=3), Layer(1)],
    ],
)
def test_gradient_probe_and_arithmetic_agree(layers):
    field = nb06.probe(layers)
    assert not field.clipped
    assert field.height == field.width == analysis.receptive_field(layers).size


def test_layers_of_the_tiny_dpn_are_those_the_notebook_lists():
    stem = [Layer(7, stride=2), Layer(3, stride=2), Layer(3), Layer(3)]
    for dilations, layers in (("decreasing", analysis.dpm_layers(5)), ("ones", [Layer(3)] * 5)):
        net = create_model("tiny_dpn", dilations=dilations)
        measured = analysis.receptive_field(net, input_size=(320, 320))
        assert measured.height == analysis.receptive_field(stem + layers).size


def test_live_taps_are_what_a_convolution_counts():
    """Convolving ones with ones counts the taps that read the map."""
    for d in (1, 4, 16, 32):
        counted = torch.nn.functional.conv2d(
            torch.ones(1, 1, *nb06.MAP), torch.ones(1, 1, 3, 3), padding=d, dilation=d
        ).mean()
        assert nb06.dead_taps([d]) == pytest.approx(1 - float(counted) / 9, abs=1e-6)
        assert nb06.outer_taps_live(d) == pytest.approx((float(counted) - 1) / 8, abs=1e-6)
    assert nb06.outer_taps_live(32) == pytest.approx(0, abs=1e-12)


def test_chains_are_what_convolutions_of_ones_give():
    dilations, cell = (4, 2, 1), (16, 3)
    maps = torch.zeros(1, 1, *nb06.MAP)
    maps[0, 0, 10, 8] = 1
    for d in dilations:
        maps = torch.nn.functional.conv2d(maps, torch.ones(1, 1, 3, 3), padding=d, dilation=d)
    assert nb06.chains_to(dilations, cell)[10, 8] == float(maps[0, 0, *cell])


def test_holes():
    assert nb06.holes((8, 4, 2, 1)) == nb06.holes((1, 3, 9)) == []
    assert nb06.holes((2, 2, 2)) == [1, 3, 5]
    assert nb06.holes((9, 1, 1, 1)) == [4, 5]


def test_best_schedule_of_the_exercise_holds_for_every_order_and_all_dilations():
    from posekit.course.exercises import nb06 as exercises

    dead, best = exercises._best()
    assert sorted(best) == [1, 1, 2, 8]
    assert all(nb06.dead_taps(order) == pytest.approx(dead) for order in itertools.permutations(best))


def test_drawings():
    for kind in ("DPM", "reversed", "constant", "your own"):
        assert figure_png(nb06.draw_schedule(kind, 3, 4, 0)).startswith(b"\x89PNG")
    rng = np.random.default_rng(0)
    seen = rng.poisson(3, (41, 41))
    live = distant_cue.Accuracy(rng.binomial(seen, 0.5), seen)
    picture = distant_cue.make_pictures(1, rng=rng)
    figure = nb06.cue_figure(dict.fromkeys(distant_cue.SCHEMES, live), ("live", live), picture)
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes]
    assert titles[5] == "DPM: 8, 4, 2, 1"
