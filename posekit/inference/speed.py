"""The evaluation path: what a trained network becomes when nothing but its predictions matters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from posekit.inference.fusion import fuse_conv_bn
from posekit.inference.runtime import Network, as_float, close, full_float32, map_prediction

# Convolutions in another order of sums; the same bound as folding has.
_TOLERANCE = 1e-5


@torch.no_grad()
def for_evaluation(model: Network, *, bf16: bool = False, compile_batch: int | None = None) -> Network:
    """A copy of ``model`` that predicts the same and faster: normalisation folded, channels_last throughout.

    Args:
        model: on the device it will run on; its weights are copied, so later training does not reach the result.
        bf16: weights and maps in bfloat16, predictions still float32: what ``--bf16`` is on the command line, while
            :func:`predict`'s own ``bf16`` is autocast. About 1 % of a map's range is lost, which must be held against
            a score with trained weights; the other ways stay within 1e-5.
        compile_batch: also compile, with frozen weights, for batches of this size; other batches are cut and filled up
            to it. Takes the best part of a minute for an HRNet, so it pays for thousands of crops. Needs a C++
            compiler.

    Returns:
        a network in eval mode with the same ``codec`` and ``input_size``; it takes float images of any layout.

    Raises:
        ValueError: the faster network does not predict what ``model`` does, or cannot be compiled.
    """
    fast: Network = fuse_conv_bn(model)
    fast.to(memory_format=torch.channels_last)
    fast.requires_grad_(False)
    if bf16:
        fast.to(torch.bfloat16)
    fast.register_forward_pre_hook(_as_taken)
    fast.register_forward_hook(_as_given)
    if compile_batch is None:
        return fast
    compiled = Compiled(fast, compile_batch)
    images = torch.randn(2, 3, *model.input_size, generator=torch.Generator().manual_seed(0))
    images = images.to(next(fast.parameters()).device)
    with full_float32():
        same = bf16 or close(fast(images), compiled(images), _TOLERANCE)
    if not same:
        raise ValueError(f"compiling changes what {type(model).__name__} predicts: evaluate it uncompiled")
    return compiled


class Compiled(nn.Module):
    """A network that is compiled for one batch size; batches are cut and filled up to it.

    Args:
        network: in eval mode; its weights become constants of the compiled code.
        batch: crops at a time, 1 or more.
    """

    def __init__(self, network: Network, batch: int):
        if batch < 1:
            raise ValueError(f"a network is compiled for batches of 1 crop or more, not {batch}")
        super().__init__()
        self.codec, self.input_size, self.batch = network.codec, network.input_size, batch
        self.network = network
        self._run = torch.compile(network, dynamic=False)

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> Any:
        """(B, 3, H, W) float of any B -> the network's prediction for it."""
        parts = [self._full(part) for part in images.split(self.batch)]
        return map_prediction(lambda *tensors: torch.cat(tensors), *parts)

    def _full(self, images: torch.Tensor) -> Any:
        missing = self.batch - len(images)
        filled = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images
        try:
            # Not among torch.compile's options: those come after the tracing, which must know already.
            with torch._inductor.config.patch(freezing=True):
                prediction = self._run(filled)
        except torch._dynamo.exc.BackendCompilerFailed as error:  # type: ignore[attr-defined]
            cause = str(error.inner_exception).strip().splitlines()[:1]
            raise ValueError(
                f"this network cannot be compiled here ({''.join(cause)}): predict without compiling"
            ) from error
        return map_prediction(lambda tensor: tensor[: len(images)], prediction)


def _as_taken(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    dtype = next(network.parameters()).dtype
    return tuple(images.to(dtype=dtype, memory_format=torch.channels_last) for images in inputs)


def _as_given(network: nn.Module, inputs: tuple[torch.Tensor, ...], prediction: Any) -> Any:
    return as_float(prediction)
