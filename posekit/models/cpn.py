"""CPN: Chen et al., "Cascaded Pyramid Network for Multi-Person Pose Estimation", 2018, on ResNet-50.

GlobalNet is a feature pyramid with a prediction at every scale; RefineNet brings all scales to 1/4 through 0 to 3
bottlenecks and predicts again, trained on the hardest keypoints of each person (OHKM). Only RefineNet's maps are used;
GlobalNet's four predictors (0.42 M parameters) run in training alone, which is how the published 27.0 M counts.

The form is that of the PyTorch reimplementation: coarse predictions get wider targets, Gaussian blurs with kernels of
15, 11, 9 and 7 cells, for which OpenCV's rule sigma = 0.15 k + 0.35 gives 2.6, 2.0, 1.7 and 1.4 cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit import codecs
from posekit.models.base import ModelError, PoseModel, Supervision, init_kaiming, is_whole
from posekit.models.resnet import Bottleneck, ResNet, resnet50, tiny_resnet

SIGMAS = (2.6, 2.0, 1.7, 1.4)  # cells, GlobalNet's outputs from coarse to fine; RefineNet shares the last


class GlobalNet(nn.Module):
    """Feature pyramid, coarse to fine, with a predictor at each scale.

    Args:
        channels: of the backbone's maps, coarsest first.
        num_keypoints: K.
        width: of the pyramid.
    """

    def __init__(self, channels: Sequence[int], num_keypoints: int, width: int):
        super().__init__()
        self.laterals = nn.ModuleList(_conv_bn_relu(c, width) for c in channels)
        self.upsamples = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
            )
            for _ in channels[1:]
        )
        self.predict = nn.ModuleList(Predictor(width, num_keypoints) for _ in channels)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
        """Pyramid maps and, in ``train()``, predictions (B, K, *size)."""
        pyramid: list[Tensor] = []
        for i, (lateral, x) in enumerate(zip(self.laterals, maps)):
            x = lateral(x)
            pyramid.append(x if i == 0 else x + self.upsamples[i - 1](pyramid[-1]))
        predictions = [predict(x, size) for predict, x in zip(self.predict, pyramid)] if self.training else []
        return pyramid, predictions


class Predictor(nn.Sequential):
    """Heatmaps at a given size from one map of the pyramid."""

    def __init__(self, width: int, num_keypoints: int):
        super().__init__(
            *_conv_bn_relu(width, width),
            nn.Conv2d(width, num_keypoints, 3, padding=1, bias=False),
            nn.Identity(),  # keeps the published index of the batch norm, which follows the resizing
            nn.BatchNorm2d(num_keypoints),
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:  # type: ignore[override]
        *before, _, norm = self
        for layer in before:
            x = layer(x)
        return norm(F.interpolate(x, size=size, mode="bilinear", align_corners=True))


def _conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )


class RefineBlock(Bottleneck):
    """A bottleneck to twice the width whose shortcut is always a projection."""

    expansion = 2

    def __init__(self, in_channels: int, width: int):
        super().__init__(in_channels, width)
        self.downsample = nn.Sequential(
            nn.Conv2d(in_channels, width * self.expansion, 1, bias=False), nn.BatchNorm2d(width * self.expansion)
        )


class RefineNet(nn.Module):
    """All pyramid maps at the finest size, the coarser the more bottlenecks on the way, and one prediction.

    Args:
        scales: how many maps.
        num_keypoints: K.
        width: of the maps; bottlenecks have half of it inside.
    """

    def __init__(self, scales: int, num_keypoints: int, width: int):
        super().__init__()
        self.cascade = nn.ModuleList(
            nn.Sequential(*(RefineBlock(width, width // 2) for _ in range(scales - 1 - i))) for i in range(scales)
        )
        self.final_predict = nn.Sequential(
            RefineBlock(scales * width, width // 2),
            nn.Conv2d(width, num_keypoints, 3, padding=1, bias=False),
            nn.BatchNorm2d(num_keypoints),
        )

    def forward(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        maps = [
            F.interpolate(blocks(x), size=size, mode="bilinear", align_corners=True)
            for blocks, x in zip(self.cascade, pyramid)
        ]
        return self.final_predict(torch.cat(maps, dim=1))


class CPNHead(nn.Module):
    """GlobalNet and RefineNet: list of maps, finest first -> (B, K, h, w), or in ``train()`` all predictions."""

    def __init__(self, channels: Sequence[int], num_keypoints: int, width: int):
        super().__init__()
        self.global_net = GlobalNet(channels, num_keypoints, width)
        self.refine_net = RefineNet(len(channels), num_keypoints, width)
        init_kaiming(self)

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        size = (features[0].shape[-2], features[0].shape[-1])
        pyramid, predictions = self.global_net(features[::-1], size)
        refined = self.refine_net(pyramid, size)
        return [*predictions, refined] if self.training else refined


def _on_resnet(backbone: ResNet, width: int, num_keypoints: int, codec: codecs.GaussianHeatmap) -> PoseModel:
    scales = len(backbone.channels)
    sigmas = (*SIGMAS[-scales:], SIGMAS[-1])
    return PoseModel(
        backbone,
        CPNHead(backbone.channels[::-1], num_keypoints, width),
        codec=codec,
        input_size=codec.input_size,
        stride=codec.stride,
        size_multiple=2 ** (scales + 1),
        supervision=Supervision(
            "blurred",
            weights=(*(0.5,) * scales, 1.0),
            widths=tuple(sigma / SIGMAS[-1] for sigma in sigmas),
            sigma=codec.sigma,
        ),
        training_only=("head.global_net.predict.",),
    )


def cpn_r50(*, num_keypoints: int = 17, input_size: tuple[int, int] = (256, 192), ohkm: int | None = 8) -> PoseModel:
    """CPN on ResNet-50: 26.986 M parameters, and 0.421 M that only training uses.

    Args:
        ohkm: how many of each person's hardest keypoints RefineNet learns from; None is all (claim "CPN" against
            "CPN + OHKM" in HRNet's Table 1).
    """
    codec = codecs.GaussianHeatmap(
        input_size,
        sigma=SIGMAS[-1],
        blur_kernel=9,
        loss=codecs.SRPOSE_MSE,
        ohkm=hardest_of(ohkm, num_keypoints),
    )
    return _on_resnet(resnet50(), 256, num_keypoints, codec)


def tiny_cpn(*, num_keypoints: int = 17, input_size: tuple[int, int] = (96, 64), ohkm: int | None = 8) -> PoseModel:
    """A CPN of three scales for the course; ``ohkm`` as for ``cpn_r50``."""
    codec = codecs.GaussianHeatmap(
        input_size,
        sigma=SIGMAS[-1],
        blur_kernel=9,
        loss=codecs.SRPOSE_MSE,
        ohkm=hardest_of(ohkm, num_keypoints),
    )
    model = _on_resnet(tiny_resnet(), 32, num_keypoints, codec)
    for module in model.head.modules():
        if isinstance(module, nn.BatchNorm2d) and module.num_features == num_keypoints:
            nn.init.constant_(module.weight, 0.05)  # maps start near zero, as a short training needs
    return model


def hardest_of(ohkm: int | None, num_keypoints: int) -> int | None:
    """``ohkm``, but never more than there are keypoints.

    Raises:
        ModelError: neither None nor a whole number from 1 up.
    """
    if ohkm is None:
        return None
    if not is_whole(ohkm):
        raise ModelError(f"ohkm is how many of the hardest keypoints to learn from, 1 or more, or None, not {ohkm!r}")
    return min(ohkm, num_keypoints)
