"""Integral regression: the keypoint is the mean of the heatmap read as a distribution (soft-argmax).

Differentiable, so the loss is on coordinates, and finer than a cell. Source: Sun et al., Integral Human Pose
Regression, ECCV 2018.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from posekit.codecs.base import Codec, CodecError, check_maps, final, heatmap_size, unmirror
from posekit.codecs.coordinates import encode_units, to_pixels, to_units
from posekit.codecs.heatmap import GaussianHeatmap
from posekit.codecs.losses import coordinate_loss


def soft_argmax(maps: Tensor, *, beta: float = 1.0) -> Tensor:
    """(..., h, w) logits -> (..., 2) mean cell, x then y, under the softmax of ``beta * maps``. Differentiable."""
    h, w = maps.shape[-2:]
    probability = (maps * beta).flatten(-2).softmax(-1).view(maps.shape)
    # Sums and not matrix products, which autocast and TF32 would round to whole cells.
    x = (probability.sum(-2) * torch.arange(w, dtype=maps.dtype, device=maps.device)).sum(-1)
    y = (probability.sum(-1) * torch.arange(h, dtype=maps.dtype, device=maps.device)).sum(-1)
    return torch.stack([x, y], -1)


@dataclass(frozen=True)
class IntegralHeatmap(Codec):
    """Keypoints in crop pixels <-> logits (B, K, h, w), decoded by soft-argmax.

    Args:
        input_size: (height, width) of the crop, pixels.
        stride: crop pixels per cell; cell i is crop pixel ``i * stride``.
        beta: sharpness of the softmax.
        loss_kind: "l1", "l2" or "smooth_l1" on coordinates in units of the crop, averaged over labelled joints.
        regulariser: weight of a second term, the spatial cross-entropy with a Gaussian of ``sigma``, which gives
            the map a shape (the coordinate alone does not). 0 leaves it out.
        sigma: deviation, cells, of that Gaussian, and of the ideal map that scores are relative to.
    """

    _: KW_ONLY
    stride: int = 4
    beta: float = 1.0
    loss_kind: str = "l1"
    regulariser: float = 0.0
    sigma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        heatmap_size(self.input_size, self.stride)
        coordinate_loss(self.loss_kind)
        if not (self.sigma > 0 and self.beta > 0 and self.regulariser >= 0):
            raise CodecError(f"sigma and beta must be positive and regulariser not negative in {self}")

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(height, width) of the maps, cells."""
        return heatmap_size(self.input_size, self.stride)

    def encode(self, keypoints: Tensor, visibility: Tensor, *, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, K, 2) crop pixels, (B, K) -> targets (B, K, 2) in units of the crop, as for
        :class:`~posekit.codecs.coordinates.Coordinates`, and weights (B, K).

        A mean of cells cannot leave the map, so joints outside it have weight 0.
        """
        targets, weights = encode_units(keypoints, visibility, self.input_size, out)
        inside = (targets.abs() <= 0.5).all(-1)
        return targets, weights * inside

    def decode(self, prediction: Tensor | list[Tensor]) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in crop pixels and scores (B, K): the highest probability relative to that of a
        Gaussian of ``sigma``, at most 1. A map with a NaN gives pixel (0, 0) and score 0."""
        maps = check_maps(final(prediction), self.heatmap_size)
        cells = soft_argmax(maps, beta=self.beta)
        flat = (maps * self.beta).flatten(-2)
        peak = (flat.amax(-1) - flat.logsumexp(-1)).exp() * (2 * math.pi * self.sigma**2)
        found = peak > 0
        return torch.where(found[..., None], cells * self.stride, 0), torch.where(found, peak.clamp(max=1), 0)

    def loss(self, prediction: Tensor | list[Tensor], targets: Tensor, weights: Tensor) -> Tensor:
        """Scalar; of a list, the sum."""
        if isinstance(prediction, list):
            return torch.stack([self.loss(head, targets, weights) for head in prediction]).sum()
        prediction = prediction.to(targets.dtype)
        units = to_units(soft_argmax(prediction, beta=self.beta) * self.stride, self.input_size)
        value = coordinate_loss(self.loss_kind)(units, targets, weights)
        if not self.regulariser:
            return value
        shape = GaussianHeatmap(
            self.input_size, stride=self.stride, sigma=self.sigma, centre="subpixel", loss="cross_entropy"
        )
        maps, map_weights = shape.encode(to_pixels(targets, self.input_size), weights)
        return value + self.regulariser * shape.loss(prediction * self.beta, maps, map_weights)

    def flip(self, prediction: Tensor, flip_index: Any, *, shift: int = 0) -> Tensor:
        """Maps (B, K, h, w) predicted for the mirrored crop, turned back and moved ``shift`` cells right."""
        return unmirror(final(prediction), flip_index, keypoint_dim=1, shift=shift)
