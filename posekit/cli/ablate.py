"""The verb ``ablate``: the papers' ablations on the embedded dataset."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posekit.cli.common import Arguments, UsageError, add_ledger_option, add_verb, print_result


def ablate(options: Arguments) -> int:
    from posekit.experiments.ablations import ABLATIONS, CONFIRM, LOOK, frozen

    _refuse(options)
    if options.merge:
        return _merge(options)
    if options.list:
        every = ABLATIONS.values()
        lines = [f"{a.name:<28} {', '.join(a.claims):<5} {len(a.arms):>2} arms  {a.question}" for a in every]
        print_result(options, {name: list(a.claims) for name, a in ABLATIONS.items()}, "\n".join(lines))
        return 0
    unknown = [name for name in options.names if name not in (*ABLATIONS, "all")]
    names = list(ABLATIONS) if "all" in options.names else list(dict.fromkeys(options.names))
    if unknown or not names:
        what = f"there is no ablation '{unknown[0]}'" if names else "name an ablation, or all"
        raise UsageError(f"{what}; posekit ablate --list shows them")
    if options.freeze:
        frozen.freeze([ABLATIONS[name] for name in names], options.profile)
        print_result(options, frozen.read(), f"frozen for profile {options.profile}: {', '.join(names)}")
        return 0
    seeds = None if options.seeds is None else (CONFIRM if options.record else LOOK)[: options.seeds]
    outcome = _bring(options, names, seeds) if options.bring else _run(options, names, seeds)
    lines = _lines([outcome])
    if outcome.open:
        lines.append(f"{outcome.open} runs are still open; the same command goes on with them")
    print_result(options, {"open": outcome.open, "rows": _facts([outcome])}, "\n".join(lines))
    if outcome.failed:
        print(f"posekit: {outcome.failed}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _refuse(options: Arguments) -> None:
    """Before anything is done: the options ask for one thing, and for one that can be."""
    from posekit.experiments.ablations import CONFIRM

    train = [f"--{name}" for name in ("record", "bring") if getattr(options, name)]
    errands = [f"--{name}" for name in ("list", "freeze", "merge") if getattr(options, name)] + train[:1]
    if len(errands) > 1:
        raise UsageError(f"{errands[0]} and {errands[1]} do not go together; call posekit ablate once for each")
    if options.merge and (options.names or options.seeds is not None):
        raise UsageError("--merge records what its archives were made for; leave out names and --seeds")
    if options.seeds is not None and not 2 <= options.seeds <= len(CONFIRM):
        raise UsageError(f"--seeds is a number of seeds from 2, to compare by, to {len(CONFIRM)}, not {options.seeds}")
    if options.jobs < 1:
        raise UsageError(f"--jobs is a number of runs at a time, 1 or more, not {options.jobs}")
    if options.budget_minutes is not None and not 0 < options.budget_minutes < math.inf:
        raise UsageError(f"--budget-minutes is a time above 0, not {options.budget_minutes:g}")
    if options.bring:
        try:
            options.bring.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--bring {options.bring} cannot be a folder ({error.strerror}); name another") from None


def _run(options: Arguments, names: list[str], seeds: Any, **more: Any) -> Any:
    """Train what is missing, within the budget."""
    from tqdm import tqdm

    from posekit.experiments.ablations import ABLATIONS
    from posekit.experiments.ablations.run import run_ablations

    deadline = None if options.budget_minutes is None else time.time() + 60 * options.budget_minutes

    def show(name: str, seed: int, metrics: Any) -> None:
        line = f"{time.strftime('%H:%M:%S')}  {name}, seed {seed}: AP {metrics['AP']:.1f}"
        tqdm.write(line, file=sys.stderr)  # above the sweep's bar, if there is one

    return run_ablations(
        [ABLATIONS[name] for name in names],
        profile=options.profile,
        seeds=seeds,
        record=options.record,
        workers=options.jobs,
        backend="ray" if options.ray else "processes",
        device=_device(options),
        deadline=deadline,
        folder=options.ledger,
        runs=_runs(options),
        on_done=show,
        **more,
    )


def _device(options: Arguments) -> str:
    """Of the runs; with Ray, what the cluster has and not what this machine has."""
    from posekit import inference

    if not options.ray:
        return str(inference.pick_device(options.device))
    from posekit.experiments.ablations.cluster import has_gpu

    return ("cuda" if has_gpu() else "cpu") if options.device == "auto" else options.device


def _runs(options: Arguments) -> Path:
    """Where the runs of this code lie: results of other code are not this one's."""
    from posekit.experiments import environment
    from posekit.experiments.ablations.run import RUNS, runs_of

    return runs_of(environment.code_id(), options.out or RUNS)


