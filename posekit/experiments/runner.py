"""Run a test of the claims table, judge it and record it."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from posekit.experiments import environment, ledger
from posekit.experiments.ledger import Cell, LedgerError, Row, Scope
from posekit.files import whole

if TYPE_CHECKING:
    from posekit.experiments.ablations.definition import Ablation


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
            ``posekit.experiments.ablations.ABLATIONS`` or its name.
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
    return read_arrays(path, remedy=f"restore what {row.test}.jsonl, seed {row.seed}, left there")


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


def read_arrays(path: Path, *, remedy: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz file.

    Raises:
        LedgerError: the file is not there, or damaged; the sentence ends with ``remedy``.
    """
    if not path.is_file():
        raise LedgerError(f"{path} is not there; {remedy}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LedgerError(f"{path} is damaged ({error}); {remedy}") from None


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
