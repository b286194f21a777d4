"""Many runs, a few at a time: processes on one machine, or Ray on many. A lost worker's run is tried again.

Every run has a folder with its job and, when it is done, its result; a run that was cut short goes on from its
checkpoint, so a sweep may be stopped and called again at any time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from posekit.experiments import environment
from posekit.experiments.ablations.arm import read_result
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
        return read_result(self.folder)

    def facts(self, code: str) -> dict[str, Any]:
        """What a worker is told; ``code`` is what it must find itself to be, see :func:`environment.code_id`."""
        facts = {"config": dict(self.config), "seed": self.seed, "split": self.split, "device": self.device}
        return {**facts, "code": code}

    def write(self, code: str = "") -> None:
        """Put the job into its folder, where a worker reads it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "job.json", self.facts(code))


class Pool(Protocol):
    """Where runs are made: what :func:`sweep` asks of processes or of a cluster."""

    def start(self, job: Job, deadline: float | None, code: str) -> Any: ...

    def done(self, runs: Sequence[Any]) -> Sequence[Any]:
        """Those of the started runs that have ended, after a short wait."""

    def failure(self, run: Any, job: Job) -> str | None:
        """Why a run that has ended failed; None where it did not."""

    def end(self, runs: Sequence[Any]) -> None:
        """Stop them."""


def sweep(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    backend: Backend = "processes",
    deadline: float | None = None,
    on_done: Callable[[Job, dict[str, Any]], None],
) -> int:
    """Run every job that has no result yet; on a terminal, with a bar.

    However this process ends, its runs end with it, and the next call goes on from their checkpoints.

    Args:
        workers: runs at a time.
        deadline: of ``time.time()``; no run starts after it, running ones stop at their next record, and whatever
            still runs ``GRACE`` seconds later is ended; the next call goes on from its checkpoint.
        on_done: called in this process with every result, also those that were there already.

    Returns:
        How many jobs are still open, because the deadline passed.

    Raises:
        SweepError: runs failed ``TRIES`` times each, which does not keep the others from running.
        LedgerError: a result that was there already is damaged, or no run may run.
        ImportError: ``backend="ray"`` without Ray.
    """
    from tqdm import tqdm

    if workers < 1:
        raise LedgerError(f"a sweep needs at least 1 worker, not {workers}")
    waiting = []
    for job in jobs:
        result = job.result
        if result is not None:
            on_done(job, result)
        else:
            waiting.append(job)
    if not waiting or _late(deadline):
        return len(waiting)
    done = len(jobs) - len(waiting)
    # No smoothing: the rate is that of the whole sweep. No least step: the clock goes on while a run takes minutes.
    bar = tqdm(
        total=len(jobs), initial=done, unit="run", desc="sweep", disable=None, leave=False, smoothing=0, miniters=0,
        mininterval=1.0,
    )  # fmt: skip
    with _ended_by_sigterm(), bar:
        return _run(_pool(backend, waiting), waiting, workers, deadline, on_done, bar)


def _run(pool: Pool, jobs: list[Job], workers: int, deadline: float | None, on_done: Any, bar: Any) -> int:
    code = environment.code_id()
    waiting = [(job, 1) for job in jobs]
    running: dict[Any, tuple[Job, int]] = {}
    failed: list[str] = []
    try:
        while True:
            while waiting and len(running) < workers and not _late(deadline):
                job, attempt = waiting.pop(0)
                job.write(code)
                running[pool.start(job, deadline, code)] = job, attempt
            late = deadline is not None and time.time() > deadline + GRACE
            if not running or late:
                break
            bar.set_postfix_str(f"{len(running)} running", refresh=False)
            bar.update(0)
            for run in pool.done(list(running)):
                job, attempt = running.pop(run)
                failure, result = pool.failure(run, job), job.result
                if result is not None:
                    on_done(job, result)
                    bar.update()
                elif failure is None:  # out of time: the next sweep goes on from its checkpoint
                    waiting.append((job, attempt))
                elif attempt < TRIES:
                    waiting.insert(0, (job, attempt + 1))
                else:
                    failed.append(f"{job.folder} failed {TRIES} times; its last line: {failure}")
    finally:
        pool.end(list(running))
    if failed:
        more = f" ({len(failed) - 1} more runs failed)" if len(failed) > 1 else ""
        raise SweepError(failed[0] + more)
    return len(waiting) + len(running)


def _pool(backend: Backend, jobs: Sequence[Job]) -> Pool:
    if backend == "processes":
        return Processes()
    from posekit.experiments.ablations.cluster import RayTasks

    return RayTasks(jobs)


class Processes:
    """Runs in processes of this machine."""

    def start(self, job: Job, deadline: float | None, code: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "posekit.experiments.ablations.worker", str(job.folder), "--with-parent"]
        if deadline is not None:
            command += ["--deadline", str(deadline)]
        environ = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        with open(job.folder / "log.txt", "a", encoding="utf-8") as log:
            # Nothing is written to the pipe: it closes when this process ends, even if that was killed.
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environ)

    def done(self, runs: Sequence[subprocess.Popen]) -> list[subprocess.Popen]:
        time.sleep(0.2)
        return [process for process in runs if process.poll() is not None]

    def failure(self, run: subprocess.Popen, job: Job) -> str | None:
        _close(run)
        if run.returncode == 0:
            return None
        lines = (job.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing was printed"

    def end(self, runs: Sequence[subprocess.Popen]) -> None:
        for process in runs:
            process.terminate()
        for process in runs:
            process.wait()
            _close(process)


def _close(process: subprocess.Popen) -> None:
    if process.stdin is not None:
        process.stdin.close()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends this process as an exception, so that what it started is ended first."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _late(deadline: float | None) -> bool:
    return deadline is not None and time.time() > deadline
