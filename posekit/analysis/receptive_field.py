"""How far a network sees: the receptive field by arithmetic and by gradients, and the taps that fall off the map.

For a chain of convolutions with kernels ``k_i``, strides ``s_i`` and dilations ``d_i`` the receptive field grows by
``(k_i - 1) d_i`` times the product of the strides before it. Dilations 1, 2, 4, .., 2^(N-1) in any order therefore give
``(k - 1)(2^N - 1) + 1``, the formula of the dilated pyramid module (DPN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from posekit.analysis.modes import evaluating
from posekit.codecs.associative_embedding import TagMaps


@dataclass(frozen=True)
class Layer:
    """A convolution or pooling along one axis; ``padding`` ``None`` means "same" for odd kernels.

    Raises:
        ValueError: numbers that no layer has.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: int | None = None

    def __post_init__(self) -> None:
        _check_whole(kernel=self.kernel, stride=self.stride, dilation=self.dilation)
        if self.padding is not None:
            _check_whole(0, padding=self.padding)


@dataclass(frozen=True)
class Reach:
    """What one output cell sees along one axis, input pixels.

    ``size`` is the receptive field, ``jump`` the distance between neighbouring cells, ``start`` the centre of cell 0's
    field (0 is the centre of the first pixel).
    """

    size: int
    jump: int
    start: float


@dataclass(frozen=True)
class Field:
    """A receptive field measured by gradients: the rectangle of pixels that reach an output cell.

    ``clipped`` says that it touches the border of the probe's input, so that the true field may be larger.
    """

    height: int
    width: int
    clipped: bool
    mask: np.ndarray


def layer_reach(layers: Sequence[Layer]) -> list[Reach]:
    """Receptive field, jump and start after every layer of a chain, first to last."""
    size, jump, start = 1, 1, 0.0
    reach = []
    for layer in layers:
        extent = (layer.kernel - 1) * layer.dilation
        padding = extent // 2 if layer.padding is None else layer.padding
        size += extent * jump
        start += (extent / 2 - padding) * jump
        jump *= layer.stride
        reach.append(Reach(size, jump, start))
    return reach


def dpm_layers(modules: int = 6, kernel: int = 3) -> list[Layer]:
    """The dilated convolutions of one dilated pyramid module: dilation 2^(N-1) down to 1."""
    _check_whole(modules=modules, kernel=kernel)
    return [Layer(kernel, dilation=2**n) for n in reversed(range(modules))]


def dpm_receptive_field(modules: int = 6, kernel: int = 3) -> int:
    """``(k - 1)(2^N - 1) + 1``, cells (DPN slides), of N ``modules`` or layers, 1 or more, of ``kernel`` k."""
    _check_whole(modules=modules, kernel=kernel)
    return (kernel - 1) * (2**modules - 1) + 1


@overload
def receptive_field(
    model: nn.Module, *, input_size: tuple[int, int] | None = ..., cell: tuple[int, int] | None = ...
) -> Field: ...


@overload
def receptive_field(
    model: Sequence[Layer], *, input_size: tuple[int, int] | None = ..., cell: tuple[int, int] | None = ...
) -> Reach: ...


