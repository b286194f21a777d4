"""Run a test of the claims table, judge it, record it, and rerun what was recorded."""

from __future__ import annotations

import hashlib
import math
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from posekit.experiments import environment, ledger
from posekit.experiments.ledger import Cell, LedgerError, Row, Scope
from posekit.files import whole

if TYPE_CHECKING:
    from posekit.experiments.ablations.definition import Ablation

LONGEST = 600.0  # seconds of a run that verification repeats
SPREADS = 6.0  # standard deviations over seeds by which a run of luck may differ on another machine

_T = TypeVar("_T")
_saved: list[float] = []  # seconds that the row being measured did not wait, see shared()


@dataclass(frozen=True)
class Measurement:
    """Flat numbers of one run, and 95 % intervals of some of them (same names, same units).

    ``arrays`` are what a figure needs beyond them; recorded runs keep them beside the ledger, see :func:`arrays_of`.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """The verdict on a measurement, with the sentence and the cells it rests on."""

    verdict: str
    reason: str
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """One test, written once; a profile only sets its sizes and samples.

    Args:
        name: short, also the name of its ledger file.
        claims: ids of the claims it speaks to.
        kind: exact, bound, controlled or trained.
        question: what it asks, in one sentence.
        dataset: of the scope.
        profiles: configuration per profile, plain JSON values.
        measure: (configuration, seed) -> numbers.
        judge: measurement -> verdict; sees nothing else.
        by_claim: judges of claims that ask the same runs something else.
        control: the test in which the mechanism is not needed, where that is a test of its own.
        tolerance: by which any metric may differ in a rerun elsewhere.
        packages: whose versions matter, besides torch and numpy.
        network: of the scope.
    """

    name: str
    claims: tuple[str, ...]
    kind: str
    question: str
    dataset: str
    profiles: Mapping[str, Mapping[str, Any]]
    measure: Callable[[Mapping[str, Any], int], Measurement]
    judge: Callable[[Measurement], Judgement]
    tolerance: float
    packages: tuple[str, ...] = ()
    network: str = "none"
    by_claim: Mapping[str, Callable[[Measurement], Judgement]] = field(default_factory=dict)
    control: str = ""


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


def run(
    experiment: Experiment | Ablation | str,
    *,
    profile: str = "quick",
    seeds: Sequence[int] | None = None,
    record: bool = False,
    folder: Path | None = None,
) -> list[Row]:
    """Run a test once per seed, or train the arms of an ablation and compare them.

    Args:
        experiment: an :class:`Experiment`, the name of one in ``posekit.experiments.EXPERIMENTS``, or an ablation of
            ``posekit.experiments.ABLATIONS`` or its name.
        profile: one of the experiment's profiles.
        seeds: one row each, seed 0 by default; of an ablation all seeds make one row, by default the profile's.
        record: append the rows to the ledger; refused when the package differs from the last commit.
        folder: ledger folder; ``data/ledger`` by default.

    Raises:
        LedgerError: unknown test or profile, nothing to run, uncommitted code, a run recorded before, or a failing one.
    """
    if (ablation := _ablation(experiment)) is not None:
        return _compared(ablation, profile, seeds, record, folder)
    experiment = find(experiment)  # type: ignore[arg-type]
    seeds = (0,) if seeds is None else seeds
    if not experiment.profiles:
        raise LedgerError(f"test '{experiment.name}' is one arm of an ablation; run the ablation")
    if profile not in experiment.profiles:
        raise LedgerError(
            f"test '{experiment.name}' has no profile '{profile}'; it has {', '.join(experiment.profiles)}"
        )
    if not seeds:
        raise LedgerError(f"test '{experiment.name}' was given no seed; give at least one")
    commit = environment.commit(clean=True) if record else _commit_or_none()
    runs = [_run(experiment, profile, seed, commit) for seed in seeds]
    rows = [row for row, _ in runs]
    if record:
        folder = folder or environment.DATA / "ledger"
        ledger.append(folder, rows)
        for row, arrays in runs:
            if arrays:
                save_arrays(arrays_path(row, folder), arrays)
    return rows


def _ablation(experiment: Experiment | Ablation | str) -> Ablation | None:
    from posekit.experiments.ablations import ABLATIONS
    from posekit.experiments.ablations.definition import Ablation

    if isinstance(experiment, str):
        return ABLATIONS.get(experiment)
    return experiment if isinstance(experiment, Ablation) else None


def _compared(
    ablation: Ablation, profile: str, seeds: Sequence[int] | None, record: bool, folder: Path | None
) -> list[Row]:
    from posekit.experiments.ablations.run import run_ablations

    if seeds is not None and len(set(seeds)) < 2:
        raise LedgerError(f"ablation {ablation.name} compares seed by seed; give two or more")
    done = run_ablations([ablation], profile=profile, seeds=seeds, record=record, folder=folder)
    if done.failed:
        raise LedgerError(done.failed)
    return done.rows


def shared(arm: Callable[..., _T]) -> Callable[..., _T]:
    """Keep the last eight results of an arm that several tests have in common.

    The row of a test that finds an arm ready still counts that arm's time: verification repeats the row alone.
    """

    @lru_cache(maxsize=8)
    def timed(*args: Any) -> tuple[_T, float]:
        start = time.perf_counter()
        result = arm(*args)
        return result, time.perf_counter() - start

    @wraps(arm)
    def call(*args: Any) -> _T:
        start = time.perf_counter()
        result, seconds = timed(*args)
        _saved.append(max(0.0, seconds - (time.perf_counter() - start)))
        return result

    return call


def arrays_of(row: Row, *, folder: Path | None = None) -> dict[str, np.ndarray]:
    """Arrays that a recorded run left for its figures, from ``data/runs`` (``runs`` beside the ledger ``folder``).

    Raises:
        LedgerError: the file is not there, or damaged.
    """
    path = arrays_path(row, folder or environment.DATA / "ledger")
    if not path.is_file():
        raise LedgerError(f"{row.test}.jsonl, seed {row.seed}: {path.name} is not in {path.parent.name}; restore it")
    try:
        return read_arrays(path)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LedgerError(f"{path.name} in {path.parent.name} is damaged ({error}); restore it") from None


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
    # A row that was recorded again is history: the newest of a test, scope and seed is the one that stands.
    folder = Path(folder or environment.DATA / "ledger")
    if not folder.is_dir():
        raise LedgerError(f"{folder} is no folder; name the folder with the ledger's .jsonl files")
    rows_there = ledger.read(folder)
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

    There a trained network is as good as another seed, so the spread over seeds is the measure: ``SPREADS`` standard
    deviations, of the row's own configuration or of all configurations of its test together, whichever is larger. It
    is never more than the row's tolerance, nor less than a fiftieth of it. With fewer than three seeds, the tolerance.
    """
    names = _numbers(row)
    seeds: dict[str, list[dict[str, float]]] = {}
    for other in recorded:
        if other.test == row.test and set(numbers := _numbers(other)) == set(names):
            seeds.setdefault(other.config_hash, []).append(numbers)
    if len(seeds.get(row.config_hash, [])) < 3:
        return dict.fromkeys(names, row.tolerance)
    allowed = {}
    for name in names:
        spreads = {
            key: float(np.std([one[name] for one in group], ddof=1)) for key, group in seeds.items() if len(group) > 2
        }
        spread = max(spreads[row.config_hash], float(np.sqrt(np.mean(np.square(list(spreads.values()))))))
        allowed[name] = float(np.clip(SPREADS * spread, row.tolerance / 50, row.tolerance))
    return allowed


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


