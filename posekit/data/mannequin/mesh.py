"""Triangle meshes from implicit shapes: smooth unions of rounded cones and ellipsoids, polygonised once per process.

A blend of implicit shapes has no ridges where limbs meet the trunk, which a union of capsules always shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Field = Callable[[np.ndarray], np.ndarray]  # (N, 3) metres -> (N,) signed distance, negative inside


@dataclass(frozen=True)
class Template:
    """A mesh in its rest pose with everything that does not change from person to person.

    Attributes:
        vertices: (V, 3) float32 metres, y up, facing +z.
        normals: (V, 3) float32 unit, outward.
        occlusion: (V,) float32 ambient light that reaches the vertex in the rest pose, 0 to 1.
        bones: (V, 3) int64 the bones that move the vertex; weights: (V, 3) float32, rows sum to 1.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        part: (V,) int64 part of the body (a row of the wardrobe).
        face_part: (F,) int64.
        coordinates: (F, 3, 4) float32 at the corners: texture u, v (metres), garment coordinate s (metres), frontness.
        garment: (V,) float32 the garment coordinate s at vertices.
    """

    vertices: np.ndarray
    normals: np.ndarray
    occlusion: np.ndarray
    bones: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    part: np.ndarray
    face_part: np.ndarray
    coordinates: np.ndarray
    garment: np.ndarray


def ellipsoid(p: np.ndarray, centre, radii) -> np.ndarray:
    """First-order distance to an axis-aligned ellipsoid (exact on the surface)."""
    q = (p - np.asarray(centre)) / np.asarray(radii)
    k0 = np.linalg.norm(q, axis=-1)
    k1 = np.linalg.norm(q / np.asarray(radii), axis=-1)
    return k0 * (k0 - 1.0) / np.maximum(k1, 1e-9)


def cone(p: np.ndarray, a, b, ra: float, rb: float) -> np.ndarray:
    """Distance to a limb from ``a`` to ``b`` whose radius runs linearly from ``ra`` to ``rb``."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    axis = b - a
    t = np.clip((p - a) @ axis / (axis @ axis), 0.0, 1.0)
    return np.linalg.norm(p - a - t[..., None] * axis, axis=-1) - (ra + (rb - ra) * t)


def smooth_min(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Polynomial smooth minimum: blends two shapes over a band of width ``k`` metres."""
    h = np.maximum(k - np.abs(a - b), 0.0) / k
    return np.minimum(a, b) - h * h * k * 0.25


def smooth_max(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    return -smooth_min(-a, -b, k)


def gradient(field: Field, p: np.ndarray, step: float = 1e-4) -> np.ndarray:
    """(N, 3) unit gradient of a field by central differences."""
    g = np.stack([field(p + e) - field(p - e) for e in np.eye(3) * step], -1)
    return g / np.maximum(np.linalg.norm(g, axis=-1, keepdims=True), 1e-9)


def surface_nets(field: Field, low, high, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Polygonise ``field == 0`` inside a box: one vertex per crossed cell, one quad per crossed grid edge.

    Source of the method: Gibson, Constrained Elastic Surface Nets, MICCAI 1998 (without the relaxation; vertices
    are put on the surface by Newton steps instead).

    Returns:
        vertices (V, 3) float64, faces (F, 3) int64, outward.
    """
    axes = [np.arange(a, b + cell, cell) for a, b in zip(low, high)]
    shape = tuple(len(a) for a in axes)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    inside = field(grid.reshape(-1, 3)).reshape(shape) < 0
    corners = [
        inside[i : shape[0] - 1 + i, j : shape[1] - 1 + j, k : shape[2] - 1 + k]
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    ]
    count = np.sum(corners, axis=0)
    crossed = (count > 0) & (count < 8)
    number = np.full(crossed.shape, -1)
    number[crossed] = np.arange(crossed.sum())
    vertices = np.stack([a[i] for a, i in zip(axes, np.nonzero(crossed))], -1) + cell / 2
    quads = []
    for axis in range(3):
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        here = inside[1:-1, 1:-1, 1:-1]
        there = np.roll(inside, -1, axis)[1:-1, 1:-1, 1:-1]
        index = np.stack(np.nonzero(here != there), -1) + 1
        outward = here[tuple((index - 1).T)]
        ea, eb = np.eye(3, dtype=int)[a], np.eye(3, dtype=int)[b]
        ring = [number[tuple((index - off).T)] for off in (ea + eb, eb, 0 * ea, ea)]
        quad = np.stack(ring, -1)
        quads.append(np.where(outward[:, None], quad, quad[:, ::-1]))
    quad = np.concatenate(quads)
    for _ in range(6):
        vertices = vertices - gradient(field, vertices) * np.clip(field(vertices), -cell, cell)[:, None]
    faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    return vertices, faces[(faces >= 0).all(1)]


def ambient(field: Field, vertices: np.ndarray, normals: np.ndarray, reach: float = 0.16) -> np.ndarray:
    """(V,) share of ambient light reaching each vertex: how far the field stays open along the normal."""
    closed = np.zeros(len(vertices))
    for i in range(1, 6):
        d = reach * i / 5
        closed += (d - np.clip(field(vertices + normals * d), 0.0, d)) / d * 0.5**i
    return np.clip(1.0 - closed, 0.0, 1.0)
