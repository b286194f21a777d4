"""Ablations: the arithmetic against SciPy, the scores against the published road, sweeps that lose a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from posekit import experiments, inference
from posekit.experiments import LedgerError, ledger, verification
from posekit.experiments.ablations import (
    ABLATIONS,
    CONFIRM,
    PROFILES,
    Ablation,
    Arm,
    analysis,
    arm,
    frozen,
    run,
    sweep,
    weights,
    worker,
)
from posekit.experiments.ablations.definition import effect, gain
from posekit.experiments.ablations.scoring import score_variants
from posekit.models.checkpoints import read_safetensors

SMALL = Arm("tiny_simple_baseline", "simple_baseline_r50", size="smallest", samples=0.2)
OTHER = replace(SMALL, tiny="tiny_hrnet")
PAIR = Ablation("pair", ("H07",), "Is one better?", {"a": SMALL, "b": OTHER}, (gain("a", "b"),))


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
    assert analysis.judge(PAIR, numbers({"a": a, "b": b}), "quick" if reduced else "full").verdict == word


def test_a_margin_turns_better_into_as_good_as():
    level = replace(PAIR, contrasts=(gain("a", "b", margin=1.0),))
    values = numbers({"a": [4.5, 5.6, 6.5], "b": [5, 6, 7]})
    assert analysis.judge(PAIR, values, "quick").verdict == "not seen"
    assert analysis.judge(level, values, "quick").verdict == "seen"


def test_the_interval_over_pictures_pairs_draws_and_averages_seeds():
    rng = np.random.default_rng(2)
    luck = rng.normal(0, 5, 300)  # of the pictures, shared by both arms
    draws = {
        "a": {s: {"AP": luck + 3 + s} for s in (1, 2)},
        "b": {s: {"AP": luck + rng.normal(0, 0.1, 300)} for s in (1, 2)},
    }
    low, high = analysis.pictures(PAIR.contrasts[0], draws)
    assert 4.2 < low < 4.5 < high < 4.8  # unpaired, it would be 28 wide
    runs = numbers({"a": [4, 5], "b": [0, 1]})
    assert analysis.judge(PAIR, runs, "quick", draws=draws).intervals["AP: a minus b, over pictures"] == (low, high)
    del draws["b"][2]["AP"]
    assert analysis.pictures(PAIR.contrasts[0], draws) is None and analysis.pictures(PAIR.contrasts[0], {}) is None


def published_gains() -> dict[str, dict[str, float]]:
    """Differences of the published tables, by ablation and contrast."""
    from posekit.experiments.costs import read_table as table

    def by(name, key):
        return {row[key]: {k: float(v) for k, v in row.items() if k != key and v[:1].isdigit()} for row in table(name)}

    expected: dict[str, dict[str, float]] = {name: {} for name in ("dpn_table2", "dpn_table3", "dpn_table5")}
    for model, row in by("dpn_table2_dpm_vs_normal", "model").items():
        expected["dpn_table2"][f"AP: DPM, {model[3]} minus ones, {model[3]}"] = row["dpm_ap"] - row["normal_ap"]
    for model, row in by("dpn_table5_reversed", "model").items():
        expected["dpn_table5"][f"AP: DPM, {model[3]} minus reversed, {model[3]}"] = row["dpm_ap"] - row["rdpm_ap"]
    for model, row in by("dpn_table3_stacked_dilation", "model").items():
        n = "" if model[3] == "1" else f", {model[3]}"
        for d in (1, 2, 4, 6, 8):
            expected["dpn_table3"][f"AP: DPM{n} minus D={d}{n}"] = row["dpm_ap"] - row[f"d{d}_ap"]
            if d != 2:
                expected["dpn_table3"][f"AP: D=2{n} minus D={d}{n}"] = row["d2_ap"] - row[f"d{d}_ap"]
    ap = {(row["resolution_h"], row["model"][3]): float(row["ap"]) for row in table("dpn_table4_resolution")}
    gains = {n: ap["64", n] - ap["32", n] for n in "1234"}
    expected["dpn_table4"] = {
        f"AP: 1/4{m} minus 1/8{m}": gains[n] for n in "1234" for m in ["" if n == "1" else f", {n}"]
    }
    wide = {row["model"][3]: float(row["dpm_ap"]) for row in table("dpn_table2_dpm_vs_normal")}
    expected["dpn_modules"] = {f"AP: {a} minus {b}": wide[a] - wide[b] for a, b in ("21", "32", "43", "41")}
    a, b, c = (float(row["ap"]) for row in table("hrnet_table6_exchange_units"))
    expected["hrnet_table6"] = {
        "AP: across minus final": b - a,
        "AP: within minus across": c - b,
        "AP: within minus final": c - a,
    }
    names = {"ResNet-50": "ResNet", "HRNet-W32": "HRNet", "TransPose-R-A4": "TransPose", "HRFormer-S": "HRFormer"}
    heads = {
        (names[row["backbone"]], row["scheme"].replace("Simple", "simple").removesuffix(" head")): row
        for row in table("srpose_coco_val")
        if row["approach"] == "top-down"
    }
    post, none = ({key: float(row[column]) for key, row in heads.items()} for column in ("ap_post", "ap_nopost"))
    lost = {key: post[key] - none[key] for key in heads}
    for name, better, worse in (("sr_head", "SR", "simple"), ("srpose_head", "SRPose", "SR")):
        expected[name] = {
            f"AP: {n}, {better} minus {n}, {worse}": post[n, better] - post[n, worse] for n in names.values()
        }
    expected["post_processing"] = {
        **{f"AP lost without post-processing: {n}, simple": lost[n, "simple"] for n in names.values()},
        **{
            f"AP lost without post-processing: {n}, simple minus {n}, {other}": lost[n, "simple"] - lost[n, other]
            for n in names.values()
            for other in ("SR", "SRPose")
        },
    }
    return expected


def test_published_gains_are_those_of_the_tables():
    for name, gains in published_gains().items():
        written = {contrast.name: contrast.published for contrast in ABLATIONS[name].contrasts_of("full")}
        assert set(written) == set(gains), name
        for contrast, value in gains.items():
            assert float(written[contrast]) == pytest.approx(value, abs=1e-9), (name, contrast)


def test_every_contrast_of_every_ablation_names_its_own_arms_and_no_arm_idles():
    for ablation in ABLATIONS.values():
        for profile in ("quick", "full"):
            named = {name for contrast in ablation.contrasts_of(profile) for _, name, _ in contrast.terms}
            assert named == set(ablation.arms_of(profile)), ablation.name


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
    scores = score_variants(net, data)
    found, intervals = scores.metrics, scores.intervals
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
    spent = json.loads((tmp_path / "cut" / arm.SPENT).read_text())
    assert 0 < spent < 100
    (tmp_path / "cut" / arm.SPENT).write_text("1000")
    steps = []
    again = arm.run_arm(
        config, 3, split="val", folder=tmp_path / "cut", on_log=lambda record: steps.append(record["step"])
    )
    assert steps == [100]  # the first 50 steps were kept
    assert again["metrics"] == whole["metrics"]
    assert 1000 < again["seconds"] < 1100 and not (tmp_path / "cut" / arm.SPENT).exists()


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A configuration that is still at it when it is interrupted, and what it ends with if it is not."""
    config = {**SMALL.config("smoke"), "recipe": {**SMALL.config("smoke")["recipe"], "samples": 4800}}
    return config, arm.run_arm(config, 1, split="val", folder=tmp_path_factory.mktemp("long"))["metrics"]


