"""What is lost between a keypoint and a heatmap's cells, with a perfect network: quantization error and OKS ceiling.

A peak read off at the nearest cell is uniform in a square of one cell around the truth. The mean distance from the
centre of a unit square is ``(sqrt(2) + asinh(1)) / 6 = 0.38260``, so the mean error is 0.3826 strides. The quarter
offset moves the answer a quarter of a cell towards the larger neighbour, which leaves a square of half a cell and
halves the error, if and only if the target's centre lies between cells: a centre rounded to a cell makes both
neighbours equal, and nothing is gained. DARK reads the centre itself, so only rounding is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from posekit.codecs import GaussianHeatmap
from posekit.skeletons import COCO17, Skeleton

Decoder = Literal["argmax", "quarter", "dark"]
Centre = Literal["rounded", "subpixel"]

# Mean distance from the centre of a unit square to a uniform point in it.
UNIT_SQUARE_ERROR = (math.sqrt(2) + math.asinh(1)) / 6
# Mean area of a COCO person's segment over that of their box.
AREA_FRACTION = 0.53

_CELLS = 24
_CHUNK = 1024


@dataclass(frozen=True)
class QuantizationError:
    """Distance between a keypoint and its encoded and decoded self, input pixels.

    ``bound`` is the closed form for the same codec without noise; ``errors`` holds every sample, (n, 2) decoded
    minus true, x then y.
    """

    stride: int
    decoder: str
    centre: str
    mean: float
    median: float
    bound: float
    errors: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over samples (normal approximation)."""
        distance = np.linalg.norm(self.errors, axis=-1)
        half = 1.96 * float(distance.std(ddof=1)) / math.sqrt(len(distance))
        return self.mean - half, self.mean + half


def residual_cell(decoder: Decoder, centre: Centre = "subpixel") -> float:
    """Side of the square, in cells, in which an ideal heatmap's decoded point is uniform around the truth.

    Raises:
        ValueError: unknown decoder or centre.
    """
    sides = {"argmax": 1.0, "quarter": 0.5, "dark": 0.0}
    if decoder not in sides:
        raise ValueError(f"unknown decoder {decoder!r}; use one of {', '.join(sides)}")
    if centre not in ("rounded", "subpixel"):
        raise ValueError(f"unknown centre {centre!r}; use 'rounded' or 'subpixel'")
    return sides[decoder] if centre == "subpixel" else 1.0


def quantization_bound(stride: float, decoder: Decoder = "argmax", *, centre: Centre = "subpixel") -> float:
    """Mean error of an ideal heatmap in closed form, input pixels: 0.3826 strides for the plain maximum."""
    return UNIT_SQUARE_ERROR * stride * residual_cell(decoder, centre)


def quantization_error(
    stride: int,
    decoder: Decoder = "argmax",
    *,
    centre: Centre = "subpixel",
    sigma: float = 2.0,
    noise: float = 0.0,
    samples: int = 8192,
    seed: int = 0,
) -> QuantizationError:
    """Encode and decode random keypoints with the package's own codec and measure how far they come back.

    Keypoints are uniform within one cell in the middle of a map, so that no map border plays a part.

    Args:
        stride: input pixels per heatmap cell.
        decoder: "argmax", "quarter" (a quarter cell towards the larger neighbour) or "dark".
        centre: whether the target's Gaussian sits on the nearest cell or on the keypoint itself.
        sigma: standard deviation of the target, cells.
        noise: standard deviation of white noise added to the map, as a fraction of the peak.
        samples: number of keypoints.
        seed: of the keypoints and the noise.

    Raises:
        ValueError: unknown decoder or centre, or no sample asked for.
    """
    if samples < 2:
        raise ValueError(f"samples must be at least 2 to give an error and its interval, got {samples}")
    bound = quantization_bound(stride, decoder, centre=centre)
    side = _CELLS * stride
    codec = GaussianHeatmap((side, side), stride=stride, sigma=sigma, centre=centre, decoder=decoder)
    generator = torch.Generator().manual_seed(seed)
    errors = []
    for start in range(0, samples, _CHUNK):
        n = min(_CHUNK, samples - start)
        offset = torch.rand(1, n, 2, generator=generator) - 0.5
        keypoints = (_CELLS // 2 + offset) * stride
        maps, _ = codec.encode(keypoints, torch.full((1, n), 2))
        if noise:
            maps = maps + noise * torch.randn(maps.shape, generator=generator)
        decoded, _ = codec.decode(maps)
        errors.append((decoded - keypoints)[0].double().numpy())
    error = np.concatenate(errors)
    distance = np.linalg.norm(error, axis=-1)
    return QuantizationError(stride, decoder, centre, float(distance.mean()), float(np.median(distance)), bound, error)


def oks_ceiling(
    stride: float,
    decoder: Decoder = "argmax",
    *,
    centre: Centre = "subpixel",
    input_size: tuple[int, int] = (256, 192),
    padding: float = 1.25,
    area_fraction: float = AREA_FRACTION,
    skeleton: Skeleton = COCO17,
) -> float:
    """Mean OKS of a perfect network, for a person whose box has the crop's aspect ratio, in closed form.

    The decoded point is uniform in a square of side ``a`` around the truth, and OKS falls as
    ``exp(-d^2 / (2 v))`` with ``v = area * (2 sigma)^2``, so each axis gives
    ``sqrt(2 pi v) / a * erf(a / (2 sqrt(2 v)))``.

    Args:
        stride: input pixels per heatmap cell.
        decoder, centre: as in :func:`quantization_error`.
        input_size: (height, width) of the crop, pixels.
        padding: factor by which the crop's sides exceed the box's.
        area_fraction: segment area over box area.
        skeleton: gives the keypoints' sigmas.
    """
    side = stride * residual_cell(decoder, centre)
    if side == 0:
        return 1.0
    area = area_fraction * input_size[0] * input_size[1] / padding**2
    total = 0.0
    for sigma in skeleton.sigmas:
        v = area * (2 * sigma) ** 2
        axis = math.sqrt(2 * math.pi * v) / side * math.erf(side / (2 * math.sqrt(2 * v)))
        total += axis**2
    return total / skeleton.num_keypoints
