"""The ledger: every recorded run, one JSON line each, appended and never changed.

A row carries two hashes. ``digest`` covers the row's own content, so that an edit shows and other rows can refer to it.
``chain`` covers the digest and the chain of the row before, so that a removed, inserted or moved row shows too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posekit.files import whole

SCHEMA = 1
KINDS = ("exact", "bound", "controlled", "trained", "paper")
WHOLE = ("full", "paper")  # profiles that train at the papers' widths
NOT_RUN = "not run yet"
REPRODUCED_UNDER = "reproduced under convention "  # followed by the convention's name
_PLAIN = ("reproduced", "contradicted", "undecided")
_MECHANISM = ("mechanism shown", "mechanism not shown")
_REDUCED = ("seen", "not seen", "undecided in reduced form")
NOT_HERE = "not testable here"
VERDICTS = (*_PLAIN, *_MECHANISM, *_REDUCED, NOT_HERE)
# Five training runs that two sweeps wrote at the same moment, before a run was looked for under the lock. Their metrics
# equal those of the rows before them to the last digit; a row is never taken away, so they stay.
RECORDED_TWICE = ("f57856e1f990", "b094137fb86b", "4e07995c262e", "c93101871c10", "4f14a411ae4b")


class LedgerError(ValueError):
    """A ledger file or row that cannot be trusted; one sentence with file, row and remedy."""


@dataclass(frozen=True)
class Scope:
    """What a verdict speaks of: it holds there and nowhere else."""

    dataset: str
    profile: str
    network: str = "none"


@dataclass(frozen=True)
class Cell:
    """One comparison inside a claim: the published value, ours, and how it falls.

    ``measured`` and ``interval`` (95 %) share a unit, which ``name`` states.
    """

    name: str
    measured: float
    verdict: str
    published: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """One recorded run of one test.

    Args:
        test: name of the test; also the file it is kept in.
        claims: ids of ``data/claims.csv``; none for a run that decides nothing and that no comparison wants.
        kind: exact, bound, controlled, trained or paper.
        scope: dataset, profile and network.
        config: everything the run depended on besides the seed.
        config_hash: of ``config``, see :func:`config_hash`.
        seed: of every random number.
        commit: of the code that ran.
        versions: of Python and the packages that took part.
        hardware: device, processor model and threads.
        wall_s: seconds.
        metrics: flat, finite numbers.
        intervals: 95 % intervals of some of the metrics.
        verdict: one of ``VERDICTS``, "reproduced under convention X", or ``None`` for one arm of a comparison.
        reason: one sentence with the numbers the verdict rests on.
        cells: the verdict taken apart.
        tolerance: how far a rerun elsewhere may differ in any metric at most.
        arm: name of the arm in a comparison.
        rests_on: digests of the rows that a comparison was made from.
    """

    test: str
    claims: tuple[str, ...]
    kind: str
    scope: Scope
    config: Mapping[str, Any]
    config_hash: str
    seed: int
    commit: str
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    wall_s: float
    metrics: Mapping[str, float]
    tolerance: float
    verdict: str | None = None
    reason: str = ""
    cells: tuple[Cell, ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    arm: str = ""
    rests_on: tuple[str, ...] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise LedgerError(f"test '{self.test}', seed {self.seed}: {problem}")

    @property
    def digest(self) -> str:
        """Hash of the row's whole content."""
        return _sha(dataclasses.asdict(self))

    @property
    def identity(self) -> tuple:
        """Two rows of one identity are one run recorded twice, whatever the arm is called."""
        environment = _sha([dict(self.versions), dict(self.hardware)])
        return self.test, self.config_hash, self.seed, self.commit, environment


def config_hash(config: Mapping[str, Any]) -> str:
    """First twelve hexadecimal digits of the SHA-256 of a configuration's canonical JSON."""
    return _sha(config)[:12]


def words_of(kind: str, profile: str) -> tuple[str, ...]:
    """The verdicts that a test of a kind can end with; "reproduced" stands for "reproduced under convention X", too."""
    if kind == "controlled":
        return (*_MECHANISM, "undecided", "seen", "not seen")  # the last two of controls, which must tie
    if kind == "trained" and profile not in WHOLE:
        return _REDUCED
    return (*_PLAIN, NOT_HERE) if kind == "paper" else _PLAIN


