"""The renderer: scenes in, pictures, masks and visibility out, as batched tensor operations on any device.

Figures are skinned meshes, things are rounded boxes; all go through one depth buffer at twice the picture's
resolution, so every kind of occlusion is exact. Light is computed at vertices, cloth and faces at samples, the room
at pixels with filtered textures. Only exactly rounded arithmetic is used per sample, so on a CPU a picture does not
depend on the batch it was in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from posekit.data.mannequin import body
from posekit.data.mannequin.background import floor_shadows, shade_room
from posekit.data.mannequin.geometry import SAMPLES, Cameras, Geometry, add_figures, add_things, forms
from posekit.data.mannequin.raster import NEAR, Planes, Visible, nonzero, rasterise
from posekit.data.mannequin.scene import RESPONSE, Scene, project
from posekit.data.mannequin.shading import Surfaces, shade
from posekit.data.mannequin.textures import Bank


@dataclass(frozen=True)
class Rendered:
    """One picture and what the depth buffer knows about it.

    image: (H, W, 3) uint8 RGB; owner: (H, W) uint8, 0 room and things, k + 1 person k; visibility: (P, 17) uint8,
    2 visible, 1 hidden, 0 out of the picture; hidden_by: (P, 17) uint8, 0 nothing, 1 self, 2 another, 3 a thing;
    keypoints: (P, 17, 2) float64 pixels; depth: (P, 17) metres.
    """

    image: np.ndarray
    owner: np.ndarray
    visibility: np.ndarray
    hidden_by: np.ndarray
    keypoints: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class _Faces:
    """Front faces inside their pictures: order (3, F) vertices of the corners, place (9, F) x, y, w of the corners."""

    order: torch.Tensor
    place: torch.Tensor
    labels: torch.Tensor  # (4, F) picture, region, owner, form

    def take(self, index: torch.Tensor) -> _Faces:
        return _Faces(*(getattr(self, name).index_select(1, index) for name in _Faces.__dataclass_fields__))

    @property
    def corners(self) -> tuple[tuple[torch.Tensor, ...], ...]:
        """x, y, w, each a triple of (F,) columns."""
        rows = self.place.unbind(0)
        return rows[0:3], rows[3:6], rows[6:9]


def _front_faces(g: Geometry, vertices: list[torch.Tensor]) -> _Faces:
    """Join the geometry and drop faces that look away, lie outside or reach behind the camera."""
    H, W = g.size[0] * SAMPLES, g.size[1] * SAMPLES
    order = torch.cat(g.faces).t().contiguous()
    place = torch.cat([vertices[k].index_select(0, order.view(-1)) for k in range(3)]).view(9, -1)
    everything = _Faces(order, place, torch.stack([torch.cat(c) for c in (g.picture, g.region, g.owner, g.form)]))
    x, y, w = everything.corners

    def low(c) -> torch.Tensor:
        return torch.minimum(torch.minimum(c[0], c[1]), c[2])

    def high(c) -> torch.Tensor:
        return torch.maximum(torch.maximum(c[0], c[1]), c[2])

    keep = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]) > 1e-6
    for c, end in ((x, W - 1), (y, H - 1)):
        first, last = low(c).ceil_(), high(c).floor_()
        keep &= (first <= last) & (last >= 0) & (first <= end)  # some sample's row and column lies within
    keep &= (low(w) > 0) & (high(w) < 1 / NEAR)
    return everything.take(nonzero(keep))


def _seen(faces: _Faces, visible: Visible) -> tuple[_Faces, Visible]:
    """Only the faces that some sample shows, and the samples renumbered to them."""
    mark = torch.zeros(faces.place.shape[1], dtype=torch.bool, device=visible.face.device)
    mark[visible.face] = True
    number = torch.cumsum(mark, 0) - 1
    face = number.index_select(0, visible.face)
    return faces.take(nonzero(mark)), Visible(visible.position, visible.row, visible.column, face, visible.best)


@lru_cache(maxsize=4)
def _grain(device: str) -> torch.Tensor:
    """A long row of unit normal noise; pictures take it from different places."""
    rng = np.random.default_rng(2718)
    return torch.as_tensor(rng.standard_normal((1 << 20) + (1 << 22), dtype=np.float32), device=device)


def _blur(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian over (3, H, W); sigma in pixels, borders repeated."""
    reach = max(1, int(np.ceil(2.2 * sigma)))
    taps = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    taps /= taps[0] + 2 * taps[1:].sum()
    for axis in (1, 2):
        n = picture.shape[axis]
        out = picture * float(taps[0])
        for r in range(1, reach + 1):
            k = float(taps[r])
            out.narrow(axis, r, n - r).add_(picture.narrow(axis, 0, n - r), alpha=k)
            out.narrow(axis, 0, n - r).add_(picture.narrow(axis, r, n - r), alpha=k)
            out.narrow(axis, 0, r).add_(picture.narrow(axis, 0, 1), alpha=k)
            out.narrow(axis, n - r, r).add_(picture.narrow(axis, n - 1, 1), alpha=k)
        picture = out
    return picture


