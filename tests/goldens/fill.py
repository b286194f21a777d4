"""Weights that depend on a parameter's original name and shape alone, so two networks can be given the same ones."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch

GAIN = 0.5  # He's standard deviation makes the maps of a deep HRNet overflow; half of it keeps them near one


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """A float32 tensor for each name; names of integers (``num_batches_tracked`` and the like) must not be among them.

    The numbers come from a generator seeded with the CRC-32 of the name, and are uniform, which is quick to draw.
    Kernels have standard deviation 0.5 sqrt(2 / fan in), biases and running means 0.1, scales 0.1 around one; running
    variances lie in (0.5, 1.5).
    """
    return {name: torch.from_numpy(_draw(name, shape)) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    even = rng.random(shape, dtype=np.float32)
    if leaf == "running_var":
        return even + np.float32(0.5)
    even -= np.float32(0.5)
    even *= np.float32(np.sqrt(12))  # now of standard deviation one
    if not leaf.endswith("weight"):
        return even * np.float32(0.1)
    if len(shape) == 1:
        return even * np.float32(0.1) + np.float32(1)
    return even * np.float32(GAIN * np.sqrt(2 / np.prod(shape[1:])))


def pictures(shape: tuple[int, ...]) -> torch.Tensor:
    """Normal noise, (B, 3, H, W) float32."""
    return torch.from_numpy(np.random.default_rng(7).standard_normal(shape, dtype=np.float32))
