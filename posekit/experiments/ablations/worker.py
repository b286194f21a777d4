"""One run in a process of its own: ``python -m posekit.experiments.ablations.worker FOLDER``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from posekit.experiments import environment
from posekit.experiments.ablations.arm import DRAWS, RESULT, OutOfTime, run_arm
from posekit.experiments.ledger import LedgerError
from posekit.training import WEIGHTS

LEFT = ("run.json", "metrics.jsonl", WEIGHTS, DRAWS, RESULT)  # by a finished run; the result says that all is there
LOCK = "lock"


def work(job: Mapping[str, Any], folder: str, deadline: float | None = None) -> dict[str, Any] | None:
    """Run a job; None when the deadline cut it short.

    Raises:
        LedgerError: the code here is not that of the sweep.
    """
    code, here = job.get("code"), environment.code_id()
    if code and code != here:
        raise LedgerError(
            f"the sweep began with code {code[:10]}, a worker has code {here[:10]}; give every machine the same "
            "code, leave it as it is while a sweep runs, and call the sweep again"
        )
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        with alone(Path(folder), deadline):
            return run_arm(
                job["config"],
                job["seed"],
                split=job["split"],
                folder=Path(folder),
                device=job["device"],
                deadline=deadline,
            )
    except OutOfTime as stopped:
        print(stopped, flush=True)
        return None


def work_elsewhere(job: Mapping[str, Any], folder: str, deadline: float | None = None) -> dict[str, bytes] | None:
    """:func:`work` on another machine: what the run left in the folder there, by name of the file."""
    if work(job, folder, deadline) is None:
        return None
    return {name: (Path(folder) / name).read_bytes() for name in LEFT if (Path(folder) / name).is_file()}


@contextlib.contextmanager
def alone(folder: Path, deadline: float | None = None) -> Iterator[None]:
    """Hold the run's folder: two processes that trained in it would write over each other's checkpoints.

    Another one is waited for, since what it leaves can be used. The system frees the lock of a process that ends,
    however it ends.

    Raises:
        OutOfTime: the deadline passed while another process held the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a") as file:
        waits = False
        while not _lock(file):
            if deadline is not None and time.time() > deadline:
                raise OutOfTime(f"{folder.name} is still held by another process")
            if not waits:
                print(f"{folder} is held by another process; waiting until that ends", flush=True)
            waits = True
            time.sleep(0.2)
        yield


def _lock(file: Any) -> bool:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # no such lock on this platform or disk; files are still replaced whole
        pass
    return True


def end_with_parent() -> None:
    """End this process when its standard input closes: the parent holds the other end, and loses it however it ends."""

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin: its lock, held by a daemon thread, would upset the interpreter's end
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the folder's job and run it."""
    parser = argparse.ArgumentParser(description="Run one job of a sweep.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--deadline", type=float)
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    options = parser.parse_args(arguments)
    if options.with_parent:
        end_with_parent()
    job = json.loads((options.folder / "job.json").read_text(encoding="utf-8"))
    work(job, str(options.folder), options.deadline)


if __name__ == "__main__":
    main()
