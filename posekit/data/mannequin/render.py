"""The renderer: scenes in, pictures, masks and visibility out, as array operations on any device.

Figures are skinned meshes, things are rounded boxes; all go through one depth buffer at twice the picture's
resolution, so every kind of occlusion is exact. Light is computed at vertices that show, cloth and faces at samples,
the room at pixels with filtered textures. Only exactly rounded arithmetic is used per sample, so on a CPU a picture
does not depend on the batch it was in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from posekit.data.mannequin import body
from posekit.data.mannequin.arrays import Array, Arrays, Runs, arrays
from posekit.data.mannequin.background import floor_shadows, shade_room
from posekit.data.mannequin.geometry import (
    SAMPLES,
    Cameras,
    Geometry,
    add_figures,
    add_things,
    coordinates,
    illuminate,
    join,
    project_vertices,
    shadow_points,
)
from posekit.data.mannequin.raster import NEAR, Planes, Visible, rasterise
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
    """Front faces inside their pictures, as columns."""

    corners: Array  # (3, F) vertices
    place: Array  # (9, F) x, y, w of the corners
    picture: Array  # (F,), as are the others
    region: Array
    owner: Array
    form: Array

    def take(self, index: Array, xp: Arrays) -> _Faces:
        return _Faces(*(xp.take(getattr(self, name), index) for name in _Faces.__dataclass_fields__))

    @property
    def xyw(self) -> tuple[Array, Array, Array]:
        """x, y, w, each (3, F)."""
        return self.place[0:3], self.place[3:6], self.place[6:9]


def _front_faces(g: Geometry, vertices: tuple[Array, ...]) -> _Faces:
    """Join the geometry's faces and drop those that look away, lie outside or reach behind the camera."""
    xp = g.xp
    a, b, c, *labels = join(g.faces, xp)
    corners = xp.stack([a, b, c])
    x, y = (xp.take(v, corners.reshape(-1)).reshape(3, -1) for v in vertices[:2])
    keep = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]) > 1e-6
    for p, end in ((x, g.size[1] * SAMPLES - 1), (y, g.size[0] * SAMPLES - 1)):
        first = xp.ceil(xp.minimum(xp.minimum(p[0], p[1]), p[2]))
        last = xp.floor(xp.maximum(xp.maximum(p[0], p[1]), p[2]))
        keep &= (first <= last) & (last >= 0) & (first <= end)  # some sample's row and column lies within
    kept = xp.nonzero(keep)
    corners = xp.take(corners, kept)
    place = [xp.take(v, corners.reshape(-1)).reshape(3, -1) for v in vertices]
    return _Faces(
        corners, xp.concat([p.reshape(-1) for p in place]).reshape(9, -1), *(xp.take(a, kept) for a in labels)
    )


def _lights(g: Geometry, vertices: list[Array], corners: Array, cameras: Cameras) -> Array:
    """(4, 3, F) red, green, blue light and highlight at the corners of drawn faces."""
    xp = g.xp
    mark = xp.full(g.count, False, np.bool_)
    mark[corners.reshape(-1)] = True
    used = xp.nonzero(mark)
    *columns, picture = (xp.take(v, used) for v in vertices)
    light = xp.stack(illuminate(columns, cameras.take(picture), xp))
    number = xp.cumsum(mark) - 1
    return xp.columns(light, xp.take(number, corners.reshape(-1))).reshape(4, 3, -1)


