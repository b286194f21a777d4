"""A triangle rasteriser in batched tensor operations: spans, then samples, then one depth test for everything.

Triangles of all pictures go through together. A triangle becomes one span for every row of samples it crosses (its
two ends follow from the three edges in closed form), a span becomes samples, and a single maximum over packed
(depth, face) keys keeps the nearest. Nothing is spent on samples outside a triangle.
"""

from __future__ import annotations

import torch

DEPTH_BITS = 30  # of the packed key: inverse depth above, face number below
FACE_BITS = 32
NEAR = 0.25  # metres


def expand(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts (N,) int64 -> for each of the sum(counts) pieces, its owner and its number within the owner."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    start = torch.cumsum(counts, 0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - start[owner]


def planes(x: torch.Tensor, y: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Affine functions of the sample position through values at three corners.

    Args:
        x, y: (F, 3) sample positions; values: (F, 3, C).

    Returns:
        (F, C, 3): value = p[..., 0] + p[..., 1] * x + p[..., 2] * y.
    """
    dx1, dx2, dy1, dy2 = x[:, 1] - x[:, 0], x[:, 2] - x[:, 0], y[:, 1] - y[:, 0], y[:, 2] - y[:, 0]
    area = dx1 * dy2 - dx2 * dy1
    inverse = 1.0 / torch.where(area.abs() < 1e-9, torch.full_like(area, 1e-9), area)
    v0 = values[:, 0]
    d1, d2 = values[:, 1] - v0, values[:, 2] - v0
    gx = (d1 * dy2[:, None] - d2 * dy1[:, None]) * inverse[:, None]
    gy = (d2 * dx1[:, None] - d1 * dx2[:, None]) * inverse[:, None]
    return torch.stack([v0 - gx * x[:, :1] - gy * y[:, :1], gx, gy], -1)


def spans(x: torch.Tensor, y: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Triangles (F, 3) in sample units -> spans: owner face, row, first and last column (inclusive), all (S,) int64."""
    first = torch.ceil(y.amin(1)).clamp_(0, height)
    last = torch.floor(y.amax(1)).clamp_(-1, height - 1)
    outside = (x.amax(1) < 0) | (x.amin(1) > width - 1)
    counts = torch.where(outside, torch.zeros_like(first), (last - first + 1).clamp_(min=0)).long()
    face, step = expand(counts)
    row = first[face] + step
    left = torch.full_like(row, -1e9)
    right = torch.full_like(row, 1e9)
    # With positive area (x right, y down) an edge that runs down bounds the row on the right, one that runs up on the left.
    for a, b in ((0, 1), (1, 2), (2, 0)):
        dy = y[:, b] - y[:, a]
        slope = (x[:, b] - x[:, a]) / torch.where(dy == 0, torch.ones_like(dy), dy)
        at = x[:, a] - slope * y[:, a]
        crossing = at[face] + slope[face] * row
        d = dy[face]
        left = torch.where(d < 0, torch.maximum(left, crossing), left)
        right = torch.where(d > 0, torch.minimum(right, crossing), right)
    left = torch.ceil(left - 1e-3).clamp_(0, width)
    right = torch.floor(right + 1e-3).clamp_(-1, width - 1)
    return face, row.long(), left.long(), right.long()


def rasterise(
    x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, picture: torch.Tensor, size: tuple[int, int, int]
) -> torch.Tensor:
    """The nearest face at every sample.

    Args:
        x, y: (F, 3) corner positions in samples; front faces have positive area in picture coordinates.
        w: (F, 3) inverse depths, 1 / metres, at most 1 / NEAR; picture: (F,) int64.
        size: pictures, rows, columns.

    Returns:
        (pictures * rows * columns,) int64 number of the face, -1 where there is none.
    """
    n, height, width = size
    face, row, left, right = spans(x, y, height, width)
    span, step = expand((right - left + 1).clamp_(min=0))
    depth = planes(x, y, w[..., None])[:, 0]
    column = left[span] + step
    base = depth[:, 0][face] + depth[:, 2][face] * row
    owner = face[span]
    # Inverse depth is monotone in nearness; as an integer it sorts in one key with the face number.
    nearness = ((base[span] + depth[:, 1][owner] * column) * (NEAR * (1 << DEPTH_BITS))).clamp_(0, (1 << 31) - 1).long()
    key = (nearness << FACE_BITS) | owner
    position = (picture[face] * height + row)[span] * width + column
    nearest = torch.full((n * height * width,), -1, dtype=torch.int64, device=x.device)
    nearest.scatter_reduce_(0, position, key, "amax", include_self=True)
    return torch.where(nearest < 0, nearest, nearest & ((1 << FACE_BITS) - 1))
