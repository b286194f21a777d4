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

from posekit.course.figures import write_bytes
from posekit.course.parameters import project_root

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
    """Markdown: verdicts counted by kind of test, from the ledger."""
    from posekit.experiments import NOT_RUN, claims

    table = claims()
    kinds = ("exact", "bound", "controlled", "trained", "paper")
    counts: dict[str, dict[str, int]] = {}
    for claim in table:
        for test, scope, verdict in claim.grouped:
            kind = next(row.kind for row in claim.grouped[test, scope, verdict])
            counts.setdefault(verdict, dict.fromkeys(kinds, 0))[kind] += 1
        for kind in claim.pending:
            counts.setdefault(NOT_RUN, dict.fromkeys(kinds, 0))[kind] += 1
    order = sorted(counts, key=lambda verdict: (verdict == NOT_RUN, verdict))
    rows = [f"{len(table)} claims of three sources; tests by kind and verdict:", ""]
    rows += ["| verdict | " + " | ".join(kinds) + " |", "|---|" + "---:|" * len(kinds)]
    rows += [f"| {verdict} | " + " | ".join(str(counts[verdict][k] or "") for k in kinds) + " |" for verdict in order]
    return "\n".join(rows)


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