SWEEP = """
import json, sys
from pathlib import Path
from posekit.experiments.ablations import sweep
jobs = [sweep.Job(json.loads(sys.argv[1]), 1, Path(sys.argv[2]))]
sweep.sweep(jobs, on_done=lambda job, result: None)
"""


def is_free(folder):
    """No process holds the run; the system frees it only when that has ended."""
    with open(folder / worker.LOCK, "a") as file:
        return worker._lock(file)


def until(condition):
    end = time.time() + 200  # nothing is measured here; a loaded machine may take its time
    while not condition():
        assert time.time() < end
        time.sleep(0.05)


@pytest.mark.parametrize("signal_sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_killed_takes_its_runs_along_and_the_next_one_ends_them(tmp_path, long_run, signal_sent):
    config, expected = long_run
    parent = subprocess.Popen([sys.executable, "-c", SWEEP, json.dumps(config), str(tmp_path)])
    until((tmp_path / "run.json").is_file)
    assert not is_free(tmp_path)
    parent.send_signal(signal_sent)
    assert parent.wait(20) == {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}[signal_sent]
    until(lambda: is_free(tmp_path))
    assert not (tmp_path / arm.RESULT).exists()
    found = []
    assert sweep.sweep([sweep.Job(config, 1, tmp_path)], on_done=lambda job, result: found.append(result)) == 0
    assert found[0]["metrics"] == expected


def test_a_folder_that_another_process_trains_in_is_left_alone(tmp_path):
    job = sweep.Job(SMALL.config("smoke"), 1, tmp_path).facts("")
    with worker.alone(tmp_path):
        assert worker.work(job, str(tmp_path), deadline=time.time() + 0.3) is None
    assert [path.name for path in tmp_path.iterdir()] == [worker.LOCK]


def test_no_run_uses_code_that_changed_since_the_sweep_began(tmp_path):
    job = sweep.Job(SMALL.config("smoke"), 1, tmp_path).facts("0ther" * 8)
    with pytest.raises(LedgerError, match="began with code 0ther0ther, a worker has code"):
        worker.work(job, str(tmp_path))


@pytest.mark.parametrize("content", ["", "[]", '{"metrics": {"AP": 1'])
def test_a_damaged_result_is_named(tmp_path, content):
    (tmp_path / arm.RESULT).write_text(content)
    (tmp_path / arm.DRAWS).write_text(content)
    with pytest.raises(LedgerError, match=r"result\.json .* delete it"):
        sweep.sweep([sweep.Job({}, 1, tmp_path)], on_done=lambda job, result: None)
    with pytest.raises(LedgerError, match=r"draws\.npz is damaged .* delete"):
        arm.draws_of(tmp_path)


def test_a_lost_workers_run_is_tried_again(tmp_path, monkeypatch):
    started = []
    start = sweep.Processes.start

    def killing(self, *asked):
        process = start(self, *asked)
        if not started:
            time.sleep(1.0)
            os.kill(process.pid, signal.SIGKILL)
        started.append(process.pid)
        return process

    monkeypatch.setattr(sweep.Processes, "start", killing)
    done = []
    job = sweep.Job(SMALL.config("smoke"), 1, tmp_path / "run")
    assert sweep.sweep([job], on_done=lambda job, result: done.append(result)) == 0
    assert len(started) == 2 and len(done) == 1


def test_a_run_that_always_fails_names_its_folder(tmp_path):
    config = {**SMALL.config("smoke"), "network": "no_such_network"}
    with pytest.raises(sweep.SweepError, match=r"broken failed 3 times.*no_such_network"):
        sweep.sweep([sweep.Job(config, 1, tmp_path / "broken")], on_done=lambda job, result: None)


def test_a_run_that_always_fails_does_not_keep_the_others(tmp_path):
    broken = sweep.Job({**SMALL.config("smoke"), "network": "no_such_network"}, 1, tmp_path / "broken")
    sound = sweep.Job(SMALL.config("smoke"), 1, tmp_path / "sound")
    done = []
    with pytest.raises(sweep.SweepError, match="broken failed 3 times"):
        sweep.sweep([broken, sound], on_done=lambda job, result: done.append(job.folder.name))
    assert done == ["sound"]


def test_failed_runs_leave_the_whole_comparisons(tmp_path, monkeypatch):
    def stopped(jobs, *, on_done, **rest):
        raise sweep.SweepError("one failed 3 times")

    common = {"profile": "smoke", "folder": tmp_path / "ledger", "runs": tmp_path / "runs"}
    assert run.run_ablations([PAIR], **common).failed == ""
    # Of the two, one has all of its runs.
    monkeypatch.setattr(run, "sweep", lambda jobs, *, on_done, **rest: [
        on_done(job, job.result) for job in jobs if job.result] and stopped(jobs, on_done=on_done))  # fmt: skip
    other = replace(PAIR, name="other", arms={**PAIR.arms, "b": replace(OTHER, samples=0.3)})
    found = run.run_ablations([other, PAIR], **common)
    assert [row.test for row in found.rows] == ["pair"]
    assert (found.open, found.failed) == (2, "one failed 3 times")


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
    row = next(row for row in rows if row.test == "training")
    left = weights.left_by(row, tmp_path)
    assert left == tmp_path / "runs" / "test" / f"{row.config_hash}-seed{row.seed}"
    assert weights.left_by(replace(row, metrics={"AP": 1.0}), tmp_path) is None  # a run of other code
    again = []
    run.run_ablations([PAIR], **common, on_done=lambda *facts: again.append(facts))
    assert not again and len(ledger.read(tmp_path / "ledger")) == len(rows)


def test_a_recorded_comparison_is_repeated_from_its_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(run.environment, "commit", lambda clean=False: "0" * 40)
    monkeypatch.setattr(frozen, "check", lambda *args: None)
    monkeypatch.setitem(ABLATIONS, "pair", PAIR)
    folder = tmp_path / "ledger"
    run.run_ablations([PAIR], profile="smoke", record=True, folder=folder, runs=tmp_path / "runs")
    monkeypatch.setattr(run.environment, "DATA", tmp_path)
    row = ledger.read_file(folder / "pair.jsonl")[0]
    assert any(name.endswith("over pictures") for name in row.intervals) and verification.rerun(row).ok
    wrong = replace(row, metrics={name: value + 1 for name, value in row.metrics.items()})
    assert not verification.rerun(wrong).ok


def test_an_ablation_is_run_like_any_other_experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "runs_of", lambda code: tmp_path)
    (row,) = experiments.run(PAIR, profile="smoke", seeds=[101, 102])
    assert row.test == PAIR.name and row.config["seeds"] == [101, 102] and row.verdict


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


def test_a_kept_network_whose_run_is_gone_is_trained_again_and_must_come_out_as_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(run.environment, "commit", lambda clean=False: "0" * 40)
    monkeypatch.setitem(weights.ALONE, "small", SMALL)
    rows, files = tmp_path / "ledger", tmp_path / "files"
    files.mkdir()
    places = {"profile": "smoke", "folder": files, "ledger_folder": rows}

    def kept(runs):
        path = weights.keep("alone", "small", 7, runs=tmp_path / runs, **places)
        return {name: values.tolist() for name, values in read_safetensors(path)[0].items()}

    made = kept("first")
    (row,) = ledger.read(rows)
    assert (row.claims, row.verdict, row.arm) == ((), None, "alone: small")
    assert kept("second") == made
    assert ledger.read(rows) == [row]
    (rows / "training.jsonl").unlink()
    ledger.append(rows, [replace(row, metrics={**row.metrics, "mean OKS": row.metrics["mean OKS"] + 1})])
    with pytest.raises(LedgerError, match=r"small, seed 7, differs from its row in mean OKS by 1"):
        kept("third")
    with pytest.raises(LedgerError, match="dpn_table2 has no arm 'none'; it has DPM, 1"):
        weights.keep("dpn_table2", "none", 1, **places)
