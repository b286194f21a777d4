"""One run in a process of its own: ``python -m posekit.experiments.ablations.worker FOLDER``."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from posekit.experiments.ablations.arm import OutOfTime, run_arm


def work(job: Mapping[str, Any], folder: str, deadline: float | None = None) -> dict[str, Any] | None:
    """Run a job; None when the deadline cut it short."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the folder's job and run it."""
    parser = argparse.ArgumentParser(description="Run one job of a sweep.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--deadline", type=float)
    options = parser.parse_args(arguments)
    job = json.loads((options.folder / "job.json").read_text(encoding="utf-8"))
    work(job, str(options.folder), options.deadline)


if __name__ == "__main__":
    main()
