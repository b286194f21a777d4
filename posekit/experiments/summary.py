"""What became of the claims: one line for each test of each claim, and the texts made of these lines."""

from __future__ import annotations

import dataclasses
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from posekit.experiments import paper
from posekit.experiments.claims import Claim
from posekit.experiments.ledger import KINDS, NOT_HERE, NOT_RUN, REPRODUCED_UNDER, VERDICTS, Cell, Row
from posekit.experiments.runner import Judgement

Way = Literal["for", "against", "open", "absent"]
_WAYS: dict[str, Way] = {
    "reproduced": "for", "seen": "for", "mechanism shown": "for",
    "contradicted": "against", "not seen": "against", "mechanism not shown": "against",
    "undecided": "open", "undecided in reduced form": "open",
    NOT_RUN: "absent", NOT_HERE: "absent",
}  # fmt: skip
_LONG = 3  # so many cells fit into a sentence


# Differences of a trained comparison that stand beside AP, in percent.
_BESIDE = ("mean OKS", "PCK", "confusion", "jitter share", "inversion share", "swap share", "miss share")


@dataclass(frozen=True)
class Line:
    """One test of one claim with what stands, or a kind of test of which nothing is recorded.

    Attributes:
        claim: that it speaks to.
        kind: exact, bound, controlled, trained or paper.
        verdict: the ledger's word; without rows "not run yet", or "not testable here" where the data are missing.
        rows: runs of one test and scope with this verdict; they differ in their seed.
        commands: what runs it, as typed in a shell.
        controls: runs in which the mechanism is not needed, where those are a test of their own.
        judged: of a controlled test, what its seeds and controls say together; the verdict is its.
    """

    claim: Claim
    kind: str
    verdict: str
    rows: tuple[Row, ...] = ()
    commands: tuple[str, ...] = ()
    controls: tuple[Row, ...] = ()
    judged: Judgement | None = None

    @property
    def way(self) -> Way:
        """Whether the verdict speaks for the claim, against it, or neither."""
        return way(self.verdict)

    @property
    def note(self) -> str:
        """What the commands of a test on real pictures leave open of the claim, empty where it is nothing."""
        return paper.NOTES.get(self.claim.id, "") if self.kind == "paper" else ""

    @property
    def seeds(self) -> int:
        """How many seeds the verdict rests on: those of the rows, or those that a comparison is made of."""
        return sum(len(row.config.get("seeds", [])) if row.rests_on else 1 for row in self.rows)

    @property
    def cells(self) -> dict[str, tuple[Cell, ...]]:
        """Cells by name, one for each row, or one for all where the rows are judged together."""
        if self.judged:
            return {cell.name: (cell,) for cell in self.judged.cells}
        found: dict[str, tuple[Cell, ...]] = {}
        for row in self.rows:
            for cell in row.cells:
                found[cell.name] = (*found.get(cell.name, ()), cell)
        return found

    @property
    def held(self) -> tuple[int, int]:
        """How many cells hold under every seed, and how many there are; a control's tie is no support."""
        cells = [seeds for name, seeds in self.cells.items() if not is_control(name)]
        return sum(all(way(cell.verdict) == "for" for cell in seeds) for seeds in cells), len(cells)

    @property
    def scope(self) -> str:
        """The scope in words, empty where nothing was run."""
        if not self.rows:
            return ""
        scope = self.rows[0].scope
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        return f"{scope.dataset}; {scope.profile}; network: {scope.network}; {seeds}"

    @property
    def short(self) -> str:
        """The verdict with its count of cells, for a table."""
        held, cells = self.held
        return self.verdict + (f" ({held} of {cells})" if cells > 1 else "")


def is_control(name: str) -> bool:
    """Whether a cell compares arms where the mechanism is not needed, so that they must tie."""
    return name.startswith("control: ")


def way(verdict: str) -> Way:
    """Which way a verdict falls; ``KeyError`` for a word that the ledger does not know."""
    return "for" if verdict.startswith(REPRODUCED_UNDER) else _WAYS[verdict]


def lines(claims: Sequence[Claim]) -> list[Line]:
    """Every test of every claim in the order of the claims and their kinds; what was not run stands there too."""
    from posekit.experiments.catalogue import EXPERIMENTS

    runs = commands()
    found: list[Line] = []
    for claim in claims:
        for kind in sorted({*claim.kinds, *(row.kind for row in claim.rows)}, key=KINDS.index):
            for (test, _, verdict), rows in claim.grouped.items():
                if kind == "controlled" == rows[0].kind and test in EXPERIMENTS:
                    found.append(_controlled(claim, rows, runs[test]))
                elif rows[0].kind == kind:
                    found.append(Line(claim, kind, verdict or rows[0].verdict or "", rows, (runs.get(test, ""),)))
            if kind in claim.pending and kind == "paper":
                found.append(Line(claim, kind, NOT_HERE, (), paper.COMMANDS[claim.id]))
            elif kind in claim.pending:
                found.append(Line(claim, kind, NOT_RUN, (), _tests_of(claim, kind, runs)))
    return found


