"""The claims table: what the sources say, how it is tested here, and what came out."""

from __future__ import annotations

import csv
import dataclasses
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posekit.experiments import ledger
from posekit.experiments.environment import DATA
from posekit.experiments.ledger import NOT_RUN, LedgerError, Row, Scope

COLUMNS = ("id", "source", "claim", "published", "kinds", "test", "published_file")


@dataclass(frozen=True)
class Claim:
    """One claim of the sources.

    Args:
        id: stable: a letter for the source and two digits.
        source: where it stands.
        claim: in words.
        published: the numbers as printed.
        kinds: how it can be decided, of exact, bound, controlled, trained, paper.
        test: what decides it here.
        published_file: rows of ``data/papers`` that hold the numbers: ``file.csv?column=a|b&column=c; file.csv``.
        parts: what each kind speaks to, where the source table says so ("cost").
        rows: the recorded runs with a verdict, newest last.
    """

    id: str
    source: str
    claim: str
    published: str
    kinds: tuple[str, ...]
    test: str
    published_file: str
    parts: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()

    @property
    def pending(self) -> tuple[str, ...]:
        """Kinds of test without a recorded verdict."""
        done = {row.kind for row in self.rows}
        return tuple(kind for kind in self.kinds if kind not in done)

    @property
    def verdicts(self) -> tuple[Row, ...]:
        """The newest row of each test, scope and seed: what stands today."""
        newest = {(row.test, row.scope, row.seed): row for row in self.rows}
        return tuple(newest.values())

    @property
    def grouped(self) -> dict[tuple[str, Scope, str], tuple[Row, ...]]:
        """Standing verdicts by test, scope and verdict; the rows of one group differ in their seed."""
        groups: dict[tuple[str, Scope, str], tuple[Row, ...]] = {}
        for row in self.verdicts:
            key = (row.test, row.scope, row.verdict or "")
            groups[key] = (*groups.get(key, ()), row)
        return groups


def claims(*, folder: Path | None = None, table: Path | None = None) -> list[Claim]:
    """Every claim with its recorded verdicts.

    Args:
        folder: the ledger; the project's own by default.
        table: the claims; ``data/claims.csv`` by default.

    Raises:
        LedgerError: a damaged table or ledger, or a ledger row for a claim that is not in the table.
    """
    table = table or DATA / "claims.csv"
    found = _read_table(table)
    known = {claim.id for claim in found}
    rows = ledger.read(folder or DATA / "ledger")
    for row in rows:
        for name in row.claims:
            if name not in known:
                raise LedgerError(
                    f"{row.test}.jsonl names claim {name}, which {table.name} does not have; add it there"
                )
    return [
        dataclasses.replace(c, rows=tuple(row for row in rows if c.id in row.claims and row.verdict)) for c in found
    ]


def published_rows(claim: Claim) -> list[dict[str, str]]:
    """The rows of ``data/papers`` that a claim rests on, in file order; empty where no table holds it.

    Raises:
        LedgerError: the reference names no file, no column or no row.
    """
    selected = []
    for reference in filter(None, (part.strip() for part in claim.published_file.split(";"))):
        name, _, query = reference.partition("?")
        path = DATA / "papers" / name
        if not path.is_file():
            raise LedgerError(f"claim {claim.id}: data/papers has no {name}; mend published_file in claims.csv")
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for condition in filter(None, query.split("&")):
            column, _, values = condition.partition("=")
            if column not in rows[0]:
                raise LedgerError(
                    f"claim {claim.id}: {name} has no column '{column}'; mend published_file in claims.csv"
                )
            rows = [row for row in rows if row[column] in values.split("|")]
            if not rows:
                raise LedgerError(
                    f"claim {claim.id}: no row of {name} has {condition}; mend published_file in claims.csv"
                )
        selected += rows
    return selected


