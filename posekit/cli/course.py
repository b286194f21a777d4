"""The verb that runs notebooks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from posekit.cli.common import Arguments, add_verb, print_result, read_settings


def course(options: Arguments) -> int:
    from posekit.course.report import describe, report, times_entry
    from posekit.course.runner import find_notebooks, run_course

    if options.list:
        for path in find_notebooks(options.notebooks):
            print(path.stem)
        return 0
    parameters = {key: value for key in ("seed", "device") if (value := getattr(options, key)) is not None}
    log = sys.stderr if options.json else sys.stdout
    results = run_course(
        options.notebooks,
        profile=options.profile,
        jobs=options.jobs,
        out=options.out,
        figures=options.figures,
        parameters={**parameters, **read_settings(options.set)},
        resume=options.resume,
        on_done=lambda result: print(describe(result), file=log, flush=True),
    )
    print_result(options, [times_entry(result) for result in results], "\n" + report(results))
    return 0 if all(result.ok for result in results) else 1


def add_verbs(verbs: Any) -> None:
    """``course``."""
    one = add_verb(verbs, "course", course, "run the course's notebooks", "posekit course 05 --profile smoke")
    one.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="number, name or path; all when none is named")
    one.add_argument("--profile", default="quick", help="smoke (does it run?) or quick (as it is meant to be read)")
    one.add_argument("--jobs", type=int, default=2, help="notebooks at a time (2)")
    one.add_argument("--out", type=Path, help="folder of executed notebooks (build/notebooks/PROFILE)")
    one.add_argument("--figures", type=Path, help="folder of figures (build/figures/PROFILE)")
    one.add_argument("--seed", type=int, help="of every notebook (0)")
    one.add_argument("--device", help="auto, cpu or cuda")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a notebook parameter")
    one.add_argument("--resume", action="store_true", help="skip what has been executed from the same source")
    one.add_argument("--list", action="store_true", help="name the notebooks and stop")