def _controlled(claim: Claim, rows: tuple[Row, ...], command: str) -> Line:
    from posekit.experiments.catalogue import EXPERIMENTS
    from posekit.experiments.pooled import pool

    name = EXPERIMENTS[rows[0].test].control
    controls = claim.controls_of(name, rows[0].scope.profile) if name else ()
    judged = pool(rows, claim.id, controls)
    return Line(claim, "controlled", judged.verdict, rows, (command,), controls, judged)


def commands() -> dict[str, str]:
    """The command that runs each test, by its name."""
    from posekit.experiments.ablations import ABLATIONS
    from posekit.experiments.catalogue import EXPERIMENTS

    runs = {name: f"posekit claims run {name}" for name in EXPERIMENTS}
    return runs | {name: f"posekit ablate {name} --profile quick" for name in ABLATIONS}


def _tests_of(claim: Claim, kind: str, runs: dict[str, str]) -> tuple[str, ...]:
    from posekit.experiments.ablations import ABLATIONS
    from posekit.experiments.catalogue import EXPERIMENTS

    tests = [name for name, test in EXPERIMENTS.items() if claim.id in test.claims and test.kind == kind]
    tests += [name for name, test in ABLATIONS.items() if claim.id in test.claims and kind == "trained"]
    return tuple(runs[name] for name in tests)


def _unrun_tests(claim: Claim, table: Sequence[Line]) -> list[tuple[str, str]]:
    """(kind, name) of tests without a run, beside others of their kind that have some."""
    from posekit.experiments.catalogue import EXPERIMENTS

    own = [line for line in table if line.claim.id == claim.id and line.rows]
    kinds = {line.kind for line in own}
    run = {row.test for line in own for row in (*line.rows, *line.controls)}
    controls = {test.control for test in EXPERIMENTS.values()}
    return [
        (test.kind, name)
        for name, test in EXPERIMENTS.items()
        if claim.id in test.claims and test.kind in kinds and name not in run | controls
    ]


def format_claims(claims: Sequence[Claim], *, width: int = 120, detail: bool = False) -> str:
    """A plain-text table: one block per claim, one line per verdict with its scope, and a count at the end.

    Args:
        width: of a line, in characters.
        detail: also every cell with its interval, and the command that runs the test.
    """
    table = lines(claims)
    text: list[str] = []
    for claim in claims:
        text += textwrap.wrap(f"{claim.id}  {claim.claim}", width, subsequent_indent=" " * 5)
        text += textwrap.wrap(
            f"published: {claim.published}", width, initial_indent=" " * 5, subsequent_indent=" " * 16
        )
        for line in table:
            if line.claim.id == claim.id:
                text += textwrap.wrap(_sentence(line), width, initial_indent=" " * 5, subsequent_indent=" " * 9)
                text += _details(line, width) if detail else []
        for kind, name in _unrun_tests(claim, table) if detail else ():
            text.append(f"     {kind}: {NOT_RUN}, $ {commands()[name]}")
    counts = verdict_counts(claims)
    text += ["", "  ".join(f"{word}: {count}" for word, count in counts.items())]
    intervals = interval_count(claims)
    if intervals:
        text.append(
            f"{intervals} intervals of 95 % stand behind these verdicts; about {0.05 * intervals:.1f} would miss by "
            "chance alone."
        )
    return "\n".join(text)


def _sentence(line: Line) -> str:
    if not line.rows:
        return f"{line.kind}: {line.verdict}"
    head = f"{line.kind}: {line.verdict.upper()} [{line.scope}]"
    row, (held, cells) = line.rows[0], line.held
    if line.judged:
        return f"{head} {line.judged.reason}"
    if len(line.rows) > 1:
        return f"{head} Seed {row.seed}: {row.reason}"
    if not row.rests_on or cells <= _LONG:
        return f"{head} {row.reason}"
    against = sum(way(cell.verdict) == "against" for cell in row.cells)
    low, high = min(c.measured for c in row.cells), max(c.measured for c in row.cells)
    spread = f"differences from {low:+.1f} to {high:+.1f}"
    return f"{head} {held} of {cells} cells hold, {against} fall the other way; {spread}."


def _beside(row: Row, name: str) -> str:
    """How a contrast of AP looks by the other measures; empty where the row does not say."""
    measured = {what: row.metrics[key] for what in _BESIDE if (key := f"{what}, {name}") in row.metrics}
    return "beside it: " + ", ".join(f"{what} {value:+.1f}" for what, value in measured.items()) if measured else ""


def _reached(claim: Claim, row: Row) -> dict[str, list[float]]:
    """AP of each arm of a trained comparison, percent, one for each seed."""
    arms = row.config.get("runs", {}) if row.rests_on else {}
    return {name: [claim.runs[one].metrics["AP"] for one in by_seed.values()] for name, by_seed in arms.items()}


