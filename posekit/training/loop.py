"""The training loop, to be read in one sitting.

A run is a function of its configuration and seed: batches follow from the epoch's number, the learning rate from the
step's, and everything else that changes is in the checkpoint. So a run that is killed and started again ends, on a
processor, with the same weights bit for bit.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from posekit import inference
from posekit.inference import Network
from posekit.models.base import PoseModel
from posekit.models.checkpoints import own_facts
from posekit.training.arrays import Loader
from posekit.training.checkpoint import (
    TrainingError,
    WeightAverage,
    load_tensors,
    pack_generators,
    pack_optimizer,
    save_tensors,
    under_prefix,
    unpack_generators,
    unpack_optimizer,
    with_prefix,
)
from posekit.training.provenance import provenance, write_json, write_text
from posekit.training.recipes import Recipe, config_digest

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class FitResult:
    """What a run leaves.

    Attributes:
        steps: optimizer steps done, over all starts of the run.
        samples: people seen.
        seconds: wall time of this start of the run (0 when there was nothing left to do).
        metrics: the last evaluation; empty without a validation set.
        history: every record of ``metrics.jsonl``.
        out_dir: the run's folder.
    """

    steps: int
    samples: int
    seconds: float
    metrics: dict[str, float]
    history: list[dict[str, Any]] = field(repr=False)
    out_dir: Path


def fit(
    model: Network,
    train: Any,
    val: Any,
    recipe: Recipe,
    *,
    out_dir: str | Path,
    seed: int,
    device: str | torch.device = "auto",
    resume: bool = True,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    log_every: int = 50,
    checkpoint_seconds: float = 30.0,
    workers: int = 0,
    progress: bool | None = None,
) -> FitResult:
    """Train ``model`` in place; afterwards it holds the final weights (the averaged ones where the recipe averages).

    Args:
        model: a network with ``codec`` and ``input_size``. Its codec is replaced by the recipe's variant, if any.
        train: a dataset (crops are cut with the recipe's augmentation) or a :class:`~posekit.training.arrays.Loader`.
        val: a dataset (scored by COCO's protocol with true boxes), a loader in fixed order (scored by mean error in
            crop pixels), or None.
        recipe: everything else.
        out_dir: the run's folder: ``run.json``, ``metrics.jsonl``, ``checkpoint.safetensors``, ``weights.safetensors``.
        seed: of the order of people, the augmentation and dropout. The first weights are the caller's.
        device: "auto" takes a GPU when there is one.
        resume: go on from the folder's checkpoint; False starts again and replaces what is there.
        on_log: called with every record after it is written; an exception it raises ends the run there.
        log_every: optimizer steps between records. The loss is checked, and a checkpoint may be written, then only.
        checkpoint_seconds: least time between two checkpoints. The end always writes one.
        workers: processes that cut crops when ``train`` is a dataset.
        progress: show a bar on stderr; None: when it is a terminal.

    Raises:
        TrainingError: loss or gradient not finite, disk trouble, or a folder that holds another run. One sentence; the
            last good checkpoint is intact.
        RecipeError: the recipe does not suit the network's codec.
    """
    run = _Run(model, train, recipe, Path(out_dir), seed, inference.pick_device(device), workers)
    # Dropout draws from torch's global generator: the run seeds its own and gives the caller's back.
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        torch.manual_seed(seed)
        run.open(resume)
        started, saved = time.perf_counter(), time.perf_counter()
        first, metrics = run.step, run.last_metrics()
        evaluate_at = {round(run.total * (n + 1) / recipe.evaluations) for n in range(recipe.evaluations)}
        sums, waited = torch.zeros(2, device=run.device), 0.0
        bar = _progress_bar(run, progress)
        with bar:
            for batch, waiting in _timed(run.batches()):
                sums += run.train_step(batch)
                waited += waiting
                bar.update()
                pause = run.step in evaluate_at or run.step == run.total
                if run.step % log_every and not pause:
                    continue
                # Everything that waits for the device, reads the clock or touches the disk happens here.
                loss, gradient = (sums / (run.step - run.logged)).tolist()
                if not math.isfinite(loss) or not math.isfinite(gradient):
                    raise TrainingError(run.explain_divergence(loss))
                seconds = time.perf_counter() - started
                record = {
                    "step": run.step,
                    "epoch": run.step / run.per_epoch,
                    "loss": loss,
                    "gradient_norm": gradient,
                    "lr": run.rate(run.step - 1),
                    "samples_per_second": (run.step - first) * recipe.batch_size / seconds,
                    "loader_share": waited / seconds,
                }
                if run.step in evaluate_at and val is not None:
                    metrics = run.evaluate(val)
                    record["val"] = metrics
                sums.zero_()
                run.log(record)
                bar.set_postfix_str(f"loss {loss:.4g}, {record['samples_per_second']:.0f}/s", refresh=False)
                if run.step == run.total or time.perf_counter() - saved >= checkpoint_seconds:
                    run.save()
                    saved = time.perf_counter()
                if on_log is not None:
                    on_log(record)
        run.close(metrics)
    return FitResult(
        steps=run.step,
        samples=run.step * recipe.batch_size,
        seconds=time.perf_counter() - started if run.step > first else 0.0,
        metrics=metrics,
        history=run.history,
        out_dir=run.folder,
    )


class _Run:
    """The state of one run, its folder, and one step."""

    def __init__(
        self,
        model: Network,
        train: Any,
        recipe: Recipe,
        folder: Path,
        seed: int,
        device: torch.device,
        workers: int,
    ):
        model.codec = recipe.apply_to_codec(model.codec)
        self.model, self.recipe, self.folder, self.seed, self.device = model, recipe, folder, seed, device
        self.loader = _as_loader(train, model, recipe, seed, workers)
        self.per_epoch = len(self.loader)
        if not self.per_epoch:
            raise TrainingError(f"the training set does not fill one batch of {recipe.batch_size}; use a smaller batch")
        self.total = recipe.total_steps(self.per_epoch)
        self.step = self.logged = 0
        self.history: list[dict[str, Any]] = []
        model.to(device=device, memory_format=torch.channels_last)
        self.optimizer = recipe.build_optimizer(model)
        self.average = WeightAverage(model, recipe.ema) if recipe.ema else None
        self.config = {
            "recipe": recipe.to_dict(),
            "seed": seed,
            "model": inference.describe_model(model),
            "train": _describe_data(train),
            "steps": self.total,
        }

    # ------------------------------------------------------------------ one step
    def batches(self) -> Iterator[Any]:
        """From where the run stands to its end, epoch after epoch."""
        while self.step < self.total:
            epoch, position = divmod(self.step, self.per_epoch)
            self.loader.resume({"epoch": epoch, "batch": position})
            yield from islice(self.loader, min(self.per_epoch - position, self.total - self.step))

    def rate(self, step: int) -> float:
        return self.recipe.learning_rate(step, self.total, self.per_epoch)

    def train_step(self, batch: Any) -> torch.Tensor:
        """One optimizer step; returns loss and gradient norm, (2,), still on the device."""
        recipe, model, codec = self.recipe, self.model, self.model.codec
        model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        images = inference.to_input(batch.images, self.device)
        with torch.no_grad():
            keypoints = batch.keypoints.to(self.device, non_blocking=True)
            targets, weights = codec.encode(keypoints, batch.visibility.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.bf16):
            prediction = model(images)
        loss = supervised_loss(model, inference.as_float(prediction), targets, weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip or math.inf)
        self.optimizer.step()
        if self.average:
            self.average.update(model)
        self.step += 1
        return torch.stack([loss.detach(), norm.detach()])

    def evaluate(self, val: Any) -> dict[str, float]:
        """Scores of the weights that will be kept, in float32: bfloat16 heatmaps tie around their peaks."""
        with self._kept_weights():
            return inference.score(self.model, val, flip_test=self.recipe.flip_test, device=self.device)

    # ------------------------------------------------------------------ the folder
    def open(self, resume: bool) -> None:
        """Start the folder, or take up what its checkpoint holds."""
        checkpoint, run_file = self.folder / CHECKPOINT, self.folder / "run.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if resume and checkpoint.exists():
                self._restore(checkpoint)
            else:
                checkpoint.unlink(missing_ok=True)
            self._write_history()
            if not self.step:
                write_json(run_file, {**self.config, "digest": self.digest, **provenance(self.device)})
        except OSError as error:
            raise TrainingError(f"cannot use the run folder {self.folder} ({error}); choose another") from error

    @property
    def digest(self) -> str:
        return config_digest(self.config)

    def save(self) -> None:
        tensors = with_prefix("model.", self.model.state_dict())
        tensors |= pack_optimizer(self.optimizer) | pack_generators(self.device)
        if self.average:
            tensors |= with_prefix("average.", self.average.weights)
        meta = {"digest": self.digest, "step": self.step, "per_epoch": self.per_epoch, "history": len(self.history)}
        save_tensors(self.folder / CHECKPOINT, tensors, meta)

    def _restore(self, path: Path) -> None:
        tensors, meta = load_tensors(path)
        if meta.get("digest") != self.digest:
            raise TrainingError(
                f"{self.folder} holds another run (configuration {meta.get('digest')}, this one is {self.digest}); "
                "choose another out_dir or pass resume=False"
            )
        self.model.load_state_dict(under_prefix("model.", tensors))
        unpack_optimizer(self.optimizer, tensors)
        unpack_generators(tensors, self.device)
        if self.average:
            for key, value in under_prefix("average.", tensors).items():
                self.average.weights[key].copy_(value)
        self.step = self.logged = meta["step"]
        # Records written after the checkpoint will be written again.
        with open(self.folder / "metrics.jsonl", encoding="utf-8") as file:
            self.history = [json.loads(line) for line in islice(file, meta["history"])]

    def _write_history(self) -> None:
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in self.history))

    def log(self, record: dict[str, Any]) -> None:
        self.logged = self.step
        self.history.append(record)
        try:
            with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise TrainingError(
                f"cannot write {self.folder / 'metrics.jsonl'} ({error}); {self._standing()}"
            ) from error

    def last_metrics(self) -> dict[str, float]:
        return next((record["val"] for record in reversed(self.history) if "val" in record), {})

    def explain_divergence(self, loss: float) -> str:
        what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient is not finite"
        return f"{what} at step {self.step}: {self._standing()}; lower the learning rate or clip the gradient"

    def _standing(self) -> str:
        kept = (self.folder / CHECKPOINT).exists()
        return f"the last good checkpoint is {self.folder / CHECKPOINT}" if kept else "no checkpoint was written yet"

    def close(self, metrics: dict[str, float]) -> None:
        """Leave the kept weights in the network and, with their configuration, on disk."""
        if self.average:
            self.model.load_state_dict(self.average.weights)
        self.model.eval()
        meta = {**self.config, "digest": self.digest, "metrics": metrics}
        # So that create_model(name, weights=...) finds them like any of our weight files, codec included.
        facts = own_facts(self.model) if isinstance(self.model, PoseModel) else None
        save_tensors(self.folder / WEIGHTS, self.model.state_dict(), meta, facts=facts)

    def _kept_weights(self) -> _Swapped:
        return _Swapped(self.model, self.average.weights if self.average else None)


class _Swapped:
    """Other weights for a while."""

    def __init__(self, model: Network, weights: dict[str, torch.Tensor] | None):
        self.model, self.weights = model, weights

    def __enter__(self) -> None:
        if self.weights is not None:
            self.own = {key: value.clone() for key, value in self.model.state_dict().items()}
            self.model.load_state_dict(self.weights)

    def __exit__(self, *_: object) -> None:
        if self.weights is not None:
            self.model.load_state_dict(self.own)


def supervised_loss(model: Network, prediction: Any, targets: Any, weights: torch.Tensor) -> torch.Tensor:
    """The codec's loss; a network with auxiliary outputs says by its ``supervision`` what each of them should be."""
    supervision = getattr(model, "supervision", None)
    if supervision is not None and isinstance(prediction, list):
        return supervision.loss(model.codec, prediction, targets, weights)
    return model.codec.loss(prediction, targets, weights)


def _as_loader(train: Any, model: Network, recipe: Recipe, seed: int, workers: int) -> Loader:
    if not hasattr(train, "people"):
        return train
    from posekit.data.crops import CropLoader

    return CropLoader(
        train.trainable() if hasattr(train, "trainable") else train,
        model.input_size,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        shuffle=True,
        seed=seed,
        workers=workers,
        drop_last=True,
        cache_images=True,
        protocol=getattr(model.codec, "protocol", "hrnet"),
    )


def _describe_data(data: Any) -> dict[str, Any]:
    name = getattr(data, "name", type(data).__name__)
    return (
        {"name": name, "people": len(data.people)} if hasattr(data, "people") else {"name": name, "batches": len(data)}
    )


def _timed(iterator: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Items with the seconds that each was waited for."""
    while True:
        before = time.perf_counter()
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield item, time.perf_counter() - before


def _progress_bar(run: _Run, progress: bool | None) -> Any:
    from tqdm import tqdm

    disable = None if progress is None else not progress
    return tqdm(total=run.total, initial=run.step, unit="step", desc=run.recipe.name, disable=disable, mininterval=0.5)
