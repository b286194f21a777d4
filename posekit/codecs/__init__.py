"""Codecs: keypoints in crop pixels <-> what a network predicts, each with its loss.

Every codec has ``encode(keypoints, visibility, *, out=None) -> (targets, weights)``, ``decode(prediction) ->
(keypoints, scores)``, ``loss(prediction, targets, weights)`` and ``flip(prediction, flip_index, *, shift=0)``, all
batched, on the CPU and the GPU, in float32 and float64.
"""

from posekit.codecs.base import Codec, CodecError
from posekit.codecs.coordinates import Coordinates
from posekit.codecs.heatmap import GaussianHeatmap
from posekit.codecs.integral import IntegralHeatmap, soft_argmax
from posekit.codecs.losses import (
    CROSS_ENTROPY,
    HRNET_MSE,
    SRPOSE_MSE,
    CoordinateLoss,
    HeatmapLoss,
    hardest,
    joint_cross_entropy,
    joint_mse,
    pool_targets,
)
from posekit.codecs.simcc import SimCC

__all__ = [
    "CROSS_ENTROPY",
    "HRNET_MSE",
    "SRPOSE_MSE",
    "Codec",
    "CodecError",
    "CoordinateLoss",
    "Coordinates",
    "GaussianHeatmap",
    "HeatmapLoss",
    "IntegralHeatmap",
    "SimCC",
    "hardest",
    "joint_cross_entropy",
    "joint_mse",
    "pool_targets",
    "soft_argmax",
]