@dataclass(frozen=True)
class _Samples:
    """Visible samples (S,): row and column in their picture (float), pixel and place within it in the picture stack."""

    row: Array
    column: Array
    pixel: Array
    corner: Array

    @staticmethod
    def of(position: Array, rows: int, columns: int, xp: Arrays) -> _Samples:
        line = position // columns
        column = position - line * columns
        pixel = (line // SAMPLES) * (columns // SAMPLES) + column // SAMPLES
        corner = (line % SAMPLES) * SAMPLES + column % SAMPLES
        return _Samples(xp.float32(line % rows), xp.float32(column), pixel, corner)


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


def _develop(linear: Array, s: Scene, xp: Arrays) -> np.ndarray:
    """Linear light (3, H, W) -> (H, W, 3) uint8 through blur, response and sensor noise."""
    if s.blur > 0:
        linear = xp.of_tensor(_blur(xp.tensor(linear), s.blur))
    light = xp.sqrt(xp.clip(linear * 0.5, 0, 1))
    light *= RESPONSE - 1
    light += 0.5
    index = xp.int32(light).reshape(3, -1)
    response = xp.put(s.response)
    level = xp.tensor(xp.stack([xp.take(response[i], index[i]) for i in range(3)])).view(3, *s.size)
    if s.noise > 0:
        level.add_(_grain(str(level.device))[s.grain : s.grain + level.numel()].view_as(level), alpha=s.noise)
    return xp.interleave(xp.of_tensor(level.round_().clamp_(0, 255)))


def _owners(samples: np.ndarray, people: int) -> np.ndarray:
    """(4, H, W) owners of a pixel's samples -> (H, W) owner of most of them; people win ties."""
    out = np.zeros(samples.shape[1:], np.uint8)
    best = (samples == 0).view(np.uint8).sum(0, dtype=np.uint8) * np.uint8(2)
    for k in range(1, people + 1):
        count = (samples == k).view(np.uint8).sum(0, dtype=np.uint8) * np.uint8(2)
        count += count > 0
        better = count > best
        out[better] = k
        np.maximum(best, count, out=best)
    return out


def _visibility(scene: Scene, visible: Visible, first: int, faces: _Faces, owner: np.ndarray, xp: Arrays):
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
    face = visible.at(xp.put(first + i * (2 * W) + j, np.int64).reshape(-1))
    shown = faces.take(xp.clip(face + 0, 0), xp)
    fx, fy, fw = shown.xyw
    at, dx, dy = xp.host(xp.stack(Planes(fx, fy, xp)(fw))).astype(float).reshape(3, *x.shape)
    empty = xp.host(face < 0).reshape(x.shape)
    front = np.where(empty, np.inf, 1.0 / np.maximum(at + dx * j + dy * i, 1e-6))
    who = np.where(empty, 0, xp.host(shown.owner).reshape(x.shape))
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
    xp = arrays(device)
    if xp.alone:
        return [made for scene in scenes for made in _draw([scene], xp)]
    return _draw(scenes, xp)


def _draw(scenes: list[Scene], xp: Arrays) -> list[Rendered]:
    H, W = scenes[0].size
    B, rows, columns = len(scenes), H * SAMPLES, W * SAMPLES
    cameras, surfaces, bank = Cameras.of(scenes, xp), Surfaces.of(scenes, xp), Bank.of(xp)
    g = Geometry((H, W), xp)
    add_figures(g, scenes)
    add_things(g, scenes, sum(len(s.people) for s in scenes))
    vertices = join(g.vertices, xp)
    faces = _front_faces(g, project_vertices(g, vertices[:3], cameras.take(vertices[7])))
    visible = rasterise(*faces.xyw, faces.picture, (B, rows, columns), xp)
    shown, runs = xp.groups(visible.face)
    seen = faces.take(shown, xp)
    samples = _Samples.of(visible.position, rows, columns, xp)
    colour = _colours(g, vertices, seen, runs, samples, cameras, surfaces, bank)

    pixel = xp.int64(samples.pixel)
    total, covered = xp.full((3, B * H * W), 0.0), xp.full(B * H * W, 0.0)
    xp.scatter_add(covered, pixel, xp.full(len(pixel), 1.0 / SAMPLES**2))
    for i in range(3):
        xp.scatter_add(total[i], pixel, colour[i])
    total *= 1.0 / SAMPLES**2
    owners = xp.full(SAMPLES**2 * B * H * W, 0, np.uint8)
    xp.scatter(owners, samples.corner * (B * H * W) + pixel, runs.spread(xp.uint8(seen.owner)))
    owner_samples = xp.host(owners).reshape(SAMPLES**2, B, H, W)
    shadow = floor_shadows(scenes, shadow_points(g, cameras), xp)
    out = []
    for b, s in enumerate(scenes):
        here = slice(b * H * W, (b + 1) * H * W)
        linear = shade_room(s, bank, shadow[b], covered[here] < 0.999, xp)
        linear *= 1.0 - covered[here]
        linear += total[:, here]
        image = _develop(linear.reshape(3, H, W), s, xp)
        mask = _owners(owner_samples[:, b], len(s.people))
        out.append(Rendered(image, mask, *_visibility(s, visible, b * rows * columns, faces, mask, xp)))
    return out


def _colours(
    g: Geometry, vertices: list[Array], seen: _Faces, runs: Runs, samples: _Samples, cameras: Cameras,
    surfaces: Surfaces, bank: Bank,
) -> list[Array]:  # fmt: skip
    """Linear red, green, blue (S,) of visible samples."""
    xp = g.xp
    texture = coordinates(g, seen.corners, seen.form).reshape(4, 3, -1)
    values = xp.concat([texture.reshape(-1), _lights(g, vertices, seen.corners, cameras).reshape(-1)]).reshape(8, 3, -1)
    focal = cameras.take(seen.picture).focal
    return shade(runs, seen.xyw, (samples.row, samples.column), values, seen.region, focal, surfaces, bank, xp)