def _develop(linear: torch.Tensor, s: Scene, device: str) -> np.ndarray:
    """Linear light (3, H, W) -> (H, W, 3) uint8 through blur, response and sensor noise."""
    if s.blur > 0:
        linear = _blur(linear, s.blur)
    response = torch.as_tensor(s.response, dtype=torch.float32, device=device)
    index = linear.mul(0.5).clamp_(0, 1).sqrt_().mul_(RESPONSE - 1).add_(0.5).int()
    level = torch.stack([response[i].index_select(0, index[i].view(-1)) for i in range(3)])
    if s.noise > 0:
        level.add_(_grain(device)[s.grain : s.grain + level.numel()].view_as(level), alpha=s.noise)
    level = level.round_().clamp_(0, 255).to(torch.uint8)
    return level.view(3, *s.size).permute(1, 2, 0).contiguous().cpu().numpy()


def _owners(samples: np.ndarray, people: int) -> np.ndarray:
    """(2H, 2W) owners of samples -> (H, W) owner of most samples of each pixel; people win ties."""
    quads = [samples[i::2, j::2] for i in (0, 1) for j in (0, 1)]
    out = np.zeros(quads[0].shape, np.uint8)
    best = sum((q == 0).view(np.uint8) for q in quads) * np.uint8(2)
    for k in range(1, people + 1):
        count = sum((q == k).view(np.uint8) for q in quads) * np.uint8(2)
        count += count > 0
        better = count > best
        out[better] = k
        np.maximum(best, count, out=best)
    return out


