"""The room or the open air behind the figures, one ray per pixel, with filtered textures and soft shadows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from posekit.data.mannequin.arrays import Array, Arrays
from posekit.data.mannequin.scene import Scene
from posekit.data.mannequin.textures import Bank, trilinear

FAR = 1e6


def _mean(x: torch.Tensor, r: int, axis: int) -> torch.Tensor:
    """Mean over 2r + 1 neighbours along an axis of (h, w), zero outside.

    A sum of shifted pictures is what pooling computes, in the same order, several times faster on a CPU.
    """
    n = x.shape[axis]
    out = torch.zeros_like(x)
    for shift in range(-min(r, n - 1), min(r, n - 1) + 1):
        length = n - abs(shift)
        out.narrow(axis, max(-shift, 0), length).add_(x.narrow(axis, max(shift, 0), length))
    return out.div_(2 * r + 1)


def _box(x: torch.Tensor, r: int) -> torch.Tensor:
    return _mean(_mean(x, r, 0), r, 1)


def floor_shadows(scenes: list[Scene], points: tuple[Array, ...], xp: Arrays) -> Array:
    """(B, H, W) share of light that reaches the floor past figures and things: a cast and a contact shadow."""
    H, W = scenes[0].size
    h, w = (H + 1) // 2, (W + 1) // 2
    under_sun, below, sun_weight, near_weight = points
    sun, contact = xp.full((2, len(scenes) * h * w), 0.0)
    xp.scatter_add(sun, under_sun, sun_weight)
    xp.scatter_add(contact, below, near_weight)
    suns, contacts = (xp.tensor(a).view(-1, h, w) for a in (sun, contact))
    out = []
    for b, s in enumerate(scenes):
        strength, softness = s.shadow
        scale = s.focal / 2 / max(float(-s.origins[:, 0, 2].max()), 0.5)  # half-resolution pixels in a metre
        r = max(round(softness * scale), 1)
        cast = _box(_box(suns[b], r), max(r // 2, 1)).clamp_(0, 1)
        r = max(round(0.07 * scale), 1)
        touch = _box(_box(contacts[b], r), r).clamp_(0, 1)
        share = ((1.0 - strength * cast) * (1.0 - 0.5 * touch))[None, None]
        out.append(F.interpolate(share, scale_factor=2, mode="bilinear", align_corners=False)[0, 0, :H, :W])
    return xp.of_tensor(torch.stack(out))


def shade_room(s: Scene, bank: Bank, shadow: Array, shown: Array, xp: Arrays) -> Array:
    """Linear colour (3, H * W) of floor, walls and sky.

    Args:
        shadow: (H, W) share of light on the floor;
        shown: (H * W,) pixels that things in front leave open; the others stay 0.
    """
    H, W = s.size
    R = s.camera / s.focal  # rows are the camera's axes in the world
    xs = xp.float32(xp.arange(W)) - (W - 1) / 2
    ys = (H - 1) / 2 - xp.float32(xp.arange(H))
    dx, dy, dz = (
        (xs * float(R[0, i]) + (ys * float(R[1, i]) - float(s.camera[2, i]))[:, None]).reshape(-1) for i in range(3)
    )
    distance = (1.0 / xp.clip(-dy, float(s.eye[1]) / FAR)) * float(s.eye[1])
    kinds = [distance < FAR * 0.5]  # floor, walls, and what is left: sky
    for nx, nz, offset, _ in s.walls:
        towards = -(dx * float(nx) + dz * float(nz))
        wall = (1.0 / xp.clip(towards, 1e-5)) * float(nx * s.eye[0] + nz * s.eye[2] - offset)
        nearer = wall < distance
        distance = xp.minimum(distance, wall)
        kinds = [kind & ~nearer for kind in kinds] + [nearer]
    rest = shown
    out = xp.full((3, H * W), 0.0)
    for k in (*range(len(kinds)), -1):
        at = xp.nonzero(kinds[k] & shown if k >= 0 else rest)
        if k >= 0:
            rest = rest & ~kinds[k]
        if len(at):
            ray = [xp.take(c, at) for c in (dx, dy, dz, distance)]
            if k < 0:
                colour = _sky(s, bank, ray, xp)
            else:
                colour = _plane(s, k - 1, bank, ray, xp.take(shadow.reshape(-1), at) if k == 0 else None, xp)
            for i in range(3):
                out[i][at] = colour[i]
    return out


def _material(s: Scene, index: int) -> list[float]:
    return s.materials[index].astype("float32").tolist()


def _colours(material: list[float], weight: Array, light: list[float], level) -> list[Array]:
    return [(material[i] * light[i] + (material[3 + i] * light[i]) * weight) * level for i in range(3)]


def _sky(s: Scene, bank: Bank, ray: list[Array], xp: Arrays) -> list[Array]:
    m = _material(s, s.sky if s.sky >= 0 else s.floor)
    dx, dy, _, _ = ray
    lift = 1.0 / xp.clip(dy + 0.35, 0.05)
    u, v = dx * lift * (0.6 * m[6]) + m[8], lift * (0.8 * m[6]) + m[9]
    weight = trilinear(bank, int(m[10]), u, v, xp.full(u.shape, 0.01 * m[6]), xp)
    return _colours(m, weight, [1.6, 1.6, 1.6], 1.0)


def _plane(s: Scene, wall: int, bank: Bank, ray, level: Array | None, xp: Arrays) -> list[Array]:
    """Pixels of the floor (wall -1), with the share of light that reaches it, or of a wall."""
    dx, dy, dz, t = ray
    X, Y, Z = (float(s.eye[i]) + d * t for i, d in enumerate((dx, dy, dz)))
    if wall < 0:
        m, u, v, sine, facing = _material(s, s.floor), X, Z, -dy, float(s.light[1])
        for nx, nz, offset, _ in s.walls:  # corners are darker
            gap = xp.clip(X * float(nx) + (Z * float(nz) - float(offset)), 0)
            level = level * (1.0 - (1.0 / (1.0 + 9.0 * (gap * gap))) * 0.3)
    else:
        nx, nz = (float(c) for c in s.walls[wall, :2])
        m, u, v = _material(s, int(s.walls[wall, 3])), X * nz - Z * nx, Y
        sine, facing = -(dx * nx + dz * nz), max(float(s.light[0] * nx + s.light[2] * nz), 0.0)
        level = 1.0 - (1.0 / (1.0 + 9.0 * (Y * Y))) * 0.35
    length = xp.sqrt(dx * dx + dy * dy + dz * dz)
    footprint = t * xp.sqrt(length / xp.clip(sine, 1e-4)) * (1.25 * m[6] / s.focal)
    weight = trilinear(bank, int(m[10]), u * m[6] + m[8], v * m[7] + m[9], footprint, xp)
    # A pool of light: the room darkens away from the middle of the scene.
    rise = Y - 1.2
    level = level * (0.35 + (1.0 / (1.0 + 0.02 * (X * X + rise * rise))) * 0.65)
    up = 1.0 if wall < 0 else 0.9
    light = [float(a * up + k * facing) for a, k in zip(s.ambient[0], s.key)]
    return _colours(m, weight, light, level)
