"""The room or the open air behind the figures, one ray per pixel, with filtered textures and soft shadows."""

from __future__ import annotations

import numpy as np
import torch

from posekit.data.mannequin.scene import Scene
from posekit.data.mannequin.textures import LEVELS, SIZE, Bank

FAR = 1e6


def trilinear(bank: Bank, pattern: torch.Tensor, u: torch.Tensor, v: torch.Tensor, footprint: torch.Tensor) -> torch.Tensor:
    """(S,) weights of patterns at (u, v) in tiles, filtered over ``footprint`` tiles: bilinear in two mip levels."""
    texels = (footprint * SIZE).clamp(1.0, float(1 << (LEVELS - 1)))
    low = torch.zeros_like(texels, dtype=torch.int64)
    for k in range(1, LEVELS):
        low += texels >= (1 << k)
    low.clamp_(max=LEVELS - 2)
    blend = texels / (1 << low).float() - 1.0
    base = pattern.long() * bank.stride
    u, v = u - u.floor(), v - v.floor()
    levels = []
    for level in (low, low + 1):
        n = SIZE >> level
        last = n - 1
        x, y = u * n - 0.5, v * n - 0.5
        x0, y0 = x.floor(), y.floor()
        fx, fy = x - x0, y - y0
        x0, y0 = x0.long() & last, y0.long() & last
        x1, y1 = (x0 + 1) & last, (y0 + 1) & last
        start = base + bank.offsets[level]
        r0, r1 = start + y0 * n, start + y1 * n
        t = bank.texels
        top = t[r0 + x0].float() * (1 - fx) + t[r0 + x1].float() * fx
        bottom = t[r1 + x0].float() * (1 - fx) + t[r1 + x1].float() * fx
        levels.append(top * (1 - fy) + bottom * fy)
    return (levels[0] + (levels[1] - levels[0]) * blend) * (1.0 / 255.0)


def _box(x: torch.Tensor, r: int) -> torch.Tensor:
    """Mean over a window of 2r + 1 along both axes of (h, w), zero outside, by running sums of shifts."""
    for axis in (0, 1):
        n = x.shape[axis]
        out = x.clone()
        for k in range(1, min(r, n - 1) + 1):
            out.narrow(axis, k, n - k).add_(x.narrow(axis, 0, n - k))
            out.narrow(axis, 0, n - k).add_(x.narrow(axis, k, n - k))
        x = out * (1.0 / (2 * r + 1))
    return x


def _splat(scene: Scene, points: torch.Tensor, area: torch.Tensor, shape: tuple[int, int], device: str) -> torch.Tensor:
    """Ground points (N, 3) of surface ``area`` -> coverage (h, w) at half resolution."""
    h, w = shape
    R = torch.as_tensor(scene.camera, dtype=torch.float32, device=device)
    q = points - torch.as_tensor(scene.eye, dtype=torch.float32, device=device)
    cam = [q[:, 0] * R[i, 0] + q[:, 1] * R[i, 1] + q[:, 2] * R[i, 2] for i in range(3)]
    depth = (-cam[2]).clamp(min=0.05)
    focal = scene.focal / 2
    x = cam[0] * focal / depth + (w - 1) / 2
    y = (h - 1) / 2 - cam[1] * focal / depth
    weight = area * focal * focal / (depth * depth)
    ok = (x > -0.5) & (x < w - 0.5) & (y > -0.5) & (y < h - 0.5) & (-cam[2] > 0.2)
    at = (y + 0.5).floor().clamp(0, h - 1).long() * w + (x + 0.5).floor().clamp(0, w - 1).long()
    out = torch.zeros(h * w, device=device)
    out.index_add_(0, at, weight * ok)
    return out.view(h, w)


