"""The claims table: what the sources say, how it is tested here, and what came out."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from posekit.experiments import ledger
from posekit.experiments.environment import DATA
from posekit.experiments.ledger import LedgerError, Row, Scope

COLUMNS = ("id", "source", "claim", "published", "kinds", "test", "published_file")
CONTROL = "_control"  # ends the names of tests in which the mechanism is not needed


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
        controls: recorded runs in which the mechanism of a controlled test is not needed.
        runs: the training runs that the comparisons among ``rows`` rest on, by digest.
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
    controls: tuple[Row, ...] = ()
    runs: Mapping[str, Row] = field(default_factory=dict)

    @property
    def pending(self) -> tuple[str, ...]:
        """Kinds of test without a recorded verdict."""
        done = {row.kind for row in self.rows}
        return tuple(kind for kind in self.kinds if kind not in done)

    @property
    def verdicts(self) -> tuple[Row, ...]:
        """What stands today: of each test and scope the newest configuration, and of each seed its newest row."""
        return _standing(self.rows)

    def controls_of(self, test: str, profile: str) -> tuple[Row, ...]:
        """What stands today of a control, by its name, in a profile."""
        return _standing([row for row in self.controls if row.test == test and row.scope.profile == profile])

    @property
    def grouped(self) -> dict[tuple[str, Scope, str], tuple[Row, ...]]:
        """Standing verdicts by test, scope and verdict; the rows of one group differ in their seed.

        The seeds of a controlled test are judged together, so they are one group whatever each says.
        """
        groups: dict[tuple[str, Scope, str], tuple[Row, ...]] = {}
        for row in self.verdicts:
            key = (row.test, row.scope, "" if row.kind == "controlled" else row.verdict or "")
            groups[key] = (*groups.get(key, ()), row)
        return groups


def _standing(rows: Sequence[Row]) -> tuple[Row, ...]:
    config = {(row.test, row.scope): row.config_hash for row in rows}
    standing = [row for row in rows if row.config_hash == config[row.test, row.scope]]
    return tuple({(row.test, row.scope, row.seed): row for row in standing}.values())


def claims(*, folder: Path | None = None, table: Path | None = None) -> list[Claim]:
    """Every claim with its recorded verdicts.

    Args:
        folder: the ledger; the project's own by default.
        table: the claims; ``data/claims.csv`` by default.

    Raises:
        LedgerError: a damaged table or ledger, or a ledger row for a claim that is not in the table.
    """
    table = table or DATA / "claims.csv"
    if folder is not None and not Path(folder).is_dir():
        raise LedgerError(f"{folder} is no folder; name the folder with the ledger's .jsonl files")
    found = _read_table(table)
    known = {claim.id for claim in found}
    rows = ledger.read(folder or DATA / "ledger")
    by_digest = {row.digest: row for row in rows}
    for row in rows:
        if not by_digest.keys() >= set(row.rests_on):
            raise LedgerError(
                f"{row.test}.jsonl, seed {row.seed}: a run that this comparison rests on is not in the ledger; restore "
                "its file from version control"
            )
        for name in row.claims:
            if name not in known:
                raise LedgerError(
                    f"{row.test}.jsonl names claim {name}, which {table.name} does not have; add it there"
                )
    # A control says that arms tie where they should: that is a verdict on the experiment, not on the claim.
    judged = [row for row in rows if row.verdict]
    decide = [row for row in judged if not row.test.endswith(CONTROL)]
    controls = [row for row in judged if row.test.endswith(CONTROL)]
    return [
        dataclasses.replace(
            claim,
            rows=tuple(row for row in decide if claim.id in row.claims),
            controls=tuple(row for row in controls if claim.id in row.claims),
            runs={one: by_digest[one] for row in decide if claim.id in row.claims for one in row.rests_on},
        )
        for claim in found
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
        found.append(Claim(**texts, kinds=kinds, parts=parts))  # type: ignore[arg-type]  # columns are all texts
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
