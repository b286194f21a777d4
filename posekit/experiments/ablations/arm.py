"""Train one arm under one seed and score it: the runs that every ablation rests on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit import create_model, training
from posekit.data import Mannequin
from posekit.data.mannequin.dataset import GENERATOR
from posekit.experiments import environment
from posekit.experiments.ablations.scoring import score_variants
from posekit.experiments.ledger import LedgerError
from posekit.experiments.runner import Experiment, Judgement, Measurement, read_arrays, save_arrays
from posekit.training import Recipe
from posekit.training.provenance import write_json

RESULT, DRAWS = "result.json", "draws.npz"
SPENT = "seconds.json"  # of the starts so far; there as long as the run is open


class OutOfTime(RuntimeError):
    """The budget is spent; the run's folder holds a checkpoint and the next call goes on from it."""


def build(config: Mapping[str, Any], seed: int) -> Any:
    """The untrained network of a configuration: its first weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = create_model(config["network"], input_size=config["input_size"], **config["options"])
    if config["codec"]:
        net.codec = replace(net.codec, **config["codec"])
    return net


def dataset(config: Mapping[str, Any], split: str) -> Mannequin:
    """A split of Mannequin as a configuration asks for it, drawn by all processors where it is not there yet."""
    data = config["data"]
    if data["generator"] != GENERATOR:
        raise LedgerError(
            f"the run used generation {data['generator']} of Mannequin and this version draws generation {GENERATOR}; "
            "check out the run's commit to repeat it"
        )
    return Mannequin(
        split, level=data["level"], view=data["view"], scenes=data["scenes"][split], processes=os.cpu_count() or 1
    )


def run_arm(
    config: Mapping[str, Any],
    seed: int,
    *,
    split: str,
    folder: Path,
    device: str = "cpu",
    deadline: float | None = None,
    on_log: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train, or go on training, and score.

    Args:
        config: of :meth:`posekit.experiments.ablations.Arm.config`.
        split: that the trained network is scored on; "test" only for what is recorded.
        folder: of the run; its ``result.json`` is returned at once when it is there.
        device: "cpu" or "cuda": trains and scores.
        deadline: of ``time.time()``; training stops at the next record after it.

    Returns:
        {"metrics", "intervals", "seconds", "versions", "hardware"}: as of :class:`Scores`; seconds of training and
        scoring, of all starts together (of one that was killed, up to its last record). The draws lie in the folder,
        see :func:`draws_of`.

    Raises:
        OutOfTime: the deadline passed before the end.
        LedgerError: the result that was there is damaged.
    """
    folder = Path(folder)
    result = read_result(folder)
    if result is not None:
        return result
    spent, start = _spent(folder), time.perf_counter()

    def seconds() -> float:
        return round(spent + time.perf_counter() - start, 1)

    def log(record: dict[str, Any]) -> None:
        write_json(folder / SPENT, seconds())
        if on_log is not None:
            on_log(record)
        if deadline is not None and time.time() > deadline and record["step"] < total:
            raise OutOfTime(f"{folder.name} stopped at step {record['step']} of {total}")

    recipe = Recipe.from_dict(config["recipe"])
    total = recipe.total_steps(0) if recipe.samples else 0
    net = build(config, seed)
    with torch.enable_grad():
        training.fit(
            net, dataset(config, "train"), None, recipe, out_dir=folder, seed=seed, device=device,
            progress=False, on_log=log, checkpoint_seconds=20,
        )  # fmt: skip
    scores = score_variants(net, dataset(config, split), device=device)
    parameters = float(sum(parameter.numel() for parameter in net.parameters()))
    result = {
        "metrics": {**scores.metrics, "parameters": parameters},
        "intervals": scores.intervals,
        "seconds": seconds(),
        "versions": environment.versions(TRAINING.packages),
        "hardware": environment.hardware(device),
    }
    save_arrays(folder / DRAWS, scores.draws)
    write_json(folder / RESULT, result)
    for name in (training.CHECKPOINT, SPENT):  # the weights stay, the optimizer's state is of no more use
        (folder / name).unlink(missing_ok=True)
    return result


def read_result(folder: Path) -> dict[str, Any] | None:
    """What a finished run left in its folder; None while it is open.

    Raises:
        LedgerError: the file is damaged.
    """
    path = Path(folder) / RESULT
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError as error:  # no JSON, or no text at all
        raise LedgerError(f"{path} is damaged ({error}); delete it and the run is made again") from None
    if found is not None and not (isinstance(found, dict) and isinstance(found.get("metrics"), dict)):
        raise LedgerError(f"{path} holds no result of a run; delete it and the run is made again")
    return found


def _spent(folder: Path) -> float:
    try:
        return float(json.loads((folder / SPENT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # the first start; or damaged, which is no reason to stop a run
        return 0.0


def draws_of(folder: Path) -> dict[str, np.ndarray]:
    """The resampled scores that a run left, (300,) by name of metric.

    Raises:
        LedgerError: the file is gone or damaged.
    """
    return read_arrays(Path(folder) / DRAWS, remedy="delete the run's folder and the run is made again")


def _measure(config: Mapping[str, Any], seed: int, *, device: str = "cpu") -> Measurement:
    """Train from nothing in a folder of its own: what the ledger's verification repeats."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    try:
        result = run_arm(config, seed, split="test", folder=folder, device=device)
        draws = draws_of(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Measurement(result["metrics"], {name: tuple(ends) for name, ends in result["intervals"].items()}, draws)


def _judge(measurement: Measurement) -> Judgement:
    raise LedgerError("one arm decides nothing; its ablation compares it with another")


TRAINING = Experiment(
    name="training",
    claims=("H01",),
    kind="trained",
    question="What does one arm of an ablation reach under one seed?",
    dataset="Mannequin",
    profiles={},
    measure=_measure,
    judge=_judge,
    tolerance=15.0,
    packages=("opencv-python-headless",),
)
