"""Heatmaps: as colours, and laid over the picture they were predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np


@cache
def _table(name: str) -> np.ndarray:
    import matplotlib as mpl

    return (mpl.colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def colour_map(
    values: Any, *, low: float | None = None, high: float | None = None, name: str = "viridis"
) -> np.ndarray:
    """Colours of an array: ``(...)`` numbers to ``(..., 3)`` uint8 RGB; ``low`` and ``high`` default to its range."""
    values = np.asarray(values, dtype=np.float32)
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    span = high - low if high > low else 1.0
    index = np.clip((values - low) * (255.0 / span), 0, 255).astype(np.uint8)
    return _table(name)[index]


def show_heatmaps(
    image: Any, heatmaps: Any, *, names: Sequence[str] | None = None, columns: int = 6, opacity: float = 0.65
) -> Any:
    """A matplotlib figure with one panel per keypoint: its heatmap over the picture.

    Args:
        image: ``(H, W, 3)`` uint8, or None for heatmaps alone.
        heatmaps: ``(K, h, w)`` array or tensor; each is scaled to its own maximum, which the title states.
        names: K keypoint names.
        columns: panels in a row.
        opacity: how strongly the hottest cell hides the picture.
    """
    import matplotlib.pyplot as plt

    maps = np.asarray(heatmaps, dtype=np.float32)
    if maps.ndim != 3:
        raise ValueError(f"heatmaps have shape {maps.shape}; give (K, h, w), one person's")
    K = len(maps)
    columns = min(columns, K)
    rows = -(-K // columns)
    height, width = (image.shape[:2]) if image is not None else maps.shape[1:]
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.45 * columns, 1.45 * rows * height / width + 0.3 * rows), squeeze=False
    )
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    for k, axis in enumerate(axes.flat):
        axis.axis("off")
        if k >= K:
            continue
        peak = float(maps[k].max())
        scaled = np.clip(maps[k] / peak, 0, 1) if peak > 0 else np.zeros_like(maps[k])
        if image is not None:
            axis.imshow(image, extent=extent)
        axis.imshow(scaled, extent=extent, vmin=0, vmax=1, alpha=scaled * opacity if image is not None else None)
        axis.set_title(f"{names[k] if names else k} {peak:.2f}", fontsize=7)
    return figure
