"""Many runs, a few at a time: processes on one machine, or Ray on many. A lost worker's run is tried again.

Every run has a folder with its job and, when it is done, its result; a run that was cut short goes on from its
checkpoint, so a sweep may be stopped and called again at any time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from posekit.experiments.ledger import LedgerError
from posekit.training.provenance import write_json

TRIES = 3
GRACE = 30.0  # seconds after the deadline until a run that draws data or scores is stopped
Backend = Literal["processes", "ray"]


class SweepError(LedgerError):
    """A run that failed every time; the message names its folder."""


@dataclass(frozen=True)
class Job:
    """One arm under one seed.

    Args:
        config: of the arm.
        folder: of the run.
        split: scored at the end.
        device: "cpu" or "cuda".
    """

    config: Mapping[str, Any]
    seed: int
    folder: Path
    split: str = "val"
    device: str = "cpu"

    @property
    def result(self) -> dict[str, Any] | None:
        """What the run left, or None."""
        path = self.folder / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write(self) -> None:
        """Put the job into its folder, where a worker reads it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {"config": dict(self.config), "seed": self.seed, "split": self.split, "device": self.device}
        write_json(self.folder / "job.json", facts)


def sweep(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    backend: Backend = "processes",
    deadline: float | None = None,
    on_done: Callable[[Job, dict[str, Any]], None],
) -> int:
    """Run every job that has no result yet.

    Args:
        workers: runs at a time.
        deadline: of ``time.time()``; no run starts after it, running ones stop at their next record, and whatever
            still runs ``GRACE`` seconds later is ended; the next call goes on from its checkpoint.
        on_done: called in this process with every result, also those that were there already.

    Returns:
        How many jobs are still open, because the deadline passed.

    Raises:
        SweepError: a run failed ``TRIES`` times.
        ImportError: ``backend="ray"`` without Ray.
    """
    waiting = []
    for job in jobs:
        if job.result is not None:
            on_done(job, job.result)
        else:
            waiting.append(job)
    run = {"processes": _with_processes, "ray": _with_ray}[backend]
    return run(waiting, workers, deadline, on_done)


def _with_processes(jobs: list[Job], workers: int, deadline: float | None, on_done: Any) -> int:
    waiting = [(job, 1) for job in jobs]
    running: dict[subprocess.Popen, tuple[Job, int]] = {}
    try:
        while running or (waiting and not _late(deadline)):
            while waiting and len(running) < workers and not _late(deadline):
                job, attempt = waiting.pop(0)
                running[_start(job, deadline)] = job, attempt
            time.sleep(0.2)
            if deadline is not None and time.time() > deadline + GRACE:
                return len(waiting) + len(running)
            for process in [process for process in running if process.poll() is not None]:
                job, attempt = running.pop(process)
                if job.result is not None:
                    on_done(job, job.result)
                elif process.returncode == 0:  # out of time: the next sweep goes on from its checkpoint
                    waiting.append((job, attempt))
                elif attempt < TRIES:
                    waiting.insert(0, (job, attempt + 1))
                else:
                    raise SweepError(f"{job.folder} failed {TRIES} times; its last lines: {_tail(job)}")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return len(waiting)


def _start(job: Job, deadline: float | None) -> subprocess.Popen:
    job.write()
    command = [sys.executable, "-m", "posekit.experiments.ablations.worker", str(job.folder)]
    if deadline is not None:
        command += ["--deadline", str(deadline)]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with open(job.folder / "log.txt", "a", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def _with_ray(jobs: list[Job], workers: int, deadline: float | None, on_done: Any) -> int:
    try:
        import ray
    except ImportError:
        raise ImportError("sweeps over many machines need Ray: pip install 'posekit[ray]'") from None
    from posekit.experiments.ablations.worker import work

    ray.init(ignore_reinit_error=True, log_to_driver=False)
    needs: dict[str, Any] = {"num_gpus": 1} if any(job.device.startswith("cuda") for job in jobs) else {"num_cpus": 1}
    remote = ray.remote(**needs, max_retries=TRIES - 1, retry_exceptions=False)(work)
    waiting = list(jobs)
    running: dict[Any, Job] = {}
    while running or (waiting and not _late(deadline)):
        while waiting and len(running) < workers and not _late(deadline):
            job = waiting.pop(0)
            job.write()
            facts = {"config": dict(job.config), "seed": job.seed, "split": job.split, "device": job.device}
            running[remote.remote(facts, str(job.folder), deadline)] = job
        done, _ = ray.wait(list(running), num_returns=1)
        job = running.pop(done[0])
        try:
            result = ray.get(done[0])
        except ray.exceptions.RayError as error:
            raise SweepError(f"{job.folder} failed: {error}") from None
        if result is None:
            waiting.append(job)
        else:
            write_json(job.folder / "result.json", result)
            on_done(job, job.result)
    return len(waiting)


def _late(deadline: float | None) -> bool:
    return deadline is not None and time.time() > deadline


def _tail(job: Job) -> str:
    lines = (job.folder / "log.txt").read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "nothing was printed"
