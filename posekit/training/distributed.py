"""What several processes that train one network do differently from one.

Each takes its part of every batch, and gradients are averaged (DistributedDataParallel): the step is that of the whole
batch. Batch statistics are the exception: those of one process' part on a processor, of the whole batch on GPUs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from posekit.codecs import Coordinates, IntegralHeatmap
from posekit.inference import Network, Processes
from posekit.training.arrays import Batch
from posekit.training.checkpoint import (
    Tensors,
    TrainingError,
    pack_generators,
    under_prefix,
    unpack_generators,
    with_prefix,
)


def synchronise_batch_norm(model: Network, processes: Processes, device: torch.device) -> None:
    """Let batch norm see the whole batch, in place; torch can do that on GPUs only."""
    if processes.size > 1 and device.type == "cuda":
        for name, child in model.named_children():
            setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))


def replicate(model: Network, processes: Processes, device: torch.device) -> nn.Module:
    """The network as it is called in training: itself, or wrapped so that gradients are averaged.

    It starts from the first process' weights. The graph is the same in every step, which lets a network have
    parameters that nobody reads (HRFormer's position table).
    """
    if processes.size == 1:
        return model
    devices = [torch.cuda.current_device()] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices, static_graph=True)


class Part(NamedTuple):
    """What training reads of a batch, of some of its images."""

    images: torch.Tensor  # (B, C, H, W)
    keypoints: torch.Tensor  # (B, K, 2) float32
    visibility: torch.Tensor  # (B, K) uint8


def part_of(batch: Batch, processes: Processes) -> Batch | Part:
    """This process' part of a batch of a loader that gives whole ones.

    Raises:
        TrainingError: fewer images than processes.
    """
    count = len(batch.images)
    if processes.size == 1:
        return batch
    if count < processes.size:
        raise TrainingError(f"a batch of {count} cannot be shared by {processes.size} processes; use a larger one")
    mine = slice(count * processes.rank // processes.size, count * (processes.rank + 1) // processes.size)
    return Part(batch.images[mine], batch.keypoints[mine], batch.visibility[mine])


def share_of_loss(codec: Any, weights: torch.Tensor, processes: Processes) -> torch.Tensor | float:
    """By what the loss of this process' part is multiplied so that the mean over processes is the whole batch's.

    Heatmap and SimCC losses are means over people; coordinate losses over labelled joints, of which parts have more
    or fewer.

    Args:
        weights: (B, K) of this process' part.

    Raises:
        TrainingError: a loss with terms of both kinds.
    """
    if processes.size == 1:
        return 1.0
    if getattr(codec, "regulariser", 0):
        raise TrainingError("IntegralHeatmap's regulariser is averaged unlike its coordinates: train in one process")
    by_labels = isinstance(codec, (Coordinates, IntegralHeatmap))
    count = weights.sum().clamp(min=1) if by_labels else torch.full((), float(len(weights)), device=weights.device)
    total = weights.sum() if by_labels else count.clone()
    return count / processes.mean_(total.clone()).clamp(min=1 / processes.size)


def seed_generators(seed: int, processes: Processes, step: int = 0) -> None:
    """torch's own generators (dropout draws from them): every process its own, the first one ``seed`` itself."""
    if processes.first:
        torch.manual_seed(seed)
    else:
        torch.manual_seed(int(np.random.SeedSequence([seed, processes.rank, step]).generate_state(1)[0]))


def gather_generators(device: torch.device, processes: Processes) -> Tensors:
    """States of the generators of all processes, those of the first under their plain names."""
    first, *others = processes.gather(pack_generators(device))
    for rank, states in enumerate(others, 1):
        first |= with_prefix(f"rank{rank}.", states)
    return first


def restore_generators(tensors: Tensors, device: torch.device, processes: Processes, *, seed: int, step: int) -> None:
    """Inverse of :func:`gather_generators`; a process that was not there before starts a generator of its own."""
    prefix = "" if processes.first else f"rank{processes.rank}."
    if f"{prefix}generator.cpu" in tensors:
        unpack_generators(under_prefix(prefix, tensors), device)
    else:
        seed_generators(seed, processes, step)