def format_claims(claims: Sequence[Claim], *, width: int = 120) -> str:
    """A plain-text table: one block per claim, one line per verdict with its scope, and a count at the end."""
    lines: list[str] = []
    for claim in claims:
        head = f"{claim.id}  {claim.claim}"
        lines += textwrap.wrap(head, width, subsequent_indent=" " * 5)
        lines += textwrap.wrap(
            f"published: {claim.published}", width, initial_indent=" " * 5, subsequent_indent=" " * 16
        )
        for (_, scope, verdict), rows in claim.grouped.items():
            seeds = f"{len(rows)} seed{'s' * (len(rows) > 1)}"
            where = f"{scope.dataset}; {scope.profile}; network: {scope.network}; {seeds}"
            text = f"{rows[0].kind}: {verdict.upper()} [{where}] {rows[0].reason}"
            lines += textwrap.wrap(text, width, initial_indent=" " * 5, subsequent_indent=" " * 9)
        lines += [f"     {kind}: {NOT_RUN}" for kind in claim.pending]
    counts = verdict_counts(claims)
    lines += ["", "  ".join(f"{word}: {count}" for word, count in counts.items())]
    intervals = interval_count(claims)
    if intervals:
        lines.append(
            f"{intervals} intervals of 95 % stand behind these verdicts; about {0.05 * intervals:.1f} would miss by "
            "chance alone."
        )
    return "\n".join(lines)


def interval_count(claims: Sequence[Claim]) -> int:
    """How many 95 % intervals the standing verdicts rest on; one in twenty misses by chance alone."""
    rows = {row.digest: row for claim in claims for row in claim.verdicts}
    return sum(cell.interval is not None for row in rows.values() for cell in row.cells)


def verdict_counts(claims: Sequence[Claim]) -> dict[str, int]:
    """Standing verdicts by word, seeds of one test and scope together, and the kinds of test not run yet."""
    counts: dict[str, int] = {}
    for claim in claims:
        for word in [*(verdict for _, _, verdict in claim.grouped), *(NOT_RUN for _ in claim.pending)]:
            counts[word] = counts.get(word, 0) + 1
    return counts


def claims_json(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """The table as plain values: every claim with verdicts, scopes, cells and the digests of the runs they rest on."""
    return [
        {
            "id": claim.id,
            "source": claim.source,
            "claim": claim.claim,
            "published": claim.published,
            "kinds": list(claim.kinds),
            "test": claim.test,
            "published_file": claim.published_file,
            "verdict": sorted({verdict for _, _, verdict in claim.grouped}) or [NOT_RUN],
            "verdicts": [_verdict_json(row) for row in claim.verdicts],
            "pending": [{"kind": kind, "verdict": NOT_RUN} for kind in claim.pending],
        }
        for claim in claims
    ]


def _verdict_json(row: Row) -> dict[str, Any]:
    return {
        "test": row.test,
        "kind": row.kind,
        "verdict": row.verdict,
        "reason": row.reason,
        "scope": dataclasses.asdict(row.scope),
        "cells": [dataclasses.asdict(cell) for cell in row.cells],
        "seed": row.seed,
        "config_hash": row.config_hash,
        "commit": row.commit,
        "runs": [row.digest, *row.rests_on],
    }


def _read_table(path: Path) -> list[Claim]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            records = list(reader)
    except OSError:
        raise LedgerError(f"{path.name} cannot be read; run from a clone of the repository") from None
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise LedgerError(f"{path.name}: columns are {reader.fieldnames}; they must be {', '.join(COLUMNS)}")
    found: list[Claim] = []
    for number, record in enumerate(records, 2):
        kinds, parts = _kinds(record["kinds"], f"{path.name}, line {number}")
        if any(claim.id == record["id"] for claim in found):
            raise LedgerError(f"{path.name}, line {number}: claim {record['id']} stands twice; give it one row")
        texts = {name: value for name, value in record.items() if name != "kinds"}
        found.append(Claim(**texts, kinds=kinds, parts=parts, rows=()))
    return found


def _kinds(text: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    kinds, parts = [], []
    for item in text.split(";"):
        match = re.fullmatch(r"\s*(\w+)(?: \((.+)\))?\s*", item)
        if not match or match[1] not in ledger.KINDS:
            raise LedgerError(f"{where}: '{item.strip()}' is no kind of test; use one of {', '.join(ledger.KINDS)}")
        kinds.append(match[1])
        parts.append(match[2] or "")
    return tuple(kinds), tuple(parts)
