"""SimCC: Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation", 2022.

No map at all: each keypoint's feature map is flattened and two linear layers classify its x and its y into bins
finer than a pixel. Parameter names are those of the published heads (final_layer, mlp_head_x, mlp_head_y).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import ModelError, PoseModel, check_size, init_normal
from posekit.models.hrnet import HighResolutionNet, hrnet, tiny_hrnet_trunk
from posekit.models.resnet import ResNet, resnet50, tiny_resnet
from posekit.models.simple_baseline import deconv_layers


class SimCCHead(nn.Module):
    """One map of ``cells`` cells per keypoint, and a linear layer per axis.

    Args:
        in_channels: channels of the backbone's map.
        num_keypoints: K.
        cells: cells of the map that is flattened, so the head fits one input size only.
        bins: (horizontal, vertical) bins.
        widths: channels of transposed convolutions before the map, if any.
        index: which of the backbone's maps to read.
    """

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int,
        *,
        cells: int,
        bins: tuple[int, int],
        widths: Sequence[int] = (),
        index: int = -1,
    ):
        super().__init__()
        self.index = index
        self.deconv_layers = deconv_layers(in_channels, widths)
        self.final_layer = nn.Conv2d(widths[-1] if widths else in_channels, num_keypoints, 1)
        self.mlp_head_x = nn.Linear(cells, bins[0])
        self.mlp_head_y = nn.Linear(cells, bins[1])
        init_normal(self.deconv_layers)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        maps = self.final_layer(self.deconv_layers(features[self.index]))
        flat = maps.flatten(2)  # (B, K, h, w) -> (B, K, hw)
        return self.mlp_head_x(flat), self.mlp_head_y(flat)


def _on_maps(
    backbone: HighResolutionNet | ResNet,
    codec: codecs.SimCC,
    num_keypoints: int,
    *,
    widths: Sequence[int],
    index: int,
    size_multiple: int,
    stride: int,
) -> PoseModel:
    height, width = codec.input_size
    check_size((height, width), size_multiple, "SimCC")
    head = SimCCHead(
        backbone.channels[index],
        num_keypoints,
        cells=(height // stride) * (width // stride),
        bins=codec.bins,
        widths=widths,
        index=index,
    )
    return PoseModel(
        backbone,
        head,
        codec=codec,
        input_size=codec.input_size,
        stride=stride,
        size_multiple=size_multiple,
        fixed_size=True,
    )


def simcc_r50(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192), split: float = 2.0) -> PoseModel:
    """SimCC on SimpleBaseline-R50's trunk and transposed convolutions. Built for one input size."""
    codec = codecs.SimCC(input_size, split=split)
    return _on_maps(resnet50(), codec, num_keypoints, widths=(256, 256, 256), index=-1, size_multiple=32, stride=4)


def simcc_hrnet_w32(
    *, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192), split: float = 2.0
) -> PoseModel:
    """SimCC on HRNet-W32; ``split`` bins per pixel. Built for one input size."""
    trunk = hrnet(32)
    init_normal(trunk)
    codec = codecs.SimCC(input_size, split=split)
    return _on_maps(trunk, codec, num_keypoints, widths=(), index=0, size_multiple=32, stride=4)


def tiny_simcc(
    *,
    num_keypoints: int = 17,
    input_size: tuple[int, int] = (96, 64),
    split: float = 2.0,
    backbone: Literal["resnet", "hrnet"] = "resnet",
) -> PoseModel:
    """SimCC for the course. Built for one input size.

    Args:
        split: bins per pixel.
        backbone: "resnet" is that of ``tiny_simple_baseline`` with its transposed convolutions, "hrnet" the finest map
            of ``tiny_hrnet``; the flattened map is at 1/4 either way.

    Raises:
        ModelError: the backbone is neither.
    """
    codec = codecs.SimCC(input_size, split=split, sigma=3.0)
    if backbone == "hrnet":
        return _on_maps(tiny_hrnet_trunk(), codec, num_keypoints, widths=(), index=0, size_multiple=16, stride=4)
    if backbone != "resnet":
        raise ModelError(f'backbone is "resnet" or "hrnet", not {backbone!r}')
    return _on_maps(tiny_resnet(), codec, num_keypoints, widths=(48, 48), index=-1, size_multiple=16, stride=4)
