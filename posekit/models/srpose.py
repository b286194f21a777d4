"""SRPose: Wang et al., "Lightweight Super-Resolution Head for Human Pose Estimation", 2023.

Two heads for any backbone. The **SR head** turns a map at 1/4 into heatmaps at the input's own resolution: a 1x1
convolution gives each keypoint an embedding, one grouped 9x9 convolution turns it into 16 values per cell, and a pixel
shuffle lays those out as 4x4 pixels. **SRPose** goes from coarse to fine with an SR head at every scale; all but the
last run in training alone.

The public code has the SR head on its own only in its bottom-up class, and neither head for TransPose's two scales.
The published parameter and operation counts settle what is built here: embedding 4, kernel 9, factor 4 after the
simple head's transposed convolutions; for TransPose the encoder's 1/8 map and the first stage's 1/4 map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import ModelError, PoseModel, Supervision, init_normal
from posekit.models.hrformer import hrformer_s_trunk, tiny_hrformer_trunk
from posekit.models.hrnet import hrnet, tiny_hrnet_trunk
from posekit.models.resnet import resnet50, tiny_resnet
from posekit.models.simple_baseline import deconv_layers
from posekit.models.transpose import tiny_transpose_trunk, transpose_trunk

Supervise = Literal["all", "last"]
TinyBackbone = Literal["resnet", "hrnet", "transpose", "hrformer"]


class Converge(nn.Module):
    """Embeddings to finer heatmaps by grouped convolution and pixel shuffle: (B, K e, h, w) -> (B, K, r h, r w)."""

    def __init__(self, num_keypoints: int, embedding: int, factor: int, kernel: int):
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(
            num_keypoints * embedding,
            num_keypoints * factor**2,
            kernel,
            padding=kernel // 2,
            groups=num_keypoints,
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), self.factor)


class SRHead(nn.Module):
    """Full-resolution heatmaps from one map, after transposed convolutions, if any: list of maps -> (B, K, H, W)."""

    def __init__(self, in_channels: int, num_keypoints: int, *, widths: Sequence[int] = (), index: int = -1):
        super().__init__()
        self.index = index
        self.deconv_layers = deconv_layers(in_channels, widths)
        channels = widths[-1] if widths else in_channels
        self.kp_encoder = nn.Sequential(nn.Conv2d(channels, num_keypoints * 4, 1), nn.ReLU(inplace=True))
        self.heatmap_head = nn.Conv2d(num_keypoints * 4, num_keypoints * 16, 9, padding=4, groups=num_keypoints)
        init_normal(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.super_resolve(self.deconv_layers(features[self.index]))

    def super_resolve(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K, 4h, 4w)."""
        return F.pixel_shuffle(self.heatmap_head(self.kp_encoder(x)), 4)


class ConvBlock(nn.Module):
    """Residual block: depthwise 7x7, batch norm, then a perceptron on each cell. (B, C, h, w) -> same."""

    def __init__(self, channels: int):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.BatchNorm2d(channels)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        cells = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)  # (B, C, h, w) -> (B, h, w, C)
        cells = self.pwconv2(F.gelu(self.pwconv1(cells)))
        return x + cells.permute(0, 3, 1, 2)


