"""One file holds a run: weights, averaged weights, optimizer, generators and the position, in safetensors.

Nothing is pickled, so reading a checkpoint never runs code. A file is written beside its name and renamed, so a name
always stands for a whole file.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from posekit.models.own_files import write_safetensors

CHECKPOINT = "checkpoint.safetensors"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, a quota, a file
Tensors = dict[str, torch.Tensor]


class TrainingError(RuntimeError):
    """A run that cannot go on or start; the message is one sentence and says what is left on disk."""


def save_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    meta: Mapping[str, Any],
    *,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write tensors and JSON metadata (under the key "posekit") as one safetensors file, whole or not at all.

    Args:
        facts: more metadata, as strings.

    Raises:
        TrainingError: the disk refuses; what stood under the name before is untouched.
    """
    try:
        write_safetensors(path, tensors, {**(facts or {}), "posekit": json.dumps(meta)})
    except Exception as error:
        # safetensors raises its own type for a full disk; whatever it was, what stood before still stands.
        raise TrainingError(f"cannot write {path} ({error}); {standing(path.parent)}; {remedy(error)}") from error


def standing(folder: Path) -> str:
    """What is left of a run on disk, as half a sentence."""
    kept = (folder / CHECKPOINT).exists()
    return f"the last good checkpoint is {folder / CHECKPOINT}" if kept else "no checkpoint was written yet"


def remedy(error: Exception) -> str:
    """What to do when the disk refuses in the middle of a run, as half a sentence."""
    full = getattr(error, "errno", None) in FULL or any(os.strerror(number) in str(error) for number in FULL)
    return "free some space and resume" if full else "make the folder take files again and resume"


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read a file of :func:`save_tensors`.

    Raises:
        TrainingError: missing, truncated or somebody else's file.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("posekit", "null"))
            if not isinstance(meta, dict):
                raise ValueError("it was not written by a run")
            return {key: file.get_tensor(key) for key in file.keys()}, meta  # noqa: SIM118 (not a mapping)
    except Exception as error:
        raise TrainingError(
            f"cannot read the checkpoint {path} ({error}); delete it or pass resume=False (--restart)"
        ) from error


def pack_optimizer(optimizer: torch.optim.Optimizer) -> Tensors:
    """The per-parameter state as flat names ``optimizer.NUMBER.KEY``; rates come from the recipe, not from here."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{number}.{key}": torch.as_tensor(value)
        for number, entry in state.items()
        for key, value in entry.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Inverse of :func:`pack_optimizer`, in the memory layout of the parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            like = parameters[int(number)]
            # Moments live in channels_last like their parameter; another layout would change the arithmetic's order.
            if value.shape == like.shape and value.ndim:
                value = torch.empty_like(like).copy_(value)
            state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def pack_generators(device: torch.device) -> Tensors:
    """States of torch's own generators (dropout draws from them), as uint8 tensors."""
    states = {"generator.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["generator.cuda"] = torch.cuda.get_rng_state(device)
    return states


def unpack_generators(tensors: Tensors, device: torch.device) -> None:
    """Inverse of :func:`pack_generators`; a state of another kind of device is left alone."""
    torch.set_rng_state(tensors["generator.cpu"])
    if device.type == "cuda" and "generator.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator.cuda"], device)


class WeightAverage:
    """Exponential moving average of a network's weights; buffers (batch statistics) are copied as they are."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
        self._averaged = {name for name, _ in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for key, value in model.state_dict().items():
            if key in self._averaged:
                self.weights[key].lerp_(value, 1 - self.decay)
            else:
                self.weights[key].copy_(value)


@contextmanager
def other_weights(model: nn.Module, weights: Mapping[str, torch.Tensor] | None) -> Iterator[None]:
    """Other weights for a while; None leaves the network's own."""
    if weights is None:
        yield
        return
    own = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(own)


def with_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Names under ``prefix``."""
    return {prefix + key: value for key, value in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Inverse of :func:`with_prefix`."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
