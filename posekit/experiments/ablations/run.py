"""Run ablations: plan the runs they share, sweep, compare over seeds, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posekit.experiments import environment, ledger
from posekit.experiments.ablations import frozen
from posekit.experiments.ablations.analysis import judge, judge_numbers
from posekit.experiments.ablations.arm import TRAINING, draws_of
from posekit.experiments.ablations.definition import CONFIRM, LOOK, PROFILES, Ablation
from posekit.experiments.ablations.sweep import Backend, Job, SweepError, sweep
from posekit.experiments.ledger import LedgerError, Row, Scope
from posekit.experiments.runner import Experiment, Measurement, arrays_of, arrays_path, save_arrays

Metrics = Mapping[str, float]
Draws = Mapping[str, np.ndarray]
RUNS = environment.ROOT / "build" / "ablations"


def runs_of(code: str, runs: Path = RUNS) -> Path:
    """The folder of runs that one version of the code made: what other code left is neither used nor recorded."""
    return runs / f"code-{code[:12]}"


@dataclass(frozen=True)
class Outcome:
    """What a call leaves.

    Attributes:
        rows: one comparison for each ablation whose runs are all there.
        runs: metrics by arm's configuration hash and seed.
        open: runs that the budget did not reach.
        failed: what became of runs that fail every time; the others do not wait for them.
    """

    rows: list[Row]
    runs: Mapping[str, Mapping[int, Metrics]]
    open: int
    failed: str = ""


def run_ablations(
    ablations: Sequence[Ablation],
    *,
    profile: str = "quick",
    seeds: Sequence[int] | None = None,
    record: bool = False,
    workers: int = 1,
    backend: Backend = "processes",
    device: str = "cpu",
    deadline: float | None = None,
    folder: Path | None = None,
    runs: Path | None = None,
    carried: bool = False,
    commit: str | None = None,
    on_done: Callable[[str, int, Metrics], None] = lambda name, seed, metrics: None,
) -> Outcome:
    """Train what is missing and compare.

    Unrecorded runs are scored on the validation split. Recorded ones use the frozen definition and seeds, and score
    each network once on the test split; a run that the ledger holds is not repeated.

    Args:
        ablations: in the order they are run.
        profile: "smoke", "quick" or "full".
        seeds: the frozen ones by default, or as many others when nothing is recorded.
        record: append to the ledger.
        workers, backend, deadline: as of :func:`posekit.experiments.ablations.sweep.sweep`.
        folder: ledger folder; ``data/ledger`` by default.
        runs: folder of the runs, shared by all ablations; by default this code's under ``build/ablations``.
        carried: with ``record``, leave the rows to the machine that the runs are carried to
            (:mod:`posekit.experiments.ablations.carry`); no checkout is needed here.
        commit: of the code that made runs which lie there already; the checked-out one by default.
        on_done: called with a text, the seed and the metrics of every finished run.

    Raises:
        LedgerError: unknown profile, code that differs from the last commit, or a definition
            that was not frozen.
    """
    if profile not in PROFILES:
        raise LedgerError(f"there is no profile '{profile}'; there are {', '.join(PROFILES)}")
    seeds = tuple((CONFIRM if record else LOOK)[: max(PROFILES[profile].seeds, 2)] if seeds is None else seeds)
    folder = folder or environment.DATA / "ledger"
    runs = runs or runs_of(environment.code_id())
    write = record and not carried
    head = environment.commit(clean=True) if write else ""
    if record:
        for ablation in ablations:
            frozen.check(ablation, profile, seeds)
    known = recorded(folder)
    found: dict[str, dict[int, Metrics]] = {}
    draws: dict[str, dict[int, Draws]] = {}
    split = "test" if record else "val"
    jobs = []
    for key, (config, name) in _plan(ablations, profile).items():
        for seed in seeds:
            if record and (key, seed) in known:
                found.setdefault(key, {})[seed] = known[key, seed].metrics
                draws.setdefault(key, {})[seed] = arrays_of(known[key, seed], folder=folder)
            else:
                jobs.append((key, name, Job(config, seed, runs / split / f"{key}-seed{seed}", split, device)))
    names = {job.folder: (key, name) for key, name, job in jobs}
    speaks = _claims(ablations, profile)

    def done(job: Job, result: dict[str, Any]) -> None:
        key, name = names[job.folder]
        found.setdefault(key, {})[job.seed] = result["metrics"]
        draws.setdefault(key, {})[job.seed] = draws_of(job.folder)
        if write:
            row = training_row(job, key, name, result, profile, commit or head, speaks[key])
            added = ledger.append(folder, [row], once=True)  # another sweep may have been quicker
            if added and draws[key][job.seed]:
                save_arrays(arrays_path(row, folder), draws[key][job.seed])
        on_done(name, job.seed, result["metrics"])

    ordered = _by_ablation(ablations, profile, [job for _, _, job in jobs], names)
    failed = ""
    try:
        left = sweep(ordered, workers=workers, backend=backend, deadline=deadline, on_done=done)
    except SweepError as error:
        failed, left = str(error), sum(job.seed not in found.get(key, {}) for key, _, job in jobs)
    rows = []
    for ablation in ablations:
        arms = {name: ledger.config_hash(config) for name, config in ablation.configs(profile).items()}
        if all(seed in found.get(key, {}) for key in arms.values() for seed in seeds) and len(seeds) > 1:
            rows.append(_comparison(ablation, profile, seeds, found, draws, folder if write else None, head))
    return Outcome(rows, found, left, failed)


def recorded(folder: Path) -> dict[tuple[str, int], Row]:
    """The newest recorded run of every configuration and seed."""
    return {(row.config_hash, row.seed): row for row in ledger.read_file(Path(folder) / f"{TRAINING.name}.jsonl")}


def _plan(ablations: Sequence[Ablation], profile: str) -> dict[str, tuple[dict[str, Any], str]]:
    """Distinct configurations with a name for people: the first ablation and arm that want it."""
    plan: dict[str, tuple[dict[str, Any], str]] = {}
    for ablation in ablations:
        for arm, config in ablation.configs(profile).items():
            plan.setdefault(ledger.config_hash(config), (config, f"{ablation.name}: {arm}"))
    return plan


def _by_ablation(ablations: Sequence[Ablation], profile: str, jobs: list[Job], names: Mapping) -> list[Job]:
    """One ablation after the other, seed by seed within it: a budget that runs out leaves whole ablations behind."""
    order = list(_plan(ablations, profile))
    first: dict[str, int] = {}
    for position, ablation in enumerate(ablations):
        for config in ablation.configs(profile).values():
            first.setdefault(ledger.config_hash(config), position)
    return sorted(jobs, key=lambda job: (first[names[job.folder][0]], job.seed, order.index(names[job.folder][0])))


def _claims(ablations: Sequence[Ablation], profile: str) -> dict[str, tuple[str, ...]]:
    speaks: dict[str, list[str]] = {}
    for ablation in ablations:
        for config in ablation.configs(profile).values():
            claims = speaks.setdefault(ledger.config_hash(config), [])
            claims += [claim for claim in ablation.claims if claim not in claims]
    return {key: tuple(claims) for key, claims in speaks.items()}


def training_row(
    job: Job, key: str, name: str, result: Mapping[str, Any], profile: str, commit: str, claims: tuple[str, ...] = ()
) -> Row:
    """One arm's run as a row of the ledger, without a verdict."""
    return Row(
        test=TRAINING.name,
        claims=claims,
        kind=TRAINING.kind,
        scope=_scope(profile, job.config["network"], job.config["data"]),
        config=dict(job.config),
        config_hash=key,
        seed=job.seed,
        commit=commit,
        versions=result["versions"],
        hardware=result["hardware"],
        wall_s=result["seconds"],
        metrics=result["metrics"],
        intervals={metric: tuple(ends) for metric, ends in result["intervals"].items()},
        tolerance=TRAINING.tolerance,
        arm=name,
    )


