"""The training loop, to be read in one sitting.

A run is a function of its configuration and seed: batches follow from the epoch's number, the learning rate from the
step's, and everything else that changes is in the checkpoint. So a run that is killed and started again ends, on a
processor, with the same weights bit for bit.

Several processes (``torchrun``) take the same steps together, each on its part of every batch; what that changes is in
:mod:`posekit.training.distributed`, and the first of them writes, prints and decides.
"""

from __future__ import annotations

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
from posekit.inference import Network, ProcessError, Processes
from posekit.inference.processes import noticing_the_lost, together
from posekit.models.base import PoseModel
from posekit.models.own_files import own_facts
from posekit.training.checkpoint import (
    TrainingError,
    WeightAverage,
    other_weights,
    pack_optimizer,
    standing,
    under_prefix,
    unpack_optimizer,
    with_prefix,
)
from posekit.training.distributed import (
    gather_generators,
    part_of,
    replicate,
    restore_generators,
    seed_generators,
    share_of_loss,
    synchronise_batch_norm,
)
from posekit.training.folder import RunFolder
from posekit.training.loaders import Place, as_loader, describe_data, explain_too_few, progress_bar, timed
from posekit.training.recipes import Recipe


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


@together()
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
    crops: Place = "auto",
) -> FitResult:
    """Train ``model`` in place; afterwards it holds the final weights (the averaged ones where the recipe averages).

    Under ``torchrun``, or in a process group that the caller opened, all processes train together.

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
        on_log: called with every record after it is written, by the first process; an exception it raises ends the
            run there.
        log_every: optimizer steps between records. The loss is checked, and a checkpoint may be written, then only.
        checkpoint_seconds: least time between two checkpoints. The end always writes one.
        workers: processes that cut crops when ``train`` is a dataset, for each training process, and those of ``val``
            when it is one. 0 takes a thread that cuts ahead in training where there is a second core. The crops are the
            same.
        progress: show a bar on stderr; None: when it is a terminal.
        crops: where they are cut when ``train`` is a dataset: on the "host", or on the "device", which then holds all
            pictures; "auto" is the device when it is a GPU and has room for pictures of one size.

    Raises:
        TrainingError: loss or gradient not finite, disk trouble, a folder that holds another run, no steps between
            records, or another process that ended. One sentence; the last good checkpoint is intact.
        RecipeError: the recipe does not suit the network's codec.
    """
    if log_every < 1:
        raise TrainingError(f"log_every is {log_every}, and it counts steps between records; give 1 or more")
    processes = inference.join(device)
    try:
        where = inference.pick_device(device)
        run = _Run(model, train, recipe, Path(out_dir), seed, where, workers, processes, crops)
        # Dropout draws from torch's global generator: the run seeds its own and gives the caller's back.
        with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
            run.open(resume)
            with progress_bar(recipe.name, run.step, run.total, shown=progress if processes.first else False) as bar:
                return _train(run, val, bar, on_log, log_every, checkpoint_seconds, workers)
    except ProcessError as error:
        left = standing(Path(out_dir))
        raise TrainingError(f"{error}; {left}; start all processes again to go on") from error


def _train(
    run: _Run,
    val: Any,
    bar: Any,
    on_log: Callable[[dict[str, Any]], None] | None,
    log_every: int,
    checkpoint_seconds: float,
    workers: int,
) -> FitResult:
    """From where the run stands to its end."""
    recipe, processes = run.recipe, run.processes
    started = saved = time.perf_counter()
    first, metrics = run.step, run.last_metrics()
    evaluate_at = {round(run.total * (n + 1) / recipe.evaluations) for n in range(recipe.evaluations)}
    sums, waited = torch.zeros(2, device=run.device), 0.0
    for batch, waiting in timed(run.batches()):
        sums += run.train_step(batch)
        waited += waiting
        bar.update()
        pause = run.step in evaluate_at or run.step == run.total
        if run.step % log_every and not pause:
            continue
        # Everything that waits for the device or the others, reads the clock or touches the disk happens here.
        loss, gradient = (processes.mean_(sums) / (run.step - run.logged)).tolist()
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
            metrics = run.evaluate(val, workers)
            record["val"] = metrics
        sums.zero_()
        run.log(record)
        bar.set_postfix_str(f"loss {loss:.4g}, {record['samples_per_second']:.0f}/s", refresh=False)
        due = run.step == run.total or time.perf_counter() - saved >= checkpoint_seconds
        if processes.agree(due):
            run.save()
            saved = time.perf_counter()
        if on_log is not None and processes.first:
            try:
                on_log(record)
            except BaseException:
                if processes.size == 1:  # what was done since the last checkpoint is not lost
                    run.save()
                raise
    run.close(metrics)
    return FitResult(
        steps=run.step,
        samples=run.step * recipe.batch_size,
        seconds=time.perf_counter() - started if run.step > first else 0.0,
        metrics=metrics,
        history=run.history,
        out_dir=run.folder.path,
    )


