"""Small things that training and inference share: devices, inputs, outputs, and a network's description."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch

# An nn.Module with ``codec`` and ``input_size``; torch types every attribute of a module as a tensor or a module.
Network = Any


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The named device; "auto" is a GPU when there is one.

    Raises:
        ValueError: torch knows no such device, or it is a GPU that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"there is no device {device!r}; use auto, cpu or cuda") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no GPU for device {str(device)!r} that this torch can use; use auto or cpu")
    return chosen


def has_bf16(device: str | torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself.

    Torch imitates it elsewhere: right, but ten times slower than float32 on a processor that has no more than AVX2.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    if platform.machine() in ("arm64", "aarch64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def full_float32() -> Any:
    """A context in which a GPU's convolutions use all of float32; by default they keep ten bits of it (TF32)."""
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)


def to_input(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Batches as a loader gives them -> what a network takes, in channels_last.

    Args:
        images: (B, 3, H, W) uint8, normalised here; float images are taken to be normalised already.
    """
    from posekit.data.images import normalise

    images = images.to(device, non_blocking=True)
    if images.dtype == torch.uint8:
        images = normalise(images)
    return images.contiguous(memory_format=torch.channels_last)


def map_prediction(function: Callable[..., torch.Tensor], *predictions: Any) -> Any:
    """Apply ``function`` to the tensors of equally built predictions: tensors, or (named) tuples and lists of them."""
    first = predictions[0]
    if isinstance(first, torch.Tensor):
        return function(*predictions)
    parts = [map_prediction(function, *items) for items in zip(*predictions)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)


def as_float(prediction: Any) -> Any:
    """Predictions in float32: losses and decoders want more digits than bfloat16 has."""
    return map_prediction(torch.Tensor.float, prediction)


def close(prediction: Any, other: Any, tolerance: float) -> bool:
    """Whether two predictions agree within ``tolerance`` of the first one's largest value."""
    verdicts: list[bool] = []

    def compare(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        verdicts.append(bool((a - b).abs().max() <= tolerance * a.abs().max()))
        return a

    map_prediction(compare, prediction, other)
    return all(verdicts)


def describe_model(model: Network) -> dict[str, Any]:
    """Name, input size, codec and parameter count, as JSON values."""
    return {
        "name": getattr(model, "name", "") or type(model).__name__,
        "config": getattr(model, "config", {}),
        "input_size": list(model.input_size),
        "codec": model.codec.to_dict(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