def receptive_field(
    model: nn.Module | Sequence[Layer],
    *,
    input_size: tuple[int, int] | None = None,
    cell: tuple[int, int] | None = None,
) -> Reach | Field:
    """The theoretical receptive field.

    Of a list of layers by arithmetic. Of a network by one backward pass in which every weight is positive, every
    activation and normalisation passes its input on, pooling averages, and whatever multiplies, divides or subtracts
    two features (gates, attention) adds them: no two paths can cancel, so a pixel has a gradient exactly when some
    path joins it to the output. A softmax joins what it sums over, attention all of its tokens.

    Args:
        model: a network from (B, 3, H, W) to maps, a list of maps (the last counts), heatmaps with tags (the heatmaps
            count), vectors (the union over all of them), or a list of :class:`Layer`.
        input_size: (height, width) of the probe's input; must exceed the field to show it whole. ``model.input_size``
            by default, 256x192 for a network that has none.
        cell: (row, column) of the output cell; the middle by default. Vectors have none.

    Returns:
        :class:`Reach` of a list's last layer, or :class:`Field` of a network. The network is left as it was.

    Raises:
        ValueError: an empty list, an output that is neither maps nor vectors, a cell of vectors, or gradients that are
            zero everywhere or not finite.
    """
    if not isinstance(model, nn.Module):
        if not model:
            raise ValueError("a receptive field needs at least one layer, got an empty list")
        return layer_reach(model)[-1]
    size = _probe_size(model, input_size)
    probe = torch.ones(1, _in_channels(model), *size, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad(), evaluating(model), _Positive():
        # One over the fan-in keeps the gradient's size through any depth.
        parameters = {n: torch.full_like(p, 1 / p[0].numel(), dtype=torch.float64) for n, p in model.named_parameters()}
        buffers = {n: b.double() if b.is_floating_point() else b for n, b in model.named_buffers()}
        output = torch.func.functional_call(model, {**parameters, **buffers}, (probe,))
        (gradient,) = torch.autograd.grad(_cell_sum(output, cell), probe)
    return _field(_some(_finite(gradient)) > 0)


def effective_receptive_field(
    model: nn.Module,
    *,
    input_size: tuple[int, int] | None = None,
    cell: tuple[int, int] | None = None,
    samples: int = 8,
    seed: int = 0,
    inputs: Tensor | None = None,
) -> np.ndarray:
    """Mean absolute gradient of one output cell with respect to every input pixel, (H, W), summing to 1.

    Luo et al., Understanding the Effective Receptive Field, NeurIPS 2016.

    Args:
        model: a network with its own weights; left as it was.
        input_size: (height, width); as of :func:`receptive_field` by default.
        cell: (row, column) of the output cell; the middle by default. Vectors have none: the sum of all is taken.
        samples: number of random inputs (standard normal) to average over.
        seed: of the inputs.
        inputs: (N, C, H, W) pictures to use instead.

    Raises:
        ValueError: as of :func:`receptive_field`.
    """
    if inputs is None:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(samples, _in_channels(model), *_probe_size(model, input_size), generator=generator)
    total = np.zeros(inputs.shape[-2:])
    with torch.enable_grad(), evaluating(model):
        for picture in inputs:
            probe = picture[None].detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(_cell_sum(model(probe), cell), probe)
            total += _finite(gradient)
    return total / _some(total).sum()


def effective_size(field: np.ndarray, share: float = 0.95) -> float:
    """Side, in pixels, of a square with as many pixels as hold ``share`` of an effective receptive field."""
    ordered = np.sort(field.ravel())[::-1].cumsum()
    return float(np.sqrt(np.searchsorted(ordered, share * ordered[-1]) + 1))


def live_tap_share(dilation: int, map_size: tuple[int, int], *, kernel: int = 3) -> float:
    """Share of a dilated kernel's taps that fall on the map, averaged over all positions of a "same" convolution.

    At dilation 32 on a 32x24 map only the middle tap is ever inside: a 3x3 kernel works as a 1x1.

    Args:
        dilation: cells between taps.
        map_size: (height, width), cells.
        kernel: odd.

    Raises:
        ValueError: a dilation, map or kernel that no convolution has.
    """
    _check_whole(dilation=dilation, kernel=kernel, height=map_size[0], width=map_size[1])
    if kernel % 2 == 0:
        raise ValueError(f"a kernel has a middle tap only if it is odd, got kernel={kernel}")
    offsets = np.abs(np.arange(kernel) - kernel // 2) * dilation
    height, width = (np.maximum(side - offsets, 0).mean() / side for side in map_size)
    return float(height * width)


class _Positive(TorchFunctionMode):
    """Lets every path through: what a function does to its input is replaced by a sum over what it depends on."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in _IDENTITIES:
            return args[0]
        if name in _SOFTMAXES:
            dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
            return args[0] + args[0].mean(dim, keepdim=True)
        if name in _PAIRS and _features(args[:2]):
            return args[0] + args[1]
        if name in _PAIRS_IN_PLACE and _features(args[:2]):
            return args[0].add_(args[1])
        if name in _PRODUCTS and _features(args[:2]):  # (.., M, K) and (.., K, N) -> (.., M, N)
            return args[0].mean(-1, keepdim=True) + args[1].mean(-2, keepdim=True)
        if name == "scaled_dot_product_attention":  # a token's own query, and every key and value: (.., N, C)
            query, key, value = (*args, *(kwargs[k] for k in ("query", "key", "value") if k in kwargs))[:3]
            joined = key.mean((-2, -1), keepdim=True) + value.mean(-2, keepdim=True)
            return query.mean(-1, keepdim=True) + joined
        if name == "adaptive_max_pool2d":
            return F.adaptive_avg_pool2d(args[0], kwargs.get("output_size", args[1] if len(args) > 1 else None))
        if name in ("max_pool2d", "boolean_dispatch", "max_pool2d_with_indices"):
            kernel, stride, padding = (*args[1:4], None, None, None)[:3]
            kernel = kwargs.get("kernel_size", kernel)
            stride = kwargs.get("stride", stride)
            padding = kwargs.get("padding", padding) or 0
            return F.avg_pool2d(args[0], kernel, stride, padding, ceil_mode=kwargs.get("ceil_mode", False))
        return function(*args, **kwargs)


_ACTIVATIONS = ("relu", "relu_", "relu6", "leaky_relu", "prelu", "elu", "gelu", "silu", "sigmoid", "tanh", "hardswish")
_NORMALISATIONS = ("batch_norm", "layer_norm", "group_norm", "dropout")
_IDENTITIES = frozenset((*_ACTIVATIONS, *_NORMALISATIONS, "hardsigmoid", "hardtanh", "neg", "__neg__"))
_SOFTMAXES = frozenset(("softmax", "log_softmax"))
_PAIRS = frozenset(
    f"{left}{name}{right}"
    for left, right in (("", ""), ("__", "__"))
    for name in ("mul", "multiply", "div", "truediv", "true_divide", "sub", "subtract")
)
_PAIRS_IN_PLACE = frozenset(("mul_", "__imul__", "div_", "__itruediv__", "sub_", "__isub__"))
_PRODUCTS = frozenset(("matmul", "__matmul__", "bmm", "mm"))


def _features(pair: Sequence[object]) -> bool:
    """Whether both depend on the picture; a weight or a number does not."""
    return len(pair) == 2 and all(isinstance(one, Tensor) and one.requires_grad for one in pair)


def _check_whole(least: int = 1, **numbers: int) -> None:
    """Raise a sentence unless every number is whole and not below ``least``."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise ValueError(f"{name} is a whole number from {least} up, not {number!r}")


def _probe_size(model: nn.Module, input_size: tuple[int, int] | None) -> tuple[int, int]:
    own = getattr(model, "input_size", (256, 192)) if input_size is None else input_size
    return int(own[0]), int(own[1])


def _in_channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise ValueError("the network has no convolution, so the number of its input channels is not known")


def _cell_sum(output: Tensor | TagMaps | Sequence[Tensor], cell: tuple[int, int] | None) -> Tensor:
    """What is differentiated: one cell of the last maps, or the sum of all vectors."""
    if isinstance(output, TagMaps):
        output = output.heatmaps
    parts = [output] if isinstance(output, Tensor) else list(output)
    maps = parts[-1]
    if maps.ndim == 4:
        row, column = cell or (maps.shape[2] // 2, maps.shape[3] // 2)
        return maps[0, :, row, column].sum()
    if not all(part.ndim in (2, 3) for part in parts):
        raise ValueError(
            f"a receptive field needs maps (B, K, h, w) or vectors (B, N) or (B, K, N), not {tuple(maps.shape)}"
        )
    if cell is not None:
        raise ValueError(f"the network's output {tuple(maps.shape)} is no map and has no cell; leave cell out")
    return torch.stack([part[0].sum() for part in parts]).sum()


def _finite(gradient: Tensor) -> np.ndarray:
    """(1, C, H, W) -> absolute values summed over channels, (H, W)."""
    found = gradient[0].abs().sum(0).double().numpy()
    if not np.isfinite(found).all():
        raise ValueError("the receptive field is unknown: the gradient at the input is not finite")
    return found


def _some(found: np.ndarray) -> np.ndarray:
    if not found.any():
        raise ValueError("the receptive field is empty: the gradient at the input is zero everywhere")
    return found


def _field(mask: np.ndarray) -> Field:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    clipped = bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
    return Field(int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1, clipped, mask)
