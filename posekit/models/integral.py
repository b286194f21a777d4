"""Integral regression: Sun et al., "Integral Human Pose Regression", 2018.

The network of SimpleBaseline; only the reading differs. Its maps are logits, a softmax makes each a distribution
over cells, and the keypoint is the mean of that distribution, which is differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence

from posekit import codecs
from posekit.models.base import PoseModel
from posekit.models.resnet import ResNet, resnet50, tiny_resnet
from posekit.models.simple_baseline import SimpleHead


def _on_resnet(backbone: ResNet, widths: Sequence[int], num_keypoints: int, codec: codecs.IntegralHeatmap) -> PoseModel:
    return PoseModel(
        backbone,
        SimpleHead(backbone.channels[-1], num_keypoints, widths=widths),
        codec=codec,
        input_size=codec.input_size,
        stride=codec.stride,
        size_multiple=2 ** (len(backbone.channels) + 1),
    )


def integral_r50(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """Integral regression on ResNet-50 with three transposed convolutions."""
    return _on_resnet(resnet50(), (256, 256, 256), num_keypoints, codecs.IntegralHeatmap(input_size))


def tiny_integral(*, num_keypoints: int = 17, input_size: tuple[int, int] = (96, 64)) -> PoseModel:
    """Integral regression on the network of ``tiny_simple_baseline``.

    Logits start near zero, where every mean is the middle of the map; ``beta=10`` lets them leave it within a short
    training.
    """
    return _on_resnet(tiny_resnet(), (48, 48), num_keypoints, codecs.IntegralHeatmap(input_size, beta=10.0))