def _details(line: Line, width: int) -> list[str]:
    found = []
    for name, cells in line.cells.items():
        ends = cells[0].interval
        measured = ", ".join(f"{cell.measured:+.4g}" if ends else f"{cell.measured:.4g}" for cell in cells)
        interval = f" [{ends[0]:+.3g}, {ends[1]:+.3g}]" if ends and len(cells) == 1 else ""
        published = f", published {cells[0].published}" if cells[0].published else ""
        words = " / ".join(dict.fromkeys(cell.verdict for cell in cells))
        if is_control(name):
            published, words = "", {"seen": "holds", "not seen": "does not hold"}.get(words, words)
        detectable = line.rows[0].metrics.get(f"detectable, {name}")
        seen = f" ({detectable:.2g} would have been seen)" if detectable is not None and way(words) == "open" else ""
        text = f"{name}: {measured}{interval}{published}: {words}{seen}"
        found += textwrap.wrap(text, width, initial_indent=" " * 9, subsequent_indent=" " * 13)
        deeper = {"initial_indent": " " * 13, "subsequent_indent": " " * 13}
        found += textwrap.wrap(_beside(line.rows[0], name), width, **deeper)  # type: ignore[arg-type]
    for name, ap in _reached(line.claim, line.rows[0]).items() if line.rows else ():
        text = f"{name} reached AP {statistics.fmean(ap):.1f}, from {min(ap):.1f} to {max(ap):.1f} over seeds"
        found += textwrap.wrap(text, width, initial_indent=" " * 9, subsequent_indent=" " * 13)
    found += textwrap.wrap(line.note, width, initial_indent=" " * 9, subsequent_indent=" " * 9)
    return found + [f"         $ {command}" for command in line.commands if command]


def verdict_counts(claims: Sequence[Claim]) -> dict[str, int]:
    """Lines by their verdict, in the order of the ledger's words; "reproduced under convention X" is one word."""
    found = [line.verdict for line in lines(claims)]
    order = [VERDICTS[0], *sorted({w for w in found if w.startswith(REPRODUCED_UNDER)}), *VERDICTS[1:], NOT_RUN]
    return {word: found.count(word) for word in order if word in found}


def interval_count(claims: Sequence[Claim]) -> int:
    """How many 95 % intervals the standing verdicts rest on; one in twenty misses by chance alone.

    Where all seeds gave the same number there is nothing that chance could move, and no interval is counted.
    """
    found = {
        (line.rows[0].test, line.rows[0].scope, name): [cell.interval for cell in cells]
        for line in lines(claims)
        if line.rows
        for name, cells in line.cells.items()
    }
    return sum(ends is not None and ends[0] < ends[1] for cells in found.values() for ends in cells)


def claims_json(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """The table as plain values: every claim with verdicts, scopes, cells and the digests of the runs they rest on."""
    table = lines(claims)
    return [
        _claim_json(claim, [line for line in table if line.claim.id == claim.id], _unrun_tests(claim, table))
        for claim in claims
    ]


def _claim_json(claim: Claim, own: Sequence[Line], unrun: Sequence[tuple[str, str]]) -> dict[str, Any]:
    by_kind: dict[str, list[str]] = {}
    for line in own:
        by_kind.setdefault(line.kind, []).append(line.verdict)
    return {
        "id": claim.id,
        "source": claim.source,
        "claim": claim.claim,
        "published": claim.published,
        "kinds": list(claim.kinds),
        "test": claim.test,
        "published_file": claim.published_file,
        "verdict": sorted({line.verdict for line in own if line.rows}) or sorted({line.verdict for line in own}),
        "by_kind": {kind: sorted(set(words)) for kind, words in by_kind.items()},
        "verdicts": [_verdict_json(rows, line) for line in own for rows in _stated(line)],
        "pending": [
            {"kind": line.kind, "verdict": line.verdict, "commands": list(line.commands), "note": line.note}
            for line in own
            if not line.rows
        ]
        + [{"kind": kind, "verdict": NOT_RUN, "commands": [commands()[name]], "note": ""} for kind, name in unrun],
    }


def _stated(line: Line) -> list[tuple[Row, ...]]:
    """The rows that have a verdict together: all of a controlled test's seeds, each run of another."""
    return [line.rows] if line.judged else [(row,) for row in line.rows]


def _verdict_json(rows: Sequence[Row], line: Line) -> dict[str, Any]:
    held, cells = line.held
    row = rows[-1]
    return {
        "test": row.test,
        "kind": row.kind,
        "verdict": line.verdict,
        "reason": line.judged.reason if line.judged else row.reason,
        "scope": dataclasses.asdict(row.scope),
        "cells": [dataclasses.asdict(cell) for cell in (line.judged or row).cells],
        "cells_that_hold": held if cells else None,
        "metrics": dict(row.metrics) if row.rests_on else {},
        "arms": _reached(line.claim, row),
        "intervals": {name: list(ends) for name, ends in row.intervals.items()} if row.rests_on else {},
        "seed": rows[0].seed,
        "seeds": list(row.config["seeds"]) if row.rests_on else [one.seed for one in rows],
        "config_hash": row.config_hash,
        "commit": row.commit,
        "runs": [digest for one in rows for digest in (one.digest, *one.rests_on)],
        "controls": [control.digest for control in line.controls],
        "command": line.commands[0] if line.commands else "",
    }
