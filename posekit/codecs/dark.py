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
# Rows: gradient x, y, second derivatives xx, xy, yy; columns: DARK_CELLS.
DARK_DERIVATIVES = (
    (0, -0.5, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, -0.5, 0.5, 0, 0, 0, 0, 0, 0),
    (-0.5, 0, 0, 0.25, 0.25, 0, 0, 0, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 0.25, -0.25, -0.25, 0.25),
    (-0.5, 0, 0, 0, 0, 0, 0, 0.25, 0.25, 0, 0, 0, 0),
)
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
def _blur_operator(
    kernel: int, cells: tuple[tuple[int, int], ...], dtype: torch.dtype, device: torch.device
) -> tuple[int, Tensor]:
    """Patch radius r, and the (len(cells), (2r+1)^2) matrix from a patch to its blurred values at ``cells``."""
    weights = gaussian_kernel(kernel)
    reach = max(max(abs(dx), abs(dy)) for dx, dy in cells)

    def placed(offset: int) -> np.ndarray:
        return np.pad(weights, (reach + offset, reach - offset))

    operator = np.stack([np.outer(placed(dy), placed(dx)).ravel() for dx, dy in cells])
    return kernel // 2 + reach, torch.as_tensor(operator, dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _inside(length: int, radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(length, 2r+1): for each cell of an axis, 1 where its neighbour at -r..r is on the axis too, else 0."""
    cells = torch.arange(length)[:, None] + torch.arange(-radius, radius + 1)
    return ((cells >= 0) & (cells < length)).to(device, dtype)


def log_values(maps: Tensor, x: Tensor, y: Tensor, kernel: int, cells: tuple[tuple[int, int], ...]) -> Tensor:
    """Logarithms (len(cells), B, K) of the blurred maps at ``cells`` around the peaks; float64 except on the CPU.

    Outside the map is zero, as in the original. The original also rescales each blurred map to its old maximum; in
    the logarithm that is a constant, which no derivative sees.
    """
    B, K, h, w = maps.shape
    # GPUs may be set to round float32 products to TF32, whose error the second differences would magnify.
    dtype = maps.dtype if maps.device.type == "cpu" else torch.float64
    radius, operator = _blur_operator(kernel, cells, dtype, maps.device)
    flat, x, y = maps.reshape(-1), x.reshape(-1), y.reshape(-1)
    last = max(flat.numel() - 1, 0)
    # Half the memory traffic of int64; the patches' indices are larger than the patches.
    index = torch.int32 if last < 2**31 else torch.int64
    around = torch.arange(-radius, radius + 1, dtype=index, device=maps.device)
    peak = (map_offsets(maps) + y * w + x).to(index)
    # Cells outside a map fall on other memory, or on no memory: they are clamped into it and then set to zero.
    cell = (peak[:, None] + (around[:, None] * w + around).view(-1)).clamp_(0, last)
    patches = flat.index_select(0, cell.view(-1)).view(-1, len(around), len(around))  # (B*K, 2r+1, 2r+1)
    patches = patches.to(dtype)
    patches.mul_(_inside(h, radius, dtype, maps.device).index_select(0, y)[:, :, None])
    patches.mul_(_inside(w, radius, dtype, maps.device).index_select(0, x)[:, None, :])
    return product(operator, patches.flatten(1).T).clamp_(min=FLOOR).log_().view(len(cells), B, K)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` of two matrices at their own precision: autocast would round, but leaves calls with ``out`` alone."""
    return torch.mm(a, b, out=b.new_empty(a.shape[0], b.shape[1]))


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
    values = log_values(maps, x, y, kernel, DARK_CELLS).flatten(1)  # (cells, B*K)
    derivatives = product(torch.tensor(DARK_DERIVATIVES, dtype=values.dtype, device=maps.device), values)
    dx, dy = newton_step(*derivatives.view(5, *x.shape))
    return dx * inner, dy * inner


def udp_offset(maps: Tensor, x: Tensor, y: Tensor, *, kernel: int = 11) -> tuple[Tensor, Tensor]:
    """UDP's variant of DARK: differences one cell apart, at the border too, where the edge cell is repeated."""
    h, w = maps.shape[-2:]
    left, right, top, bottom = x == 0, x == w - 1, y == 0, y == h - 1
    middle, west, east, north, south, north_west, south_east = log_values(maps, x, y, kernel, UDP_CELLS)
    north_west = torch.where(left, torch.where(top, middle, north), torch.where(top, west, north_west))
    south_east = torch.where(right, torch.where(bottom, middle, south), torch.where(bottom, east, south_east))
    west, east = torch.where(left, middle, west), torch.where(right, middle, east)
    north, south = torch.where(top, middle, north), torch.where(bottom, middle, south)
    return newton_step(
        0.5 * (east - west),
        0.5 * (south - north),
        east - 2 * middle + west,
        0.5 * (south_east - east - south + 2 * middle - west - north + north_west),
        south - 2 * middle + north,
    )
