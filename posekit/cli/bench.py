"""The verb that runs benchmarks."""

from __future__ import annotations

import os
import sys
from typing import Any

from posekit.cli.common import Arguments, UsageError, add_verb


def bench(options: Arguments) -> int:
    import subprocess

    from posekit.course.parameters import project_root

    scripts = sorted((project_root() / "tests" / "benchmarks").glob("bench_*.py"))
    known = {path.stem.removeprefix("bench_"): path for path in scripts}
    unknown = [name for name in options.names if name not in known]
    if unknown or not known:
        raise UsageError(f"there is no benchmark '{''.join(unknown[:1])}'; there are: {', '.join(known) or 'none'}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    failed = []
    for name in options.names or known:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(known[name])], env=environment, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def add_verbs(verbs: Any) -> None:
    """``bench``."""
    one = add_verb(
        verbs, "bench", bench, "run benchmarks, each beside its peers", "posekit bench codecs", as_json=False
    )
    one.add_argument("names", nargs="*", metavar="NAME", help="all when none is named")
