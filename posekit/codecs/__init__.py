"""Codecs: keypoints in crop pixels <-> what a network predicts, each with its loss.

Every codec has ``encode(keypoints, visibility, *, out=None) -> (targets, weights)``, ``decode(prediction) ->
(keypoints, scores)``, ``loss(prediction, targets, weights)`` and ``flip(prediction, flip_index, *, shift=0)``, all
batched, on the CPU and the GPU, in float32 and float64. :class:`AssociativeEmbedding` is the bottom-up one: it encodes
all people of a picture, (B, P, K, 2), and decodes to a list of people per picture.
"""

from posekit.codecs.associative_embedding import AssociativeEmbedding, TagMaps, TagTargets, push_and_pull
from posekit.codecs.base import Codec, CodecError
from posekit.codecs.coordinates import Coordinates
from posekit.codecs.grouping import PersonGroup, group_people
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
    "AssociativeEmbedding",
    "Codec",
    "CodecError",
    "CoordinateLoss",
    "Coordinates",
    "GaussianHeatmap",
    "HeatmapLoss",
    "IntegralHeatmap",
    "PersonGroup",
    "SimCC",
    "TagMaps",
    "TagTargets",
    "group_people",
    "hardest",
    "joint_cross_entropy",
    "joint_mse",
    "pool_targets",
    "push_and_pull",
    "soft_argmax",
]
