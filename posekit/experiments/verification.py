"""Run recorded rows again and compare: every metric, both ends of every interval, and whether the verdict follows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from posekit.experiments import environment, ledger
from posekit.experiments.ledger import LedgerError, Row
from posekit.experiments.runner import Measurement, find

LONGEST = 600.0  # seconds of a run that verification repeats
CHANCE = 1e-4  # that a number of a run of luck is found to differ on another machine though nothing is wrong


@dataclass(frozen=True)
class Verified:
    """A recorded row beside its rerun.

    Attributes:
        row: as recorded.
        metric: the one, or the end of an interval, that comes closest to what is allowed or goes furthest beyond it.
        difference: of that metric.
        allowed: for that metric.
        follows: whether the verdict and the cells follow from the row's own numbers.
    """

    row: Row
    metric: str
    difference: float
    allowed: float
    follows: bool

    @property
    def ok(self) -> bool:
        return self.difference <= self.allowed and self.follows


def verify(rows: int = 3, *, seed_from: str | None = None, folder: Path | None = None) -> list[Verified]:
    """Rerun some standing rows and compare every metric and both ends of every interval with what was recorded.

    The recorded numbers are judged again, too.

    Equal versions and processors must give equal numbers; elsewhere, and on GPUs, see :func:`allowances`. Rows of a
    device that is not here, and those that took longer than ``LONGEST``, are never picked.

    Args:
        rows: how many; fewer when the ledger is shorter.
        seed_from: text that picks them, so that nobody does; the commit's id by default.
        folder: ledger folder; ``data/ledger`` by default.

    Raises:
        LedgerError: no ledger, a damaged one, no row that can be repeated here, or one whose test is no longer there.
        ValueError: fewer than one row is asked for.
    """
    if rows < 1:
        raise ValueError(f"{rows} rows cannot be run again; ask for at least 1")
    folder = Path(folder or environment.DATA / "ledger")
    if not folder.is_dir():
        raise LedgerError(f"{folder} is no folder; name the folder with the ledger's .jsonl files")
    rows_there = ledger.read(folder)
    # A row that was recorded again is history: the newest of a test, scope and seed is the one that stands.
    recorded = {(row.test, row.scope, row.arm, row.seed): row for row in rows_there}
    text = seed_from if seed_from is not None else environment.commit()
    order = sorted(
        filter(_repeatable, recorded.values()), key=lambda row: hashlib.sha256((text + row.digest).encode()).digest()
    )
    if not order:
        raise LedgerError(
            f"{folder}: none of its {len(rows_there)} rows can be repeated here in {LONGEST:.0f} s; name another "
            "ledger or use a machine with the rows' device"
        )
    return [rerun(row, rows_there) for row in order[:rows]]


def _repeatable(row: Row) -> bool:
    """Whether this machine has the row's device, and the run is short enough to be repeated while somebody waits."""
    there = row.hardware["device"] == "cpu" or torch.cuda.is_available()
    return there and row.wall_s <= LONGEST


def rerun(row: Row, recorded: Sequence[Row] = ()) -> Verified:
    """Run a recorded row's configuration and seed again.

    Args:
        recorded: the ledger it stands in, for :func:`allowances`.
    """
    experiment = find(row.test, profile=row.scope.profile)
    device = str(row.hardware["device"])
    measure: Callable[..., Measurement] = experiment.measure
    if device != "cpu":
        measure = partial(measure, device=device)
    return compare(row, measure(row.config, row.seed), recorded)


def compare(row: Row, found: Measurement, recorded: Sequence[Row] = ()) -> Verified:
    """A recorded row beside another run of the same configuration and seed, made here.

    Args:
        recorded: the ledger it stands in, for :func:`allowances`.

    Raises:
        LedgerError: the two do not have the same metrics or intervals.
    """
    experiment = find(row.test, profile=row.scope.profile)
    before, now = _numbers(row), _numbers(found)
    if set(now) != set(before):
        odd = sorted(set(now) ^ set(before))[0]
        raise LedgerError(f"{row.test}.jsonl: metric '{odd}' is not on both sides of the rerun; record the test again")
    # On a GPU the same call does not give the same sums twice.
    same = (
        row.hardware["device"] == "cpu"
        and environment.versions(experiment.packages) == dict(row.versions)
        and environment.hardware() == dict(row.hardware)
    )
    allowed = dict.fromkeys(now, 0.0) if same else allowances(row, recorded)
    differences = {name: abs(value - before[name]) for name, value in now.items()}
    # A NaN compares with nothing, so it would pass for the smallest difference.
    differences = {name: math.inf if math.isnan(value) else value for name, value in differences.items()}
    worst = max(differences, key=lambda name: (differences[name] - allowed[name], differences[name]))
    return Verified(row, worst, differences[worst], allowed[worst], follows(row))


def allowances(row: Row, recorded: Sequence[Row]) -> dict[str, float]:
    """How far each metric of a row, and each end of an interval, may lie from a rerun elsewhere.

    "Elsewhere" is another machine, or other versions.

    There a trained network is as good as another seed, so the spread over seeds is the measure: that of the row's own
    configuration or of all configurations of its test together, whichever is larger, times :func:`spreads`. It is never
    more than the row's tolerance, nor less than a fiftieth of it. With fewer than three seeds, the tolerance.
    """
    names = _numbers(row)
    seeds: dict[str, list[dict[str, float]]] = {}
    for other in recorded:
        if other.test == row.test and set(numbers := _numbers(other)) == set(names):
            seeds.setdefault(other.config_hash, []).append(numbers)
    if len(seeds.get(row.config_hash, [])) < 3:
        return dict.fromkeys(names, row.tolerance)
    groups = {key: group for key, group in seeds.items() if len(group) > 2}
    times = spreads(sum(len(group) - 1 for group in groups.values()))
    allowed = {}
    for name in names:
        spread = {key: float(np.std([one[name] for one in group], ddof=1)) for key, group in groups.items()}
        widest = max(spread[row.config_hash], float(np.sqrt(np.mean(np.square(list(spread.values()))))))
        allowed[name] = float(np.clip(times * widest, row.tolerance / 50, row.tolerance))
    return allowed


def spreads(degrees: int) -> float:
    """Standard deviations by which two runs of luck differ with a probability of ``CHANCE``.

    Args:
        degrees: of freedom of the standard deviation; a few seeds may have been lucky to agree, so fewer allow more.
    """
    from scipy import stats

    return math.sqrt(2) * float(stats.t.ppf(1 - CHANCE / 2, degrees))


def _numbers(of: Row | Measurement) -> dict[str, float]:
    """Metrics and ends of intervals in one flat table."""
    ends = {f"{name}, {end}": x for name, pair in of.intervals.items() for end, x in zip(("low", "high"), pair)}
    return {**of.metrics, **ends}


def follows(row: Row) -> bool:
    """Whether a row's verdict and every cell are what its test says, to any of its claims, of the row's own numbers.

    Its kind, claims and tolerance must be the test's, too.
    """
    experiment = find(row.test, profile=row.scope.profile)
    if (row.kind, row.tolerance) != (experiment.kind, experiment.tolerance):
        return False
    if row.verdict is None:
        return not row.cells
    if not set(row.claims) <= set(experiment.claims):
        return False
    numbers = Measurement(row.metrics, row.intervals)
    judged = experiment.judge(numbers)
    cells = {*judged.cells, *(cell for judge in experiment.by_claim.values() for cell in judge(numbers).cells)}
    return judged.verdict == row.verdict and set(judged.cells) <= set(row.cells) <= cells
