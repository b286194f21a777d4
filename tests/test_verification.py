"""Recorded rows are repeated: what differs is seen, and so is what does not follow or is not what it says."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from ledger_rows import make_row

from posekit.experiments import (
    EXPERIMENTS,
    Cell,
    Experiment,
    LedgerError,
    Measurement,
    claims,
    ledger,
    run,
    runner,
    verification,
    verify,
)


def test_verify_reruns_a_row_and_sees_a_difference(tmp_path, monkeypatch):
    (row,) = run("flip_shift_stride4", profile="smoke", seeds=[3])
    ledger.append(tmp_path, [row])
    (same,) = verify(1, seed_from="abc", folder=tmp_path)
    assert same.ok and same.difference == 0
    other = EXPERIMENTS["flip_shift_stride4"]
    drifted = Experiment(
        **{
            **vars(other),
            "measure": lambda c, s: Measurement({k: v + 1 for k, v in other.measure(c, s).metrics.items()}),
        }
    )
    monkeypatch.setattr(verification, "find", lambda name, profile="quick": drifted)
    (changed,) = verify(1, seed_from="abc", folder=tmp_path)
    assert not changed.ok and changed.difference == pytest.approx(1)


def test_verify_sees_a_verdict_that_does_not_follow_from_the_numbers(tmp_path):
    (row,) = run("oks_scale", profile="smoke", seeds=[0])
    assert row.verdict == "contradicted" and verification.follows(row)
    extra = Cell("a cell", 99.0, "reproduced")
    for changes in (
        {"verdict": "reproduced"},
        {"cells": (*row.cells, extra)},
        {"kind": "bound"},
        {"tolerance": 9.0},
        {"claims": ("H05",)},
    ):
        forged = dataclasses.replace(row, **changes)
        ledger.append(folder := tmp_path / forged.digest, [forged])
        (seen,) = verify(1, seed_from="abc", folder=folder)
        assert seen.difference == 0 and not seen.ok


def test_verify_compares_intervals():
    (row,) = run("flip_shift_stride4", profile="smoke", seeds=[3])
    metrics = {"error": 0.5}
    row = dataclasses.replace(row, metrics=metrics, intervals={"error": (0.4, 0.6)}, verdict=None, cells=())
    assert verification.compare(row, Measurement(metrics, {"error": (0.4, 0.6)})).ok
    seen = verification.compare(row, Measurement(metrics, {"error": (0.4, 0.7)}))
    assert not seen.ok and seen.metric == "error, high" and seen.difference == pytest.approx(0.1)
    seen = verification.compare(row, Measurement(metrics, {"error": (0.4, math.nan)}))
    assert not seen.ok and seen.metric == "error, high"
    with pytest.raises(LedgerError, match="'error, high' is not on both sides"):
        verification.compare(row, Measurement(metrics))


def test_a_comparison_is_repeated_with_its_intervals_over_pictures():
    row = next(claim for claim in claims() if claim.id == "H03").verdicts[0]
    assert any(name.endswith("over pictures") for name in row.intervals) and verification.rerun(row).ok


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (lambda c: c["runs"].update({"1/4": c["runs"]["1/8"], "1/8": c["runs"]["1/4"]}), "is not the one of 1/4 with "),
        (lambda c: c["runs"]["1/4"].update({"1": c["runs"]["1/4"]["2"]}), "is not the one of 1/4 with seed 1"),
        (lambda c: c["runs"]["1/4"].pop("1"), "the runs are not those of all arms and seeds"),
        (lambda c: c["runs"]["1/4"].update({"1": "0" * 64}), "run 000000000000, on which the comparison rests, is not"),
        (lambda c: c.update(frozen="0" * 12), "made by another definition"),
    ],
)  # fmt: skip
def test_a_comparison_of_other_runs_than_it_says_is_refused(forge, says):
    row = next(claim for claim in claims() if claim.id == "H03").verdicts[0]
    forge(config := json.loads(json.dumps(row.config)))
    with pytest.raises(LedgerError, match=says):
        runner.find(row.test).measure(config, row.seed)
    runs = tuple(one for seeds in config["runs"].values() for one in seeds.values())
    if sorted(runs) != sorted(row.rests_on):
        with pytest.raises(LedgerError, match="the runs it rests on are not those of its configuration"):
            dataclasses.replace(row, config=config, config_hash=ledger.config_hash(config))


def test_verification_that_has_nothing_to_repeat_is_no_success(tmp_path):
    with pytest.raises(LedgerError, match="nowhere is no folder"):
        verify(1, seed_from="abc", folder=tmp_path / "nowhere")
    ledger.append(tmp_path, [make_row(0, wall_s=601.0)])
    with pytest.raises(LedgerError, match="none of its 1 rows can be repeated here in 600 s"):
        verify(1, seed_from="abc", folder=tmp_path)


def test_every_recorded_verdict_follows_from_its_numbers():
    standing = {row.digest: row for claim in claims() for row in (*claim.verdicts, *claim.controls)}
    assert not [(row.test, row.seed) for row in standing.values() if not verification.follows(row)]


def test_another_machine_may_differ_as_seeds_do_and_no_further():
    spread = [
        make_row(seed, metrics={"AP": 40 + ap, "parameters": 1e5}, tolerance=15.0, intervals={"AP": (39 + 2 * ap, 41)})
        for seed, ap in enumerate((-0.6, 0.6, 0.0, -0.6, 0.6))
    ]
    allowed = verification.allowances(spread[0], spread)
    sd = 0.6
    assert allowed == pytest.approx(
        {"AP": verification.spreads(4) * sd, "parameters": 0.3, "AP, low": 15.0, "AP, high": 0.3}
    )
    assert set(verification.allowances(spread[0], spread[:2]).values()) == {15.0}
    calm = [dataclasses.replace(row, config={"other": 1}, config_hash=ledger.config_hash({"other": 1}),
                                metrics={"AP": 20.0, "parameters": 2e5}) for row in spread]  # fmt: skip
    together = verification.allowances(calm[0], [*spread, *calm])["AP"]
    assert together == pytest.approx(verification.spreads(8) * 0.6 / 2**0.5)  # its own seeds were lucky to agree


def test_two_runs_of_luck_differ_no_more_often_than_promised(monkeypatch):
    """Somewhat less often, since the row that is compared is one of those that say how far seeds spread."""
    monkeypatch.setattr(verification, "CHANCE", 0.02)
    recorded, again = np.random.default_rng(0).normal(size=(2, 20_000, 5))
    far = abs(recorded[:, 0] - again[:, 0]) > verification.spreads(4) * recorded.std(1, ddof=1)
    assert 0.005 < far.mean() < 0.02


def test_rows_of_a_gpu_are_repeated_on_one_and_need_not_be_equal(monkeypatch):
    devices = []

    def measure(config, seed, device="cpu"):
        devices.append(device)
        return Measurement({"error": 0.55}, {"error": (0.45, 0.65)})

    experiment = Experiment(**{**vars(EXPERIMENTS["quantization"]), "measure": measure, "tolerance": 0.1})
    monkeypatch.setattr(verification, "find", lambda name, profile="quick": experiment)
    hardware = {"device": "cuda", "model": "a GPU", "threads": 1}
    monkeypatch.setattr(verification.environment, "hardware", lambda device="cpu": hardware)
    versions = verification.environment.versions(experiment.packages)
    row = make_row(0, hardware=hardware, versions=versions, tolerance=experiment.tolerance)
    seen = verification.rerun(dataclasses.replace(row, verdict=None, cells=()))
    assert devices == ["cuda"] and seen.allowed == row.tolerance and seen.ok


def test_the_rows_to_verify_follow_the_commit(tmp_path):
    ledger.append(tmp_path, run("flip_shift_stride4", profile="smoke", seeds=range(6)))
    picks = {tuple(v.row.seed for v in verify(2, seed_from=text, folder=tmp_path)) for text in "abcdef"}
    assert len(picks) > 1
    assert verify(2, seed_from="a", folder=tmp_path) == verify(2, seed_from="a", folder=tmp_path)


def test_a_row_that_was_recorded_again_is_not_verified(tmp_path):
    (row,) = run("flip_shift_stride4", profile="smoke", seeds=[3])
    ledger.append(
        tmp_path, [dataclasses.replace(row, commit="0" * 40, metrics={k: v + 1 for k, v in row.metrics.items()})]
    )
    ledger.append(tmp_path, [row])
    (standing,) = verify(5, seed_from="abc", folder=tmp_path)
    assert standing.ok