def _visibility(scene: Scene, visible: Visible, first: int, faces: _Faces, owner: np.ndarray):
    """Flags from the depth buffer.

    Args:
        first: position of the picture's first sample; faces: all that were drawn; owner: (H, W).

    Returns:
        visibility, hidden_by, keypoints, depth as in :class:`Rendered`.
    """
    H, W = scene.size
    xy, z = project(scene, scene.joints)
    x, y = xy[..., 0], xy[..., 1]
    inside = (x >= -0.5) & (x < W - 0.5) & (y >= -0.5) & (y < H - 0.5) & (z > NEAR)
    # The sample nearest the joint lies in the joint's own pixel: pixel p holds samples 2p and 2p + 1.
    j = np.clip(np.floor(2 * x + 1), 0, 2 * W - 1).astype(int)
    i = np.clip(np.floor(2 * y + 1), 0, 2 * H - 1).astype(int)
    face = visible.at(torch.as_tensor(first + i * (2 * W) + j, device=faces.place.device).view(-1))
    shown = faces.take(face.clamp(min=0))
    fx, fy, fw = shown.corners
    at, dx, dy = torch.stack(Planes(fx, fy)(fw)).cpu().numpy().astype(float).reshape(3, *x.shape)
    empty = (face < 0).cpu().numpy().reshape(x.shape)
    front = np.where(empty, np.inf, 1.0 / np.maximum(at + dx * j + dy * i, 1e-6))
    who = np.where(empty, 0, shown.labels[2].cpu().numpy().reshape(x.shape))
    me = np.arange(1, len(x) + 1)[:, None]
    size = np.array([max(p.stature, p.girth[2, 2]) for p in scene.people])[:, None]
    flesh = body.FLESH * size + np.array([p.belly for p in scene.people])[:, None] * np.isin(np.arange(17), (11, 12))
    own = (owner[i // 2, j // 2] == me) & (who == me)
    clear = inside & own & (front >= z - flesh)
    cover = np.where(own, 1, np.where((who == 0) | (who == me), 3, 2))
    hidden_by = np.where(inside & ~clear, cover, 0)
    flags = np.where(inside, np.where(clear, 2, 1), 0)
    return flags.astype(np.uint8), hidden_by.astype(np.uint8), xy, z


def render(scenes: list[Scene], *, device: str = "cpu") -> list[Rendered]:
    """Render scenes of one size; each result is the same whatever else is in the list (exactly so on a CPU)."""
    H, W = scenes[0].size
    B, rows, columns = len(scenes), H * SAMPLES, W * SAMPLES
    cameras, surfaces, bank = Cameras.of(scenes, device), Surfaces.of(scenes, device), Bank.on(device)
    g = Geometry((H, W))
    add_figures(g, scenes, cameras, device)
    add_things(g, scenes, cameras, sum(len(s.people) for s in scenes), device)
    vertices = [torch.cat(c) for c in zip(*g.vertices)]
    faces = _front_faces(g, vertices)
    x, y, w = faces.corners
    visible = rasterise(x, y, w, faces.labels[0], (B, rows, columns))
    seen, samples = _seen(faces, visible)
    picture, region, owner, form = seen.labels
    coordinates = torch.cat([forms(g.fine, device), *g.own_forms], 1).index_select(1, form)
    light = torch.cat([vertices[3 + k].index_select(0, seen.order.view(-1)) for k in range(4)]).view(12, -1)
    focal = cameras.focal.view(-1).index_select(0, picture)
    values = torch.cat([coordinates, light]).view(8, 3, -1)
    colour, takes = shade(samples, seen.corners, values, region, focal, surfaces, bank, device)

    shadow = floor_shadows(scenes, g.shade, device)
    at = samples.position
    pixel = (at // (columns * SAMPLES)) * W + (at % columns) // SAMPLES
    reach = 1.0 - takes * (1.0 - shadow.view(-1).index_select(0, pixel))
    covered = torch.zeros(B * H * W, device=device)
    covered.scatter_add_(0, pixel, torch.full_like(reach, 1.0 / SAMPLES**2))
    total = torch.zeros(3, B * H * W, device=device)
    for i in range(3):
        total[i].scatter_add_(0, pixel, colour[i].mul_(reach))
    owners = torch.zeros(B * rows * columns, dtype=torch.uint8, device=device)
    owners.scatter_(0, at, owner.to(torch.uint8).index_select(0, samples.face))
    owner_samples = owners.view(B, rows, columns).cpu().numpy()
    out = []
    for b, s in enumerate(scenes):
        here = slice(b * H * W, (b + 1) * H * W)
        materials = surfaces.materials[:, surfaces.first[b] : surfaces.first[b + 1]]
        room = shade_room(s, materials, bank, shadow[b], covered[here] < 0.999)
        linear = room.mul_(1.0 - covered[here]).add_(total[:, here], alpha=1.0 / SAMPLES**2)
        image = _develop(linear.view(3, H, W), s, device)
        mask = _owners(owner_samples[b], len(s.people))
        out.append(Rendered(image, mask, *_visibility(s, visible, b * rows * columns, faces, mask)))
    return out
