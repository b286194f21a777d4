"""Notebook 01's helpers: the answers to a label distribution, the frame of two dots, the trainings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit.course.lessons import nb01
from posekit.course.widgets import ambiguity
from posekit.experiments.tasks.two_modes import make_pictures


@pytest.mark.parametrize(("distance", "right", "spread"), [(16.0, 0.6, 1.5), (24.0, 0.2, 0.5), (16.0, 0.0, 4.0)])
def test_answers_are_the_closed_forms_and_cost_least(distance, right, spread):
    answers = ambiguity.best_answers(distance, right, spread)
    assert answers.mean == pytest.approx((2 * right - 1) * distance / 2, abs=0.01)
    assert answers.modes == pytest.approx([np.sign(right - 0.5) * distance / 2], abs=0.06)
    places = {"squared error": answers.mean, "absolute error": answers.median}
    for metric, place in places.items():
        assert ambiguity.PLACES[answers.costs[metric].argmin()] == pytest.approx(place, abs=0.06), metric
    hits = answers.costs["missed by over 2 px"]
    assert ambiguity.PLACES[hits.argmin()] == pytest.approx(answers.modes[0], abs=0.5)


def test_even_modes_tie_and_near_ones_merge():
    even = ambiguity.best_answers(16.0, 0.5, 0.5)
    assert (even.mean, even.median) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert even.modes == pytest.approx([-8.0, 8.0], abs=0.06)
    near = ambiguity.best_answers(2.0, 0.5, 2.0)
    assert np.ptp([near.mean, near.median, *near.modes]) < 0.06


def test_widget_keeps_nothing_of_the_state_before():
    first = ambiguity.draw_ambiguity(16.0, 0.6, 1.5)
    second = ambiguity.draw_ambiguity(4.0, 0.5, 3.0)
    assert first.shape == second.shape
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    assert np.array_equal(first, ambiguity.draw_ambiguity(16.0, 0.6, 1.5))


def test_frame_puts_dots_at_one_and_ghosts_on_the_circle():
    pictures = make_pictures(50, upper=0.5, rng=np.random.default_rng(0), size=nb01.DOTS)
    upper, lower = (blob.numpy() for blob in pictures.blobs.unbind(1))
    assert np.allclose(nb01.in_frame(upper, pictures), [1, 0], atol=1e-5)
    assert np.allclose(nb01.in_frame(lower, pictures), [-1, 0], atol=1e-5)
    ghosts = np.stack([upper[:, 0], lower[:, 1]], -1)
    assert np.allclose(np.linalg.norm(nb01.in_frame(ghosts, pictures), axis=-1), 1, atol=1e-5)  # Thales


def test_squared_error_lands_between_and_a_heatmap_on_a_dot():
    trained, _ = nb01.train_on_dots(["regression_l2", "heatmap_mse"], steps=80, test_pictures=200, seed=3)
    between, on_a_dot = (found.outcome for found in trained.values())
    assert between.on_blob < 0.1
    assert between.midpoint > 0.4
    assert on_a_dot.on_blob > 0.9
    assert between.rms_error < on_a_dot.rms_error
    table = nb01.outcome_table(trained).splitlines()
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1


def test_learning_curves_repeat_and_improve_with_steps():
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(4, 28, (90, 17, 2)).astype(np.float32))
    images = torch.from_numpy(rng.integers(0, 255, (90, 3, *nb01.CROP), dtype=np.uint8))
    points[:] = points[:1]  # every crop has the same pose, so that a few steps already help
    crops = nb01.ArrayLoader(images, points, batch_size=30, shuffle=False)
    few, again, more = (
        nb01.learning_curves(crops, crops, sizes=[30], seeds=[0, 1], steps=steps) for steps in (1, 1, 40)
    )
    for name in nb01.CONTENDERS:
        assert few[name].shape == (2, 1, len(nb01.MEASURES))
        assert np.array_equal(few[name], again[name])
        assert more[name][..., 0].mean() < 0.5 * few[name][..., 0].mean(), name
    same = {"a": np.ones((3, 1, 3)), "b": np.ones((3, 1, 3)) + 0.5}
    assert nb01.paired_table(same, [30]).splitlines()[-1] == "| 30 | +0.50 ± 0.00 | +0.50 ± 0.00 | +0.50 ± 0.00 |"