def read(folder: Path) -> list[Row]:
    """All rows of a ledger folder, checked: schema, digests, chain, duplicates. An absent folder has none.

    Raises:
        LedgerError: naming file, line and remedy; a folder that cannot be listed.
    """
    folder = Path(folder)
    rows = []
    try:
        # glob would take a folder that it may not list for an empty one.
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".jsonl") if folder.exists() else []
    except OSError as error:
        raise LedgerError(
            f"{folder}: the ledger cannot be listed ({error.strerror}); make the folder readable or name another"
        ) from None
    for path in paths:
        rows += read_file(path)
    return rows


def read_file(path: Path) -> list[Row]:
    """Rows of one ledger file, checked as in :func:`read`; an absent file has none."""
    return _parse(path)[0]


def append(folder: Path, rows: Sequence[Row], *, once: bool = False) -> list[Row]:
    """Add rows at the end of their tests' files; every file is checked first and replaced as a whole.

    A lock on the folder makes concurrent writers wait for each other; a crash at any point leaves the old file.

    Args:
        once: leave out runs whose test, configuration and seed are recorded already, at whatever commit.

    Returns:
        The rows that were added.

    Raises:
        LedgerError: a row is there already, or the file on disk has been changed by hand.
    """
    added = []
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        for test in dict.fromkeys(row.test for row in rows):
            path = folder / f"{test}.jsonl"
            known, chain = _parse(path)
            seen = {row.identity for row in known}
            runs = {(row.config_hash, row.seed) for row in known}
            lines = []
            for row in rows:
                if row.test != test or (once and (row.config_hash, row.seed) in runs):
                    continue
                if row.identity in seen:
                    raise LedgerError(
                        f"{path.name}: seed {row.seed} of configuration {row.config_hash} is recorded already at "
                        f"commit {row.commit[:10]}; record another seed, configuration or commit"
                    )
                seen.add(row.identity)
                runs.add((row.config_hash, row.seed))
                added.append(row)
                chain = _link(chain, row.digest)
                lines.append(json.dumps({**dataclasses.asdict(row), "digest": row.digest, "chain": chain}) + "\n")
            content = (path.read_bytes() if path.exists() else b"") + "".join(lines).encode()
            with whole(path, sync=True) as temporary:
                temporary.write_bytes(content)
    return added


def _parse(path: Path) -> tuple[list[Row], str]:
    rows: list[Row] = []
    chain = ""
    if not path.exists():
        return rows, chain
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LedgerError(
            f"{path.name}: not text at byte {error.start}; restore the file from version control"
        ) from None
    if text and not text.endswith("\n"):
        raise LedgerError(f"{path.name}: the last line is incomplete; restore the file from version control")
    seen = set()
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path.name}, line {number}"
        row, digest, link = _row(line, where)
        if row.digest != digest:
            raise LedgerError(f"{where}: the row was edited after it was recorded; restore it from version control")
        chain = _link(chain, digest)
        if chain != link:
            raise LedgerError(
                f"{where}: a row before this one was removed, added or moved; restore the file from version control"
            )
        if row.identity in seen and not digest.startswith(RECORDED_TWICE):
            raise LedgerError(f"{where}: the run is recorded twice; restore the file from version control")
        if row.test != path.stem:
            raise LedgerError(f"{where}: the row belongs to test '{row.test}'; move it to {row.test}.jsonl")
        seen.add(row.identity)
        rows.append(row)
    return rows, chain


