"""Notebook 04's teaching helpers agree with closed forms and with the package's encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.codecs import GaussianHeatmap
from posekit.course.exercises.nb04 import loop_encode
from posekit.course.lessons import nb04


def test_the_loop_of_the_exercise_is_the_package_s_encoder():
    points = np.array([[3.3, 6.8], [10.5, 0.2]])
    codec = GaussianHeatmap((36, 48), stride=4, sigma=1.5, centre="subpixel", window=None)
    maps, _ = codec.encode(torch.from_numpy(points[None] * 4), torch.ones(1, 2))
    assert np.allclose(maps[0].numpy(), loop_encode(points, (9, 12), 1.5), atol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_gradient_has_its_closed_form(loss, sigma):
    distances = [0.5, sigma, 2 * sigma, 5.0]
    closed = [nb04.closed_gradient(sigma, d, loss) for d in distances]
    assert nb04.gradient(sigma, distances, loss) == pytest.approx(closed, rel=5e-3)  # sums over cells, not integrals


def test_a_misplaced_gaussian_pays_twice_the_blank_map():
    distance, loss = nb04.target_losses(2.0, 4, 0.0, False)
    assert loss[0] == pytest.approx(2, rel=0.01) == loss[-1]
    assert distance[loss.argmin()] == 0
    assert loss.min() < 0.001


@pytest.mark.parametrize(("rounded", "best"), [(False, 0.0), (True, -1.0)])
def test_a_rounded_target_is_cheapest_beside_the_joint(rounded, best):
    distance, loss = nb04.target_losses(2.0, 4, 0.25, rounded)
    assert distance[loss.argmin()] == pytest.approx(best)


def test_the_best_height_is_the_chance_of_being_right():
    heights = np.linspace(0, 1, 101)
    for chance in (0.1, 0.4, 1.0):
        assert heights[nb04.height_loss(heights, chance).argmin()] == pytest.approx(chance)


def test_no_constant_map_beats_the_mean_target():
    rng = np.random.default_rng(0)
    codec = GaussianHeatmap((64, 48))

    class Crowd:
        box = np.tile([0.0, 0.0, 30.0, 40.0], (50, 1))
        keypoints = rng.uniform(5, 25, (50, 3, 2))
        visibility = np.full((50, 3), 2)

    blank, constant, mean = nb04.constant_losses(Crowd, codec)
    assert constant < blank
    targets, weights = codec.encode(*nb04.crop_keypoints(Crowd, codec.input_size))
    for factor in (0.9, 1.1):
        other = torch.from_numpy(mean * factor).expand_as(targets)
        assert float(codec.loss(other, targets, weights)) > constant
