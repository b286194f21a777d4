"""What every network here shares: a backbone, a head, a codec, and how auxiliary outputs are supervised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.codecs import pool_targets


class ModelError(ValueError):
    """A network that was asked for does not exist, does not fit its input, or does not fit a file."""


@dataclass(frozen=True)
class Supervision:
    """How the targets of auxiliary outputs follow from the target of the final one.

    A network with intermediate supervision returns a list in ``train()``, final output last; entry i of
    ``weights`` is the factor of its loss.

    Attributes:
        kind: "same" gives every output the final target (Hourglass); "pooled" averages the final target down to
            each output's size (SRPose: the peak of a pooled target is below 1 on purpose); "blurred" widens the
            final Gaussian by the factor ``widths[i]`` and keeps its peak (CPN).
        weights: one factor per output, final last.
        widths: for "blurred", the standard deviation of each output's Gaussian over the final one's.
        sigma: for "blurred", the final Gaussian's standard deviation in cells.
    """

    kind: Literal["same", "pooled", "blurred"] = "same"
    weights: tuple[float, ...] = (1.0,)
    widths: tuple[float, ...] = ()
    sigma: float = 0.0

    def target(self, index: int, prediction: Tensor, final_target: Tensor) -> Tensor:
        """The target of output ``index``: (B, K, h, w), float, at that output's size."""
        if self.kind == "pooled":
            return pool_targets(final_target, (prediction.shape[-2], prediction.shape[-1]))
        if self.kind == "blurred" and self.widths[index] > 1:
            return widen_gaussian(final_target, self.sigma, self.widths[index])
        return final_target

    def loss(self, codec: Any, predictions: Sequence[Tensor], targets: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of the codec's loss over all outputs: a scalar.

        Hard keypoint mining, where the codec has it, applies to the final output alone, as in CPN.

        Args:
            predictions: the list that the network returns in ``train()``.
            targets, weights: what ``codec.encode`` returned for the final output.
        """
        if len(predictions) != len(self.weights):
            raise ModelError(
                f"{len(predictions)} outputs came with {len(self.weights)} loss weights; call model.train()"
            )
        auxiliary = replace(codec, ohkm=None) if getattr(codec, "ohkm", None) else codec
        last = len(predictions) - 1
        terms = [
            factor * (codec if i == last else auxiliary).loss(output, self.target(i, output, targets), weights)
            for i, (factor, output) in enumerate(zip(self.weights, predictions))
        ]
        return torch.stack(terms).sum()


def widen_gaussian(heatmaps: Tensor, sigma: float, factor: float) -> Tensor:
    """Gaussians of standard deviation ``sigma`` cells made ``factor`` times as wide, with their peak kept.

    Blurring a Gaussian adds variances, so the blur needed has variance sigma² (factor² - 1), and the peak it
    lowers by factor² is raised again.
    """
    blur = sigma * math.sqrt(factor**2 - 1)
    radius = math.ceil(3 * blur)
    offsets = torch.arange(-radius, radius + 1, device=heatmaps.device, dtype=heatmaps.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * blur**2))
    kernel = kernel / kernel.sum()
    b, k, h, w = heatmaps.shape
    maps = heatmaps.reshape(b * k, 1, h, w)  # (B, K, h, w) -> (B*K, 1, h, w)
    maps = F.conv2d(
        F.conv2d(maps, kernel.view(1, 1, -1, 1), padding=(radius, 0)), kernel.view(1, 1, 1, -1), padding=(0, radius)
    )
    return maps.reshape(b, k, h, w) * factor**2


class PoseModel(nn.Module):
    """A backbone that gives feature maps and a head that turns them into a prediction.

    Attributes:
        codec: what the prediction means; a plain attribute, never in the state dict, free to be replaced.
        input_size: (height, width) it was built for, pixels.
        stride: input pixels per cell of the final prediction.
        size_multiple: heights and widths must be multiples of this.
        fixed_size: True where a layer's width depends on the input size.
        supervision: how the list returned in ``train()`` is supervised; None where the output is a single one.
        training_only: prefixes of the parameters that run in ``train()`` alone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        codec: Any,
        input_size: tuple[int, int],
        stride: int,
        size_multiple: int,
        fixed_size: bool = False,
        supervision: Supervision | None = None,
        training_only: tuple[str, ...] = (),
    ):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.codec = codec
        self.input_size, self.stride = (int(input_size[0]), int(input_size[1])), stride
        self.size_multiple, self.fixed_size = size_multiple, fixed_size
        self.supervision, self.training_only = supervision, training_only
        self.name = ""
        self.config: dict[str, Any] = {}

    def forward(self, images: Tensor) -> Any:
        """Predict from normalised crops.

        Args:
            images: (B, 3, H, W) float, H and W multiples of ``size_multiple``.

        Returns:
            in ``eval()`` the final prediction; in ``train()`` a list, final last, where ``supervision`` is set.

        Raises:
            ModelError: the height or width does not suit the strides.
        """
        check_size(tuple(images.shape[-2:]), self.size_multiple, self.name)
        if self.fixed_size and tuple(images.shape[-2:]) != self.input_size:
            raise ModelError(
                f"{self.name or 'this network'} was built for {size_text(self.input_size)} and got "
                f"{size_text(tuple(images.shape[-2:]))}; build it with create_model(..., input_size=...)"
            )
        return self.head(self.backbone(images))


def size_text(size: Sequence[int]) -> str:
    """Height x width, as the papers write it."""
    return "x".join(str(int(value)) for value in size)


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number from ``least`` up, written as one: neither 2.0 nor True."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_size(size: Sequence[int], multiple: int, name: str) -> None:
    """Raise a sentence unless height and width are positive multiples of ``multiple``."""
    if len(size) == 2 and all(value > 0 and value % multiple == 0 for value in size):
        return
    near = [max(multiple, round(value / multiple) * multiple) for value in size]
    raise ModelError(
        f"{name or 'this network'} takes heights and widths that are multiples of {multiple}; "
        f"{size_text(size)} is not: use for example {size_text(near)}"
    )


def init_normal(module: nn.Module, std: float = 0.001) -> None:
    """Normal weights of the given standard deviation in every convolution, as HRNet and SimpleBaseline start."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_kaiming(module: nn.Module) -> None:
    """He initialisation by fan-out in every convolution, as ImageNet ResNets start."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def conv_bn(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias, batch norm and, unless told, ReLU; the size is kept up to the stride."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)
