"""Where a heatmap peaks: the highest cell, and the quarter-cell step toward its higher neighbour."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def argmax(rows: Tensor) -> Tensor:
    """(..., n) -> (...) int64, the first of the highest entries.

    On the CPU through a NumPy view of the same memory, whose argmax is five times faster than torch's.
    """
    if rows.device.type != "cpu":
        return rows.argmax(-1)
    return torch.from_numpy(np.asarray(rows.contiguous().numpy().argmax(-1)))


def find_peaks(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, K, h, w) -> x, y (B, K) int64 cells and scores (B, K), the value of the highest cell.

    A map with no positive cell, or with a NaN, has no peak: it gives cell (0, 0) and score 0. The cell is that of
    the original ``get_max_preds``; that function returns the negative value as score.
    """
    h, w = maps.shape[-2:]
    rows = maps.reshape(-1, h * w)
    index = argmax(rows)
    score = rows.gather(1, index[:, None])[:, 0]
    found = score > 0
    index, score = index * found, torch.where(found, score, 0)
    shape = maps.shape[:-2]
    return (index % w).view(shape), torch.div(index, w, rounding_mode="floor").view(shape), score.view(shape)


def map_offsets(maps: Tensor) -> Tensor:
    """(B*K,) int64: where each map of (B, K, h, w) begins in the flattened tensor."""
    h, w = maps.shape[-2:]
    return torch.arange(maps.shape[0] * maps.shape[1], device=maps.device) * (h * w)


def quarter_offset(maps: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Steps dx, dy (B, K) in {-0.25, 0, 0.25} cells from peaks toward the higher of the two neighbours per axis.

    Only for peaks with ``1 < x < w-1`` and ``1 < y < h-1``, both strict, although ``x = 1`` has both neighbours
    too: published practice. Source: ``get_final_preds``, microsoft/human-pose-estimation.pytorch.
    """
    h, w = maps.shape[-2:]
    flat = maps.reshape(-1)
    inner = (x > 1) & (x < w - 1) & (y > 1) & (y < h - 1)
    # Peaks that take no step look at an arbitrary cell of the tensor instead of outside it.
    centre = torch.where(inner, map_offsets(maps).view(x.shape) + y * w + x, min(w, max(flat.numel() - 1, 0)))
    last = flat.numel() - 1

    def step(distance: int) -> Tensor:
        higher = flat.take((centre + distance).clamp(max=last)) - flat.take((centre - distance).clamp(min=0))
        return higher.sign() * (0.25 * inner)

    return step(1), step(w)
