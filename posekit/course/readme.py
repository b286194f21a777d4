"""The generated blocks of README.md: the notebooks with measured times, and what became of the claims.

``python -m posekit.course.readme`` rewrites them from the notebooks, ``figures/times.json`` and the ledger;
``--check`` says whether they are up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posekit.course.figures import write_bytes
from posekit.course.parameters import project_root

if TYPE_CHECKING:
    from posekit.experiments import Line

TIMES = "figures/times.json"


def notebook_table(root: Path) -> str:
    """Markdown: one row for each notebook with its promise and the time it took when the figures were made."""
    times = {entry["notebook"]: entry["seconds"] for entry in json.loads((root / TIMES).read_text())["notebooks"]}
    rows = ["| notebook | promise | run |", "|---|---|---:|"]
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        title, promise = _title_and_promise(path)
        took = f"{times[path.name]:.0f} s" if path.name in times else "not run yet"
        rows.append(f"| [{title}](notebooks/{path.name}) | {promise} | {took} |")
    total = sum(times.values())
    minutes = f"{total / 60:.1f} minutes of notebook time in all"
    rows.append(f"\nTimes at the quick profile, {_jobs(root)} notebooks at a time; {minutes}.")
    return "\n".join(rows)


def _jobs(root: Path) -> str:
    jobs = json.loads((root / TIMES).read_text())["jobs"]
    return {1: "one", 2: "two"}.get(jobs, str(jobs))


def _title_and_promise(path: Path) -> tuple[str, str]:
    """The heading of a notebook's first cell, and the paragraph under it without its markup."""
    first = "".join(json.loads(path.read_text())["cells"][0]["source"])
    found = re.match(r"# (.+)\n+((?:.+\n)+)", first + "\n")
    if found is None:
        raise ValueError(f"{path.name}: the first cell needs '# title' and a promise of one paragraph; add them")
    words = " ".join(found[2].replace("*", "").split()).removeprefix("After this notebook ")
    return found[1], words[0].upper() + words[1:]


def claims_summary() -> str:
    """Markdown: verdicts counted by kind of test, then each claim with its verdicts, from the ledger."""
    from posekit.experiments import claims, interval_count, lines, verdict_counts
    from posekit.experiments.ledger import KINDS

    table = claims()
    found = lines(table)
    rows = [f"{len(table)} claims of three sources and their users; tests by kind and verdict:", ""]
    rows += ["| verdict | " + " | ".join(KINDS) + " |", "|---|" + "---:|" * len(KINDS)]
    for verdict in verdict_counts(table):
        counts = [sum((line.verdict, line.kind) == (verdict, kind) for line in found) for kind in KINDS]
        rows.append(f"| {verdict} | " + " | ".join(str(count or "") for count in counts) + " |")
    intervals = interval_count(table)
    rows += ["", f"{intervals} intervals of 95 % stand behind them; about {0.05 * intervals:.1f} would miss by chance."]
    rows += ["", "In brackets, the cells (single comparisons) that hold, of all:", ""]
    rows += ["| | claim | verdict by kind of test |", "|---|---|---|"]
    for claim in table:
        verdicts = "; ".join(f"{line.kind}: {_words(line)}" for line in found if line.claim.id == claim.id)
        rows.append(f"| {claim.id} | {claim.claim} | {verdicts} |")
    return "\n".join(rows)


def _words(line: Line) -> str:
    from posekit.experiments.ledger import REPRODUCED_UNDER

    return line.short.replace(REPRODUCED_UNDER, "reproduced under ")


def regenerated(text: str, root: Path) -> str:
    """README text with its generated blocks made anew."""
    for name, block in (("notebooks", notebook_table(root)), ("claims", claims_summary())):
        pattern = re.compile(rf"(<!-- begin {name}[^>]*-->\n).*?(\n<!-- end {name} -->)", re.DOTALL)
        old = pattern.search(text)
        if old is None:
            raise ValueError(f"README.md has no block '{name}'; put back its begin and end comments")
        text = text[: old.end(1)] + block + text[old.start(2) :]
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: rewrite README.md's generated blocks, or check them."""
    parser = argparse.ArgumentParser(prog="python -m posekit.course.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if README.md is out of date")
    options = parser.parse_args(arguments)
    path = project_root() / "README.md"
    text = path.read_text()
    fresh = regenerated(text, project_root())
    if options.check and fresh != text:
        print("README.md is out of date; run python -m posekit.course.readme", file=sys.stderr)
        return 1
    if fresh != text:
        write_bytes(path, fresh.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