def _scope(profile: str, network: str, data: Mapping[str, Any]) -> Scope:
    return Scope(f"Mannequin, {data['level']}, {data['view']}", profile, network)


def _networks(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """The names of the networks that were compared, in the order of the arms."""
    return ", ".join(dict.fromkeys(config["network"] for config in configs.values()))


def _comparison(
    ablation: Ablation,
    profile: str,
    seeds: Sequence[int],
    found: Mapping,
    draws: Mapping,
    folder: Path | None,
    commit: str,
) -> Row:
    configs = ablation.configs(profile)
    keys = {name: ledger.config_hash(config) for name, config in configs.items()}
    rows = recorded(folder) if folder else {}
    rests_on = tuple(rows[key, seed].digest for key in keys.values() for seed in seeds) if folder else ()
    config = {
        "ablation": ablation.name,
        "profile": profile,
        "frozen": ablation.digest(profile),
        "seeds": list(seeds),
        "runs": {name: {str(seed): rows[key, seed].digest for seed in seeds} for name, key in keys.items()}
        if folder
        else dict(keys),
    }
    runs = {name: {seed: found[key][seed] for seed in seeds} for name, key in keys.items()}
    drawn = {name: {seed: draws[key][seed] for seed in seeds} for name, key in keys.items()}
    judged = judge(ablation, runs, profile, draws=drawn)
    row = Row(
        test=ablation.name,
        claims=ablation.claims,
        kind="trained",
        scope=_scope(profile, _networks(configs), next(iter(configs.values()))["data"]),
        config=config,
        config_hash=ledger.config_hash(config),
        seed=min(seeds),
        commit=commit,
        versions=environment.versions(("scipy",)),
        hardware=environment.hardware(),
        wall_s=0.0,
        metrics=judged.metrics,
        intervals=judged.intervals,
        verdict=judged.verdict,
        reason=f"{len(seeds)} paired seeds, in percent with 95 % intervals. {judged.reason}",
        cells=judged.cells,
        tolerance=1e-6,
        rests_on=rests_on,
    )
    if folder and row.identity not in {known.identity for known in ledger.read_file(folder / f"{row.test}.jsonl")}:
        ledger.append(folder, [row])
    return row


def experiment(ablation: Ablation, profile: str = "quick") -> Experiment:
    """The comparison as a test of the ledger, so that a recorded one can be repeated from the runs it rests on."""

    def measure(config: Mapping[str, Any], seed: int) -> Measurement:
        by_digest = {row.digest: row for row in recorded_rows()}
        _check_runs(ablation, config, by_digest)
        runs = {
            arm: {int(n): by_digest[digest].metrics for n, digest in digests.items()}
            for arm, digests in config["runs"].items()
        }
        drawn = {
            arm: {int(n): arrays_of(by_digest[digest]) for n, digest in digests.items()}
            for arm, digests in config["runs"].items()
        }
        judged = judge(ablation, runs, config["profile"], draws=drawn)
        return Measurement(judged.metrics, judged.intervals)

    return Experiment(
        name=ablation.name,
        claims=ablation.claims,
        kind="trained",
        question=ablation.question,
        dataset="Mannequin",
        profiles={},
        measure=measure,
        judge=partial(judge_numbers, ablation, profile),
        tolerance=1e-6,
        packages=("scipy",),
    )


def _check_runs(ablation: Ablation, config: Mapping[str, Any], by_digest: Mapping[str, Row]) -> None:
    """Is every run that a comparison rests on there, and of the arm and the seed that it stands for?"""
    profile = config["profile"]
    where = f"{ablation.name}.jsonl, profile {profile}"
    if config["frozen"] != ablation.digest(profile):
        raise LedgerError(f"{where}: the comparison was made by another definition; record it again")
    arms = {name: ledger.config_hash(arm) for name, arm in ablation.configs(profile).items()}
    wanted = {(name, str(seed)) for name in arms for seed in config["seeds"]}
    if wanted != {(name, seed) for name, digests in config["runs"].items() for seed in digests}:
        raise LedgerError(f"{where}: the runs are not those of all arms and seeds; restore it from version control")
    for name, seed in sorted(wanted):
        digest = config["runs"][name][seed]
        run = by_digest.get(digest)
        if run is None:
            raise LedgerError(
                f"{where}: run {digest[:12]}, on which the comparison rests, is not in data/ledger; verify where its "
                "runs are recorded"
            )
        if (run.config_hash, str(run.seed)) != (arms[name], seed):
            raise LedgerError(
                f"{where}: run {digest[:12]} is not the one of {name} with seed {seed}; restore it from version control"
            )


def recorded_rows() -> list[Row]:
    return ledger.read_file(environment.DATA / "ledger" / f"{TRAINING.name}.jsonl")
