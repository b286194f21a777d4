"""Losses of the codecs. Every one first makes (B, K): one number per person and joint, then averages them.

A codec carries its loss as a field that is called: ``codec.loss(prediction, targets, weights)``. A *list* of
predictions (intermediate supervision, the final one last) gives the sum over the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from posekit.codecs.base import CodecError, check_choice


def joint_mse(prediction: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """(B, K, h, w) maps and (B, K) weights -> (B, K) mean squared differences.

    The weight multiplies both maps, as in ``JointsMSELoss`` (leoxiaobin/deep-high-resolution-net.pytorch), so it
    counts squared; for weights 0 and 1 that is no difference.
    """
    return F.mse_loss(prediction, targets, reduction="none").mean((-2, -1)) * weights.square()


def joint_cross_entropy(prediction: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """(B, K, h, w) logits and maps -> (B, K) cross-entropies between the map, scaled to sum 1, and the softmax
    over all cells. A joint is a classification among h*w places; its empty map (sum 0) costs nothing."""
    targets, log_probability = targets.flatten(-2), prediction.flatten(-2).log_softmax(-1)
    mass = targets.sum(-1)
    return -(targets * log_probability).sum(-1) / torch.where(mass > 0, mass, 1) * weights


def hardest(per_joint: Tensor, top_k: int | None) -> Tensor:
    """Mean of (B, K) losses over the ``top_k`` largest of each person, or over all when None.

    Source: online hard keypoint mining (OHKM), Chen et al., Cascaded Pyramid Network, CVPR 2018; top 8 of 17.
    """
    if top_k is None:
        return per_joint.mean()
    if top_k > per_joint.shape[-1]:
        raise CodecError(f"ohkm={top_k} asks for more joints than the {per_joint.shape[-1]} there are")
    return per_joint.topk(top_k, dim=-1).values.mean()


def pool_targets(targets: Tensor, size: tuple[int, int]) -> Tensor:
    """Targets of a coarser head: averages of the final (B, K, h, w) maps, (B, K, *size).

    Not Gaussians made anew: the peak of an averaged map is below 1. Source: SRPose, which pools its 256x192 map
    to the sizes of all coarser heads.
    """
    if tuple(targets.shape[-2:]) == tuple(size):
        return targets
    if targets.shape[-2] < size[0] or targets.shape[-1] < size[1]:
        raise CodecError(
            f"the prediction is {size[0]}x{size[1]} but the targets are {targets.shape[-2]}x{targets.shape[-1]}; "
            "give the codec the input_size and stride of the network's final output"
        )
    return F.adaptive_avg_pool2d(targets, size)


@dataclass(frozen=True)
class HeatmapLoss:
    """Loss of heatmaps: ``loss(prediction, targets, weights)``.

    Args:
        kind: "mse" or "cross_entropy" (spatial softmax).
        factor: multiplies the result. One half in HRNet and SimpleBaseline (a derivative without a 2), one in
            SRPose and mmpose: :data:`HRNET_MSE`, :data:`SRPOSE_MSE`.
        top_k: online hard keypoint mining; a codec sets it from its ``ohkm``.
    """

    kind: str = "mse"
    factor: float = 0.5
    top_k: int | None = None

    def __post_init__(self) -> None:
        check_choice("heatmap loss", self.kind, ("mse", "cross_entropy"))

    def __call__(
        self,
        prediction: Tensor | Sequence[Tensor],
        targets: Tensor,
        weights: Tensor,
        *,
        head_weights: Sequence[float] | None = None,
    ) -> Tensor:
        """Scalar loss.

        Args:
            prediction: (B, K, h, w), or a list of such, the final one last. Coarser heads of the list are
                compared with averages of the final targets, :func:`pool_targets`.
            targets: (B, K, h, w) of the final head.
            weights: (B, K).
            head_weights: one factor per entry of the list, default 1 each.

        Raises:
            CodecError: sizes do not fit, or not one head weight per head.
        """
        if isinstance(prediction, Tensor):
            if prediction.shape != targets.shape:
                raise CodecError(
                    f"prediction {tuple(prediction.shape)} and targets {tuple(targets.shape)} differ in shape; "
                    "give the codec the input_size and stride of the network"
                )
            prediction = prediction.to(targets.dtype)  # a half-precision network's too: means of squares need more
            per_joint = joint_mse if self.kind == "mse" else joint_cross_entropy
            return self.factor * hardest(per_joint(prediction, targets, weights), self.top_k)
        if head_weights is None:
            head_weights = [1.0] * len(prediction)
        if len(head_weights) != len(prediction):
            raise CodecError(f"{len(head_weights)} head weights for {len(prediction)} predictions; give one each")
        losses = [
            factor * self(head, pool_targets(targets, (head.shape[-2], head.shape[-1])), weights)
            for factor, head in zip(head_weights, prediction)
        ]
        return torch.stack(losses).sum()


HRNET_MSE = HeatmapLoss("mse", factor=0.5)
SRPOSE_MSE = HeatmapLoss("mse", factor=1.0)
CROSS_ENTROPY = HeatmapLoss("cross_entropy", factor=1.0)


def heatmap_loss(loss: Any, top_k: int | None) -> HeatmapLoss:
    """The loss that a codec's ``loss`` and ``ohkm`` arguments name; also reads the dictionary of its JSON."""
    if isinstance(loss, str):
        check_choice("heatmap loss", loss, ("mse", "cross_entropy"))
        loss = HRNET_MSE if loss == "mse" else CROSS_ENTROPY
    values = {"kind": loss.kind, "factor": loss.factor} if isinstance(loss, HeatmapLoss) else dict(loss)
    return HeatmapLoss(**{**values, "top_k": top_k})


@dataclass(frozen=True)
class CoordinateLoss:
    """Loss of coordinates, ``loss(prediction, targets, weights)``, averaged over labelled joints.

    Args:
        kind: "l1" sum of absolute differences, "l2" sum of squares, "smooth_l1" quadratic below ``beta``.
        beta: where smooth L1 turns linear, in the unit of the coordinates.
    """

    kind: str = "l1"
    beta: float = 0.01

    def __post_init__(self) -> None:
        check_choice("coordinate loss", self.kind, ("l1", "l2", "smooth_l1"))

    def __call__(self, prediction: Tensor | Sequence[Tensor], targets: Tensor, weights: Tensor) -> Tensor:
        """(B, K, 2) or a list of such, (B, K, 2), (B, K) -> scalar."""
        if not isinstance(prediction, Tensor):
            return torch.stack([self(head, targets, weights) for head in prediction]).sum()
        prediction = prediction.to(targets.dtype)
        if self.kind == "l1":
            per_axis = F.l1_loss(prediction, targets, reduction="none")
        elif self.kind == "l2":
            per_axis = F.mse_loss(prediction, targets, reduction="none")
        else:
            per_axis = F.smooth_l1_loss(prediction, targets, reduction="none", beta=self.beta)
        return (per_axis.sum(-1) * weights).sum() / weights.sum().clamp(min=1)


def coordinate_loss(loss: Any) -> CoordinateLoss:
    """The loss that a codec's ``loss`` argument names; also reads the dictionary of its JSON."""
    if isinstance(loss, str):
        return CoordinateLoss(loss)
    return loss if isinstance(loss, CoordinateLoss) else CoordinateLoss(**loss)
