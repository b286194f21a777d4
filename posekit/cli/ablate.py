"""The verb ``ablate``: the papers' ablations on the embedded dataset."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posekit.cli.common import Arguments, UsageError, add_ledger_option, add_verb, print_result


def ablate(options: Arguments) -> int:
    from posekit.experiments.ablations import ABLATIONS, CONFIRM, frozen
    from posekit.experiments.ablations.run import RUNS, run_ablations

    if options.list:
        every = ABLATIONS.values()
        lines = [f"{a.name:<28} {', '.join(a.claims):<5} {len(a.arms):>2} arms  {a.question}" for a in every]
        print_result(options, {name: list(a.claims) for name, a in ABLATIONS.items()}, "\n".join(lines))
        return 0
    names = list(ABLATIONS) if options.names == ["all"] else options.names
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown or not names:
        what = f"there is no ablation '{unknown[0]}'" if names else "name an ablation, or all"
        raise UsageError(f"{what}; posekit ablate --list shows them")
    chosen = [ABLATIONS[name] for name in names]
    if options.freeze:
        frozen.freeze(chosen, options.profile)
        print_result(options, frozen.read(), f"frozen for profile {options.profile}: {', '.join(names)}")
        return 0
    if options.seeds is not None and not 1 <= options.seeds <= len(CONFIRM):
        raise UsageError(f"--seeds is a number of seeds from 1 to {len(CONFIRM)}, not {options.seeds}")
    deadline = None if options.budget_minutes is None else time.time() + 60 * options.budget_minutes

    def show(name: str, seed: int, metrics: Any) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {name}, seed {seed}: AP {metrics['AP']:.1f}", file=sys.stderr, flush=True)

    outcome = run_ablations(
        chosen,
        profile=options.profile,
        seeds=None if options.seeds is None else CONFIRM[: options.seeds],
        record=options.record,
        workers=options.jobs,
        backend="ray" if options.ray else "processes",
        device=options.device,
        deadline=deadline,
        folder=options.ledger,
        runs=options.out or RUNS,
        on_done=show,
    )
    facts = {
        "open": outcome.open,
        "rows": [
            {"test": r.test, "claims": r.claims, "verdict": r.verdict, "reason": r.reason,
             "cells": [asdict(cell) for cell in r.cells], "metrics": dict(r.metrics)}
            for r in outcome.rows
        ],
    }  # fmt: skip
    lines = [f"{r.test} ({', '.join(r.claims)}): {(r.verdict or '').upper()}. {r.reason}" for r in outcome.rows]
    if outcome.open:
        lines.append(f"{outcome.open} runs are still open; the same command goes on with them")
    print_result(options, facts, "\n".join(lines))
    return 0


def add_verbs(verbs: Any) -> None:
    """``ablate``."""
    example = "posekit ablate dpn_table2 --profile quick --seeds 5"
    one = add_verb(verbs, "ablate", ablate, "train the arms of the papers' ablations and compare them", example)
    one.add_argument("names", nargs="*", metavar="ABLATION", help="names that --list shows, or all")
    one.add_argument("--list", action="store_true", help="name the ablations and stop")
    one.add_argument("--profile", default="quick", choices=("smoke", "quick", "full"))
    one.add_argument("--seeds", type=int, help="how many (the profile's)")
    one.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    one.add_argument("--ray", action="store_true", help="spread the runs over a Ray cluster")
    one.add_argument("--device", default="cpu", help="cpu or cuda")
    one.add_argument("--budget-minutes", type=float, help="stop then; the next call goes on")
    one.add_argument("--out", type=Path, help="folder of the runs (build/ablations)")
    one.add_argument("--freeze", action="store_true", help="fix the definitions before recorded seeds run")
    one.add_argument("--record", action="store_true", help="append to the ledger; scores the test split")
    add_ledger_option(one)
