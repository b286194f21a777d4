"""DeepPose: Toshev and Szegedy, "DeepPose: Human Pose Estimation via Deep Neural Networks", 2014.

A network that answers with coordinates at once: pooled features, one linear layer, two numbers per keypoint. The
paper's backbone is AlexNet with a cascade; today's comparisons, and ours, put a ResNet in its place and keep one step.
"""

from __future__ import annotations

from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import PoseModel
from posekit.models.resnet import ResNet, resnet50, tiny_resnet


class RegressionHead(nn.Module):
    """Global average pooling and one linear layer: list of maps -> (B, K, 2)."""

    def __init__(self, in_channels: int, num_keypoints: int):
        super().__init__()
        self.fc = nn.Linear(in_channels, num_keypoints * 2)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        pooled = features[-1].mean(dim=(2, 3))  # (B, C, h, w) -> (B, C)
        return self.fc(pooled).unflatten(1, (-1, 2))  # (B, 2K) -> (B, K, 2)


def _on_resnet(backbone: ResNet, num_keypoints: int, input_size: tuple[int, int]) -> PoseModel:
    stride = 2 ** (len(backbone.channels) + 1)
    return PoseModel(
        backbone,
        RegressionHead(backbone.channels[-1], num_keypoints),
        codec=codecs.Coordinates(input_size),
        input_size=input_size,
        stride=stride,
        size_multiple=stride,
    )


def deeppose_r50(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """Coordinate regression on ResNet-50."""
    return _on_resnet(resnet50(), num_keypoints, input_size)


def tiny_deeppose(*, num_keypoints: int = 17, input_size: tuple[int, int] = (96, 64)) -> PoseModel:
    """Coordinate regression on the backbone of ``tiny_simple_baseline``."""
    return _on_resnet(tiny_resnet(), num_keypoints, input_size)
