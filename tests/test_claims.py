"""The claims table and the ledger: complete, consistent with the published tables, and hard to tamper with."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import subprocess
import sys
import time

import numpy as np
import pytest
from ledger_rows import make_row

from posekit.experiments import (
    EXPERIMENTS,
    NOT_RUN,
    Cell,
    Experiment,
    Judgement,
    LedgerError,
    Measurement,
    Row,
    Scope,
    claims,
    claims_json,
    environment,
    forest,
    format_claims,
    ledger,
    lines,
    published_rows,
    run,
    runner,
    summary,
    verdict_counts,
    verify,
)
from posekit.experiments.summary import NOT_HERE, way


def test_every_claim_of_the_sources_has_a_row():
    found = [claim.id for claim in claims()]
    expected = [
        f"{letter}{i:02d}" for letter, n in (("H", 17), ("D", 11), ("S", 10), ("U", 3)) for i in range(1, n + 1)
    ]
    assert found == expected
    assert all(claim.claim and claim.published and claim.kinds and claim.test for claim in claims())


@pytest.mark.parametrize(
    ("claim", "column", "values"),
    [
        ("H02", "ap", ["70.8", "71.9", "73.4"]),
        ("H05", "ap", ["73.4", "74.4"]),
        ("H07", "gflops", ["8.90", "7.10"]),
        ("H12", "ap", ["77.4", "77.0"]),
        ("H14", "ap", ["68.6", "69.4"]),
        ("D09", "ap", ["69.4", "70.4", "69.9"]),
        ("S06", "ap_post", ["46.7", "48.4", "65.3", "67.1"]),
        ("S08", "ap_hard", ["55.6", "56.2", "55.6"]),
    ],
)
def test_references_select_the_published_numbers(claim, column, values):
    row = next(c for c in claims() if c.id == claim)
    assert [r[column] for r in published_rows(row)] == values


def test_every_reference_resolves():
    for claim in claims():
        assert bool(published_rows(claim)) == bool(claim.published_file)


def test_unrun_claims_say_so(tmp_path):
    """What was not run is "not run yet", what needs the real pictures "not testable here"; both with their commands."""
    table = claims(folder=tmp_path)
    for shown, claim in zip(claims_json(table), table):
        assert {word for words in shown["by_kind"].values() for word in words} <= {NOT_RUN, NOT_HERE}
        words = {entry["kind"]: entry["verdict"] for entry in shown["pending"]}
        assert words == {kind: NOT_HERE if kind == "paper" else NOT_RUN for kind in claim.kinds}
        assert all(entry["commands"] for entry in shown["pending"] if entry["kind"] == "paper")
    assert verdict_counts(table) == {
        NOT_HERE: sum("paper" in claim.kinds for claim in table),
        NOT_RUN: sum(len(claim.kinds) - ("paper" in claim.kinds) for claim in table),
    }
    (s03,) = (shown for shown in claims_json(table) if shown["id"] == "S03")
    assert s03["pending"][0]["commands"] == ["posekit ablate srpose_head --profile quick"]


RUNS = [make_row(seed) for seed in (0, 1)]
RESTS_ON = tuple(row.digest for row in RUNS)


def make_comparison(differences: dict[str, tuple[float, float, float]], **changes) -> Row:
    """A recorded comparison over five seeds: cell -> (mean, low, high), seen where the interval lies above zero."""
    words = {
        name: "seen" if low > 0 else "not seen" if high < 0 else OPEN for name, (_, low, high) in differences.items()
    }
    config = {"ablation": "dpn_table3", "seeds": [1, 2, 3, 4, 5], **changes.pop("config", {})}
    verdict = words[min(words)] if len(set(words.values())) == 1 else OPEN
    return make_row(
        1, test="dpn_table3", claims=("D04",), kind="trained", scope=Scope("Mannequin, face", "quick", "tiny_dpn"),
        config=config, config_hash=ledger.config_hash(config), verdict=verdict, rests_on=RESTS_ON, intervals={},
        reason="All of it at length.", metrics={f"detectable, {name}": 1.5 for name in differences},
        cells=tuple(Cell(n, m, words[n], "+1.3", (low, high)) for n, (m, low, high) in differences.items()), **changes,
    )  # fmt: skip


OPEN = "undecided in reduced form"
DIFFERENCES = {"a": (2.0, 1.0, 3.0), "b": (0.2, -1.0, 1.4), "c": (-2.0, -3.0, -1.0), "d": (0.1, 0.05, 0.15)}


def test_a_comparison_of_many_cells_is_counted_in_the_list_and_taken_apart_on_request(tmp_path):
    controlled = make_row(3, test="a_cue", claims=("D04",), kind="controlled", verdict="mechanism shown", cells=())
    ledger.append(tmp_path, [*RUNS, controlled, make_comparison(DIFFERENCES)])
    (claim,) = (c for c in claims(folder=tmp_path) if c.id == "D04")
    listed, shown = format_claims([claim]), format_claims([claim], detail=True)
    assert "controlled: MECHANISM SHOWN" in listed
    assert "trained: UNDECIDED IN REDUCED FORM [Mannequin, face; quick; network: tiny_dpn; 5 seeds]" in listed
    flat = " ".join(listed.split())
    assert "2 of 4 cells hold, 1 fall the other way; differences from -2.0 to +2.0." in flat
    assert "All of it at length" not in listed
    assert "b: +0.2 [-1, +1.4], published +1.3: undecided in reduced form (1.5 would have been seen)" in shown
    assert "c: -2 [-3, -1], published +1.3: not seen\n" in shown
    assert "$ posekit ablate dpn_table3" in shown
    assert "4 intervals of 95 %" in listed
    (plain,) = claims_json([claim])
    assert plain["by_kind"] == {"controlled": ["mechanism shown"], "trained": [OPEN]}
    trained = next(v for v in plain["verdicts"] if v["kind"] == "trained")
    assert (trained["cells_that_hold"], trained["seeds"], len(trained["cells"])) == (2, [1, 2, 3, 4, 5], 4)
    assert trained["runs"][1:] == [row.digest for row in RUNS]


def test_what_stands_is_the_newest_configuration(tmp_path):
    """Recorded again with another number of cells or seeds, a test speaks once."""
    older = make_comparison({"a": (2.0, 1.0, 3.0)})
    newer = make_comparison({"a": (0.2, -1.0, 1.4)}, config={"again": True}, commit="1" * 40)
    ledger.append(tmp_path, [*RUNS, older, newer])
    (claim,) = (c for c in claims(folder=tmp_path) if c.id == "D04")
    assert [row.digest for row in claim.verdicts] == [newer.digest]
    assert [line.verdict for line in lines([claim]) if line.kind == "trained"] == [OPEN]


def test_seeds_that_disagree_are_listed_apart(tmp_path):
    ledger.append(tmp_path, [make_row(0), make_row(1), make_row(2, verdict="contradicted")])
    (claim,) = (c for c in claims(folder=tmp_path) if c.id == "S10")
    assert [(line.verdict, line.seeds) for line in lines([claim])] == [("reproduced", 2), ("contradicted", 1)]


def test_the_verb_alone_lists_every_claim_with_its_runs(capsys):
    from posekit.cli import main

    assert main(["claims", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main(["claims", "list", "--json"]) == 0
    assert alone == json.loads(capsys.readouterr().out)
    assert len(alone) == 41
    recorded = {row.digest for row in ledger.read(environment.DATA / "ledger")}
    assert all(set(verdict["runs"]) <= recorded for shown in alone for verdict in shown["verdicts"])
    assert any(verdict["scope"]["dataset"] for shown in alone for verdict in shown["verdicts"])


def test_every_word_of_the_ledger_falls_one_way_and_has_a_mark_that_needs_no_colour():
    for word in (*ledger.VERDICTS, NOT_RUN):
        assert way(word) in ("for", "against", "open", "absent") and word in forest.LOOKS
    assert len({(marker, face == "none") for marker, _, face in forest.LOOKS.values()}) == len(forest.LOOKS)
    assert way("reproduced under convention official") == "for"


def test_a_recorded_verdict_reaches_the_table_with_its_scope(tmp_path):
    ledger.append(tmp_path, [make_row(0), make_row(1)])
    claim = next(c for c in claims(folder=tmp_path) if c.id == "S10")
    assert claim.pending == ()
    assert "bound: REPRODUCED [ideal heatmaps; quick; network: none; 2 seeds]" in format_claims([claim])
    (shown,) = claims_json([claim])
    assert json.loads(json.dumps(shown))["verdicts"][0]["runs"] == [make_row(0).digest]


def test_rows_survive_the_file(tmp_path):
    rows = [make_row(0), make_row(1)]
    ledger.append(tmp_path, rows[:1])
    first = (tmp_path / "quantization.jsonl").read_bytes()
    ledger.append(tmp_path, rows[1:])
    assert ledger.read(tmp_path) == rows
    assert (tmp_path / "quantization.jsonl").read_bytes().startswith(first)
    assert [path.name for path in tmp_path.iterdir()] == ["quantization.jsonl"]


def _edit(lines):
    return [lines[0].replace('"error": 0.5', '"error": 0.4'), *lines[1:]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_edit, "line 1: the row was edited"),
        (lambda lines: lines[1:], "line 1: a row before this one was removed"),
        (lambda lines: [lines[0], lines[2]], "line 2: a row before this one was removed"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1: a row before"),
        (lambda lines: [*lines, lines[0]], "line 4: a row before"),
        (lambda lines: [*lines[:2], lines[2].rstrip("\n")], "last line is incomplete"),
        (lambda lines: [lines[0], "{}\n", lines[2]], "line 2: not a ledger row"),
        (lambda lines: [lines[0].replace('"schema": 1', '"schema": 9')], "schema 9 is unknown"),
        (lambda lines: [lines[0].replace('"seed"', '"verdict": "contradicted", "seed"')], "'verdict' is there twice"),
        (lambda lines: [lines[0].replace('"wall_s": 1.0', '"wall_s": NaN')], "NaN is no number"),
        (lambda lines: ["[" * 100_000 + "\n"], "line 1: not a ledger row"),
    ],
)
def test_damage_is_found(tmp_path, damage, message):
    ledger.append(tmp_path, [make_row(seed) for seed in range(3)])
    path = tmp_path / "quantization.jsonl"
    path.write_text("".join(damage(path.read_text().splitlines(keepends=True))))
    for attempt in (lambda: ledger.read(tmp_path), lambda: ledger.append(tmp_path, [make_row(7)])):
        with pytest.raises(LedgerError, match=message):
            attempt()


def test_a_run_is_recorded_once(tmp_path):
    ledger.append(tmp_path, [make_row(0)])
    for again in (make_row(0, metrics={"error": 0.1}), make_row(0, arm="another name")):
        with pytest.raises(LedgerError, match="recorded already"):
            ledger.append(tmp_path, [again])
    other = make_row(0, commit="1" * 40)
    assert ledger.append(tmp_path, [other, make_row(1)], once=True) == [make_row(1)]
    assert ledger.append(tmp_path, [other]) == [other]
    assert len(ledger.read(tmp_path)) == 3


def test_the_runs_that_stand_twice_in_the_ledger_are_known_and_equal():
    rows = ledger.read_file(environment.DATA / "ledger" / "training.jsonl")
    twice: dict[tuple, list[Row]] = {}
    for row in rows:
        twice.setdefault((row.config_hash, row.seed, row.commit), []).append(row)
    pairs = [group for group in twice.values() if len(group) > 1]
    assert sorted(second.digest[:12] for _, second in pairs) == sorted(ledger.RECORDED_TWICE)
    assert all(first.metrics == second.metrics for first, second in pairs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "guess"}, "unknown kind"),
        ({"hardware": {}}, "hardware does not name its device"),
        ({"versions": []}, "versions is \\[\\]"),
        ({"scope": Scope("ideal heatmaps", "quick", [])}, "network is \\[\\]; use a text"),
        ({"claims": ("H13", "H13")}, "a claim is named twice"),
        ({"commit": None}, "commit is None; use a text"),
        ({"intervals": {"error": (0.4, 0.5, 0.6)}}, "interval of 'error' has 3 ends"),
        ({"claims": ()}, "no claim"),
        ({"verdict": "proved"}, "has no verdict 'proved'"),
        ({"verdict": "mechanism shown"}, "a bound test of profile quick has no verdict 'mechanism shown'; use reprod"),
        ({"verdict": "reproduced under convention "}, "has no verdict"),
        ({"kind": "trained"}, "a trained test of profile quick has no verdict 'reproduced'; use seen, not seen, und"),
        ({"kind": "trained", "verdict": "reproduced under convention mmcv", "cells": ()}, "has no verdict"),
        ({"metrics": {"error": float("nan")}}, "finite"),
        ({"metrics": {"error": "0.5"}}, "finite"),
        ({"intervals": {"error": (1.0, 0.0)}}, "lower one first"),
        ({"intervals": {"error": (-math.inf, 0.0)}}, "finite ends"),
        ({"cells": (Cell("error, px", math.nan, "reproduced"),)}, "cell 'error, px' is nan"),
        ({"seed": 1.5}, "the seed is 1.5"),
        ({"wall_s": -1.0}, "wall_s is -1.0"),
        ({"tolerance": -0.1}, "tolerance is -0.1"),
        ({"config": {"samples": 11}}, "hash does not match"),
        ({"config": {"samples": [10, math.inf]}}, "the configuration holds a number that is not finite"),
    ],
)
def test_rows_are_checked(changes, message):
    with pytest.raises(LedgerError, match=message):
        make_row(**changes)


def _append_many(folder, start):
    for seed in range(start, start + 5):
        ledger.append(folder, [make_row(seed)])


def test_concurrent_writers_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_many, args=(tmp_path, start)) for start in (0, 100, 200)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(ledger.read(tmp_path)) == 15


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    ledger.append(tmp_path, [make_row(0)])
    script = (
        "import os, pickle, sys; from pathlib import Path; from posekit.experiments import ledger\n"
        "os.replace = lambda *a: os._exit(9)\n"
        "row = ledger.read(Path(sys.argv[1]))[0]\n"
        "import dataclasses; ledger.append(Path(sys.argv[1]), [dataclasses.replace(row, seed=1)])"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 9
    assert ledger.read(tmp_path) == [make_row(0)]
    ledger.append(tmp_path, [make_row(1)])
    assert len(ledger.read(tmp_path)) == 2


def test_unknown_claim_in_the_ledger_is_refused(tmp_path):
    ledger.append(tmp_path, [make_row(0, claims=("X99",))])
    with pytest.raises(LedgerError, match="X99"):
        claims(folder=tmp_path)


def test_every_test_names_claims_of_its_kind():
    kinds = {claim.id: claim.kinds for claim in claims()}
    for experiment in EXPERIMENTS.values():
        assert all(experiment.kind in kinds[name] for name in experiment.claims), experiment.name
        assert {"smoke", "quick"} <= set(experiment.profiles)


def test_what_was_not_run_is_named_beside_what_was(tmp_path):
    """D02 has two controlled tests on figures; with rows of one, the other is named with its command."""
    row = make_row(3, test="a_cue", claims=("D02",), kind="controlled", verdict="mechanism shown", cells=())
    row = dataclasses.replace(row, test="left_right_reach", scope=Scope("Mannequin, face", "quick", "tiny_dpn"))
    found = summary._unrun_tests(*_one_line("D02", row))
    assert ("controlled", "left_right_bib_reach") in found and ("controlled", "left_right_reach") not in found
    assert all(kind == "controlled" for kind, _ in found)


def _one_line(claim, row):
    claim = next(c for c in claims() if c.id == claim)
    return claim, [summary.Line(claim, "controlled", row.verdict, (row,))]


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
    monkeypatch.setattr(runner, "find", lambda name, profile="quick": drifted)
    (changed,) = verify(1, seed_from="abc", folder=tmp_path)
    assert not changed.ok and changed.difference == pytest.approx(1)


def test_verify_sees_a_verdict_that_does_not_follow_from_the_numbers(tmp_path):
    (row,) = run("oks_scale", profile="smoke", seeds=[0])
    assert row.verdict == "contradicted" and runner.follows(row)
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
    assert runner.compare(row, Measurement(metrics, {"error": (0.4, 0.6)})).ok
    seen = runner.compare(row, Measurement(metrics, {"error": (0.4, 0.7)}))
    assert not seen.ok and seen.metric == "error, high" and seen.difference == pytest.approx(0.1)
    seen = runner.compare(row, Measurement(metrics, {"error": (0.4, math.nan)}))
    assert not seen.ok and seen.metric == "error, high"
    with pytest.raises(LedgerError, match="'error, high' is not on both sides"):
        runner.compare(row, Measurement(metrics))


def test_a_comparison_is_repeated_with_its_intervals_over_pictures():
    row = next(claim for claim in claims() if claim.id == "H03").verdicts[0]
    assert any(name.endswith("over pictures") for name in row.intervals) and runner.rerun(row).ok


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


def test_kept_arrays_that_are_damaged_are_named(tmp_path):
    (tmp_path / "runs").mkdir()
    path = runner.arrays_path(make_row(), tmp_path / "ledger")
    for content in (b"", b"PK", b"no archive"):
        path.write_bytes(content)
        with pytest.raises(LedgerError, match=rf"{path.name} in runs is damaged \(.*; restore it"):
            runner.arrays_of(make_row(), folder=tmp_path / "ledger")


def test_an_ablation_is_found_by_its_name_and_one_arm_of_it_decides_nothing(tmp_path):
    with pytest.raises(LedgerError, match="hrnet_or_simple_baseline compares seed by seed; give two or more"):
        run("hrnet_or_simple_baseline", profile="smoke", seeds=[101], folder=tmp_path)
    with pytest.raises(LedgerError, match="one arm of an ablation"):
        run("training")


def test_what_each_arm_reached_stands_beside_the_differences():
    """A difference to an arm that learned nothing is to be seen as that."""
    claim = next(claim for claim in claims() if claim.id == "H03")
    (shown,) = (found for found in claims_json([claim])[0]["verdicts"] if found["test"] == "hrnet_branches")
    assert list(shown["arms"]) == ["1/4", "1/8", "1/16"] and {len(ap) for ap in shown["arms"].values()} == {5}
    text = format_claims([claim], detail=True)
    for name, ap in shown["arms"].items():
        assert f"{name} reached AP {np.mean(ap):.1f}, from {min(ap):.1f} to {max(ap):.1f} over seeds" in text
    high, low = (np.mean(shown["arms"][name]) for name in ("1/4", "1/8"))
    cell = next(cell for cell in shown["cells"] if cell["name"] == "AP: 1/4 minus 1/8")
    assert cell["measured"] == pytest.approx(high - low)


def test_a_row_of_an_earlier_definition_says_what_it_lacks(tmp_path):
    (new,) = run("detail_crowded", profile="smoke", seeds=[0])
    before = {name: value for name, value in new.metrics.items() if not name.startswith("growth")}
    old = dataclasses.replace(new, metrics=before)
    ledger.append(tmp_path, [old, dataclasses.replace(old, seed=1)])
    with pytest.raises(
        LedgerError, match=r"detail_crowded\.jsonl, seed 0: the row has no 'growth.*record it again with"
    ):
        lines(claims(folder=tmp_path))


def test_every_recorded_verdict_follows_from_its_numbers():
    standing = {row.digest: row for claim in claims() for row in (*claim.verdicts, *claim.controls)}
    assert not [(row.test, row.seed) for row in standing.values() if not runner.follows(row)]


def test_another_machine_may_differ_as_seeds_do_and_no_further():
    spread = [
        make_row(seed, metrics={"AP": 40 + ap, "parameters": 1e5}, tolerance=15.0, intervals={"AP": (39 + 2 * ap, 41)})
        for seed, ap in enumerate((-0.6, 0.6, 0.0, -0.6, 0.6))
    ]
    allowed = runner.allowances(spread[0], spread)
    sd = 0.6
    assert allowed == pytest.approx(
        {"AP": runner.SPREADS * sd, "parameters": 0.3, "AP, low": runner.SPREADS * 2 * sd, "AP, high": 0.3}
    )
    assert set(runner.allowances(spread[0], spread[:2]).values()) == {15.0}
    calm = [dataclasses.replace(row, config={"other": 1}, config_hash=ledger.config_hash({"other": 1}),
                                metrics={"AP": 20.0, "parameters": 2e5}) for row in spread]  # fmt: skip
    together = runner.allowances(calm[0], [*spread, *calm])["AP"]
    assert together == pytest.approx(runner.SPREADS * 0.6 / 2**0.5)  # its own seeds were lucky to agree


def test_rows_of_a_gpu_are_repeated_on_one_and_need_not_be_equal(monkeypatch):
    devices = []

    def measure(config, seed, device="cpu"):
        devices.append(device)
        return Measurement({"error": 0.55}, {"error": (0.45, 0.65)})

    experiment = Experiment(**{**vars(EXPERIMENTS["quantization"]), "measure": measure, "tolerance": 0.1})
    monkeypatch.setattr(runner, "find", lambda name, profile="quick": experiment)
    hardware = {"device": "cuda", "model": "a GPU", "threads": 1}
    monkeypatch.setattr(runner.environment, "hardware", lambda device="cpu": hardware)
    versions = runner.environment.versions(experiment.packages)
    row = make_row(0, hardware=hardware, versions=versions, tolerance=experiment.tolerance)
    seen = runner.rerun(dataclasses.replace(row, verdict=None, cells=()))
    assert devices == ["cuda"] and seen.allowed == row.tolerance and seen.ok


def test_an_arm_that_another_test_trained_counts_its_time():
    """Otherwise a row would seem quick to repeat, and be repeated by every verification at its full cost."""

    @runner.shared
    def arm(seed):
        time.sleep(0.2)
        return seed

    other = EXPERIMENTS["flip_shift_stride4"]
    test = Experiment(**{**vars(other), "measure": lambda c, s: (arm(s), other.measure(c, s))[1]})
    first, again, plain = (run(one, profile="smoke", seeds=[0])[0].wall_s for one in (test, test, other))
    assert min(first, again) > 0.2 and plain < again


def test_a_damaged_folder_or_a_missing_run_ends_the_table_with_a_sentence(tmp_path):
    with pytest.raises(LedgerError, match="no folder"):
        claims(folder=tmp_path / "nowhere")
    assert ledger.read(tmp_path / "nowhere") == []
    (tmp_path / "file").touch()  # like a folder without permission, it cannot be listed, and is not empty
    with pytest.raises(LedgerError, match=r"/file: the ledger cannot be listed \(Not a directory\); .*name another"):
        ledger.read(tmp_path / "file")
    ledger.append(tmp_path, [make_comparison(DIFFERENCES)])
    with pytest.raises(LedgerError, match=r"dpn_table3\.jsonl, seed 1: a run that this comparison rests on"):
        claims(folder=tmp_path)
    (tmp_path / "dpn_table3.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(LedgerError, match=r"dpn_table3\.jsonl: not text at byte 0"):
        claims(folder=tmp_path)


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


def test_unknown_tests_and_profiles_are_named():
    with pytest.raises(LedgerError, match="oks_scale"):
        run("nonsense")
    with pytest.raises(LedgerError, match="quick"):
        run("oks_scale", profile="huge")


def test_verdict_comes_from_the_measurement_alone():
    oks_scale = EXPERIMENTS["oks_scale"]
    measured = oks_scale.measure(oks_scale.profiles["smoke"], 0)
    assert oks_scale.judge(measured).verdict == "contradicted"
    a, b = "largest difference, s^2 = area", "largest difference, s = box diagonal"
    swapped = Measurement({**measured.metrics, a: measured.metrics[b], b: measured.metrics[a]})
    judged: Judgement = oks_scale.judge(swapped)
    assert judged.verdict == "reproduced"


@pytest.mark.realdata
def test_ground_truth_through_a_codec_scores_as_the_reference_evaluator_says(realdata, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from posekit.annotations import read_people, write_detections
    from posekit.codecs import GaussianHeatmap
    from posekit.experiments.ground_truth import decode_ground_truth, score

    source = realdata / "coco" / "test_coco.json"
    people = read_people(source)
    codec = GaussianHeatmap((256, 192), stride=16, centre="subpixel", decoder="argmax")
    decoded = decode_ground_truth(people, codec)
    write_detections(tmp_path / "found.json", decoded.detections)
    ground = COCO(str(source))
    evaluator = COCOeval(ground, ground.loadRes(str(tmp_path / "found.json")), "keypoints")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    assert score(people, codec).stats.tolist() == evaluator.stats.tolist()
    assert 0.3 < evaluator.stats[0] < 0.9
    sharp = GaussianHeatmap((256, 192), stride=4, centre="subpixel", decoder="dark", window=None)
    assert np.abs(decode_ground_truth(people, sharp).errors).max() < 0.05


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=environment.ROOT, capture_output=True, check=True).stdout


def test_the_ledger_only_grows():
    """Each version of a ledger file in the history begins the next one: no row was dropped at the end either."""
    for name in sorted(set(git("log", "--format=", "--name-only", "--", "data/ledger").decode().split())):
        before = b""
        for commit in git("log", "--format=%H", "--reverse", "--", name).decode().split():
            now = git("show", f"{commit}:{name}")
            assert now.startswith(before), (name, commit)
            before = now
        path = environment.ROOT / name
        assert path.is_file() and path.read_bytes().startswith(before), name


def test_recorded_rows_rest_on_recorded_rows_and_on_commits_of_this_history():
    rows = ledger.read(environment.DATA / "ledger")
    digests = {row.digest for row in rows}
    assert not [row.test for row in rows if not digests.issuperset(row.rests_on)]
    commits, history = {row.commit for row in rows}, set(git("log", "--format=%H").decode().split())
    if not commits & history:
        pytest.skip("the history is not in this clone")
    assert commits <= history
