"""SimCC: each coordinate is a classification into bins finer than a pixel, x and y apart.

Source: Li et al., SimCC: a Simple Coordinate Classification Perspective, ECCV 2022; mmpose 1.x ``SimCCLabel``.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from posekit.codecs.base import (
    MIN_EXPONENT,
    Codec,
    CodecError,
    check_choice,
    check_keypoints,
    check_maps,
    final,
    unmirror,
)
from posekit.codecs.losses import hardest
from posekit.codecs.peaks import argmax

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SimCC(Codec):
    """Keypoints in crop pixels <-> two rows of bins per keypoint, x (B, K, W*split) and y (B, K, H*split).

    Args:
        input_size: (height, width) of the crop, pixels.
        split: bins per pixel; bin i is crop pixel ``i / split``.
        smoothing: "gaussian" labels, or "label" smoothing of a single bin.
        sigma: deviation of the Gaussian labels, bins.
        normalise: whether a Gaussian label is scaled to sum 1, by ``1 / (sigma * sqrt(2 pi))``.
        label_smoothing: probability that "label" smoothing spreads over the other bins.
        score: "probability", the softmax at the peak relative to that of the ideal prediction, in [0, 1]; or
            "peak", the raw value, as mmpose returns. The smaller of x and y.
        ohkm: how many of the hardest joints count in the loss; None is all.
    """

    _: KW_ONLY
    split: float = 2.0
    smoothing: Literal["gaussian", "label"] = "gaussian"
    sigma: float = 6.0
    normalise: bool = True
    label_smoothing: float = 0.1
    score: Literal["probability", "peak"] = "probability"
    ohkm: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("smoothing", self.smoothing, ("gaussian", "label"))
        check_choice("score", self.score, ("probability", "peak"))
        if not (self.split > 0 and self.sigma > 0 and 0 <= self.label_smoothing < 1):
            raise CodecError(
                f"split and sigma must be positive and label_smoothing in [0, 1), got {self.split}, {self.sigma} "
                f"and {self.label_smoothing}"
            )
        if min(self.bins) < 2:
            raise CodecError(
                f"{self.bins[0]} and {self.bins[1]} bins leave nothing to classify; raise split or input_size"
            )

    @property
    def bins(self) -> tuple[int, int]:
        """Number of bins in x and in y."""
        return round(self.input_size[1] * self.split), round(self.input_size[0] * self.split)

    @property
    def gaussian_peak(self) -> float:
        """Probability of the central bin of a Gaussian label."""
        return 1 / (self.sigma * math.sqrt(2 * math.pi))

    def encode(self, keypoints: Tensor, visibility: Tensor, *, out: Pair | None = None) -> tuple[Pair, Tensor]:
        """Labels (x, y) and weights of keypoints.

        Args:
            keypoints: (B, K, 2) crop pixels, x then y.
            visibility: (B, K), 0 where not labelled.
            out: two tensors (B, K, bins) of the keypoints' dtype to write into.

        Returns:
            ((B, K, W*split), (B, K, H*split)) and weights (B, K) in {0, 1}: 0 where unlabelled, not finite, or
            where the label (for Gaussians: its 3 sigma, with the exclusive end tested as in
            :class:`~posekit.codecs.heatmap.GaussianHeatmap`'s "published") misses the bins; such labels are zero.
        """
        keypoints, labelled = check_keypoints(keypoints, visibility)
        for memory, bins in zip(out or (), self.bins):
            if tuple(memory.shape) != (*labelled.shape, bins) or memory.dtype != keypoints.dtype:
                raise CodecError(
                    f"out must be {(*labelled.shape, bins)} in {keypoints.dtype}, got {tuple(memory.shape)} "
                    f"in {memory.dtype}"
                )
        x, y = (keypoints.nan_to_num() * self.split).round().unbind(-1)
        weights = (labelled & self._meets(x, self.bins[0]) & self._meets(y, self.bins[1])).to(keypoints.dtype)
        x_out, y_out = out or (None, None)
        return (self._label(x, weights, self.bins[0], x_out), self._label(y, weights, self.bins[1], y_out)), weights

    def _meets(self, centre: Tensor, bins: int) -> Tensor:
        reach, end = (3 * self.sigma, 1) if self.smoothing == "gaussian" else (0.0, 0)
        return (centre - reach < bins) & (centre + reach + end >= 0)

    def _label(self, centre: Tensor, weights: Tensor, bins: int, out: Tensor | None) -> Tensor:
        index = torch.arange(bins, dtype=centre.dtype, device=centre.device)
        label = torch.sub(index, centre[..., None], out=out)
        if self.smoothing == "gaussian":
            label.square_().mul_(-0.5 / self.sigma**2).clamp_(min=MIN_EXPONENT).exp_()
            return label.mul_((weights * (self.gaussian_peak if self.normalise else 1))[..., None])
        label.copy_(torch.where(label == 0, 1 - self.label_smoothing, self.label_smoothing / (bins - 1)))
        return label.mul_(weights[..., None])

    def decode(self, prediction: Pair | list[Pair]) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) in crop pixels and scores (B, K) of logits (x, y).

        The highest bin of each row. A row with a NaN, or with ``score="peak"`` and no positive entry, gives pixel
        (0, 0) and score 0.
        """
        x, y = (check_maps(logits, (bins,), "SimCC logits") for logits, bins in zip(final(prediction), self.bins))
        (x_bin, x_score), (y_bin, y_score) = self._peak(x), self._peak(y)
        score = torch.minimum(x_score, y_score)
        found = score > 0
        keypoints = torch.stack([x_bin, y_bin], -1).to(x.dtype) * found[..., None] / self.split
        return keypoints, torch.where(found, score, 0)

    def _peak(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        index = argmax(logits)
        score = logits.gather(-1, index[..., None])[..., 0]
        if self.score == "probability":
            ideal = self.gaussian_peak if self.smoothing == "gaussian" else 1 - self.label_smoothing
            score = ((score - logits.logsumexp(-1)).exp() / ideal).clamp(max=1)
        return index, score

    def loss(self, prediction: Pair | list[Pair], targets: Pair, weights: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the labels from the softmax, summed over bins and over x and y, averaged
        over people and joints. mmpose divides by the number of bins as well: a constant."""
        if isinstance(prediction, list):
            return torch.stack([self.loss(head, targets, weights) for head in prediction]).sum()
        divergences = [
            F.kl_div(logits.to(label.dtype).log_softmax(-1), label, reduction="none").sum(-1)
            for logits, label in zip(prediction, targets)
        ]
        return hardest((divergences[0] + divergences[1]) * weights, self.ohkm)

    def flip(self, prediction: Pair, flip_index: Any, *, shift: int = 0) -> Pair:
        """Logits predicted for the mirrored crop, turned back.

        Args:
            flip_index: (K,) of the skeleton.
            shift: bins to the right. Pixel x becomes W-1-x, which is exact at ``1 - split``; published code uses 0.
        """
        x, y = final(prediction)
        index = torch.as_tensor(flip_index, device=y.device)
        return unmirror(x, flip_index, keypoint_dim=1, shift=shift), y.index_select(1, index)
