"""The far cue is used as far as the taps reach and no further: only facts that held for every seed are asserted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from posekit import analysis
from posekit.experiments import (
    EXPERIMENTS,
    Experiment,
    Judgement,
    LedgerError,
    Measurement,
    arrays_of,
    environment,
    ledger,
    run,
)
from posekit.experiments.environment import DATA
from posekit.experiments.tasks import distant_cue, left_right
from posekit.metrics import lr_confusion
from posekit.skeletons import COCO17

REACH = distant_cue.REACH


def test_pictures_hold_what_they_promise():
    pictures = distant_cue.make_pictures(300, rng=np.random.default_rng(0), joints=96)
    images, cue, joints, side = (array.numpy() for array in vars(pictures).values())
    rows = np.arange(300)
    assert np.abs(pictures.offsets).max() == REACH and pictures.offsets.any(-1).all()
    assert joints.min() == 0 and joints.max() == distant_cue.SIZE - 1
    assert all(len(np.unique(points, axis=0)) == 96 for points in joints)
    assert (images[rows, 2 * side, cue[:, 1], cue[:, 0]] > 1.5).all()
    assert (images > 1.5).sum() == 300
    at_joints = images[rows[:, None], :, joints[..., 1], joints[..., 0]]
    assert at_joints.mean() == pytest.approx(distant_cue.JOINT, abs=0.01)
    assert side.mean() == pytest.approx(0.5, abs=0.1)
    corner = pictures.offsets[(cue < 5).all(-1)]
    assert corner.size and (corner <= 5).all(), "a cue in the corner has joints on one side only"


@pytest.mark.parametrize(("scheme", "offsets"), [("D=1", 80), ("D=2", 80), ("D=4", 80), ("D=8", 24), ("DPM", 960)])
def test_theoretical_set_is_the_support_of_the_gradient(scheme, offsets):
    dilations = distant_cue.SCHEMES[scheme]
    theory = distant_cue.reachable(dilations)
    assert theory.sum() == offsets
    side = 2 * REACH + 1
    probe = analysis.receptive_field(distant_cue.CueNet(dilations), input_size=(side, side)).mask
    probe[REACH, REACH] = False
    assert np.array_equal(probe, theory)


def test_reversed_order_is_the_transpose():
    """Same pairs, same number of chains: 3904 and 2064 were counted with other code (feasibility study)."""
    up, down = tuple(2**n for n in range(6)), tuple(2**n for n in reversed(range(6)))
    for length, chains in ((32, 3904), (24, 2064)):
        paths = distant_cue.path_counts(down, length)
        assert np.array_equal(paths, distant_cue.path_counts(up, length).T)
        assert not np.array_equal(paths, paths.T)
        assert paths.sum() == chains and paths.all()


def test_path_counts_are_what_convolutions_of_ones_give():
    dilations, length = (4, 1, 2), 9
    row = torch.eye(length)[:, None]
    for d in dilations:
        row = torch.nn.functional.conv1d(row, torch.ones(1, 1, 3), padding=d, dilation=d)
    assert np.array_equal(distant_cue.path_counts(dilations, length), row[:, 0].T.numpy())


def test_a_network_knows_inside_its_reach_and_guesses_outside():
    learned = distant_cue.train((1, 1, 1, 1), seed=0, steps=120, channels=16)
    accuracy = distant_cue.measure(learned.net, pictures=600, seed=0)
    inside = distant_cue.reachable((1, 1, 1, 1))
    outside = ~inside
    outside[REACH, REACH] = False
    assert accuracy.over(inside) > 0.75
    assert accuracy.over(outside) == pytest.approx(0.5, abs=0.09)
    assert np.isnan(accuracy.map[REACH, REACH])


def test_bad_dilations_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        distant_cue.train((), seed=0)


def test_sides_are_counted_by_distance_and_view():
    """Two people, 60 px apart shoulders and ankles: one seen from the front with crossed ankles, one from the side."""
    skeleton = COCO17
    truth = np.zeros((2, 17, 2))
    truth[:, [5, 15]] = [[-30, 12], [-30, 70]]
    truth[:, [6, 16]] = [[30, 12], [30, 70]]
    visibility = np.zeros((2, 17), int)
    visibility[:, [0, 5, 6, 15, 16]] = 2
    guess = truth.copy()
    guess[:, [15, 16]] = truth[:, [16, 15]]
    box = np.array([[-40, 0, 80, 100.0]] * 2)
    confusion = lr_confusion(guess, truth, visibility=visibility, box=box, skeleton=skeleton)
    distance = np.abs(truth - truth[:, [0]]).max(-1)
    sides = left_right.Sides(confusion, distance, np.array([np.pi, np.pi / 2]), 0.0)
    confused, judged = sides.counts(np.array([0, 50, 100]))
    assert judged.tolist() == [[2, 2], [0, 0]] and confused.tolist() == [[0, 2], [0, 0]]
    assert [part.tolist() for part in sides.counts(np.array([50, 100]))] == [[[2], [0]], [[2], [0]]]
    found = left_right.summary({"x": sides}, half_field=50)
    assert (found["within the field, x"], found["beyond the field, x"]) == (0, 1)
    assert (found["back view, x"], found["ankle, x"], found["shoulder, x"]) == (0.5, 1, 0)
    value, low, high = left_right.difference((confused[:, :1], judged[:, :1]), (judged[:, 1:], judged[:, 1:]))
    assert (value, low, high) == (-1, -1, 0)


def test_arrays_of_a_recorded_run_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "commit", lambda clean=False: "0" * 40)
    experiment = Experiment(
        name="picture",
        claims=("D02",),
        kind="controlled",
        question="?",
        dataset="none",
        profiles={"quick": {}},
        measure=lambda config, seed: Measurement({"x": 1.0}, arrays={"map": np.full((2, 2), seed)}),
        judge=lambda measurement: Judgement("mechanism shown", "so"),
        tolerance=0.0,
    )
    folder = tmp_path / "ledger"
    rows = run(experiment, seeds=(3, 4), record=True, folder=folder)
    assert [arrays_of(row, folder=folder)["map"].tolist() for row in rows] == [[[3, 3], [3, 3]], [[4, 4], [4, 4]]]
    for path in (tmp_path / "runs").iterdir():
        path.unlink()
    with pytest.raises(LedgerError, match=r"not there; restore what picture\.jsonl, seed 3, left"):
        arrays_of(rows[0], folder=folder)


@pytest.mark.parametrize("name", ["distant_cue", "distant_cue_order"])
def test_recorded_maps_give_the_recorded_numbers_and_verdict(name):
    """Arrays beside the ledger are not covered by its hashes; here they are held to the rows."""
    rows = ledger.read_file(DATA / "ledger" / f"{name}.jsonl")
    assert len({row.seed for row in rows}) >= 2
    for row in rows:
        arrays = arrays_of(row)
        for scheme, dilations in row.config["schemes"].items():
            accuracy = distant_cue.Accuracy(arrays[f"right, {scheme}"].astype(int), arrays[f"seen, {scheme}"])
            inside = distant_cue.reachable(dilations)
            assert accuracy.over(inside) == pytest.approx(row.metrics[f"accuracy inside, {scheme}"], abs=1e-12)
        assert EXPERIMENTS[name].judge(Measurement(row.metrics, row.intervals)).verdict == row.verdict


def test_recorded_sides_give_the_recorded_numbers_and_verdict():
    rows = ledger.read_file(DATA / "ledger" / "left_right_reach.jsonl")
    assert len({row.seed for row in rows}) >= 2
    for row in rows:
        arrays = arrays_of(row)
        for arm in row.config["arms"]:
            confused, judged = arrays[f"confused, {arm}"], arrays[f"judged, {arm}"]
            within = arrays["edges"][1:] <= row.metrics[f"receptive field px, {arm}"] // 2
            near = confused[within].sum() / judged[within].sum()
            assert near == pytest.approx(row.metrics[f"within the field, {arm}"], abs=0.1)
        for place in ("within", "beyond"):
            ours, theirs = (row.metrics[f"{place} the field, {arm}"] for arm in ("D=1", "DPM"))
            assert row.metrics[f"{place} the field, D=1 minus DPM"] == pytest.approx(ours - theirs, abs=1e-9)
        judged_again = EXPERIMENTS["left_right_reach"].judge(Measurement(row.metrics, row.intervals))
        assert judged_again.verdict == row.verdict