class _Run:
    """The state of one run, and one step."""

    def __init__(
        self,
        model: Network,
        train: Any,
        recipe: Recipe,
        folder: Path,
        seed: int,
        device: torch.device,
        workers: int,
        processes: Processes,
        crops: Place,
    ):
        model.codec = recipe.apply_to_codec(model.codec)
        self.model, self.recipe, self.seed, self.device, self.processes = model, recipe, seed, device, processes
        self.loader, self.cuts_parts = as_loader(train, model, recipe, seed, workers, processes, device, crops)
        self.per_epoch = len(self.loader)
        if not self.per_epoch:
            raise TrainingError(explain_too_few(train, recipe.batch_size))
        if recipe.batch_size < processes.size:
            raise TrainingError(f"{processes.size} processes cannot share a batch of {recipe.batch_size}; use fewer")
        self.total = recipe.total_steps(self.per_epoch)
        self.step = self.logged = 0
        self.history: list[dict[str, Any]] = []
        synchronise_batch_norm(model, processes, device)
        model.to(device=device, memory_format=torch.channels_last)
        self.replica = replicate(model, processes, device)
        self.bf16 = recipe.bf16 and inference.has_bf16(self.device)
        self.optimizer = recipe.build_optimizer(model)
        self.average = WeightAverage(model, recipe.ema) if recipe.ema else None
        config = {
            "recipe": recipe.to_dict(),
            "seed": seed,
            "model": inference.describe_model(model),
            "train": describe_data(train),
            "steps": self.total,
        }
        self.folder = RunFolder(folder, config)

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
        if not self.cuts_parts:
            batch = part_of(batch, self.processes)
        images = inference.to_input(batch.images, self.device)
        with torch.no_grad():
            keypoints = batch.keypoints.to(self.device, non_blocking=True)
            targets, weights = codec.encode(keypoints, batch.visibility.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            prediction = self.replica(images)
        loss = supervised_loss(model, inference.as_float(prediction), targets, weights)
        if self.processes.size > 1:
            loss = loss * share_of_loss(codec, weights, self.processes)
        self.optimizer.zero_grad(set_to_none=True)
        with noticing_the_lost():
            loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf if recipe.clip is None else recipe.clip)
        self.optimizer.step()
        if self.average:
            self.average.update(model)
        self.step += 1
        return torch.stack([loss.detach(), norm.detach()])

    def evaluate(self, val: Any, workers: int) -> dict[str, float]:
        """Scores of the weights that will be kept, in float32: bfloat16 heatmaps tie around their peaks."""
        with self._kept_weights():
            return inference.score(
                self.model, val, flip_test=self.recipe.flip_test, device=self.device, workers=workers,
                processes=self.processes,
            )  # fmt: skip

    # ------------------------------------------------------------------ what is kept
    def open(self, resume: bool) -> None:
        """Start the folder, or take up what its checkpoint holds."""
        seed_generators(self.seed, self.processes)
        found = self.processes.once(lambda: self.folder.open(self.device, resume=resume))
        if found is None:
            return
        self.step, self.history, tensors = found
        self.logged = self.step
        self.model.load_state_dict(under_prefix("model.", tensors))
        unpack_optimizer(self.optimizer, tensors)
        restore_generators(tensors, self.device, self.processes, seed=self.seed, step=self.step)
        if self.average:
            for key, value in under_prefix("average.", tensors).items():
                self.average.weights[key].copy_(value)

    def save(self) -> None:
        generators = gather_generators(self.device, self.processes)
        if not self.processes.first:
            return
        tensors = with_prefix("model.", self.model.state_dict()) | pack_optimizer(self.optimizer) | generators
        if self.average:
            tensors |= with_prefix("average.", self.average.weights)
        self.folder.save(tensors, step=self.step, history=self.history)

    def log(self, record: dict[str, Any]) -> None:
        self.logged = self.step
        self.history.append(record)
        if self.processes.first:
            self.folder.log(record)

    def last_metrics(self) -> dict[str, float]:
        return next((record["val"] for record in reversed(self.history) if "val" in record), {})

    def explain_divergence(self, loss: float) -> str:
        what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradient is not finite"
        return (
            f"{what} at step {self.step}: {standing(self.folder.path)}; start in a new run folder with a lower "
            "learning rate (lr) or a clipped gradient (clip)"
        )

    def close(self, metrics: dict[str, float]) -> None:
        """Leave the kept weights in the network and, with their configuration, on disk."""
        self._share_statistics()
        if self.average:
            self.model.load_state_dict(self.average.weights)
        self.model.eval()
        if self.processes.first:
            # So that create_model(name, weights=...) finds them like any of our weight files, codec included.
            facts = own_facts(self.model) if isinstance(self.model, PoseModel) else None
            self.folder.save_weights(self.model.state_dict(), metrics, facts)

    def _kept_weights(self) -> Any:
        self._share_statistics()
        return other_weights(self.model, self.average.weights if self.average else None)

    def _share_statistics(self) -> None:
        """Batch statistics of the first process' parts, where processes have seen different ones."""
        self.processes.copy_first_(self.model.buffers())
        if self.average:
            self.processes.copy_first_(self.average.weights.values())


def supervised_loss(model: Network, prediction: Any, targets: Any, weights: torch.Tensor) -> torch.Tensor:
    """The codec's loss; a network with auxiliary outputs says by its ``supervision`` what each of them should be."""
    supervision = getattr(model, "supervision", None)
    if supervision is not None and isinstance(prediction, list):
        return supervision.loss(model.codec, prediction, targets, weights)
    return model.codec.loss(prediction, targets, weights)
