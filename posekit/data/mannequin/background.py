"""The room or the open air behind the figures, one ray per pixel, with filtered textures and soft shadows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from posekit.data.mannequin.raster import nonzero
from posekit.data.mannequin.scene import Scene
from posekit.data.mannequin.textures import Bank, trilinear

FAR = 1e6


def _box(x: torch.Tensor, r: int) -> torch.Tensor:
    """Mean over a window of 2r + 1 along both axes of (1, 1, h, w), zero outside."""
    x = F.avg_pool2d(x, (2 * r + 1, 1), 1, (r, 0))
    return F.avg_pool2d(x, (1, 2 * r + 1), 1, (0, r))


def floor_shadows(scenes: list[Scene], points: list[tuple[torch.Tensor, ...]], device: str) -> torch.Tensor:
    """(B, H, W) share of light that reaches the floor past figures and things: a cast and a contact shadow."""
    H, W = scenes[0].size
    h, w = (H + 1) // 2, (W + 1) // 2
    under_sun, below, sun_weight, near_weight = (torch.cat(column) for column in zip(*points))
    sun, contact = torch.zeros(2, len(scenes) * h * w, device=device)
    sun.scatter_add_(0, under_sun, sun_weight)
    contact.scatter_add_(0, below, near_weight)
    out = []
    for b, s in enumerate(scenes):
        strength, softness = s.shadow
        scale = s.focal / 2 / max(float(-s.origins[:, 0, 2].max()), 0.5)  # half-resolution pixels in a metre
        r = max(round(softness * scale), 1)
        cast = _box(_box(sun.view(-1, 1, 1, h, w)[b], r), max(r // 2, 1)).clamp_(0, 1)
        r = max(round(0.07 * scale), 1)
        touch = _box(_box(contact.view(-1, 1, 1, h, w)[b], r), r).clamp_(0, 1)
        share = (1.0 - strength * cast) * (1.0 - 0.5 * touch)
        out.append(F.interpolate(share, scale_factor=2, mode="bilinear", align_corners=False)[0, 0, :H, :W])
    return torch.stack(out)


def shade_room(
    s: Scene, materials: torch.Tensor, bank: Bank, shadow: torch.Tensor, shown: torch.Tensor
) -> torch.Tensor:
    """Linear colour (3, H * W) of floor, walls and sky.

    Args:
        materials: (columns, M) of this scene; shadow: (H, W) share of light on the floor;
        shown: (H * W,) pixels that things in front leave open; the others stay 0.
    """
    H, W = s.size
    device = shadow.device
    R = s.camera / s.focal  # rows are the camera's axes in the world
    xs = torch.arange(W, device=device) - (W - 1) / 2
    ys = (H - 1) / 2 - torch.arange(H, device=device)
    dx, dy, dz = (
        (xs * float(R[0, i]) + (ys * float(R[1, i]) - float(s.camera[2, i]))[:, None]).view(-1) for i in range(3)
    )
    distance = float(s.eye[1]) / (-dy).clamp(min=float(s.eye[1]) / FAR)
    kinds = [distance < FAR * 0.5]  # floor, walls, and what is left: sky
    for nx, nz, offset, _ in s.walls:
        towards = -(dx * float(nx) + dz * float(nz))
        wall = float(nx * s.eye[0] + nz * s.eye[2] - offset) / towards.clamp(min=1e-5)
        nearer = wall < distance
        distance = torch.minimum(distance, wall)
        kinds = [kind & ~nearer for kind in kinds] + [nearer]
    rest = shown.clone()
    out = torch.zeros(3, H * W, device=device)
    for k in (*range(len(kinds)), -1):
        at = nonzero(kinds[k] & shown if k >= 0 else rest)
        if k >= 0:
            rest &= ~kinds[k]
        if len(at):
            ray = [c.index_select(0, at) for c in (dx, dy, dz, distance)]
            if k < 0:
                colour = _sky(s, materials, bank, ray)
            else:
                colour = _plane(s, k - 1, materials, bank, ray, shadow.reshape(-1).index_select(0, at))
            for i in range(3):
                out[i].scatter_(0, at, colour[i])
    return out


def _colours(material: list[float], weight: torch.Tensor, light: list[float], level) -> list[torch.Tensor]:
    return [(material[i] * light[i] + (material[3 + i] * light[i]) * weight) * level for i in range(3)]


def _sky(s: Scene, materials: torch.Tensor, bank: Bank, ray: list[torch.Tensor]) -> list[torch.Tensor]:
    m = materials[:, s.sky if s.sky >= 0 else s.floor].tolist()
    dx, dy, _, _ = ray
    lift = 1.0 / (dy + 0.35).clamp_(min=0.05)
    u, v = dx * lift * (0.6 * m[6]) + m[8], lift * (0.8 * m[6]) + m[9]
    weight = trilinear(bank, int(m[10]), u, v, torch.full_like(u, 0.01 * m[6]))
    return _colours(m, weight, [1.6, 1.6, 1.6], 1.0)


def _plane(s: Scene, wall: int, materials, bank: Bank, ray, shadow: torch.Tensor) -> list[torch.Tensor]:
    """Pixels of the floor (wall -1) or of a wall."""
    dx, dy, dz, t = ray
    X, Y, Z = (float(s.eye[i]) + d * t for i, d in enumerate((dx, dy, dz)))
    if wall < 0:
        m, u, v, sine, facing = materials[:, s.floor].tolist(), X, Z, -dy, float(s.light[1])
        level = shadow
        for nx, nz, offset, _ in s.walls:  # corners are darker
            gap = (X * float(nx) + (Z * float(nz) - float(offset))).clamp_(min=0)
            level = level * (1.0 - 0.3 / (1.0 + 9.0 * (gap * gap)))
    else:
        nx, nz = (float(c) for c in s.walls[wall, :2])
        m, u, v = materials[:, int(s.walls[wall, 3])].tolist(), X * nz - Z * nx, Y
        sine, facing = -(dx * nx + dz * nz), max(float(s.light[0] * nx + s.light[2] * nz), 0.0)
        level = 1.0 - 0.35 / (1.0 + 9.0 * (Y * Y))
    length = (dx * dx + dy * dy + dz * dz).sqrt_()
    footprint = t * (length / sine.clamp(min=1e-4)).sqrt_() * (1.25 * m[6] / s.focal)
    weight = trilinear(bank, int(m[10]), u * m[6] + m[8], v * m[7] + m[9], footprint)
    # A pool of light: the room darkens away from the middle of the scene.
    rise = Y - 1.2
    level = level * (0.35 + 0.65 / (1.0 + 0.02 * (X * X + rise * rise)))
    up = 1.0 if wall < 0 else 0.9
    light = [float(a * up + k * facing) for a, k in zip(s.ambient[0], s.key)]
    return _colours(m, weight, light, level)
