"""DPN: Liu and Guan, "Efficient High-Resolution High-Level-Semantic Representation Learning for Human Pose
Estimation". Dilation instead of strides: a Dilation Pyramid Module (DPM) of N = 6 residual bottlenecks with dilations
32, 16, 8, 4, 2, 1 sees (k - 1)(2^N - 1) + 1 = 127 cells and keeps every one of them.

There is no public code; this is a reconstruction from the slides, settled by their parameters and costs:

- the "x6" of the layer table multiplies the whole bottleneck [1x1, 3x3, 1x1], not the 3x3 alone;
- the "stride 2" of conv2 in DPN_64 is the stage's stride, taken by the first of its four bottlenecks; a plain 1x1 to
  256 channels closes the stage. In DPN_32 conv2 is a single 1x1 of stride 2;
- one more plain bottleneck of the module's width (``bridge``) stands before the modules. The slides do not show it, and
  without it four rows of Tables IV, VI and VII miss their printed cost; ``bridge=False`` is the literal reading;
- "high resolution" (Table IV) means conv2 of stride 1 and no upsampling at the end;
- ``dpn2_hrnet`` reads HRNet-W32's finest map through a 1x1 of stride 2.

The small networks of the course have five layers in a module and no bridge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import ModelError, PoseModel, conv_bn, init_kaiming, init_normal, is_whole
from posekit.models.hrnet import HighResolutionNet, hrnet, tiny_hrnet_trunk
from posekit.models.resnet import Bottleneck, block_stage
from posekit.models.simple_baseline import tiny_heatmaps

Dilations = Literal["decreasing", "reversed", "ones"] | int | Sequence[int]


def dilation_schedule(dilations: Dilations, layers: int = 6) -> tuple[int, ...]:
    """The dilation of each layer of a module.

    Args:
        dilations: "decreasing" (DPM: 2^(N-1), ..., 2, 1), "reversed" (RDPM: 1, 2, ..., 2^(N-1)), "ones" (the "normal"
            columns of Tables II and III), a number (constant, Table III), or one number per layer.
        layers: N.

    Raises:
        ModelError: none of these.
    """
    if dilations == "decreasing":
        return tuple(2**i for i in reversed(range(layers)))
    if dilations == "reversed":
        return tuple(2**i for i in range(layers))
    if dilations == "ones":
        return (1,) * layers
    if is_whole(dilations):
        return (dilations,) * layers  # type: ignore[return-value]
    if isinstance(dilations, list | tuple) and dilations and all(map(is_whole, dilations)):
        return tuple(dilations)
    raise ModelError(
        f'dilations is "decreasing", "reversed", "ones", a number or one number per layer, not {dilations!r}'
    )


def dilation_module(width: int, dilations: Sequence[int]) -> nn.Sequential:
    """One DPM: bottlenecks of ``width`` inside 4 x ``width`` channels, one per dilation. The size is kept."""
    return nn.Sequential(*(Bottleneck(4 * width, width, dilation=d) for d in dilations))


class DPN(nn.Module):
    """Stem, conv1 at 1/4, conv2 to ``stride``, the modules: (B, 3, H, W) -> [(B, 4 width, H / stride, W / stride)].

    Args:
        conv2: takes conv1's 256 channels to 4 x width.
        width: of the modules' 3x3 convolutions.
        schedule: dilations of one module.
        modules: how many.
        bridge: whether a plain bottleneck comes before them.
        stem: channels of conv0.
        blocks: bottlenecks of conv1, of width ``stem``.
    """

    def __init__(
        self,
        conv2: nn.Module,
        *,
        width: int,
        schedule: Sequence[int],
        modules: int,
        bridge: bool,
        stem: int = 64,
        blocks: int = 3,
    ):
        super().__init__()
        self.conv0 = conv_bn(3, stem, 7, stride=2)
        self.pooling = nn.MaxPool2d(3, 2, 1)
        self.conv1 = block_stage(Bottleneck, stem, stem, blocks)
        self.conv2 = conv2
        self.bridge = Bottleneck(4 * width, width) if bridge else nn.Identity()
        if not is_whole(modules, 0):
            raise ModelError(f"a DPN has a whole number of modules, 0 or more, not {modules!r}")
        self.dpm = nn.Sequential(*(dilation_module(width, schedule) for _ in range(modules)))
        init_kaiming(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.conv2(self.conv1(self.pooling(self.conv0(images))))
        return [self.dpm(self.bridge(x))]


class UpsampleHead(nn.Module):
    """Bilinear upsampling and a 1x1 convolution to the heatmaps."""

    def __init__(self, in_channels: int, num_keypoints: int, factor: int):
        super().__init__()
        self.factor = factor
        self.final_layer = nn.Conv2d(in_channels, num_keypoints, 1)
        init_normal(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        if self.factor > 1:
            x = F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)
        return self.final_layer(x)


def conv2_32(stride: int) -> nn.Module:
    """256 -> 128 channels by one 1x1 convolution."""
    return conv_bn(256, 128, 1, stride=stride)


def conv2_64(stride: int) -> nn.Module:
    """256 -> 512 by four bottlenecks of width 128, then 512 -> 256 by one 1x1 convolution."""
    return nn.Sequential(block_stage(Bottleneck, 256, 128, 4, stride=stride), conv_bn(512, 256, 1))


CONV2: dict[int, Callable[[int], nn.Module]] = {32: conv2_32, 64: conv2_64}


def _dpn(name: str, *, modules: int, width: int, highres: bool = False) -> Callable[..., PoseModel]:
    """The builder of one row of Tables II to VII."""

    def build(
        *,
        num_keypoints: int = 17,
        input_size: tuple[int, int] = (256, 192),
        dilations: Dilations = "decreasing",
        bridge: bool = True,
    ) -> PoseModel:
        conv2 = CONV2[width](1 if highres else 2)
        schedule = dilation_schedule(dilations)
        trunk = DPN(conv2, width=width, schedule=schedule, modules=modules, bridge=bridge)
        return PoseModel(
            trunk,
            UpsampleHead(4 * width, num_keypoints, 1 if highres else 2),
            codec=codecs.GaussianHeatmap(input_size),
            input_size=input_size,
            stride=4,
            size_multiple=4 if highres else 8,
        )

    build.__name__ = build.__qualname__ = name
    build.__doc__ = (
        f"DPN with {modules} module{'s' * (modules > 1)} of width {width}{' at 1/4 throughout' * highres}.\n\n"
        "    Args:\n"
        "        dilations: see :func:`dilation_schedule`.\n"
        "        bridge: a plain bottleneck before the modules, which the printed costs ask for."
    )
    return build


dpn1_32 = _dpn("dpn1_32", modules=1, width=32)
dpn2_32 = _dpn("dpn2_32", modules=2, width=32)
dpn3_32 = _dpn("dpn3_32", modules=3, width=32)
dpn4_32 = _dpn("dpn4_32", modules=4, width=32)
dpn1_64 = _dpn("dpn1_64", modules=1, width=64)
dpn2_64 = _dpn("dpn2_64", modules=2, width=64)
dpn3_64 = _dpn("dpn3_64", modules=3, width=64)
dpn4_64 = _dpn("dpn4_64", modules=4, width=64)
dpn1_64_highres = _dpn("dpn1_64_highres", modules=1, width=64, highres=True)
dpn2_64_highres = _dpn("dpn2_64_highres", modules=2, width=64, highres=True)
dpn3_64_highres = _dpn("dpn3_64_highres", modules=3, width=64, highres=True)
dpn4_64_highres = _dpn("dpn4_64_highres", modules=4, width=64, highres=True)


class DilatedHRNet(nn.Module):
    """HRNet's finest map through a 1x1 of stride 2, then modules: (B, 3, H, W) -> [(B, 4 width, H / 8, W / 8)].

    Args:
        trunk: HRNet, finest map first.
        width, schedule, modules, bridge: as of :class:`DPN`.
    """

    def __init__(self, trunk: HighResolutionNet, *, width: int, schedule: Sequence[int], modules: int, bridge: bool):
        super().__init__()
        self.hrnet = trunk
        self.conv2 = conv_bn(trunk.channels[0], 4 * width, 1, stride=2)
        self.bridge = Bottleneck(4 * width, width) if bridge else nn.Identity()
        self.dpm = nn.Sequential(*(dilation_module(width, schedule) for _ in range(modules)))
        init_kaiming(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.conv2(self.hrnet(images)[0])
        return [self.dpm(self.bridge(x))]


def dpn2_hrnet(
    *,
    num_keypoints: int = 17,
    input_size: tuple[int, int] = (256, 192),
    dilations: Dilations = "decreasing",
    bridge: bool = True,
) -> PoseModel:
    """Two modules of width 64 on HRNet-W32: 29.46 M parameters."""
    trunk = DilatedHRNet(hrnet(32), width=64, schedule=dilation_schedule(dilations), modules=2, bridge=bridge)
    init_normal(trunk.hrnet)
    return PoseModel(
        trunk,
        UpsampleHead(256, num_keypoints, 2),
        codec=codecs.GaussianHeatmap(input_size),
        input_size=input_size,
        stride=4,
        size_multiple=32,
    )


def tiny_dpn(
    *,
    num_keypoints: int = 17,
    input_size: tuple[int, int] = (96, 64),
    dilations: Dilations = "decreasing",
    modules: int = 1,
    highres: bool = True,
) -> PoseModel:
    """A DPN for the course: five dilated bottlenecks at 1/4, whose receptive field is 275 pixels, or 67 with "ones".

    Args:
        dilations: see :func:`dilation_schedule`.
        modules: how many times the five.
        highres: False puts the modules at 1/8, by a conv2 of stride 2, and upsamples their map, as the rows of
            Table IV without high resolution.
    """
    factor = 1 if highres else 2
    schedule = dilation_schedule(dilations, layers=5)
    conv2 = conv_bn(64, 128, 1, stride=factor)
    trunk = DPN(conv2, width=32, schedule=schedule, modules=modules, bridge=False, stem=16, blocks=2)
    return PoseModel(
        trunk,
        UpsampleHead(128, num_keypoints, factor),
        codec=tiny_heatmaps(input_size),
        input_size=input_size,
        stride=4,
        size_multiple=4 * factor,
    )


def tiny_dpn_hrnet(
    *,
    num_keypoints: int = 17,
    input_size: tuple[int, int] = (96, 64),
    dilations: Dilations = "decreasing",
    modules: int = 2,
) -> PoseModel:
    """Modules at 1/8 on the finest map of ``tiny_hrnet``, as ``dpn2_hrnet``; options as for ``tiny_dpn``."""
    schedule = dilation_schedule(dilations, layers=5)
    return PoseModel(
        DilatedHRNet(tiny_hrnet_trunk(), width=32, schedule=schedule, modules=modules, bridge=False),
        UpsampleHead(128, num_keypoints, 2),
        codec=tiny_heatmaps(input_size),
        input_size=input_size,
        stride=4,
        size_multiple=16,
    )
