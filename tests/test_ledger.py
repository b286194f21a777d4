"""The ledger: hard to tamper with, and whole whatever happens to its writers."""

from __future__ import annotations

import math
import multiprocessing
import subprocess
import sys
import time

import pytest
from ledger_rows import make_row

from posekit.experiments import (
    EXPERIMENTS,
    Cell,
    Experiment,
    LedgerError,
    Row,
    Scope,
    environment,
    ledger,
    run,
    runner,
)


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


def test_kept_arrays_that_are_damaged_are_named(tmp_path):
    (tmp_path / "runs").mkdir()
    path = runner.arrays_path(make_row(), tmp_path / "ledger")
    for content in (b"", b"PK", b"no archive"):
        path.write_bytes(content)
        with pytest.raises(
            LedgerError, match=rf"{path.name} is damaged \(.*; restore what quantization.jsonl, seed 0, left"
        ):
            runner.arrays_of(make_row(), folder=tmp_path / "ledger")


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