def _shadow(scene: Scene, people: torch.Tensor, device: str) -> torch.Tensor:
    """(H, W) share of light that reaches the floor past the figures and things."""
    H, W = scene.size
    h, w = (H + 1) // 2, (W + 1) // 2
    rows, _, _ = scene.prims
    grid = np.linspace(-1, 1, 9)
    a, b = (t.ravel() for t in np.meshgrid(grid, grid))
    one = np.ones_like(a)
    faces = np.concatenate([np.stack(s, -1) for s in ((a, one, b), (a, -one, b), (one, a, b), (-one, a, b), (a, b, one), (a, b, -one))])
    small = rows[rows[:, 12] < 3.0] if len(rows) else rows
    R, half = small[:, 3:12].reshape(-1, 3, 3), small[:, 12:15]
    p = small[:, None, :3] + np.einsum("oij,oj,nj->oni", R, half, faces)
    sides = half[:, [0, 1, 0]] * half[:, [2, 2, 1]]
    area = np.repeat(np.stack([sides[:, 0], sides[:, 0], sides[:, 1], sides[:, 1], sides[:, 2], sides[:, 2]], 1), 81, 1) * (4 / 81)
    points = torch.cat([people, torch.as_tensor(p.reshape(-1, 3), dtype=torch.float32, device=device)])
    areas = torch.cat([torch.full((len(people),), 0.00042, device=device), torch.as_tensor(area.ravel(), dtype=torch.float32, device=device)])
    light = torch.as_tensor(scene.light, dtype=torch.float32, device=device)
    height = points[:, 1:2].clamp(min=0)
    cast = points - light * (height / light[1])
    strength, softness = scene.shadow
    px = scene.focal / 2 / max(float(-scene.origins[:, 0, 2].max()), 0.5)
    r = max(int(round(softness * px)), 1)
    sun = _box(_box(_splat(scene, cast, areas * 0.55, (h, w), device), r), max(r // 2, 1)).clamp_(0, 1)
    near = (1.0 - height[:, 0] * 4.0).clamp_(min=0)
    below = points - torch.stack([torch.zeros_like(height[:, 0]), height[:, 0], torch.zeros_like(height[:, 0])], -1)
    r = max(int(round(0.07 * px)), 1)
    contact = _box(_box(_splat(scene, below, areas * near, (h, w), device), r), r).clamp_(0, 1)
    share = (1.0 - strength * sun) * (1.0 - 0.5 * contact)
    # Half resolution -> full, bilinear on the samples' own grid.
    def double(t: torch.Tensor, axis: int) -> torch.Tensor:
        n = t.shape[axis]
        low = torch.cat([t.narrow(axis, 0, 1), t.narrow(axis, 0, n - 1)], axis) * 0.25 + t * 0.75
        high = torch.cat([t.narrow(axis, 1, n - 1), t.narrow(axis, n - 1, 1)], axis) * 0.25 + t * 0.75
        return torch.stack([low, high], axis + 1).flatten(axis, axis + 1)

    return double(double(share, 0), 1)[:H, :W]


def shade_room(scenes: list[Scene], materials: torch.Tensor, bank: Bank, v, w, picture, geometry, device: str):
    """Linear colour (B, H, W, 3) of floor, walls and sky, and the floor's share of light (B, H, W)."""
    H, W = scenes[0].size
    rooms, shadows, first = [], [], 0
    figures = sum(len(t) for t in geometry.vertices[:-1]) if len(geometry.vertices) > 2 else len(v)
    yy, xx = torch.meshgrid(torch.arange(H, device=device).float(), torch.arange(W, device=device).float(), indexing="ij")
    for b, s in enumerate(scenes):
        own = v[:figures][picture[:figures] == b]
        shadow = _shadow(s, own, device)
        rooms.append(_room(s, materials[first : first + len(s.materials)], bank, shadow, xx, yy))
        shadows.append(shadow)
        first += len(s.materials)
    return torch.stack(rooms), torch.stack(shadows)


def _room(s: Scene, materials: torch.Tensor, bank: Bank, shadow: torch.Tensor, xx: torch.Tensor, yy: torch.Tensor) -> torch.Tensor:
    H, W = s.size
    R = s.camera  # rows are the camera's axes in the world
    cx, cy = (xx - (W - 1) / 2) / s.focal, ((H - 1) / 2 - yy) / s.focal
    d = [cx * float(R[0, i]) + cy * float(R[1, i]) - float(R[2, i]) for i in range(3)]
    e = s.eye
    t = torch.where(d[1] < -1e-4, -float(e[1]) / d[1].clamp(max=-1e-4), torch.full_like(xx, FAR))
    surface = torch.zeros_like(xx, dtype=torch.int64)
    surface[t >= FAR] = 3
    for k, (nx, nz, offset, _) in enumerate(s.walls):
        along = d[0] * float(nx) + d[2] * float(nz)
        tw = torch.where(along < -1e-4, float(offset - nx * e[0] - nz * e[2]) / along.clamp(max=-1e-4), torch.full_like(xx, FAR))
        nearer = (tw > 0) & (tw < t)
        t = torch.where(nearer, tw, t)
        surface = torch.where(nearer, torch.full_like(surface, 1 + k), surface)
    X, Y, Z = (float(e[i]) + t * d[i] for i in range(3))
    # One row per surface: floor, first wall, second wall, sky.
    index = np.array([s.floor, *(int(w[3]) for w in s.walls), *[s.floor] * (2 - len(s.walls)), s.sky if s.sky >= 0 else s.floor])
    m = materials[torch.as_tensor(index, device=xx.device)]
    light = torch.as_tensor(s.light, dtype=torch.float32)
    facing = [float(light[1])] + [max(float(light[0] * w[0] + light[2] * w[1]), 0.0) for w in s.walls]
    facing += [0.0] * (3 - len(facing))
    u, vv = X.clone(), Z.clone()
    level = torch.ones_like(xx)
    sine = (-d[1]).clamp(min=1e-3)
    floor = surface == 0
    wall_distance = torch.full_like(xx, 9.0)
    for k, (nx, nz, offset, _) in enumerate(s.walls):
        on = surface == 1 + k
        u = torch.where(on, X * float(nz) - Z * float(nx), u)
        vv = torch.where(on, Y, vv)
        sine = torch.where(on, (-(d[0] * float(nx) + d[2] * float(nz))).clamp(min=1e-3), sine)
        level = torch.where(on, 1.0 - 0.35 / (1.0 + (Y * 3.0).clamp(min=0) ** 2), level)
        wall_distance = torch.minimum(wall_distance, X * float(nx) + Z * float(nz) - float(offset))
    level = torch.where(floor, 1.0 - 0.3 / (1.0 + (wall_distance * 3.0).clamp(min=0) ** 2), level)
    sky = surface == 3
    u, vv = torch.where(sky, d[0] * 0.6 / (d[1] + 0.35), u), torch.where(sky, 0.8 / (d[1] + 0.35), vv)
    length = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).sqrt()
    footprint = t / s.focal * (length / sine).sqrt() * 1.25
    footprint = torch.where(sky, torch.full_like(t, 0.01), footprint)
    rows = m[surface]
    weight = trilinear(bank, rows[..., 10], u * rows[..., 6] + rows[..., 8], vv * rows[..., 7] + rows[..., 9], footprint * rows[..., 6])
    colour = rows[..., :3] + rows[..., 3:6] * weight[..., None]
    above = torch.as_tensor(s.ambient[0], dtype=torch.float32, device=xx.device)
    key = torch.as_tensor(s.key, dtype=torch.float32, device=xx.device)
    lit = torch.stack([above * (0.9 if k else 1.0) + key * f for k, f in enumerate(facing)] + [torch.full_like(key, 1.6)])
    # A pool of light: the room darkens away from the middle of the scene.
    pool = 1.0 / (1.0 + 0.02 * (X * X + (Y - 1.2) ** 2))
    level = level * torch.where(surface == 3, torch.ones_like(pool), 0.35 + 0.65 * pool)
    level = torch.where(floor, level * shadow, level)
    return colour * lit[surface] * level[..., None]
