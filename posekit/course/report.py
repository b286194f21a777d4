"""What became of the notebooks: results, failures by cell, and the closing table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDGETS = "application/vnd.jupyter.widget-state+json"
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Failure:
    """Where and how a notebook failed: cell id, the error's first line, five lines of source around it."""

    cell: str
    error: str
    context: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One notebook's run."""

    notebook: str
    output: Path
    seconds: float
    failure: Failure | None = None
    skipped: bool = False
    slowest: tuple[tuple[str, float], ...] = ()

    @property
    def ok(self) -> bool:
        return self.failure is None


def find_failure(notebook: dict[str, Any], error: Exception | None) -> Failure | None:
    """The failed cell of an executed notebook, an error inside one of its widgets, or the runner's own error."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error" and "raises-exception" not in cell["metadata"].get("tags", []):
                return Failure(cell.get("id", "?"), _first_line(output), _context(cell, output))
    state = notebook.get("metadata", {}).get("widgets", {}).get(WIDGETS, {}).get("state", {})
    for model, entry in state.items():
        for output in entry.get("state", {}).get("outputs", []) or []:
            if output.get("output_type") == "error":
                return Failure(_cell_of_widget(notebook, model), f"inside a widget: {_first_line(output)}")
    if error is None:
        return None
    running = [
        c for c in notebook["cells"] if c["metadata"].get("papermill", {}).get("status") in ("running", "failed")
    ]
    where = running[0].get("id", "?") if running else "(none)"
    lines = [line for line in str(error).splitlines() if line.strip()]
    return Failure(where, f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": "))


def _first_line(output: dict[str, Any]) -> str:
    first = (str(output.get("evalue", "")).strip().splitlines() or [""])[0]
    return f"{output.get('ename', 'error')}: {first}".rstrip(": ")


def _context(cell: dict[str, Any], output: dict[str, Any]) -> tuple[str, ...]:
    """Five numbered lines of the cell around the line that failed."""
    source = "".join(cell["source"]).splitlines()
    traceback = _ANSI.sub("", "\n".join(output.get("traceback", [])))
    found = re.findall(r"Cell In\[\d+\], line (\d+)", traceback)
    line = min(int(found[0]), len(source)) if found else 1
    first = max(1, min(line - 2, len(source) - 4))
    return tuple(
        f"{'>' if n == line else ' '} {n:3d} {source[n - 1]}" for n in range(first, min(first + 5, len(source) + 1))
    )


def _cell_of_widget(notebook: dict[str, Any], model: str) -> str:
    """The cell that shows the widget, as far as the outputs tell; a box shows models that it holds."""
    for cell in notebook["cells"]:
        if model in json.dumps(cell.get("outputs", [])):
            return cell.get("id", "?")
    views = [c for c in notebook["cells"] if "widget-view" in json.dumps(c.get("outputs", []))]
    return views[0].get("id", "?") if views else "?"


def slowest_cells(notebook: dict[str, Any], count: int = 3) -> tuple[tuple[str, float], ...]:
    timed = [
        (cell.get("id", "?"), cell["metadata"]["papermill"].get("duration") or 0.0)
        for cell in notebook["cells"]
        if "papermill" in cell.get("metadata", {}) and cell["cell_type"] == "code"
    ]
    return tuple(sorted(timed, key=lambda pair: -pair[1])[:count])


def times_entry(result: Result) -> dict[str, Any]:
    slowest = [{"cell": cell, "seconds": round(seconds, 2)} for cell, seconds in result.slowest]
    return {
        "notebook": result.notebook, "seconds": round(result.seconds, 2), "ok": result.ok,
        "skipped": result.skipped, "slowest": slowest,
    }  # fmt: skip


def describe(result: Result) -> str:
    """One line for a result; for a failure also the cell, the error and the five lines."""
    state = "skipped" if result.skipped else "ok" if result.ok else "FAILED"
    line = f"{result.notebook:<44} {state:<8} {result.seconds:6.1f} s"
    if result.failure is None:
        return line
    place = f"  cell {result.failure.cell}: {result.failure.error}"
    return "\n".join([line, place, *(f"  {row}" for row in result.failure.context), f"  kept as {result.output}"])


def report(results: Sequence[Result]) -> str:
    """The closing table: every notebook with its time and slowest cell, failures in full."""
    rows = [f"{'notebook':<44} {'state':<8} {'time':>8}  slowest cell"]
    for result in results:
        slow = f"  {result.slowest[0][0]} {result.slowest[0][1]:.1f} s" if result.slowest else ""
        rows.append(describe(result).splitlines()[0] + slow)
    total = sum(result.seconds for result in results)
    failed = [result for result in results if not result.ok]
    rows.append(f"{len(results)} notebooks, {len(failed)} failed, {total:.1f} s of notebook time")
    return "\n".join([*rows, "", *map(describe, failed)] if failed else rows)
