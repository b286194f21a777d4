"""Run a test of the claims table, judge it, record it, and rerun what was recorded."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.experiments import environment, ledger
from posekit.experiments.ledger import Cell, LedgerError, Row, Scope

LONGEST = 600.0  # seconds of a run that verification repeats


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


@dataclass(frozen=True)
class Verified:
    """A recorded row beside its rerun: the largest difference of any metric, and what was allowed."""

    row: Row
    difference: float
    allowed: float

    @property
    def ok(self) -> bool:
        return self.difference <= self.allowed


def run(
    experiment: Experiment | str,
    *,
    profile: str = "quick",
    seeds: Sequence[int] = (0,),
    record: bool = False,
    folder: Path | None = None,
) -> list[Row]:
    """Run a test once per seed.

    Args:
        experiment: an :class:`Experiment`, or the name of one in ``posekit.experiments.EXPERIMENTS``.
        profile: one of the experiment's profiles.
        seeds: one row each.
        record: append the rows to the ledger; refused when the package differs from the last commit.
        folder: ledger folder; ``data/ledger`` by default.

    Raises:
        LedgerError: unknown test or profile, nothing to run, uncommitted code, or a run recorded before.
    """
    experiment = find(experiment)
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


def arrays_of(row: Row, *, folder: Path | None = None) -> dict[str, np.ndarray]:
    """Arrays that a recorded run left for its figures, from ``data/runs`` (``runs`` beside the ledger ``folder``).

    Raises:
        LedgerError: the file is not there.
    """
    path = arrays_path(row, folder or environment.DATA / "ledger")
    if not path.is_file():
        raise LedgerError(f"{row.test}.jsonl, seed {row.seed}: {path.name} is not in {path.parent.name}; restore it")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def verify(rows: int = 3, *, seed_from: str | None = None, folder: Path | None = None) -> list[Verified]:
    """Rerun some standing rows and compare every metric with what was recorded.

    Equal versions and hardware must give equal numbers; elsewhere the row's own tolerance holds. Rows of a device
    that is not here, and those that took longer than ``LONGEST``, are never picked.

    Args:
        rows: how many; fewer when the ledger is shorter.
        seed_from: text that picks them, so that nobody does; the commit's id by default.
        folder: ledger folder; ``data/ledger`` by default.

    Raises:
        LedgerError: a damaged ledger, or a row whose test the package no longer has.
        ValueError: fewer than one row is asked for.
    """
    if rows < 1:
        raise ValueError(f"{rows} rows cannot be run again; ask for at least 1")
    # A row that was recorded again is history: the newest of a test, scope and seed is the one that stands.
    rows_there = ledger.read(folder or environment.DATA / "ledger")
    recorded = {(row.test, row.scope, row.arm, row.seed): row for row in rows_there}
    text = seed_from if seed_from is not None else environment.commit()
    order = sorted(
        filter(_repeatable, recorded.values()), key=lambda row: hashlib.sha256((text + row.digest).encode()).digest()
    )
    return [rerun(row) for row in order[:rows]]


def _repeatable(row: Row) -> bool:
    """Whether this machine has the row's device, and the run is short enough to be repeated while somebody waits."""
    there = row.hardware["device"] == "cpu" or torch.cuda.is_available()
    return there and row.wall_s <= LONGEST


def rerun(row: Row) -> Verified:
    """Run a recorded row's configuration and seed again."""
    experiment = find(row.test)
    metrics = experiment.measure(row.config, row.seed).metrics
    if set(metrics) != set(row.metrics):
        odd = sorted(set(metrics) ^ set(row.metrics))[0]
        raise LedgerError(f"{row.test}.jsonl: metric '{odd}' is not on both sides of the rerun; record the test again")
    same = environment.versions(experiment.packages) == dict(row.versions) and environment.hardware(
        str(row.hardware["device"])
    ) == dict(row.hardware)
    difference = max((abs(metrics[name] - row.metrics[name]) for name in metrics), default=0.0)
    return Verified(row, difference, 0.0 if same else row.tolerance)


def find(experiment: Experiment | str) -> Experiment:
    """An experiment by name."""
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
    return comparison(ABLATIONS[experiment])


def arrays_path(row: Row, folder: Path) -> Path:
    """Where the arrays of a row of a ledger folder lie."""
    return Path(folder).parent / "runs" / f"{row.test}-{row.config_hash}-seed{row.seed}.npz"


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, path)


def _run(experiment: Experiment, profile: str, seed: int, commit: str) -> tuple[Row, Mapping[str, np.ndarray]]:
    config = dict(experiment.profiles[profile])
    start = time.perf_counter()
    with torch.no_grad():
        measurement = experiment.measure(config, seed)
    wall = time.perf_counter() - start
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
