"""Ablations: the arithmetic against SciPy, the scores against the published road, sweeps that lose a worker."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from posekit import inference
from posekit.experiments import LedgerError, ledger, runner
from posekit.experiments.ablations import ABLATIONS, CONFIRM, PROFILES, Ablation, Arm, analysis, arm, frozen, run, sweep
from posekit.experiments.ablations.definition import effect, gain
from posekit.experiments.ablations.scoring import score_variants

SMALL = Arm("tiny_simple_baseline", "simple_baseline_r50", size="smallest", samples=0.2)
OTHER = replace(SMALL, tiny="tiny_hrnet")
PAIR = Ablation("pair", ("H07",), "Is one better?", {"a": SMALL, "b": OTHER}, (gain("a", "b"),), "tiny")


def numbers(values):
    return {arm: {seed: {"AP": ap} for seed, ap in enumerate(aps)} for arm, aps in values.items()}


def test_the_interval_of_paired_differences_is_the_t_tests():
    rng = np.random.default_rng(0)
    for n in (2, 5, 12):
        x = rng.normal(0.4, 1, n)
        found = analysis.paired(x)
        expected = stats.ttest_1samp(x, 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_detectable_effect_is_found_with_a_power_of_80_percent():
    n, rng = 5, np.random.default_rng(1)
    spread = analysis.paired(rng.normal(0, 1, 200_000)).detectable * np.sqrt(200_000) / 2.8016  # about s
    effect_size = (stats.t.ppf(0.975, n - 1) + stats.t.ppf(0.8, n - 1)) * spread / np.sqrt(n)
    draws = rng.normal(effect_size, 1, (20_000, n))
    low = draws.mean(1) - stats.t.ppf(0.975, n - 1) * draws.std(1, ddof=1) / np.sqrt(n)
    assert np.mean(low > 0) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("a", "b", "reduced", "word"),
    [
        ([5, 6, 7], [1, 2, 3.5], True, "seen"),
        ([1, 2, 3.5], [5, 6, 7], True, "not seen"),
        ([1, 2, 3], [3, 2, 1], True, "undecided in reduced form"),
        ([1, 2, 3.5], [5, 6, 7], False, "contradicted"),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side_of_zero(a, b, reduced, word):
    assert analysis.judge(PAIR, numbers({"a": a, "b": b}), reduced=reduced)[0] == word


def test_a_margin_turns_better_into_as_good_as():
    level = replace(PAIR, contrasts=(gain("a", "b", margin=1.0),))
    values = numbers({"a": [4.5, 5.6, 6.5], "b": [5, 6, 7]})
    assert analysis.judge(PAIR, values, reduced=True)[0] == "not seen"
    assert analysis.judge(level, values, reduced=True)[0] == "seen"


def test_every_contrast_of_every_ablation_names_its_own_arms_and_no_arm_idles():
    for ablation in ABLATIONS.values():
        named = {name for contrast in ablation.contrasts for _, name, _ in contrast.terms}
        assert named == set(ablation.arms), ablation.name


@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_every_arm_can_be_built(profile):
    import torch

    built = {}
    for ablation in ABLATIONS.values():
        for config in ablation.configs(profile).values():
            built[ledger.config_hash(config)] = config
    with torch.device("meta"):
        for config in built.values():
            net = arm.build(config, 0)
            assert list(net.input_size) == config["input_size"]
            for field, value in config["codec"].items():
                assert getattr(net.codec, field) == value


def test_the_first_score_is_that_of_the_published_road():
    config = SMALL.config("smoke")
    net, data = arm.build(config, 0), arm.dataset(config, "val")
    found, intervals = score_variants(net, data)
    expected = inference.evaluate(net, data, device="cpu")
    assert found["AP"] == pytest.approx(100 * expected.ap, abs=1e-12)
    assert found["mean OKS"] == pytest.approx(100 * expected.mean_oks, abs=1e-9)
    for shift in (0, 2):
        other = inference.evaluate(net, data, device="cpu", shift=shift)
        assert found[f"mean OKS, shift {shift}"] == pytest.approx(100 * other.mean_oks, abs=1e-9)
    assert intervals["AP"][0] <= found["AP"] <= intervals["AP"][1]


def test_a_run_cut_short_ends_with_the_same_numbers(tmp_path):
    config = {**SMALL.config("smoke"), "recipe": {**SMALL.config("smoke")["recipe"], "samples": 2400}}
    whole = arm.run_arm(config, 3, split="val", folder=tmp_path / "whole")
    with pytest.raises(arm.OutOfTime):
        arm.run_arm(config, 3, split="val", folder=tmp_path / "cut", deadline=time.time())
    steps = []
    again = arm.run_arm(
        config, 3, split="val", folder=tmp_path / "cut", on_log=lambda record: steps.append(record["step"])
    )
    assert steps == [100]  # the first 50 steps were kept
    assert again["metrics"] == whole["metrics"]


def test_a_lost_workers_run_is_tried_again(tmp_path, monkeypatch):
    started = []
    start = sweep._start

    def killing(job, deadline):
        process = start(job, deadline)
        if not started:
            time.sleep(1.0)
            os.kill(process.pid, signal.SIGKILL)
        started.append(process.pid)
        return process

    monkeypatch.setattr(sweep, "_start", killing)
    done = []
    job = sweep.Job(SMALL.config("smoke"), 1, tmp_path / "run")
    assert sweep.sweep([job], on_done=lambda job, result: done.append(result)) == 0
    assert len(started) == 2 and len(done) == 1


def test_a_run_that_always_fails_names_its_folder(tmp_path):
    config = {**SMALL.config("smoke"), "network": "no_such_network"}
    with pytest.raises(sweep.SweepError, match=r"broken failed 3 times.*no_such_network"):
        sweep.sweep([sweep.Job(config, 1, tmp_path / "broken")], on_done=lambda job, result: None)


def test_recorded_runs_are_kept_compared_and_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(run.environment, "commit", lambda clean=False: "0" * 40)
    monkeypatch.setattr(frozen, "FROZEN", tmp_path / "frozen.json")
    checked = []
    monkeypatch.setattr(frozen, "check", lambda *args: checked.append(args))
    common = {"profile": "smoke", "record": True, "folder": tmp_path / "ledger", "runs": tmp_path / "runs"}
    first = run.run_ablations([PAIR], **common)
    assert checked and [row.test for row in first.rows] == ["pair"]
    rows = ledger.read(tmp_path / "ledger")
    assert sorted((row.test, row.seed) for row in rows) == [("pair", 1), *(("training", s) for s in (1, 1, 2, 2))]
    assert set(first.rows[0].rests_on) == {row.digest for row in rows if row.test == "training"}
    again = []
    run.run_ablations([PAIR], **common, on_done=lambda *facts: again.append(facts))
    assert not again and len(ledger.read(tmp_path / "ledger")) == len(rows)


def test_a_recorded_comparison_is_repeated_from_its_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(run.environment, "commit", lambda clean=False: "0" * 40)
    monkeypatch.setattr(frozen, "check", lambda *args: None)
    monkeypatch.setitem(ABLATIONS, "pair", PAIR)
    folder = tmp_path / "ledger"
    run.run_ablations([PAIR], profile="smoke", record=True, folder=folder, runs=tmp_path / "runs")
    monkeypatch.setattr(run, "recorded_rows", lambda: ledger.read_file(folder / "training.jsonl"))
    row = ledger.read_file(folder / "pair.jsonl")[0]
    assert runner.rerun(row).ok
    wrong = replace(row, metrics={name: value + 1 for name, value in row.metrics.items()})
    assert not runner.rerun(wrong).ok


def test_what_was_not_frozen_is_not_recorded(tmp_path):
    path = tmp_path / "frozen.json"
    with pytest.raises(LedgerError, match="not frozen"):
        frozen.check(PAIR, "quick", CONFIRM, path=path)
    frozen.freeze([PAIR], "quick", path=path)
    frozen.check(PAIR, "quick", CONFIRM, path=path)
    for seeds in ((1, 2), (1, 2, 3, 4, 9)):  # stopping early is choosing, too
        with pytest.raises(LedgerError, match="frozen seeds"):
            frozen.check(PAIR, "quick", seeds, path=path)
    changed = replace(PAIR, contrasts=(effect("a", "AP, dark", "AP, quarter"), gain("a", "b")))
    with pytest.raises(LedgerError, match="not frozen as it stands"):
        frozen.check(changed, "quick", CONFIRM, path=path)
    frozen.freeze([changed], "quick", path=path)
    assert len(json.loads(path.read_text())["pair/quick"]) == 2


def test_the_repositorys_recorded_comparisons_were_frozen():
    entries = frozen.read()
    rows = [row for name in ABLATIONS for row in ledger.read_file(run.environment.DATA / "ledger" / f"{name}.jsonl")]
    for row in rows:
        known = entries[f"{row.test}/{row.scope.profile}"]
        assert row.config["frozen"] in [entry["hash"] for entry in known]
        assert len(row.config["seeds"]) >= PROFILES[row.scope.profile].seeds