class SRPoseHead(nn.Module):
    """Coarse to fine over a backbone's maps, an SR head at each scale.

    ``forward`` takes the backbone's list, finest first. In ``eval()`` it returns (B, K, H, W); in ``train()`` the low
    resolution heatmaps, the heatmaps of every coarser scale and the final ones.

    Args:
        in_channels: channels of the backbone's maps, coarsest first.
        num_keypoints: K.
        widths: channels inside the head per scale, coarsest first.
        embeddings, factors, kernels: of each scale's SR head.
        supervise: "last" builds no auxiliary heads and returns only the final heatmaps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_keypoints: int,
        *,
        widths: Sequence[int] = (256, 128, 64, 32),
        embeddings: Sequence[int] = (16, 8, 4, 4),
        factors: Sequence[int] = (8, 4, 2, 4),
        kernels: Sequence[int] = (3, 5, 7, 9),
        supervise: Supervise = "all",
    ):
        super().__init__()
        if supervise not in ("all", "last"):
            raise ModelError(f'supervise is "all" or "last", not {supervise!r}')
        self.supervise = supervise
        scales = range(len(in_channels))
        self.lr_head = nn.Sequential(nn.Conv2d(in_channels[0], num_keypoints, 1), nn.ReLU())
        self.lr_fuse = nn.Sequential(nn.Conv2d(num_keypoints, widths[0], 1), nn.ReLU())
        self.pre_fuse = nn.ModuleList(
            nn.Sequential(nn.Conv2d(in_channels[i], widths[i], 1), nn.BatchNorm2d(widths[i]), nn.ReLU()) for i in scales
        )
        self.pre_interpolate = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(widths[i], widths[i], 3, padding=1, groups=widths[i]),
                nn.Conv2d(widths[i], widths[i + 1], 1),
                nn.BatchNorm2d(widths[i + 1]),
                nn.ReLU(),
            )
            for i in scales[:-1]
        )
        self.fuse = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in widths[1:])
        self.post_fuse = nn.ModuleList(nn.Sequential(ConvBlock(width), ConvBlock(width)) for width in widths[1:])
        built = scales if supervise == "all" else scales[-1:]
        self.kp_encoder = nn.ModuleDict(
            {str(i): nn.Sequential(nn.Conv2d(widths[i], num_keypoints * embeddings[i], 1), nn.ReLU()) for i in built}
        )
        self.converge = nn.ModuleDict(
            {str(i): Converge(num_keypoints, embeddings[i], factors[i], kernels[i]) for i in built}
        )
        self.final = str(scales[-1])
        init_normal(self)

    @property
    def training_only(self) -> tuple[str, ...]:
        """Prefixes of the parameters that ``eval()`` never uses."""
        return tuple(f"{part}.{i}." for i in self.converge if i != self.final for part in ("kp_encoder", "converge"))

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        maps = features[::-1]
        outputs = [self.lr_head(maps[0])]
        x = self.pre_fuse[0](maps[0]) + self.lr_fuse(outputs[0])
        self._predict("0", x, outputs)
        for i in range(1, len(maps)):
            finer = self.pre_fuse[i](maps[i])
            x = F.interpolate(self.pre_interpolate[i - 1](x), size=finer.shape[-2:], mode="nearest")
            x = self.fuse[i - 1](torch.cat([x, finer], dim=1))
            x = self.post_fuse[i - 1](x)
            self._predict(str(i), x, outputs)
        return outputs if self.training and self.supervise == "all" else outputs[-1]

    def _predict(self, scale: str, x: Tensor, outputs: list[Tensor]) -> None:
        """Append this scale's heatmaps, unless nobody would look at them."""
        if scale == self.final or (self.training and scale in self.converge):
            outputs.append(self.converge[scale](self.kp_encoder[scale](x)))


def _with_sr(
    backbone: nn.Module,
    channels: int,
    num_keypoints: int,
    codec: codecs.GaussianHeatmap,
    *,
    size_multiple: int,
    widths: Sequence[int] = (),
    index: int = -1,
) -> PoseModel:
    head = SRHead(channels, num_keypoints, widths=widths, index=index)
    return PoseModel(
        backbone,
        head,
        codec=codec,
        input_size=codec.input_size,
        stride=1,
        size_multiple=size_multiple,
    )


def _with_srpose(
    backbone: nn.Module, head: SRPoseHead, codec: codecs.GaussianHeatmap, *, size_multiple: int
) -> PoseModel:
    outputs = 1 + len(head.pre_fuse)
    every = head.supervise == "all"
    return PoseModel(
        backbone,
        head,
        codec=codec,
        input_size=codec.input_size,
        stride=1,
        size_multiple=size_multiple,
        supervision=Supervision("pooled", weights=(1e-4, *[1.0] * (outputs - 1))) if every else None,
        training_only=tuple(f"head.{prefix}" for prefix in head.training_only),
    )


def _full_size(input_size: tuple[int, int]) -> codecs.GaussianHeatmap:
    """Heatmaps of the input's size, sigma 8 pixels, plain mean squared error, as SRPose trains."""
    return codecs.GaussianHeatmap(input_size, stride=1, sigma=8.0, loss=codecs.SRPOSE_MSE)


def r50_sr(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """SR head on ResNet-50 after three transposed convolutions: 23.508 M + 10.593 M parameters."""
    codec = _full_size(input_size)
    return _with_sr(resnet50(), 2048, num_keypoints, codec, widths=(256, 256, 256), size_multiple=32)


def r50_srpose(
    *, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192), supervise: Supervise = "all"
) -> PoseModel:
    """SRPose on ResNet-50: 23.508 M + 1.290 M parameters, and 0.318 M that only training uses."""
    head = SRPoseHead((2048, 1024, 512, 256), num_keypoints, supervise=supervise)
    return _with_srpose(resnet50(), head, _full_size(input_size), size_multiple=32)


def hrnet_w32_sr(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """SR head on HRNet-W32: 28.536 M + 0.091 M parameters."""
    trunk = hrnet(32)
    init_normal(trunk)
    return _with_sr(trunk, 32, num_keypoints, _full_size(input_size), size_multiple=32, index=0)


def hrnet_w32_srpose(
    *, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192), supervise: Supervise = "all"
) -> PoseModel:
    """SRPose on HRNet-W32, whose last module computes all four outputs: 29.306 M + 0.649 M, and 0.318 M in training."""
    trunk = hrnet(32, outputs=(0, 1, 2, 3))
    init_normal(trunk)
    head = SRPoseHead((256, 128, 64, 32), num_keypoints, supervise=supervise)
    return _with_srpose(trunk, head, _full_size(input_size), size_multiple=32)