def find(experiment: Experiment | str, *, profile: str = "quick") -> Experiment:
    """An experiment by name; a comparison of trained networks is judged as its profile asks."""
    if isinstance(experiment, Experiment):
        return experiment
    from posekit.experiments.catalogue import EXPERIMENTS

    if experiment in EXPERIMENTS:
        return EXPERIMENTS[experiment]
    from posekit.experiments.ablations import ABLATIONS
    from posekit.experiments.ablations.arm import TRAINING
    from posekit.experiments.ablations.run import experiment as comparison

    if experiment == TRAINING.name:
        return TRAINING
    if experiment not in ABLATIONS:
        raise LedgerError(f"no test is called '{experiment}'; there are {', '.join(EXPERIMENTS)}")
    return comparison(ABLATIONS[experiment], profile)


def arrays_path(row: Row, folder: Path) -> Path:
    """Where the arrays of a row of a ledger folder lie."""
    return Path(folder).parent / "runs" / f"{row.test}-{row.config_hash}-seed{row.seed}.npz"


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; what numpy and zipfile raise where it is damaged."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _run(experiment: Experiment, profile: str, seed: int, commit: str) -> tuple[Row, Mapping[str, np.ndarray]]:
    config = dict(experiment.profiles[profile])
    _saved.clear()
    start = time.perf_counter()
    with torch.no_grad():
        measurement = experiment.measure(config, seed)
    wall = time.perf_counter() - start + sum(_saved)
    judgement = experiment.judge(measurement)
    row = Row(
        test=experiment.name,
        claims=experiment.claims,
        kind=experiment.kind,
        scope=Scope(experiment.dataset, profile, experiment.network),
        config=config,
        config_hash=ledger.config_hash(config),
        seed=seed,
        commit=commit,
        versions=environment.versions(experiment.packages),
        hardware=environment.hardware(),
        wall_s=round(wall, 3),
        metrics=dict(measurement.metrics),
        intervals=dict(measurement.intervals),
        verdict=judgement.verdict,
        reason=judgement.reason,
        cells=judgement.cells,
        tolerance=experiment.tolerance,
    )
    return row, measurement.arrays


def _commit_or_none() -> str:
    try:
        return environment.commit()
    except LedgerError:
        return "none"
