"""From visible samples to colour: perspective-correct coordinates, cloth layers, weaves, faces and emblems."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from posekit.data.mannequin.arrays import Array, Arrays, Runs
from posekit.data.mannequin.geometry import SAMPLES
from posekit.data.mannequin.raster import Planes
from posekit.data.mannequin.scene import Scene
from posekit.data.mannequin.textures import DECAL, Bank, decal_bank, lookup

USED = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 16)  # columns of a material that every sample needs


@dataclass(frozen=True)
class Surfaces:
    """What covers each region (a part of a person, or a thing), as columns."""

    limits: Array  # (2, regions) garment coordinates of the changes of layer
    layers: Array  # (regions * 6,) material of layer and side
    materials: Array  # (columns, M)
    used: Array  # (len(USED), M)
    inks: Array  # (12, M)

    @staticmethod
    def of(scenes: list[Scene], xp: Arrays) -> Surfaces:
        first = np.cumsum([0] + [len(s.materials) for s in scenes])
        layers = [np.stack([p.materials for p in s.people]).reshape(-1) + f for s, f in zip(scenes, first)]
        layers += [np.repeat(s.prims[1], 6) + f for s, f in zip(scenes, first)]
        limits = np.concatenate([p.thresholds for s in scenes for p in s.people])
        things = sum(len(s.prims[1]) for s in scenes)
        limits = np.concatenate([limits, np.full((things, 2), 9e9)])
        materials = np.concatenate([s.materials for s in scenes]).T
        inks = np.concatenate([s.decals for s in scenes]).T
        return Surfaces(
            xp.put(limits.T), xp.put(np.concatenate(layers), np.int64), xp.put(materials),
            xp.put(materials[list(USED)]), xp.put(inks),
        )  # fmt: skip


@lru_cache(maxsize=4)
def _decals(xp: Arrays) -> Array:
    return xp.put(decal_bank().T, np.uint8)


def shade(
    runs: Runs, place: tuple[Array, Array, Array], at: tuple[Array, Array], values: Array, region: Array,
    focal: Array, surfaces: Surfaces, bank: Bank, xp: Arrays,
) -> list[Array]:  # fmt: skip
    """Linear red, green, blue (S,) of visible samples.

    Args:
        runs: samples of each of F faces, one face after the other.
        place: x, y, w of the corners, each (3, F); at: row and column (S,) of the samples.
        values: (8, 3, F) u, v, s, frontness, red, green, blue, highlight at corners; it is overwritten.
        region: (F,) of the faces; focal: (F,) or one for all.
    """
    x, y, w = place
    row, column = at
    planes = Planes(x, y, xp)
    values *= w
    # Perspective-correct: quantities over depth are affine in the picture, and so is 1 / depth.
    parts = [xp.concat([p[None], q], 0) for p, q in zip(planes(w), planes(values.swapaxes(0, 1)))]
    constant, dx, dy = runs.spread(xp.concat(parts, 0)).reshape(3, 9, -1)
    sums = [xp.fused(xp.fused(constant[i], dx[i], column), dy[i], row) for i in range(9)]
    inverse = 1.0 / sums[0]
    for c in sums[1:]:
        c *= inverse
    u, v, s, front, red, green, blue, highlight = sums[1:]
    low, high, index = runs.spread(xp.stack([*xp.take(surfaces.limits, region), xp.as_float(region * 6)]))
    index = xp.bits(index)
    index += (s > low) * 2
    index += (s > high) * 2
    index += front > 0
    index = xp.take(surfaces.layers, index)
    *m, frequency, du, dv, pattern, decal, gloss = xp.columns(surfaces.used, index)
    focal = focal * SAMPLES
    footprint = frequency * inverse / (focal if len(focal) == 1 else runs.spread(focal))
    weave = lookup(bank, pattern, u * frequency + du, v * frequency + dv, footprint, xp)
    colour = [xp.fused(m[i], m[3 + i], weave) for i in range(3)]
    marked = xp.nonzero(decal > 0)
    if len(marked):
        _stamp(colour, marked, xp.take(index, marked), u, v, surfaces, xp)
    gloss *= highlight
    for c, light in zip(colour, (red, green, blue)):
        c *= light
        c += gloss
    return colour


def _stamp(colour, marked, index, u, v, surfaces: Surfaces, xp: Arrays) -> None:
    """Lay faces, zips and emblems over the samples ``marked``, in place."""
    decal, cx, cy, across, up = xp.columns(surfaces.materials[11:16], index)
    x = (xp.take(u, marked) - cx) * across + 0.5
    y = 0.5 - (xp.take(v, marked) - cy) * up
    inside = xp.float32((x > 0) & (x < 1) & (y > 0) & (y < 1)) * (1.0 / 255.0)
    limit = DECAL - 1
    column, row = (xp.clip(xp.int64(c * DECAL), 0, limit) for c in (x, y))
    texel = (xp.int64(decal) * DECAL + row) * DECAL + column
    weights = [xp.float32(layer) * inside for layer in xp.take(_decals(xp), texel)]
    inks = xp.columns(surfaces.inks, index)
    for i in range(3):
        c = xp.take(colour[i], marked)
        for k, weight in enumerate(weights):
            c = c + (inks[3 * k + i] - c) * weight
        colour[i][marked] = c
