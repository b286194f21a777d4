"""A triangle rasteriser in array operations: spans, then samples, then one depth test for everything.

Triangles of all pictures go through together. A triangle becomes one span for every row of samples it crosses (its
two ends follow from the three edges in closed form), a span becomes samples, and a single maximum over packed
(depth, face) keys keeps the nearest. Nothing is spent on samples outside a triangle. Tables are columns: one
contiguous array per quantity is several times faster than rows on a CPU, and coalesced on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.data.mannequin.arrays import Array, Arrays

DEPTH_BITS = 30  # of the packed key: inverse depth above, face number below
FACE_BITS = 32
NEAR = 0.25  # metres
BEYOND = 1e7  # samples; an edge that bounds nothing

Corners = tuple[Array, ...]  # of the three corners


@dataclass(frozen=True)
class Spans:
    """Rows of samples of faces, (S,): samples, position of the first, its nearness and the change to the next, face."""

    length: Array
    begin: Array
    near: Array
    change: Array
    face: Array


@dataclass(frozen=True)
class Visible:
    """Samples that show a face, (S,) int32: position in the picture stack and the face's number, which ascends."""

    position: Array
    face: Array
    best: Array  # (pictures * rows * columns,) int64 keys, -1 where there is nothing

    def at(self, position: Array) -> Array:
        """Number of the rasterised face at positions, -1 where there is none."""
        key = self.best[position]
        return (key & ((1 << FACE_BITS) - 1)) * (key >= 0) - (key < 0) * 1


class Planes:
    """Affine functions over triangles: ``value = at + dx * x + dy * y`` from values at the three corners."""

    def __init__(self, x: Corners, y: Corners, xp: Arrays) -> None:
        self.x0, self.y0 = x[0], y[0]
        dx1, dx2, dy1, dy2 = x[1] - x[0], x[2] - x[0], y[1] - y[0], y[2] - y[0]
        area = dx1 * dy2 - dx2 * dy1
        inverse = 1.0 / xp.clip(area, 1e-6)
        self.a1, self.a2, self.b1, self.b2 = dy2 * inverse, dy1 * inverse, dx2 * inverse, dx1 * inverse

    def __call__(self, c: Corners) -> tuple[Array, Array, Array]:
        """Values (..., F) at the corners -> at, dx, dy (..., F)."""
        d1, d2 = c[1] - c[0], c[2] - c[0]
        gx, gy = d1 * self.a1 - d2 * self.a2, d2 * self.b2 - d1 * self.b1
        return c[0] - gx * self.x0 - gy * self.y0, gx, gy


def _spans(x: Corners, y: Corners, w: Corners, picture: Array, size: tuple[int, int, int], xp: Arrays) -> Spans:
    _, height, width = size
    top, bottom = xp.minimum(xp.minimum(*y[:2]), y[2]), xp.maximum(xp.maximum(*y[:2]), y[2])
    first = xp.clip(xp.ceil(top), 0, height)
    last = xp.clip(xp.floor(bottom), -1, height - 1)
    runs = xp.runs(xp.int64(xp.clip(last - first + 1, 0)))
    scale = float(NEAR * (1 << DEPTH_BITS))
    table = [part * scale for part in Planes(x, y, xp)(w)]
    table += [xp.as_float(picture * height), xp.as_float(runs.starts), first]
    # With positive area (x right, y down) an edge that runs down bounds the row on the right, one that runs up on
    # the left.
    for a, b in ((0, 1), (1, 2), (2, 0)):
        dy = y[b] - y[a]
        slope = (x[b] - x[a]) / (dy + (dy == 0))
        table += [slope, y[a], x[a] - xp.float32(dy >= 0) * BEYOND, x[a] + xp.float32(dy <= 0) * BEYOND]
    at, dx, dy, line, step, row, *edges = runs.spread(xp.stack(table))
    row += xp.float32(xp.arange(len(row)) - xp.bits(step))
    for slope, y0, low, high in (edges[0:4], edges[4:8], edges[8:12]):
        slope *= row - y0
        low += slope
        high += slope
    left = xp.maximum(xp.maximum(edges[2], edges[6]), edges[10])
    right = xp.minimum(xp.minimum(edges[3], edges[7]), edges[11])
    left = xp.clip(xp.ceil(left - 1e-3), 0, width)
    right = xp.clip(xp.floor(right + 1e-3), -1, width - 1)
    dy *= row
    at += dy
    at += dx * left
    begin = (xp.bits(line) + xp.int32(row)) * width + xp.int32(left)
    return Spans(xp.int64(xp.clip(right - left + 1, 0)), begin, at, dx, runs.owner)


def rasterise(x: Corners, y: Corners, w: Corners, picture: Array, size: tuple[int, int, int], xp: Arrays) -> Visible:
    """The samples at which each face is nearest.

    Args:
        x, y: corner positions in samples, three (F,) columns; every face has positive area (x right, y down).
        w: inverse depths, 1 / metres, at most 1 / NEAR; picture: (F,) integers.
        size: pictures, rows, columns.
    """
    n, height, width = size
    spans = _spans(x, y, w, picture, size, xp)
    runs = xp.runs(spans.length)
    table = [spans.near, spans.change, *(xp.as_float(c) for c in (runs.starts, spans.begin, spans.face))]
    near, change, start, begin, face = runs.spread(xp.stack(table))
    step = xp.arange(len(near)) - xp.bits(start)
    # Inverse depth grows with nearness; as an integer it sorts in one key together with the face's number.
    near += change * xp.float32(step)
    key = xp.int64(xp.int32(xp.clip(near, 0, 2.0e9)))
    key <<= FACE_BITS
    key |= xp.bits(face)
    step += xp.bits(begin)
    position = xp.int64(step)
    best = xp.full(n * height * width, -1, np.int64)
    xp.scatter_max(best, position, key)
    won = xp.nonzero(xp.take(best, position) == key)
    return Visible(xp.take(step, won), xp.take(xp.bits(face), won), best)
