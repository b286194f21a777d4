"""The folder of a run: what is written when, and what a start finds in it.

``run.json`` says what the run is, ``metrics.jsonl`` has a line for every record, ``checkpoint.safetensors`` is where it
goes on, and ``weights.safetensors`` is what it leaves. A run goes on from the checkpoint alone: it writes
``metrics.jsonl`` again as it was then, and ``run.json`` when that is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from posekit.training.checkpoint import CHECKPOINT, FULL, Tensors, TrainingError, load_tensors, save_tensors, standing
from posekit.training.provenance import provenance, write_json, write_text
from posekit.training.recipes import config_digest

WEIGHTS = "weights.safetensors"
METRICS = "metrics.jsonl"
RECORDS = "records"  # the tensor of a checkpoint that holds the lines of metrics.jsonl, as bytes
AGAIN = "pass resume=False (--restart) to start again"


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
            TrainingError: the disk refuses, or the checkpoint is damaged, no checkpoint or another run's.
        """
        checkpoint = self.path / CHECKPOINT
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            found = self._read(checkpoint) if resume and checkpoint.exists() else None
            if found is None:
                checkpoint.unlink(missing_ok=True)
            # Records written after the checkpoint will be written again.
            write_text(self.path / METRICS, _lines([] if found is None else found.history))
            if found is None or not found.step or not (self.path / "run.json").exists():
                write_json(self.path / "run.json", {**self.config, "digest": self.digest, **provenance(device)})
        except OSError as error:
            then = "free some space and start again" if error.errno in FULL else "choose another"
            raise TrainingError(f"cannot use the run folder {self.path} ({error}); {then}") from error
        return found

    def _read(self, checkpoint: Path) -> Standing:
        tensors, meta = load_tensors(checkpoint)
        if missing := [key for key in ("digest", "step", "history") if key not in meta]:
            raise TrainingError(
                f"{checkpoint} is no checkpoint, it does not say {', '.join(missing)} (a run's weights do not); "
                f"put the checkpoint back or {AGAIN}"
            )
        if meta["digest"] != self.digest:
            raise TrainingError(
                f"{self.path} holds another run (configuration {meta['digest']}, this one is {self.digest}); "
                f"choose another out_dir or {AGAIN}"
            )
        return Standing(meta["step"], self._records(tensors, meta["history"]), tensors)

    def _records(self, tensors: Tensors, count: int) -> list[dict[str, Any]]:
        """What was logged up to the checkpoint, which carries it; those of older versions rely on the file."""
        kept = tensors.pop(RECORDS, None)
        source = self.path / (METRICS if kept is None else CHECKPOINT)
        try:
            text = source.read_bytes() if kept is None else kept.numpy().tobytes()
            records = [json.loads(line) for line in text.splitlines()[:count]]
            if len(records) < count or not all(isinstance(record, dict) for record in records):
                raise ValueError(f"{len(records)} lines")
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{source} does not hold the {count} records that the checkpoint counts ({error}); "
                f"put it back or {AGAIN}"
            ) from error
        return records

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to ``metrics.jsonl``."""
        try:
            with open(self.path / METRICS, "a", encoding="utf-8") as file:
                file.write(_lines([record]))
        except OSError as error:
            raise TrainingError(f"cannot write {self.path / METRICS} ({error}); {standing(self.path)}") from error

    def save(self, tensors: Tensors, *, step: int, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the checkpoint, with all records so far."""
        records = torch.from_numpy(np.frombuffer(_lines(history).encode(), np.uint8).copy())
        meta = {"digest": self.digest, "step": step, "history": len(history)}
        save_tensors(self.path / CHECKPOINT, {**tensors, RECORDS: records}, meta)

    def save_weights(self, tensors: Tensors, metrics: Mapping[str, float], facts: Mapping[str, str] | None) -> None:
        """Write what the run leaves, with its configuration and last scores."""
        meta = {**self.config, "digest": self.digest, "metrics": metrics}
        save_tensors(self.path / WEIGHTS, tensors, meta, facts=facts)


def _lines(records: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)
