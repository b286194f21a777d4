"""Bottom-up networks in SRPose's form: Newell et al., "Associative Embedding", 2017, on ResNet-50 and HRNet-W32.

Two maps per keypoint for a whole picture: where such keypoints are, and a tag that is alike for keypoints of one
person. With the simple head both come from one 1x1 convolution at 1/4; with the SR head the heatmaps have the input's
resolution and the tags, predicted at 1/4, are repeated to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from posekit.codecs.associative_embedding import AssociativeEmbedding, TagMaps
from posekit.models.base import PoseModel, init_normal
from posekit.models.hrnet import hrnet, tiny_hrnet_trunk
from posekit.models.resnet import resnet50
from posekit.models.simple_baseline import SimpleHead
from posekit.models.srpose import SRHead


class SimpleTagHead(SimpleHead):
    """2K maps from the simple head: list of maps -> TagMaps, (B, K, h, w) each."""

    def __init__(self, in_channels: int, num_keypoints: int, *, widths: Sequence[int] = (), index: int = -1):
        super().__init__(in_channels, 2 * num_keypoints, widths=widths, index=index)

    def forward(self, features: list[Tensor]) -> TagMaps:  # type: ignore[override]
        heatmaps, tags = super().forward(features).chunk(2, dim=1)
        return TagMaps(heatmaps, tags)


class SRTagHead(SRHead):
    """SR head for the heatmaps and a 1x1 convolution for the tags: list of maps -> TagMaps, (B, K, 4h, 4w) each."""

    def __init__(self, in_channels: int, num_keypoints: int, *, widths: Sequence[int] = (), index: int = -1):
        super().__init__(in_channels, num_keypoints, widths=widths, index=index)
        self.tag_head = nn.Conv2d(widths[-1] if widths else in_channels, num_keypoints, 1)
        init_normal(self.tag_head)

    def forward(self, features: list[Tensor]) -> TagMaps:  # type: ignore[override]
        x = self.deconv_layers(features[self.index])
        return TagMaps(self.super_resolve(x), F.interpolate(self.tag_head(x), scale_factor=4, mode="nearest"))


def _bottom_up(
    backbone: nn.Module, head: SimpleTagHead | SRTagHead, codec: AssociativeEmbedding, *, size_multiple: int
) -> PoseModel:
    return PoseModel(
        backbone,
        head,
        codec=codec,
        input_size=codec.input_size,
        stride=codec.stride,
        size_multiple=size_multiple,
    )


def _codec(
    num_keypoints: int, input_size: tuple[int, int], *, stride: int, sigma: float, pool: int = 5
) -> AssociativeEmbedding:
    """COCO's grouping order for COCO's 17 keypoints, else the skeleton's own."""
    if num_keypoints == 17:
        return AssociativeEmbedding(input_size, stride=stride, sigma=sigma, pool=pool)
    order = tuple(range(num_keypoints))
    return AssociativeEmbedding(input_size, stride=stride, sigma=sigma, pool=pool, joint_order=order)


def bottomup_r50(*, num_keypoints: int = 17, input_size: tuple[int, int] = (512, 512)) -> PoseModel:
    """Simple head on ResNet-50: 23.508 M + 10.496 M parameters."""
    head = SimpleTagHead(2048, num_keypoints, widths=(256, 256, 256))
    return _bottom_up(resnet50(), head, _codec(num_keypoints, input_size, stride=4, sigma=2.0), size_multiple=32)


def bottomup_r50_sr(*, num_keypoints: int = 17, input_size: tuple[int, int] = (512, 512)) -> PoseModel:
    """SR head on ResNet-50: 23.508 M + 10.598 M parameters."""
    head = SRTagHead(2048, num_keypoints, widths=(256, 256, 256))
    return _bottom_up(resnet50(), head, _codec(num_keypoints, input_size, stride=1, sigma=8.0), size_multiple=32)


def bottomup_hrnet_w32(*, num_keypoints: int = 17, input_size: tuple[int, int] = (512, 512)) -> PoseModel:
    """Simple head on HRNet-W32: 28.536 M + 0.001 M parameters."""
    trunk = hrnet(32)
    init_normal(trunk)
    head = SimpleTagHead(32, num_keypoints, index=0)
    return _bottom_up(trunk, head, _codec(num_keypoints, input_size, stride=4, sigma=2.0), size_multiple=32)


def bottomup_hrnet_w32_sr(*, num_keypoints: int = 17, input_size: tuple[int, int] = (512, 512)) -> PoseModel:
    """SR head on HRNet-W32: 28.536 M + 0.091 M parameters."""
    trunk = hrnet(32)
    init_normal(trunk)
    head = SRTagHead(32, num_keypoints, index=0)
    codec = _codec(num_keypoints, input_size, stride=1, sigma=8.0, pool=11)
    return _bottom_up(trunk, head, codec, size_multiple=32)


def tiny_bottomup(*, num_keypoints: int = 17, input_size: tuple[int, int] = (128, 128)) -> PoseModel:
    """The trunk of ``tiny_hrnet`` with tags, for whole small pictures."""
    head = SimpleTagHead(12, num_keypoints, index=0)
    codec = _codec(num_keypoints, input_size, stride=4, sigma=1.0, pool=3)
    return _bottom_up(tiny_hrnet_trunk(), head, codec, size_multiple=16)


def tiny_bottomup_sr(*, num_keypoints: int = 17, input_size: tuple[int, int] = (128, 128)) -> PoseModel:
    """``tiny_bottomup`` with an SR head."""
    head = SRTagHead(12, num_keypoints, index=0)
    codec = _codec(num_keypoints, input_size, stride=1, sigma=4.0, pool=5)
    return _bottom_up(tiny_hrnet_trunk(), head, codec, size_multiple=16)
