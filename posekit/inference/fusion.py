"""Batch normalisation folded into the convolution before it: the same function in eval mode, fewer passes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from posekit.inference.runtime import close

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Folding reorders float32 sums; deep networks stay within a few times 1e-6 of their output's range.
_TOLERANCE = 1e-5


@torch.no_grad()
def fuse_conv_bn(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in eval mode whose convolutions carry the batch normalisation that follows them.

    Which normalisation follows which convolution is not guessed from the order of modules: a forward pass tells. The
    result is compared with the original on a random picture before it is handed out.

    Returns:
        A new network, equal within 1e-5 of the output's range; the argument is untouched.

    Raises:
        ValueError: the network also uses a convolution's output before its normalisation, so folding changes it.
    """
    original = copy.deepcopy(model).eval()
    fused = copy.deepcopy(original)
    image = _random_image(fused)
    names = {module: name for name, module in fused.named_modules()}
    for convolution, norm in _followers(fused, image).items():
        merged = fuse_conv_bn_eval(convolution, norm, transpose=isinstance(convolution, _TRANSPOSED))
        fused.set_submodule(names[convolution], merged)
        fused.set_submodule(names[norm], nn.Identity())
    if not _equal(original, copy.deepcopy(fused), image):
        raise ValueError(f"batch normalisation cannot be folded in {type(model).__name__}: evaluate it unfused")
    return fused


def _equal(original: nn.Module, fused: nn.Module, image: torch.Tensor) -> bool:
    """Whether two networks, which are used up by it, agree on a picture."""
    if image.is_cuda:  # whose float32 convolutions keep ten bits of the mantissa (TF32): far less than is asked for
        original, fused, image = original.double(), fused.double(), image.double()
    return close(original(image), fused(image), _TOLERANCE)


def _followers(model: nn.Module, image: torch.Tensor) -> dict[Any, Any]:
    """Convolution -> the batch normalisation that reads its output, where each of the two runs once."""
    made: dict[int, nn.Module] = {}
    kept: list[torch.Tensor] = []  # a tensor that lives on keeps its id
    runs: dict[nn.Module, int] = {}
    pairs: dict[nn.Module, nn.Module] = {}

    def after(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, _CONVOLUTIONS):
            made[id(output)] = module
            kept.append(output)
        elif id(inputs[0]) in made and module.track_running_stats:
            pairs[made[id(inputs[0])]] = module

    watched = [module for module in model.modules() if isinstance(module, _CONVOLUTIONS + _NORMS)]
    hooks = [module.register_forward_hook(after) for module in watched]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return {convolution: norm for convolution, norm in pairs.items() if runs[convolution] == runs[norm] == 1}


def _random_image(model: nn.Module) -> torch.Tensor:
    first = next(module for module in model.modules() if isinstance(module, _CONVOLUTIONS))
    shape = (1, first.in_channels, *model.input_size)  # type: ignore[misc]
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(first.weight)
