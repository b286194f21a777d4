"""SimpleBaseline: Xiao, Wu and Wei, "Simple Baselines for Human Pose Estimation and Tracking", 2018.

A ResNet, three transposed convolutions (4x4, stride 2, 256 channels) back to a quarter of the input, one 1x1
convolution to the heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import PoseModel, init_normal
from posekit.models.resnet import ResNet, resnet50, resnet101, resnet152, tiny_resnet


def deconv_layers(in_channels: int, widths: Sequence[int]) -> nn.Sequential:
    """Transposed convolutions that each double the size: (B, C, h, w) -> (B, widths[-1], h 2^n, w 2^n)."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [
            nn.ConvTranspose2d(in_channels, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        in_channels = width
    return nn.Sequential(*layers)


class SimpleHead(nn.Module):
    """Heatmaps from one feature map: transposed convolutions, if any, and a 1x1 convolution.

    Args:
        in_channels: channels of the feature map.
        out_channels: heatmaps to predict.
        widths: channels of each transposed convolution; empty for HRNet, whose map is fine enough.
        index: which of the backbone's maps to read.
    """

    def __init__(self, in_channels: int, out_channels: int, *, widths: Sequence[int] = (), index: int = -1):
        super().__init__()
        self.index = index
        self.deconv_layers = deconv_layers(in_channels, widths)
        self.final_layer = nn.Conv2d(widths[-1] if widths else in_channels, out_channels, 1)
        init_normal(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.final_layer(self.deconv_layers(features[self.index]))


def tiny_heatmaps(input_size: tuple[int, int], stride: int = 4) -> codecs.GaussianHeatmap:
    """Heatmaps for small crops: at 96x64 a person is 19 cells tall, so the Gaussian is narrower than the papers'."""
    return codecs.GaussianHeatmap(input_size, stride=stride, sigma=1.5, blur_kernel=9)


def _on_resnet(backbone: ResNet, widths: Sequence[int], num_keypoints: int, codec: codecs.GaussianHeatmap) -> PoseModel:
    head = SimpleHead(backbone.channels[-1], num_keypoints, widths=widths)
    return PoseModel(
        backbone,
        head,
        codec=codec,
        input_size=codec.input_size,
        stride=codec.stride,
        size_multiple=2 ** (len(backbone.channels) + 1),
    )


def simple_baseline_r50(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """SimpleBaseline on ResNet-50: 33,999,697 parameters for 17 keypoints."""
    return _on_resnet(resnet50(), (256, 256, 256), num_keypoints, codecs.GaussianHeatmap(input_size))


def simple_baseline_r101(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """SimpleBaseline on ResNet-101: 52,991,825 parameters for 17 keypoints."""
    return _on_resnet(resnet101(), (256, 256, 256), num_keypoints, codecs.GaussianHeatmap(input_size))


def simple_baseline_r152(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """SimpleBaseline on ResNet-152: 68,635,473 parameters for 17 keypoints."""
    return _on_resnet(resnet152(), (256, 256, 256), num_keypoints, codecs.GaussianHeatmap(input_size))


def tiny_simple_baseline(*, num_keypoints: int = 17, input_size: tuple[int, int] = (96, 64)) -> PoseModel:
    """A SimpleBaseline that trains in tens of seconds on one processor core."""
    return _on_resnet(tiny_resnet(), (48, 48), num_keypoints, tiny_heatmaps(input_size))
