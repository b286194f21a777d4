"""Stacked hourglass: Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation", 2016.

Eight times down to 1/64 and up again, with a prediction after each hourglass that the next one sees. The form is that
of the authors' PyTorch port: pre-activation bottlenecks with biased convolutions, one per node, nearest upsampling.
The port builds a 1x1 shortcut in every residual and uses it only where the width changes; only those are built here
(25.44 M parameters for 17 keypoints, 32.82 M with the unused ones).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import PoseModel, Supervision, init_normal
from posekit.models.simple_baseline import tiny_heatmaps


class Conv(nn.Module):
    """Biased convolution, batch norm and ReLU if asked for; the size is kept up to the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, active: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)
        self.bn = nn.BatchNorm2d(out_channels) if active else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.bn is None else F.relu(self.bn(x))


class Residual(nn.Module):
    """Pre-activation bottleneck: batch norm and ReLU before each of 1x1, 3x3, 1x1, half the width inside."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        half = out_channels // 2
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = Conv(in_channels, half, 1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = Conv(half, half, 3)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv3 = Conv(half, out_channels, 1)
        self.skip_layer = Conv(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        out = self.conv3(F.relu(self.bn3(out)))
        return out + (x if self.skip_layer is None else self.skip_layer(x))


class Hourglass(nn.Module):
    """``depth`` times halved and brought back, with a residual across at every size: (B, C, h, w) -> same."""

    def __init__(self, depth: int, channels: int):
        super().__init__()
        self.up1 = Residual(channels, channels)
        self.low1 = Residual(channels, channels)
        self.low2 = Hourglass(depth - 1, channels) if depth > 1 else Residual(channels, channels)
        self.low3 = Residual(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2))))
        return self.up1(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class StackedHourglass(nn.Module):
    """The whole network: (B, 3, H, W) -> one (B, K, H / 4, W / 4) per hourglass.

    Args:
        stacks: hourglasses.
        num_keypoints: K.
        channels: of the trunk.
        depth: halvings of each hourglass.
        stem: channels of the 7x7; the first residual doubles them.
    """

    def __init__(self, stacks: int, num_keypoints: int, *, channels: int = 256, depth: int = 4, stem: int = 64):
        super().__init__()
        self.pre = nn.Sequential(
            Conv(3, stem, 7, 2, active=True),
            Residual(stem, 2 * stem),
            nn.MaxPool2d(2, 2),
            Residual(2 * stem, 2 * stem),
            Residual(2 * stem, channels),
        )
        self.hgs = nn.ModuleList(nn.Sequential(Hourglass(depth, channels)) for _ in range(stacks))
        self.features = nn.ModuleList(
            nn.Sequential(Residual(channels, channels), Conv(channels, channels, 1, active=True)) for _ in range(stacks)
        )
        self.outs = nn.ModuleList(Conv(channels, num_keypoints, 1) for _ in range(stacks))
        init_normal(self.outs)
        self.merge_features = nn.ModuleList(Remap(channels, channels) for _ in range(stacks - 1))
        self.merge_preds = nn.ModuleList(Remap(num_keypoints, channels) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.pre(images)
        predictions: list[Tensor] = []
        for i, (hourglass, features, out) in enumerate(zip(self.hgs, self.features, self.outs)):
            feature = features(hourglass(x))
            predictions.append(out(feature))
            if i < len(self.merge_preds):
                x = x + self.merge_preds[i](predictions[-1]) + self.merge_features[i](feature)
        return predictions


class Remap(nn.Module):
    """The 1x1 convolution by which predictions and features rejoin the trunk."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = Conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class LastPrediction(nn.Module):
    """All predictions in ``train()``, the last in ``eval()``."""

    def forward(self, predictions: list[Tensor]) -> Tensor | list[Tensor]:
        return predictions if self.training else predictions[-1]


def _stacked(network: StackedHourglass, stacks: int, depth: int, codec: codecs.GaussianHeatmap) -> PoseModel:
    return PoseModel(
        network,
        LastPrediction(),
        codec=codec,
        input_size=codec.input_size,
        stride=codec.stride,
        size_multiple=4 * 2**depth,
        supervision=Supervision("same", weights=(1 / stacks,) * stacks),
    )


def hourglass8(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """Eight stacked hourglasses; the loss is the mean over the stacks."""
    codec = codecs.GaussianHeatmap(input_size, sigma=1.0, blur_kernel=7)
    return _stacked(StackedHourglass(8, num_keypoints), 8, 4, codec)


def tiny_hourglass(*, num_keypoints: int = 17, input_size: tuple[int, int] = (96, 64)) -> PoseModel:
    """Two hourglasses of 48 channels and depth two."""
    network = StackedHourglass(2, num_keypoints, channels=48, depth=2, stem=16)
    return _stacked(network, 2, 2, tiny_heatmaps(input_size))
