"""The controlled tasks say what statistics says: only facts that held for every seed are asserted."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.experiments.tasks import two_modes


def test_pictures_hold_what_they_promise():
    pictures = two_modes.make_pictures(400, upper=0.7, rng=np.random.default_rng(0))
    blobs, labels = pictures.blobs.numpy(), pictures.labels.numpy()[:, 0]
    assert np.linalg.norm(blobs[:, 0] - blobs[:, 1], axis=-1).min() >= two_modes.LEAST_DISTANCE
    assert (blobs[:, 0, 1] <= blobs[:, 1, 1]).all()
    is_upper = (labels == blobs[:, 0]).all(-1)
    assert is_upper.mean() == pytest.approx(0.7, abs=0.07)
    assert ((labels == blobs[:, 1]).all(-1) | is_upper).all()
    rows, columns = blobs.round().astype(int)[..., 1], blobs.round().astype(int)[..., 0]
    assert pictures.images.numpy()[np.arange(400)[:, None], 0, rows, columns].min() > 0.4
    same = two_modes.make_pictures(400, upper=0.7, rng=np.random.default_rng(0))
    assert same.images.equal(pictures.images)


def test_judge_on_constructed_answers():
    """The mean has the least squared error and hits nothing; always one blob hits half; crossed axes are ghosts."""
    pictures = two_modes.make_pictures(500, upper=0.5, rng=np.random.default_rng(1))
    upper, lower = pictures.blobs.numpy().swapaxes(0, 1)
    mean, upper_only = two_modes.judge((upper + lower) / 2, pictures), two_modes.judge(upper, pictures)
    ghost = two_modes.judge(np.stack([upper[:, 0], lower[:, 1]], -1), pictures)
    assert (mean.midpoint, mean.on_blob, mean.hits_label) == (1, 0, 0)
    assert (upper_only.on_blob, upper_only.midpoint) == (1, 0) and upper_only.hits_label == pytest.approx(0.5, abs=0.07)
    assert mean.rms_error < upper_only.rms_error
    assert ghost.ghost == 1 and ghost.midpoint == 0


def test_squared_error_answers_between_the_blobs():
    outcome, _ = two_modes.run("regression_l2", seed=1, steps=280, test_pictures=500)
    assert outcome.midpoint > 0.8 and outcome.on_blob < 0.05


def test_heatmap_answers_on_a_blob():
    outcome, _ = two_modes.run("heatmap_ce", seed=1, steps=60, test_pictures=500)
    assert outcome.on_blob > 0.95 and outcome.midpoint < 0.05
    assert outcome.hits_label == pytest.approx(0.5, abs=0.1)


def test_control_with_one_blob_every_head_is_right():
    """The ambiguity, not the head, is what fails above."""
    outcome, _ = two_modes.run("regression_l2", seed=1, steps=100, distance=0.0, test_pictures=500)
    assert outcome.hits_label > 0.9


def test_unknown_head_is_refused():
    with pytest.raises(ValueError, match="regression_l2, regression_l1"):
        two_modes.codec_for("offset")
