"""Gaussian heatmaps: one map per keypoint, high where the keypoint is.

Named settings of published code, all for ``GaussianHeatmap(input_size, ...)``:

- HRNet, SimpleBaseline: the defaults.
- DARK: ``centre="subpixel", window=None, decoder="dark"``.
- UDP: ``protocol="udp", centre="subpixel", decoder="dark"``.
- SRPose: ``stride=1, sigma=8, loss=SRPOSE_MSE``.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from posekit.codecs.base import (
    MIN_EXPONENT,
    Codec,
    CodecError,
    check_choice,
    check_keypoints,
    check_maps,
    final,
    heatmap_size,
    unmirror,
)
from posekit.codecs.dark import dark_offset, udp_offset
from posekit.codecs.losses import heatmap_loss
from posekit.codecs.peaks import find_peaks, quarter_offset


@dataclass(frozen=True)
class GaussianHeatmap(Codec):
    """Keypoints in crop pixels <-> heatmaps (B, K, h, w).

    Args:
        input_size: (height, width) of the crop, pixels.
        stride: crop pixels per cell; divides both sides of the crop.
        sigma: deviation of the Gaussian, cells.
        centre: "rounded" puts the Gaussian on a cell, ``int(x + 0.5)``, which cuts toward zero as the original
            does; "subpixel" leaves it where the keypoint is (DARK, UDP).
        window: the Gaussian is cut this many sigmas from its cell, in a square; None keeps all of it (DARK).
        protocol: "hrnet", cell i is crop pixel ``i * stride``; "udp", the first and last cell are the first and
            last pixel: ``i * (width - 1) / (w - 1)``.
        decoder: "argmax" (highest cell), "quarter" (a quarter cell toward the higher neighbour), "dark".
        blur_kernel: size of DARK's smoothing kernel, cells; 11 goes with sigma 2, 17 with sigma 3.
        max_step: a step of "dark" longer than this, cells in x or y, is not taken: the parabola is fitted to cells at
            most two away. None takes any, as published; on a map of noise those reach thousands of cells.
        edge: what happens to a joint whose window ends just before the map. "published": the original tests
            ``end < 0`` on an exclusive end, so a window that ends *at* cell 0 keeps weight 1 with an empty map;
            "exact": a joint counts when its window holds a cell of the map.
        loss: "mse" (HRNet's, with factor one half), "cross_entropy", or a
            :class:`~posekit.codecs.losses.HeatmapLoss`. The field is called: ``codec.loss(...)``.
        ohkm: how many of the hardest joints count in the loss; None is all.

    Raises:
        CodecError: a size that stride does not divide, or an unknown choice.
    """

    _: KW_ONLY
    stride: int = 4
    sigma: float = 2.0
    centre: Literal["rounded", "subpixel"] = "rounded"
    window: float | None = 3.0
    protocol: Literal["hrnet", "udp"] = "hrnet"
    decoder: Literal["argmax", "quarter", "dark"] = "quarter"
    blur_kernel: int = 11
    max_step: float | None = 2.0
    edge: Literal["published", "exact"] = "published"
    loss: Any = "mse"
    ohkm: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        size = heatmap_size(self.input_size, self.stride)
        check_choice("centre", self.centre, ("rounded", "subpixel"))
        check_choice("protocol", self.protocol, ("hrnet", "udp"))
        check_choice("decoder", self.decoder, ("argmax", "quarter", "dark"))
        check_choice("edge", self.edge, ("published", "exact"))
        if not self.sigma > 0:
            raise CodecError(f"sigma must be positive, got {self.sigma}")
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise CodecError(f"blur_kernel must be odd and positive, got {self.blur_kernel}")
        if self.protocol == "udp" and min(size) < 2:
            raise CodecError(f"protocol 'udp' needs maps of at least 2x2 cells, got {size[0]}x{size[1]}")
        object.__setattr__(self, "loss", heatmap_loss(self.loss, self.ohkm))

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(height, width) of the maps, cells."""
        return heatmap_size(self.input_size, self.stride)

    @property
    def cell(self) -> tuple[float, float]:
        """Crop pixels between neighbouring cells, (x, y)."""
        if self.protocol == "hrnet":
            return float(self.stride), float(self.stride)
        (h, w), (H, W) = self.heatmap_size, self.input_size
        return (W - 1) / (w - 1), (H - 1) / (h - 1)

    def encode(self, keypoints: Tensor, visibility: Tensor, *, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Heatmaps and weights of keypoints.

        A Gaussian in two dimensions is the product of two in one, so each map is an outer product of a column and
        a row; the square window keeps that so.

        Args:
            keypoints: (B, K, 2) crop pixels, x then y; float32 or float64.
            visibility: (B, K), 0 where not labelled.
            out: (B, K, h, w) memory to write into. New memory costs several times the arithmetic.

        Returns:
            Heatmaps (B, K, h, w) with peak 1 and weights (B, K) in {0, 1}: 0 where unlabelled, not finite, or
            so far outside that the window misses the map; such maps are zero.

        Raises:
            CodecError: shapes that do not fit.
        """
        keypoints, labelled = check_keypoints(keypoints, visibility)
        h, w = self.heatmap_size
        if out is not None and tuple(out.shape) != (*labelled.shape, h, w):
            raise CodecError(f"out must be {(*labelled.shape, h, w)}, got {tuple(out.shape)}")
        cell_x, cell_y = self.cell
        row, in_x = self._profile(keypoints[..., 0] / cell_x, w)
        column, in_y = self._profile(keypoints[..., 1] / cell_y, h)
        weights = (labelled & in_x & in_y).to(keypoints.dtype)
        column = column * weights[..., None]
        if out is not None:
            row, column, weights = row.to(out.dtype), column.to(out.dtype), weights.to(out.dtype)
        return torch.mul(column[..., :, None], row[..., None, :], out=out), weights

    def _profile(self, position: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """One axis: (B, K) positions in cells -> Gaussians (B, K, length) and whether the window meets the map."""
        position = position.nan_to_num()
        rounded = (position + 0.5).trunc()
        mean = rounded if self.centre == "rounded" else position
        middle = position if self.window is None else rounded
        reach = 3 * self.sigma if self.window is None else math.floor(self.window * self.sigma)
        end = middle + reach + 1
        meets = (middle - reach < length) & (end >= 0 if self.edge == "published" else end >= 1)
        cells = torch.arange(length, dtype=position.dtype, device=position.device)
        exponent = (cells - mean[..., None]).square_().mul_(-0.5 / self.sigma**2)
        profile = exponent.clamp_(min=MIN_EXPONENT).exp_()
        if self.window is not None:
            # 1 up to the reach and 0 from the next cell on: arithmetic, because masking costs more than exp.
            distance = (cells - rounded[..., None]).abs_()
            profile.mul_(distance.neg_().add_(reach + 1).clamp_(0, 1))
        return profile, meets

    def decode(self, prediction: Tensor | list[Tensor]) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in crop pixels and scores (B, K) of predicted maps (B, K, h, w).

        The score is the value of the highest cell. With the cross-entropy loss the prediction is logits: the maps
        become the softmax, scaled so that the ideal prediction has peak 1. A map with no positive cell, or with a
        NaN, gives pixel (0, 0) and score 0. Of a list, the last is decoded. Half precision is widened.

        Raises:
            CodecError: maps of another size than :attr:`heatmap_size`.
        """
        maps = check_maps(final(prediction), self.heatmap_size)
        if self.loss.kind == "cross_entropy":
            maps = maps.flatten(-2).softmax(-1).view(maps.shape) * (2 * math.pi * self.sigma**2)
        x, y, scores = find_peaks(maps)
        if self.loss.kind == "cross_entropy":
            scores = scores.clamp(max=1)
        dx, dy = self._refine(maps, x, y)
        limit = math.inf if self.max_step is None else self.max_step
        # Near a map with NaN the step may be NaN: the comparison is false and no step is taken.
        taken = (dx.abs() <= limit) & (dy.abs() <= limit)
        cell_x, cell_y = self.cell
        x, y = (x + torch.where(taken, dx, 0)) * cell_x, (y + torch.where(taken, dy, 0)) * cell_y
        return torch.stack([x, y], -1), scores

    def _refine(self, maps: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Steps (B, K) from the highest cell, in cells, as the decoder takes them."""
        if self.decoder == "quarter":
            return quarter_offset(maps, x, y)
        if self.decoder == "dark":
            step = dark_offset if self.protocol == "hrnet" else udp_offset
            return step(maps, x, y, kernel=self.blur_kernel)
        zero = torch.zeros_like(x, dtype=maps.dtype)
        return zero, zero

    def flip(self, prediction: Tensor, flip_index: Any, *, shift: int = 0) -> Tensor:
        """Maps (B, K, h, w) predicted for the mirrored crop, turned back.

        Args:
            flip_index: (K,) of the skeleton.
            shift: cells to the right; published practice is 1 at stride 4 with protocol "hrnet" (the exact amount
                is (stride - 1) / stride), and 0 with "udp".
        """
        return unmirror(final(prediction), flip_index, keypoint_dim=1, shift=shift)