def _bring(options: Arguments, names: list[str], seeds: Any) -> Any:
    """Run as :func:`_run` does, go on from what the folder holds, and leave there what can be carried back."""
    from posekit.experiments.ablations import ABLATIONS, CONFIRM, PROFILES, carry, frozen

    runs = _runs(options)
    _device(options)
    if options.record:  # what will be refused is not asked for in the archives either
        for name in names:
            frozen.check(ABLATIONS[name], options.profile, seeds or CONFIRM[: max(PROFILES[options.profile].seeds, 2)])
    asked = carry.Asked(tuple(names), options.profile, seeds, options.record)
    every = carry.resume(options.bring, runs, asked)
    try:
        return _run(options, names, seeds, carried=True)
    finally:  # also when a run has failed: the others are worth carrying
        paths = carry.pack(options.bring, runs, every)
        size = sum(path.stat().st_size for path in paths) / 1e6
        print(f"{options.bring}: {len(paths)} archives, {size:.1f} MB, for posekit ablate --merge", file=sys.stderr)
        if large := carry.left_behind(runs):
            print(
                f"too large to be carried are the checkpoints of {len(large)} unfinished runs ({large[0]}, ...): on a "
                "bare machine these begin anew",
                file=sys.stderr,
            )


def _merge(options: Arguments) -> int:
    from posekit.experiments.ablations import ABLATIONS, carry
    from posekit.experiments.ablations.run import RUNS

    merged = carry.merge(options.merge, ABLATIONS, to=options.ledger, runs=options.out or RUNS)
    left = sum(outcome.open for outcome in merged.outcomes)
    lines = [
        *_lines(merged.outcomes),
        f"{merged.rows} rows added to the ledger, made by commit {merged.commit[:10]}; {left} runs were not carried; "
        f"runs and weights lie in {merged.folder}",
    ]
    facts = {"added": merged.rows, "commit": merged.commit, "open": left, "refused": merged.refused}
    print_result(options, {**facts, "rows": _facts(merged.outcomes)}, "\n".join(lines))
    for sentence in merged.refused:
        print(f"not recorded: {sentence}", file=sys.stderr)
    return 1 if merged.refused else 0


def _lines(outcomes: Sequence[Any]) -> list[str]:
    rows = [row for outcome in outcomes for row in outcome.rows]
    return [f"{r.test} ({', '.join(r.claims)}): {(r.verdict or '').upper()}. {r.reason}" for r in rows]


def _facts(outcomes: Sequence[Any]) -> list[dict[str, Any]]:
    rows = [row for outcome in outcomes for row in outcome.rows]
    return [
        {"test": r.test, "claims": r.claims, "verdict": r.verdict, "reason": r.reason,
         "cells": [asdict(cell) for cell in r.cells], "metrics": dict(r.metrics)}
        for r in rows
    ]  # fmt: skip


def add_verbs(verbs: Any) -> None:
    """``ablate``."""
    example = "posekit ablate dpn_table2 --profile quick --seeds 5"
    one = add_verb(verbs, "ablate", ablate, "train the arms of the papers' ablations and compare them", example)
    one.add_argument("names", nargs="*", metavar="ABLATION", help="names that --list shows, or all")
    one.add_argument("--list", action="store_true", help="name the ablations and stop")
    one.add_argument("--profile", default="quick", choices=("smoke", "quick", "full"))
    one.add_argument("--seeds", type=int, help="how many, 2 or more (the profile's)")
    one.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    one.add_argument("--ray", action="store_true", help="spread the runs over a Ray cluster")
    one.add_argument("--device", default="auto", help="auto, cpu or cuda; auto takes a GPU when there is one")
    one.add_argument("--budget-minutes", type=float, help="stop then; the next call goes on")
    one.add_argument(
        "--out", type=Path, help="folder of the runs, in it one for each version of the code (build/ablations)"
    )
    one.add_argument("--freeze", action="store_true", help="fix the definitions before recorded seeds run")
    one.add_argument("--record", action="store_true", help="append to the ledger; scores the test split")
    one.add_argument(
        "--bring", type=Path, metavar="FOLDER",
        help="on a borrowed machine: go on from this folder's archives, and leave there what can be carried back; with "
        "--record, the rows are written by --merge",
    )  # fmt: skip
    one.add_argument("--merge", type=Path, metavar="FOLDER", help="record the runs that --bring left in a folder")
    add_ledger_option(one)
