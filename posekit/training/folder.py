"""The folder of a run: what is written when, and what a start finds in it.

``run.json`` says what the run is, ``metrics.jsonl`` has a line for every record, ``checkpoint.safetensors`` is where it
goes on, and ``weights.safetensors`` is what it leaves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from posekit.training.checkpoint import Tensors, TrainingError, load_tensors, save_tensors
from posekit.training.provenance import provenance, write_json, write_text
from posekit.training.recipes import config_digest

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"


class Standing(NamedTuple):
    """Where a checkpoint was written."""

    step: int
    history: list[dict[str, Any]]
    tensors: Tensors


class RunFolder:
    """One run on disk.

    Args:
        path: made when it is not there.
        config: what decides the run; its digest tells whether a checkpoint belongs to it.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]):
        self.path, self.config, self.digest = path, config, config_digest(config)

    def open(self, device: torch.device, *, resume: bool) -> Standing | None:
        """Start the folder, or read how far the run in it has come.

        Raises:
            TrainingError: the disk refuses, the checkpoint is damaged, or it is another run's.
        """
        checkpoint = self.path / CHECKPOINT
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            found = self._read(checkpoint) if resume and checkpoint.exists() else None
            if found is None:
                checkpoint.unlink(missing_ok=True)
            # Records written after the checkpoint will be written again.
            lines = [] if found is None else found.history
            write_text(self.path / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in lines))
            if found is None or not found.step:
                write_json(self.path / "run.json", {**self.config, "digest": self.digest, **provenance(device)})
        except OSError as error:
            raise TrainingError(f"cannot use the run folder {self.path} ({error}); choose another") from error
        return found

    def _read(self, checkpoint: Path) -> Standing:
        tensors, meta = load_tensors(checkpoint)
        if meta.get("digest") != self.digest:
            raise TrainingError(
                f"{self.path} holds another run (configuration {meta.get('digest')}, this one is {self.digest}); "
                "choose another out_dir or pass resume=False"
            )
        with open(self.path / "metrics.jsonl", encoding="utf-8") as file:
            history = [json.loads(line) for line in islice(file, meta["history"])]
        return Standing(meta["step"], history, tensors)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to ``metrics.jsonl``."""
        try:
            with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise TrainingError(
                f"cannot write {self.path / 'metrics.jsonl'} ({error}); {standing(self.path)}"
            ) from error

    def save(self, tensors: Tensors, *, step: int, records: int) -> None:
        """Write the checkpoint; the records it counts reach the disk before it does."""
        with open(self.path / "metrics.jsonl", "rb") as file:
            os.fsync(file.fileno())
        save_tensors(self.path / CHECKPOINT, tensors, {"digest": self.digest, "step": step, "history": records})

    def save_weights(self, tensors: Tensors, metrics: Mapping[str, float], facts: Mapping[str, str] | None) -> None:
        """Write what the run leaves, with its configuration and last scores."""
        meta = {**self.config, "digest": self.digest, "metrics": metrics}
        save_tensors(self.path / WEIGHTS, tensors, meta, facts=facts)


def standing(path: Path) -> str:
    """What is left of a run on disk, as half a sentence."""
    kept = (path / CHECKPOINT).exists()
    return f"the last good checkpoint is {path / CHECKPOINT}" if kept else "no checkpoint was written yet"
