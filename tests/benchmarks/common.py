"""Timing for the benchmarks: every case once a round, so that noise from other processes hits all cases alike.

Ratios are what to read. The clock is the CPU time of the process, which is steady on a shared machine; it adds up
threads, so cases run on one (``OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1``, set here before NumPy and torch load).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")


def interleave(
    cases: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 5,
    warmup: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Run every case once a round, every other round backwards; seconds of each case, warm-up rounds left out.

    A case that returns a number gives its own seconds (what it did outside its clock does not count).
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(warmup + rounds):
        for name, run in list(cases.items())[:: -1 if round_ % 2 else 1]:
            begin = clock()
            own = run()
            took = own if isinstance(own, float) else clock() - begin
            if round_ >= warmup:
                seconds[name].append(took)
    return seconds


def readable(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    for unit, scale in (("s ", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:8.2f} {unit}"
    return f"{seconds * 1e6:8.1f} us"


def report(
    title: str, seconds: Mapping[str, list[float]], *, reference: str, per: float = 1, unit: str = ""
) -> dict[str, dict[str, float]]:
    """Print a table and return {case: {median, min, max, ratio}}; ratio is to the median of ``reference``."""
    base = statistics.median(seconds[reference])
    table = {
        name: {
            "median": statistics.median(values) / per,
            "min": min(values) / per,
            "max": max(values) / per,
            "ratio": statistics.median(values) / base,
        }
        for name, values in seconds.items()
    }
    print(f"\n{title}" + (f" (per {unit})" if unit else ""))
    print(f"  {'case':44}{'median':>12}{'min':>12}{'x ' + reference:>28}")
    for name, row in sorted(table.items(), key=lambda item: item[1]["median"]):
        print(f"  {name:44}{readable(row['median']):>12}{readable(row['min']):>12}{row['ratio']:28.2f}")
    sys.stdout.flush()
    return table


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, the processor's kind and packages, for the record."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options every benchmark has: ``--rounds`` and ``--json``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    return parser


def write(path: str | None, content: Any) -> None:
    """Write the numbers as JSON, to a temporary name first."""
    if path:
        temporary = f"{path}.tmp"
        with open(temporary, "w") as file:
            json.dump(content, file, indent=1)
        os.replace(temporary, path)
