"""What every codec shares: checks of its input, JSON, and the un-mirroring of maps for the flip test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

C = TypeVar("C", bound="Codec")

# exp(-80) = 2e-35. Below -87 the result is a subnormal float32, which costs ten times as much to compute.
MIN_EXPONENT = -80.0


class CodecError(ValueError):
    """A codec that cannot be built, or a tensor that does not fit it; one sentence with the remedy."""


@dataclass(frozen=True)
class Codec:
    """A pair of inverse maps between keypoints in crop pixels and what a network predicts, with its loss.

    Codecs are frozen: they hash, compare by value, print as code and round-trip through JSON.
    Use ``dataclasses.replace`` for a variant.
    """

    input_size: tuple[int, int] = (256, 192)

    def __post_init__(self) -> None:
        size = tuple(int(n) for n in self.input_size)
        if len(size) != 2 or min(size) < 1:
            raise CodecError(f"input_size must be (height, width) in pixels, got {self.input_size}")
        object.__setattr__(self, "input_size", size)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold; :meth:`from_dict` reads it back."""
        return {"codec": type(self).__name__, **asdict(self)}

    @classmethod
    def from_dict(cls: type[C], values: dict[str, Any]) -> C:
        """Rebuild a codec; on :class:`Codec` itself, of the kind that the dictionary names.

        Raises:
            CodecError: an unknown kind of codec or an unknown field.
        """
        values = dict(values)
        kinds = {kind.__name__: kind for kind in (cls, *cls.__subclasses__())}
        name = values.pop("codec", cls.__name__)
        if name not in kinds:
            raise CodecError(f"unknown codec {name!r}; known are {', '.join(sorted(kinds))}")
        kind = kinds[name]
        unknown = sorted(set(values) - {field.name for field in fields(kind)})
        if unknown:
            raise CodecError(f"{name} has no field {unknown[0]!r}; it has {', '.join(f.name for f in fields(kind))}")
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def heatmap_size(input_size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(height, width) of the maps for a crop, in cells.

    Raises:
        CodecError: the crop is not a whole number of cells.
    """
    h, w = input_size
    if stride < 1 or h % stride or w % stride:
        raise CodecError(f"input size {h}x{w} is not divisible by stride {stride}; choose a stride that divides both")
    return h // stride, w // stride


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise CodecError(f"unknown {name} {value!r}; choose from {', '.join(map(repr, choices))}")


def check_keypoints(keypoints: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
    """Float keypoints and (B, K) bool: labelled and finite. Unlabelled joints may hold any number, even NaN."""
    if keypoints.ndim < 3 or keypoints.shape[-1] != 2 or visibility.shape != keypoints.shape[:-1]:
        raise CodecError(
            f"keypoints must be (B, K, 2) with visibility (B, K), got {tuple(keypoints.shape)} "
            f"and {tuple(visibility.shape)}"
        )
    if keypoints.dtype not in (torch.float32, torch.float64):
        keypoints = keypoints.float()
    return keypoints, (visibility > 0) & torch.isfinite(keypoints).all(-1)


def check_maps(maps: Tensor, size: tuple[int, ...], what: str = "heatmaps") -> Tensor:
    """The maps without gradient, in float32 or float64; half precision is widened because decoders take logs."""
    if maps.ndim < 2 + len(size) or tuple(maps.shape[-len(size) :]) != tuple(size):
        raise CodecError(
            f"{what} must be (B, K, {', '.join(map(str, size))}), got {tuple(maps.shape)}; "
            "the codec's input_size and stride must be those of the network"
        )
    maps = maps.detach()
    return maps if maps.dtype in (torch.float32, torch.float64) else maps.float()


def final(prediction: Any) -> Any:
    """The last of a list of predictions (intermediate supervision), or the prediction itself."""
    return prediction[-1] if isinstance(prediction, list) else prediction


def unmirror(maps: Tensor, flip_index: Any, *, keypoint_dim: int, shift: int = 0) -> Tensor:
    """Turn a prediction for a mirrored crop back: reverse the last axis, exchange left and right, move right.

    Args:
        maps: any shape whose last axis runs along x.
        flip_index: (K,) of the skeleton.
        keypoint_dim: the axis of length K.
        shift: cells by which the result moves right (negative: left); cells that are uncovered keep their values.

    Returns:
        New memory of the same shape.
    """
    index = torch.as_tensor(flip_index, device=maps.device)
    out = maps.index_select(keypoint_dim, index).flip(-1)
    if shift > 0:
        out[..., shift:] = out[..., :-shift].clone()
    elif shift < 0:
        out[..., :shift] = out[..., -shift:].clone()
    return out
