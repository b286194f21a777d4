"""Notebook 05's teaching helpers agree with closed forms and published tables."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.analysis import flip_bias, quantization_bound
from posekit.course.lessons import nb05


def test_readers_meet_the_closed_form():
    whole, half = quantization_bound(4), quantization_bound(4) / 2
    assert nb05.reader_error("argmax", 4) == pytest.approx(whole, rel=0.02)
    assert nb05.reader_error("quarter", 4) == pytest.approx(half, rel=0.02)
    assert nb05.reader_error("quarter, rounded target", 4) == pytest.approx(whole, rel=0.02)
    assert nb05.reader_error("DARK", 4) < 0.01 > nb05.reader_error("UDP + DARK", 4)
    assert 0.01 < nb05.reader_error("soft-argmax", 4) < half
    for reader in nb05.READERS:  # each in its own proportion: twice the stride, twice the error
        one, two = (nb05.reader_error(reader, s, samples=256) for s in (2, 4))
        assert two == pytest.approx(2 * one, rel=0.05), reader


def test_soft_argmax_errs_when_dull_and_when_sharp():
    best = nb05.reader_error("soft-argmax", 4, beta=10.0)
    assert nb05.reader_error("soft-argmax", 4, beta=2.0) > 5 * best  # the background pulls to the middle
    assert nb05.reader_error("soft-argmax", 4, beta=80.0) > 5 * best  # the peak falls between the cells


@pytest.mark.parametrize("split", [1, 2, 3])
def test_simcc_has_the_bound_of_its_bins(split):
    assert nb05.simcc_error(split) == pytest.approx(quantization_bound(1 / split), rel=0.02)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_the_average_of_the_flip_figure_is_off_by_the_bias(shift):
    row = nb05.flip_peaks(4, shift, position=30.0)["average"]
    centre = float((row * np.arange(len(row))).sum() / row.sum()) * 4
    assert 30.0 - centre == pytest.approx(flip_bias(4, shift), abs=1e-3)


def test_published_gaps_are_the_tables():
    gaps = nb05.published_gaps()
    assert gaps["Simple head"] == pytest.approx(
        (1.9 + 2.2 + 2.1 + 1.9) / 4
    )  # 71.7-69.8, 74.5-72.3, 71.8-69.7, 74.0-72.1
    assert gaps["SRPose"] < 0.3


def test_a_trained_network_gains_from_the_offset_that_its_ideal_target_does_not():
    run = nb05.train_and_decode("rounded", steps=60, test_pictures=400, seed=0)
    gain, low, high = run.gain("quarter", "argmax")
    assert low < gain < high
    assert low > 0
