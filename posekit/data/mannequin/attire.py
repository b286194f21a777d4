"""What heads and hips wear: hair, hats and skirts as meshes that follow the bones."""

from __future__ import annotations

from functools import cache

import numpy as np

from posekit.data.mannequin.body import HAIR, HAT, SKIRT, assemble, cranium, rigid, scalp
from posekit.data.mannequin.mesh import Template, cone, ellipsoid, smooth_max, smooth_min


def _opening(p: np.ndarray, low: float = -0.09, high: float = 0.128, width: float = 0.058) -> np.ndarray:
    """A rounded box in front of the face and below its hairline, taken out of every head of hair."""
    centre, half = np.array((0, (low + high) / 2, 0.13)), np.array((width, (high - low) / 2, 0.085)) - 0.025
    q = np.abs(p - centre) - half
    return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0) - 0.025


def _hair_field(style: str):
    def field(p: np.ndarray) -> np.ndarray:
        d = cranium(p, 0.012)
        d = smooth_max(d, -scalp(p) - 0.008, 0.01)
        if style == "quiff":
            d = smooth_min(d, ellipsoid(p, (0.01, 0.2, 0.035), (0.065, 0.028, 0.06)), 0.03)
        elif style == "curly":
            bumps = np.sin(95 * p[:, 0]) * np.sin(95 * p[:, 1] + 1) * np.sin(95 * p[:, 2] + 2)
            d = smooth_max(cranium(p, 0.032) - 0.008 * bumps, -scalp(p) - 0.012, 0.02)
        elif style == "afro":
            bumps = np.sin(80 * p[:, 0]) * np.sin(80 * p[:, 1] + 1) * np.sin(80 * p[:, 2] + 2)
            d = smooth_max(
                ellipsoid(p, (0, 0.135, -0.025), (0.135, 0.13, 0.13)) - 0.005 * bumps, -scalp(p) - 0.045, 0.03
            )
        elif style in ("bob", "long"):
            d = smooth_min(d, ellipsoid(p, (0, 0.055, -0.035), (0.094, 0.12, 0.085)), 0.03)
            if style == "long":
                d = smooth_min(d, ellipsoid(p, (0, -0.06, -0.062), (0.1, 0.17, 0.042)), 0.04)
        elif style == "ponytail":
            d = smooth_min(d, cone(p, (0, 0.15, -0.11), (0, 0.06, -0.15), 0.025, 0.035), 0.02)
            d = smooth_min(d, cone(p, (0, 0.06, -0.15), (0, -0.08, -0.13), 0.035, 0.014), 0.03)
        elif style == "bun":
            d = smooth_min(d, ellipsoid(p, (0, 0.175, -0.1), (0.052, 0.05, 0.048)), 0.015)
        return smooth_max(d, -_opening(p), 0.012)

    return field


def _hat_field(style: str):
    def field(p: np.ndarray) -> np.ndarray:
        if style == "beanie":
            return smooth_max(cranium(p, 0.02), 0.115 - p[:, 1] + 0.2 * p[:, 2], 0.01)
        dome = smooth_max(cranium(p, 0.018), 0.135 - p[:, 1], 0.008)
        brim = smooth_max(ellipsoid(p, (0, 0.138, 0.085), (0.078, 0.011, 0.095)), -p[:, 2], 0.01)
        return smooth_min(dome, brim, 0.01)

    return field


HAIR_STYLES = ("short", "quiff", "curly", "afro", "bob", "long", "ponytail", "bun")  # with a mesh of their own
HATS = ("cap", "beanie")


@cache
def hair_template(style: str, cell: float = 0.0135) -> Template:
    """A head of hair. s: depth behind the forehead (larger further back), for a scarf tied over the back."""
    return rigid(_hair_field(style), (-0.16, -0.26, -0.21), (0.16, 0.3, 0.16), cell, HAIR, lambda p: -p[:, 2])


@cache
def hat_template(style: str, cell: float = 0.0125) -> Template:
    return rigid(_hat_field(style), (-0.13, 0.04, -0.16), (0.13, 0.26, 0.22), cell, HAT, lambda p: -p[:, 2])


@cache
def skirt_template(length: float) -> Template:
    """A skirt of the given length in metres; its folds follow both thighs. s: metres below the waist."""
    rings, around = 12, 36
    t, a = np.meshgrid(np.linspace(0, 1, rings), np.arange(around) * 2 * np.pi / around, indexing="ij")
    wave = 1 + 0.05 * t * np.sin(9 * a)
    spread = np.interp(t * length, (0, 0.13, 0.7), (0.0, 0.035, 0.13))
    x = (0.142 + spread) * wave * np.sin(a)
    z = (0.11 + spread) * wave * np.cos(a)
    v = np.stack([x, 1.05 - t * length, z], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij")
    n = (i * around + j, i * around + (j + 1) % around, (i + 1) * around + j, (i + 1) * around + (j + 1) % around)
    outer = np.concatenate(
        [np.stack([n[0], n[2], n[1]], -1).reshape(-1, 3), np.stack([n[1], n[2], n[3]], -1).reshape(-1, 3)]
    )
    tf = t.reshape(-1)
    weights = np.zeros((len(v), 17))
    legs = np.clip(tf * 1.15 - 0.12, 0, 0.85)
    left = np.clip(0.5 + v[:, 0] / 0.16, 0, 1)
    weights[:, 0], weights[:, 11], weights[:, 14] = 1 - legs, legs * left, legs * (1 - left)
    s = tf * length
    c = np.stack([v[outer, 0], v[outer, 1], s[outer], v[outer, 2]], -1)
    faces = np.concatenate([outer, outer[:, ::-1]])  # open at the hem: the inside can be seen
    made = assemble(
        v,
        faces,
        lambda p: np.hypot(p[:, 0] / 0.15, p[:, 2] / 0.12) - 1 + 0.6 * p[:, 1],
        weights,
        np.full(len(v), SKIRT),
        np.concatenate([c, c[:, ::-1]]),
        s,
    )
    object.__setattr__(made, "occlusion", (0.75 + 0.25 * np.sin(a * 9) * t).reshape(-1).astype(np.float32))
    return made
