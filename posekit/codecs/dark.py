"""DARK: the peak between the cells, from the shape of the heatmap around its highest cell.

If the map is a Gaussian, its logarithm is a parabola, and one Newton step from any cell lands on the centre:
``offset = -H^-1 g`` with gradient g and Hessian H of the log map. Predicted maps are rough, so they are blurred
first. Only the few blurred values that the step needs are computed: each is a weighted sum over the patch around
the peak, and all of them together are one matrix product.

Source: Zhang et al., Distribution-Aware Coordinate Representation, CVPR 2020 (ilovepose/DarkPose); the UDP
variant from Huang et al., CVPR 2020, as in mmpose's ``refine_keypoints_dark_udp``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from posekit.codecs.peaks import map_offsets

# Cells (dx, dy) where the log map is read. DARK spaces second differences two cells apart, UDP one cell.
DARK_CELLS = (
    (0, 0), (-1, 0), (1, 0), (-2, 0), (2, 0), (0, -1), (0, 1), (0, -2), (0, 2), (-1, -1), (1, -1), (-1, 1), (1, 1),
)  # fmt: skip
UDP_CELLS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1))
# Blurred values below this are lifted to it before the logarithm (DarkPose).
FLOOR = 1e-10


def gaussian_kernel(size: int) -> np.ndarray:
    """(size,) weights with sum 1 and the deviation that OpenCV's GaussianBlur derives from the size (11 -> 2.0).

    Up to size 7 OpenCV has a table instead, a few per cent away.
    """
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    weights = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


@lru_cache(maxsize=16)
def _blur_operator(kernel: int, cells: tuple[tuple[int, int], ...]) -> tuple[int, np.ndarray]:
    """Patch radius r, and the (len(cells), (2r+1)^2) matrix from a patch to its blurred values at ``cells``."""
    weights = gaussian_kernel(kernel)
    reach = max(max(abs(dx), abs(dy)) for dx, dy in cells)
    radius = kernel // 2 + reach

    def placed(offset: int) -> np.ndarray:
        return np.pad(weights, (reach + offset, reach - offset))

    return radius, np.stack([np.outer(placed(dy), placed(dx)).ravel() for dx, dy in cells])


def log_values(
    maps: Tensor, x: Tensor, y: Tensor, kernel: int, cells: tuple[tuple[int, int], ...]
) -> dict[tuple[int, int], Tensor]:
    """Logarithms of the blurred maps at ``cells`` around the peaks: (dx, dy) -> (B, K).

    Outside the map is zero, as in the original. The original also rescales each blurred map to its old maximum; in
    the logarithm that is a constant, which no derivative sees.
    """
    B, K, h, w = maps.shape
    radius, operator = _blur_operator(kernel, cells)
    flat, x, y = maps.reshape(-1), x.reshape(-1), y.reshape(-1)
    around = torch.arange(-radius, radius + 1, device=maps.device)
    side = len(around)
    in_x, in_y = _inside(x, around, w, maps.dtype), _inside(y, around, h, maps.dtype)  # (B*K, side)
    # Cells outside a map fall on other memory, or on no memory: they are clamped into it and then set to zero.
    cell = (map_offsets(maps) + y * w + x)[:, None] + (around[:, None] * w + around).reshape(-1)
    patches = flat.index_select(0, cell.clamp_(0, max(flat.numel() - 1, 0)).view(-1)).view(-1, side, side)
    patches.mul_(in_y[:, :, None]).mul_(in_x[:, None, :])
    blur = torch.as_tensor(operator, dtype=maps.dtype, device=maps.device)
    blurred = blur @ patches.view(-1, side * side).T  # (cells, B*K)
    return dict(zip(cells, blurred.clamp_(min=FLOOR).log_().view(len(cells), B, K)))


def _inside(position: Tensor, around: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """(n,) positions -> (n, side) 1 where ``position + around`` is a cell of the axis, else 0."""
    cells = torch.arange(length, device=position.device)[:, None] + around
    return ((cells >= 0) & (cells < length)).to(dtype).index_select(0, position)


def newton_step(gx: Tensor, gy: Tensor, hxx: Tensor, hxy: Tensor, hyy: Tensor) -> tuple[Tensor, Tensor]:
    """The step -H^-1 g to the top of a parabola; no step where the Hessian is singular."""
    determinant = hxx * hyy - hxy * hxy
    safe = torch.where(determinant == 0, 1, determinant)
    usable = (determinant != 0).to(gx.dtype)
    return (hxy * gy - hyy * gx) / safe * usable, (hxy * gx - hxx * gy) / safe * usable


def dark_offset(maps: Tensor, x: Tensor, y: Tensor, *, kernel: int = 11) -> tuple[Tensor, Tensor]:
    """DARK's steps dx, dy (B, K) in cells, for peaks with ``1 < x < w-2`` and ``1 < y < h-2`` (others stay)."""
    h, w = maps.shape[-2:]
    inner = (x > 1) & (x < w - 2) & (y > 1) & (y < h - 2)
    v = log_values(maps, x, y, kernel, DARK_CELLS)
    dx, dy = newton_step(
        0.5 * (v[1, 0] - v[-1, 0]),
        0.5 * (v[0, 1] - v[0, -1]),
        0.25 * (v[2, 0] - 2 * v[0, 0] + v[-2, 0]),
        0.25 * (v[1, 1] - v[-1, 1] - v[1, -1] + v[-1, -1]),
        0.25 * (v[0, 2] - 2 * v[0, 0] + v[0, -2]),
    )
    return dx * inner, dy * inner


def udp_offset(maps: Tensor, x: Tensor, y: Tensor, *, kernel: int = 11) -> tuple[Tensor, Tensor]:
    """UDP's variant of DARK: differences one cell apart, at the border too, where the edge cell is repeated."""
    h, w = maps.shape[-2:]
    v = log_values(maps, x, y, kernel, UDP_CELLS)
    left, right, top, bottom = x == 0, x == w - 1, y == 0, y == h - 1
    west, east = torch.where(left, v[0, 0], v[-1, 0]), torch.where(right, v[0, 0], v[1, 0])
    north, south = torch.where(top, v[0, 0], v[0, -1]), torch.where(bottom, v[0, 0], v[0, 1])
    north_west = torch.where(left, north, torch.where(top, west, v[-1, -1]))
    south_east = torch.where(right, south, torch.where(bottom, east, v[1, 1]))
    return newton_step(
        0.5 * (east - west),
        0.5 * (south - north),
        east - 2 * v[0, 0] + west,
        0.5 * (south_east - east - south + 2 * v[0, 0] - west - north + north_west),
        south - 2 * v[0, 0] + north,
    )