def _row(line: str, where: str) -> tuple[Row, str, str]:
    try:
        record = json.loads(line, object_pairs_hook=_once, parse_constant=_no_number)
        digest, chain = record.pop("digest"), record.pop("chain")
        if record.get("schema") != SCHEMA:
            raise LedgerError(
                f"schema {record.get('schema')} is unknown here; this version reads schema {SCHEMA}, update posekit"
            )
        record["scope"] = Scope(**record["scope"])
        record["cells"] = tuple(
            Cell(**{**cell, "interval": tuple(cell["interval"]) if cell["interval"] else None})
            for cell in record["cells"]
        )
        record["intervals"] = {name: tuple(ends) for name, ends in record["intervals"].items()}
        for name in ("claims", "rests_on"):
            record[name] = tuple(record[name])
        return Row(**record), digest, chain
    except LedgerError as error:
        raise LedgerError(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise LedgerError(
            f"{where}: not a ledger row ({type(error).__name__}: {error}); restore it from version control"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different: of two entries of one name, a reader would see the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' is there twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number in JSON")


def _problem(row: Row) -> str | None:
    if odd := _odd(row):
        return odd
    if row.kind not in KINDS:
        return f"unknown kind '{row.kind}'; use one of {', '.join(KINDS)}"
    if not row.claims and (row.verdict is not None or row.cells):
        return "no claim is named; give the ids it speaks to"
    words = words_of(row.kind, row.scope.profile)
    for word in [row.verdict, *(cell.verdict for cell in row.cells)]:
        if word is not None and word not in words and not ("reproduced" in words and _names_convention(word)):
            return f"a {row.kind} test of profile {row.scope.profile} has no verdict '{word}'; use {', '.join(words)}"
    if isinstance(row.seed, bool) or not isinstance(row.seed, int):
        return f"the seed is {row.seed!r}; use a whole number"
    for name in ("wall_s", "tolerance"):
        if not _number(value := getattr(row, name)) or value < 0:
            return f"{name} is {value!r}; use a finite number that is not negative"
    numbers = [(f"metric '{name}'", value) for name, value in row.metrics.items()]
    numbers += [(f"cell '{cell.name}'", cell.measured) for cell in row.cells]
    bad = [f"{name} is {value!r}" for name, value in numbers if not _number(value)]
    if bad:
        return f"{bad[0]}; record finite numbers only"
    for name, ends in [*row.intervals.items(), *((cell.name, cell.interval) for cell in row.cells)]:
        if ends is not None and len(ends) != 2:
            return f"interval of '{name}' has {len(ends)} ends; record two, the lower one first"
        if ends is not None and not (all(map(_number, ends)) and ends[0] <= ends[1]):
            return f"interval of '{name}' is ({ends[0]}, {ends[1]}); record two finite ends, the lower one first"
    runs = row.config.get("runs") if row.rests_on else None
    if runs is not None and sorted(one for seeds in runs.values() for one in seeds.values()) != sorted(row.rests_on):
        return "the runs it rests on are not those of its configuration; record the comparison again"
    if not _finite(row.config):
        return "the configuration holds a number that is not finite; record finite numbers only"
    if row.config_hash != config_hash(row.config):
        return "the configuration's hash does not match the configuration; compute it with config_hash"
    return None


def _odd(row: Row) -> str | None:
    """What is of another type than it must be, so that a reader would stumble over it later."""
    scope = row.scope
    texts = {"test": row.test, "kind": row.kind, "commit": row.commit, "reason": row.reason, "arm": row.arm}
    texts |= {"dataset": scope.dataset, "profile": scope.profile, "network": scope.network}
    for name, text in texts.items():
        if not isinstance(text, str):
            return f"{name} is {text!r}; use a text"
    for name in ("versions", "hardware", "config", "metrics", "intervals"):
        if not isinstance(getattr(row, name), Mapping):
            return f"{name} is {getattr(row, name)!r}; use names with values"
    if not isinstance(row.hardware.get("device"), str):
        return "hardware does not name its device; record it"
    for name in ("claims", "rests_on"):
        if not all(isinstance(one, str) for one in getattr(row, name)):
            return f"{name} holds something else than texts; use ids"
    if len(set(row.claims)) < len(row.claims):
        return "a claim is named twice; name each once"
    return None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _names_convention(word: str) -> bool:
    return word.startswith(REPRODUCED_UNDER) and len(word) > len(REPRODUCED_UNDER)


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _sha(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=dict)
    return hashlib.sha256(text.encode()).hexdigest()


def _link(chain: str, digest: str) -> str:
    return hashlib.sha256((chain + digest).encode()).hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import fcntl

    # The folder itself is locked: a lock file would lie about in the repository.
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
