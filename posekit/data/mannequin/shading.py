"""From visible samples to colour: perspective-correct coordinates, cloth layers, weaves, faces and emblems."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from posekit.data.mannequin.geometry import SAMPLES
from posekit.data.mannequin.raster import Planes, Visible, nonzero
from posekit.data.mannequin.scene import Scene
from posekit.data.mannequin.textures import DECAL, Bank, decal_bank, lookup


@dataclass(frozen=True)
class Surfaces:
    """What covers each region (a part of a person, or a thing), as columns."""

    low: torch.Tensor  # (regions,) garment coordinate of the first change of layer
    high: torch.Tensor
    layers: torch.Tensor  # (regions * 6,) material of layer and side
    materials: torch.Tensor  # (columns, M)
    inks: torch.Tensor  # (12, M)
    first: list[int]  # first material of each picture

    @staticmethod
    def of(scenes: list[Scene], device: str) -> Surfaces:
        first = np.cumsum([0] + [len(s.materials) for s in scenes])
        layers = [np.stack([p.materials for p in s.people]).reshape(-1) + f for s, f in zip(scenes, first)]
        layers += [np.repeat(s.prims[1], 6) + f for s, f in zip(scenes, first)]
        limits = np.concatenate([p.thresholds for s in scenes for p in s.people])
        things = sum(len(s.prims[1]) for s in scenes)
        limits = np.concatenate([limits, np.full((things, 2), 9e9)])

        def put(a, dtype=torch.float32) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(a), dtype=dtype, device=device)

        return Surfaces(
            put(limits[:, 0]), put(limits[:, 1]), put(np.concatenate(layers), torch.int64),
            put(np.concatenate([s.materials for s in scenes]).T), put(np.concatenate([s.decals for s in scenes]).T),
            [int(f) for f in first],
        )  # fmt: skip


@lru_cache(maxsize=4)
def _decals(device: str) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(decal_bank().T), device=device)


def shade(
    samples: Visible, corners, values: torch.Tensor, region: torch.Tensor, focal: torch.Tensor,
    surfaces: Surfaces, bank: Bank, device: str,
) -> tuple[list[torch.Tensor], torch.Tensor]:  # fmt: skip
    """Linear red, green, blue (S,) of visible samples, and how much of the floor's shadow they take.

    Args:
        samples: whose ``face`` indexes the columns below.
        corners: x, y, w of F faces; values: (8, 3, F) u, v, s, frontness, red, green, blue, highlight at corners.
        region, focal: (F,) of the faces.
    """
    x, y, w = corners
    planes = Planes(x, y)
    values = values * torch.stack(w)
    # Perspective-correct: quantities over depth are affine in the picture, and so is 1 / depth.
    table = [planes(w), *(planes(tuple(value)) for value in values)]
    parts = torch.cat([torch.stack(part) for part in zip(*table)]).index_select(1, samples.face).view(3, 9, -1)
    sums = parts[0].addcmul_(parts[1], samples.column).addcmul_(parts[2], samples.row).unbind(0)
    inverse = 1.0 / sums[0]
    u, v, s, f, red, green, blue, highlight = (c.mul_(inverse) for c in sums[1:])
    limits = torch.stack([surfaces.low.index_select(0, region), surfaces.high.index_select(0, region), focal * SAMPLES])
    low, high, focal = limits.index_select(1, samples.face)
    layer = (s > low).long().add_(s > high)
    index = (region * 6).index_select(0, samples.face).add_(layer, alpha=2).add_(f > 0)
    index = surfaces.layers.index_select(0, index)
    m = surfaces.materials.index_select(1, index).unbind(0)
    frequency, du, dv, pattern, decal, gloss, takes = (m[i] for i in (6, 8, 9, 10, 11, 16, 17))
    weave = lookup(bank, pattern, u * frequency + du, v * frequency + dv, frequency * inverse / focal)
    colour = [m[i].addcmul_(m[3 + i], weave) for i in range(3)]
    marked = nonzero(decal > 0)
    if len(marked):
        _stamp(colour, marked, index.index_select(0, marked), u, v, surfaces, device)
    gloss = gloss * highlight
    return [c.mul_(light).add_(gloss) for c, light in zip(colour, (red, green, blue))], takes


def _stamp(colour, marked, index, u, v, surfaces: Surfaces, device: str) -> None:
    """Lay faces, zips and emblems over the samples ``marked``, in place."""
    decal, cx, cy, across, up = (surfaces.materials[i].index_select(0, index) for i in range(11, 16))
    x = (u.index_select(0, marked) - cx) * across + 0.5
    y = 0.5 - (v.index_select(0, marked) - cy) * up
    inside = ((x > 0) & (x < 1) & (y > 0) & (y < 1)) * (1.0 / 255.0)
    limit = DECAL - 1
    texel = (decal.long() * DECAL + (y * DECAL).long().clamp_(0, limit)) * DECAL + (x * DECAL).long().clamp_(0, limit)
    weights = [layer.index_select(0, texel) * inside for layer in _decals(device)]
    for i in range(3):
        c = colour[i].index_select(0, marked)
        for k, weight in enumerate(weights):
            ink = surfaces.inks[3 * k + i].index_select(0, index)
            c = c + (ink - c) * weight
        colour[i].index_copy_(0, marked, c)