def transpose_r_a4_sr(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """SR head on TransPose-R-A4 after its transposed convolution: 4.932 M + 1.155 M parameters."""
    codec = _full_size(input_size)
    return _with_sr(transpose_trunk(input_size), 256, num_keypoints, codec, widths=(256,), size_multiple=8)


def transpose_r_a4_srpose(
    *, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192), supervise: Supervise = "all"
) -> PoseModel:
    """SRPose on TransPose-R-A4's two scales, a reconstruction: 4.932 M + 0.551 M parameters."""
    head = SRPoseHead(
        (256, 256),
        num_keypoints,
        widths=(256, 128),
        embeddings=(4, 4),
        factors=(2, 4),
        kernels=(7, 9),
        supervise=supervise,
    )
    return _with_srpose(transpose_trunk(input_size), head, _full_size(input_size), size_multiple=8)


def hrformer_s_sr(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192)) -> PoseModel:
    """SR head on HRFormer-S: 7.891 M + 0.091 M parameters."""
    return _with_sr(hrformer_s_trunk(), 32, num_keypoints, _full_size(input_size), size_multiple=32, index=0)


def hrformer_s_srpose(
    *, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192), supervise: Supervise = "all"
) -> PoseModel:
    """SRPose on HRFormer-S: 7.891 M + 0.649 M, and 0.318 M in training, which the published 8.21 M includes."""
    head = SRPoseHead((256, 128, 64, 32), num_keypoints, supervise=supervise)
    return _with_srpose(hrformer_s_trunk(), head, _full_size(input_size), size_multiple=32)


def _tiny_trunk(backbone: TinyBackbone, input_size: tuple[int, int], outputs: Sequence[int]) -> nn.Module:
    """The trunk of a small network; those with parallel branches compute ``outputs``, finest first."""
    if backbone == "resnet":
        return tiny_resnet()
    if backbone == "hrnet":
        return tiny_hrnet_trunk(outputs)
    return tiny_transpose_trunk(input_size) if backbone == "transpose" else tiny_hrformer_trunk(outputs)


@dataclass(frozen=True)
class _TinyScales:
    """Channels of a small trunk's maps, coarsest first; deconvolutions to 1/4 before the SR head; SRPose's factors."""

    channels: tuple[int, ...]
    widths: tuple[int, ...]
    factors: tuple[int, ...]
    size_multiple: int


_TINY = {
    "resnet": _TinyScales((96, 48, 24), (48, 48), (4, 2, 4), 16),
    "hrnet": _TinyScales((48, 24, 12), (), (4, 2, 4), 16),
    "transpose": _TinyScales((48, 24), (48,), (2, 4), 8),
    "hrformer": _TinyScales((48, 24, 12), (), (4, 2, 4), 16),
}


def _tiny_scales(backbone: TinyBackbone) -> _TinyScales:
    if backbone not in _TINY:
        raise ModelError(f'backbone is "resnet", "hrnet", "transpose" or "hrformer", not {backbone!r}')
    return _TINY[backbone]


def tiny_sr(
    *, num_keypoints: int = 17, input_size: tuple[int, int] = (96, 64), backbone: TinyBackbone = "resnet"
) -> PoseModel:
    """A small network with an SR head in place of its last convolution.

    Args:
        backbone: "resnet" (``tiny_simple_baseline``), "hrnet", "transpose" or "hrformer": the paper's four, small.

    Raises:
        ModelError: the backbone is none of these.
    """
    scales = _tiny_scales(backbone)
    codec = codecs.GaussianHeatmap(input_size, stride=1, sigma=6.0, loss=codecs.SRPOSE_MSE)
    read = 0 if backbone in ("resnet", "transpose") else -1  # the coarsest map is upsampled, the finest read as it is
    trunk = _tiny_trunk(backbone, input_size, (0,))
    return _with_sr(
        trunk, scales.channels[read], num_keypoints, codec, widths=scales.widths, size_multiple=scales.size_multiple
    )


def tiny_srpose(
    *,
    num_keypoints: int = 17,
    input_size: tuple[int, int] = (96, 64),
    supervise: Supervise = "all",
    backbone: TinyBackbone = "resnet",
) -> PoseModel:
    """SRPose over the three scales of a small trunk, or the two of TransPose; ``backbone`` as for ``tiny_sr``."""
    scales = _tiny_scales(backbone)
    codec = codecs.GaussianHeatmap(input_size, stride=1, sigma=6.0, loss=codecs.SRPOSE_MSE)
    count = len(scales.channels)
    head = SRPoseHead(
        scales.channels,
        num_keypoints,
        widths=(48, 32, 24)[:count],
        embeddings=(8, 4, 4)[-count:],
        factors=scales.factors,
        kernels=(5, 7, 9)[-count:],
        supervise=supervise,
    )
    trunk = _tiny_trunk(backbone, input_size, (0, 1, 2))
    return _with_srpose(trunk, head, codec, size_multiple=scales.size_multiple)
