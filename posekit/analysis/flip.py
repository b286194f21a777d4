"""Where the flip test puts the peak: the half-cell that published code repairs with a one-cell shift.

Cell ``i`` of a map of ``w = W / s`` cells stands for input pixel ``s i``. A keypoint at ``x`` peaks in cell ``x / s``;
in the mirrored picture it lies at ``W - 1 - x`` and peaks in cell ``(W - 1 - x) / s``. Un-mirroring the map takes cell
``i`` to ``w - 1 - i``, which puts that peak in cell ``x / s - (s - 1) / s``: ``s - 1`` pixels left of where it should
be. The average of the two maps peaks half-way, so the truth lies ``(s - 1) / 2`` pixels right of the averaged peak.
Moving the un-mirrored map ``k`` cells right before averaging takes ``k s / 2`` off: with one cell, -1/2 pixel remains
at every stride. At stride 1 the plain average is exact and the shift does the harm.

The interval-based protocol ("udp") lets cell ``i`` stand for pixel ``i (W - 1) / (w - 1)``, and the term vanishes.
"""

from __future__ import annotations

import torch

from posekit.codecs import GaussianHeatmap
from posekit.geometry import Protocol, flip_heatmaps


def flip_bias(stride: float, shift: int = 0, *, protocol: Protocol = "hrnet", width: int = 192) -> float:
    """Input pixels by which the true keypoint lies right of the flip test's averaged peak.

    Args:
        stride: input pixels per heatmap cell.
        shift: cells by which the un-mirrored map is moved right before averaging.
        protocol: "hrnet" (cell i is pixel ``stride * i``) or "udp" (intervals).
        width: of the input, pixels; only "udp" depends on it.

    Returns:
        ``(stride - 1) / 2 - shift * stride / 2`` for "hrnet". Positive: the averaged peak is too far left.

    Raises:
        ValueError: unknown protocol.
    """
    if protocol == "hrnet":
        return (stride - 1) / 2 - shift * stride / 2
    if protocol == "udp":
        cell = (width - 1) / (width / stride - 1)
        return -shift * cell / 2
    raise ValueError(f"unknown protocol {protocol!r}; use 'hrnet' or 'udp'")


def simulated_flip_bias(
    stride: int,
    shift: int = 0,
    *,
    protocol: Protocol = "hrnet",
    width: int | None = None,
    sigma: float = 2.0,
    samples: int = 256,
    seed: int = 0,
) -> float:
    """The same number measured: ideal maps of a keypoint and of its mirror image, averaged and decoded by DARK.

    Uses :func:`posekit.geometry.flip_heatmaps`, the code path of the flip test itself. Keypoints stay away from the
    border, where a shifted map repeats its first columns. ``width`` is 32 cells unless given.
    """
    width = width or 32 * stride
    height = 16 * stride
    codec = GaussianHeatmap(
        (height, width), stride=stride, sigma=sigma, centre="subpixel", protocol=protocol, decoder="dark"
    )
    generator = torch.Generator().manual_seed(seed)
    margin = 9 * stride
    x = margin + (width - 1 - 2 * margin) * torch.rand(1, samples, generator=generator)
    keypoints = torch.stack([x, torch.full_like(x, height / 2)], -1)
    mirrored = torch.stack([width - 1 - x, keypoints[..., 1]], -1)
    visible = torch.full((1, samples), 2)
    straight = codec.encode(keypoints, visible)[0].clone()
    unmirrored = flip_heatmaps(codec.encode(mirrored, visible)[0], torch.arange(samples), shift=shift)
    decoded, _ = codec.decode((straight + unmirrored) / 2)
    return float((keypoints - decoded)[..., 0].mean())
