"""What tests/test_resume.py starts: ``python killed_run.py FOLDER``: one run that is killed 20 times, one that is not.

torch takes seconds to be imported, so every start is a fork of this process, which has imported everything by a short
run of its own. A start kills itself, with SIGKILL, at a line of the package that a generator with a fixed seed chose.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from test_training import make_loader, make_net

from posekit import training
from posekit.training import Recipe

PACKAGE = str(Path(training.__file__).parents[1])
RECIPE = Recipe(
    name="killed", lr=3e-3, optimizer="adamw", weight_decay=1e-2, epochs=12, batch_size=8, clip=1.0, ema=0.9,
    evaluations=30,
)  # fmt: skip


def run(folder: Path, recipe: Recipe = RECIPE) -> None:
    training.fit(
        make_net(), make_loader(), make_loader(shuffle=False), recipe, out_dir=folder, seed=5, device="cpu",
        log_every=1, checkpoint_seconds=0, progress=False,
    )  # fmt: skip


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Lines:
    """Counts executed lines of the package, or those of one function and what it calls, and kills at the n-th."""

    def __init__(self, within: str | None, last: int):
        self.within, self.last, self.count, self.inside = within, last, 0, within is None

    def __call__(self, frame, event, argument):
        if event == "call":
            entered = frame.f_code.co_name == self.within
            if not frame.f_code.co_filename.startswith(PACKAGE) and not entered:
                return None
            self.inside |= entered
        elif event == "line" and self.inside:
            self.count += 1
            if self.count == self.last:
                die()
        elif event == "return" and frame.f_code.co_name == self.within:
            self.inside = False
        return self


def half_a_file(number: int) -> None:
    """Kill when half of the ``number``-th checkpoint of this start is written."""
    import safetensors.torch

    write, written = safetensors.torch.save_file, []

    def cut(tensors, path, metadata):
        write(tensors, path, metadata=metadata)
        written.append(path)
        if len(written) == number:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    safetensors.torch.save_file = cut


def start(folder: Path, kind: str | None = None, number: int = 0) -> int:
    """One start in a fork of its own; how it ended, as ``os.waitstatus_to_exitcode``."""
    child = os.fork()
    if not child:
        if kind == "half a file":
            half_a_file(number)
        elif kind:
            sys.settrace(Lines({"a line": None, "saving": "save", "evaluating": "score"}[kind], number))
        run(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    base = Path(sys.argv[1])
    run(base / "first", replace(RECIPE, epochs=1, evaluations=1))
    rng = np.random.default_rng(0)
    # How far a kind's numbers go: a start is long enough to reach them, and 20 of them do not reach the end.
    kinds = {"a line": 5000, "saving": 1600, "evaluating": 2500, "half a file": 5}
    kills = [(kind, int(rng.integers(1, most + 1))) for kind, most in kinds.items() for _ in range(5)]
    kills = [kills[i] for i in rng.permutation(len(kills))]
    ends, steps = [], []
    for kill in kills:
        ends.append(start(base / "killed", *kill))
        log = base / "killed" / "metrics.jsonl"
        steps.append(len(log.read_bytes().splitlines()) if log.exists() else 0)
    answer = {
        "kills": kills,
        "ends": ends,
        "steps": steps,
        "last": start(base / "killed"),
        "whole": start(base / "whole"),
    }
    print(json.dumps(answer))
