"""The verb that runs benchmarks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from posekit.cli.common import Arguments, UsageError, add_verb, print_result


def bench(options: Arguments) -> int:
    from posekit.course.parameters import project_root

    scripts = sorted((project_root() / "tests" / "benchmarks").glob("bench_*.py"))
    known = {path.stem.removeprefix("bench_"): path for path in scripts}
    unknown = [name for name in options.names if name not in known]
    if unknown or not known:
        raise UsageError(f"there is no benchmark '{''.join(unknown[:1])}'; there are: {', '.join(known) or 'none'}")
    measured, failed = {}, []
    for name in options.names or known:
        print(f"== {name}", flush=True, file=sys.stderr if options.json else sys.stdout)
        code, measured[name] = _run(known[name], as_json=options.json)
        if code:
            failed.append(name)
    if options.json:
        print_result(options, measured, "")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(script: Path, *, as_json: bool) -> tuple[int, Any]:
    """The exit code of a benchmark and what it measured, None where it wrote nothing or was not asked for JSON."""
    import subprocess
    import tempfile

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if not as_json:
        return subprocess.run([sys.executable, str(script)], env=environment, check=False).returncode, None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        # Its tables go to stderr, so that stdout holds one JSON value.
        line = [sys.executable, str(script), "--json", str(file)]
        code = subprocess.run(line, env=environment, check=False, stdout=2).returncode
        return code, json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def add_verbs(verbs: Any) -> None:
    """``bench``."""
    one = add_verb(verbs, "bench", bench, "run benchmarks, each beside its peers", "posekit bench codecs")
    one.add_argument("names", nargs="*", metavar="NAME", help="all when none is named")
