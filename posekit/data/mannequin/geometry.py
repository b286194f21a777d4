"""From scenes to lit, projected triangles: skinned figures, rounded boxes, and where their shadows fall.

Per vertex: position in samples, inverse depth, light (three colours) and highlight. Arithmetic runs on columns of
shape (copies, vertices) with one camera row per copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from posekit.data.mannequin import attire, body, furniture
from posekit.data.mannequin.mesh import Template
from posekit.data.mannequin.raster import expand
from posekit.data.mannequin.scene import Scene

SAMPLES = 2  # per pixel and axis
COARSE_UNTIL = 256  # pixels of height
SHADOW_STRIDE = 4  # every fourth vertex casts the shadow of four
SHADOW_CELL = 0.006  # square metres of a thing's surface for one shadow point
KINDS = ("body", "head", *attire.HAIR_STYLES, *attire.HATS, "0.5", "0.72")  # the last two are skirts, by length


def make_template(kind: str, fine: bool) -> Template:
    """The mesh of one kind; pictures up to `COARSE_UNTIL` pixels high use cells that are larger than a pixel anyway."""
    if kind == "body":
        return body.body_template(0.0215 if fine else 0.029)
    if kind == "head":
        return body.head_template(0.0115 if fine else 0.0145)
    if kind in attire.HATS:
        return attire.hat_template(kind, 0.0125 if fine else 0.017)
    if kind in attire.HAIR_STYLES:
        return attire.hair_template(kind, 0.0135 if fine else 0.018)
    return attire.skirt_template(float(kind))


@dataclass(frozen=True)
class Mesh:
    """A template as columns on a device; belly and bust are displacements along the normal."""

    rest: tuple[torch.Tensor, ...]  # x, y, z (V,)
    normal: tuple[torch.Tensor, ...]
    occlusion: torch.Tensor
    weights: torch.Tensor  # (17, V)
    faces: torch.Tensor  # (F, 3)
    part: torch.Tensor
    face_part: torch.Tensor
    garment: torch.Tensor
    belly: torch.Tensor
    bust: torch.Tensor
    first_form: int  # row of the first face in `forms`
    area: float  # square metres for one vertex


@lru_cache(maxsize=4)
def forms(fine: bool, device: str) -> torch.Tensor:
    """(12, G) texture coordinates u, v, s, frontness at the three corners of the faces of all templates."""
    tables = [make_template(kind, fine).coordinates[:, [0, 2, 1]] for kind in KINDS]
    tables = [t.transpose(2, 1, 0).reshape(12, -1) for t in tables]
    return torch.as_tensor(np.ascontiguousarray(np.concatenate(tables, 1)), device=device)


@lru_cache(maxsize=64)
def mesh(kind: str, fine: bool, device: str) -> Mesh:
    t = make_template(kind, fine)
    v, n = t.vertices, t.normals
    front = np.clip(n[:, 2], 0, 1) * ((t.part == body.TORSO) | (t.part == body.SKIRT))
    belly = front * np.exp(-(((v[:, 1] - 1.06) / 0.13) ** 2))
    bust = front * np.exp(-(((np.abs(v[:, 0]) - 0.075) / 0.055) ** 2) - ((v[:, 1] - 1.3) / 0.06) ** 2)
    weights = np.zeros((17, len(v)), np.float32)
    np.add.at(weights, (t.bones, np.arange(len(v))[:, None]), t.weights)
    corner = v[t.faces]
    surface = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1).sum() / 2
    first = sum(len(make_template(k, fine).faces) for k in KINDS[: KINDS.index(kind)])

    def put(a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(a), device=device)

    return Mesh(
        tuple(put(v[:, i]) for i in range(3)), tuple(put(n[:, i]) for i in range(3)), put(t.occlusion), put(weights),
        put(t.faces[:, [0, 2, 1]]), put(t.part), put(t.face_part), put(t.garment), put(belly), put(bust),
        first, float(surface) / len(v),
    )  # fmt: skip


class Cameras:
    """Camera and light of pictures as columns of shape (n, 1): one row for every copy of a mesh."""

    NAMES = (
        *(f"R{i}{j}" for i in range(3) for j in range(3)), "ex", "ey", "ez", "focal", "lx", "ly", "lz",
        "kr", "kg", "kb", "ar", "ag", "ab", "br", "bg", "bb",
    )  # fmt: skip

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table
        self.__dict__.update(zip(self.NAMES, table.t().unsqueeze(-1).unbind(0)))

    @staticmethod
    def of(scenes: list[Scene], device: str) -> Cameras:
        rows = [np.concatenate([s.camera.ravel(), s.eye, [s.focal], s.light, s.key, s.ambient.ravel()]) for s in scenes]
        return Cameras(torch.as_tensor(np.stack(rows), dtype=torch.float32, device=device))

    def take(self, picture: torch.Tensor) -> Cameras:
        return Cameras(self.table.index_select(0, picture))

    def view(self, x, y, z) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """World -> camera right, up, depth."""
        x, y, z = x - self.ex, y - self.ey, z - self.ez
        return (
            x * self.R00 + y * self.R01 + z * self.R02,
            x * self.R10 + y * self.R11 + z * self.R12,
            -(x * self.R20 + y * self.R21 + z * self.R22),
        )

    def __getattr__(self, name: str) -> torch.Tensor:  # columns are set from NAMES
        raise AttributeError(name)


@dataclass
class Geometry:
    """Everything to draw, as lists of columns that are joined at the end."""

    size: tuple[int, int]  # of a picture, pixels
    vertices: list[tuple[torch.Tensor, ...]] = field(default_factory=list)  # x, y, w, r, g, b, highlight
    faces: list[torch.Tensor] = field(default_factory=list)  # (F, 3)
    region: list[torch.Tensor] = field(default_factory=list)
    owner: list[torch.Tensor] = field(default_factory=list)
    picture: list[torch.Tensor] = field(default_factory=list)
    form: list[torch.Tensor] = field(default_factory=list)
    own_forms: list[torch.Tensor] = field(default_factory=list)
    # Shadow points: cell under the sun, cell below, weight of either.
    shade: list[tuple[torch.Tensor, ...]] = field(default_factory=list)
    count: int = 0

    @property
    def fine(self) -> bool:
        return self.size[0] > COARSE_UNTIL

    def add(self, position, normal, occlusion, cameras: Cameras, faces, region, owner, picture, form) -> None:
        """p copies of a mesh: columns (p, V); faces (F, 3) of one copy; region, form (p, F); owner, picture (p,)."""
        p, V = position[0].shape
        start = self.count + torch.arange(p, device=faces.device) * V
        light = _illuminate(position, normal, occlusion, cameras)
        right, up, depth = cameras.view(*position)
        w = 1.0 / depth.clamp(min=1e-3)
        scale = w * (cameras.focal * SAMPLES)
        x = right * scale + (self.size[1] * SAMPLES - 1) / 2
        y = (self.size[0] * SAMPLES - 1) / 2 - up * scale
        # A vertex behind the camera has no place in the picture: w tells, see `joined`.
        w = w * (depth > 0)
        self.vertices.append(tuple(c.reshape(-1) for c in (x, y, w, *light)))
        self.faces.append((faces + start[:, None, None]).view(-1, 3))
        F = len(faces)
        self.region.append(region.reshape(-1))
        self.form.append(form.reshape(-1))
        self.owner.append(owner[:, None].expand(p, F).reshape(-1))
        self.picture.append(picture[:, None].expand(p, F).reshape(-1))
        self.count += p * V

    def cast(self, position, area, cameras: Cameras, picture: torch.Tensor) -> None:
        """Surface points (p, N) of ``area`` square metres -> where they darken the floor, at half the resolution."""
        x, y, z = position
        y = y.clamp(min=0)
        k = y / cameras.ly
        sun, weight = self._ground(x - cameras.lx * k, z - cameras.lz * k, cameras, picture)
        under, near = self._ground(x, z, cameras, picture)
        near = near * area * (1.0 - y * 4.0).clamp_(min=0)
        self.shade.append(tuple(c.reshape(-1) for c in (sun, under, weight * area, near)))

    def _ground(self, x, z, cameras: Cameras, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, w = (self.size[0] + 1) // 2, (self.size[1] + 1) // 2
        right, up, depth = cameras.view(x, torch.zeros_like(x), z)
        scale = cameras.focal * 0.5 / depth.clamp(min=0.05)
        # Half-resolution cells lie on pairs of pixels.
        column = (right * scale + ((self.size[1] - 1) / 2 + 0.5) / 2).floor_()
        row = (((self.size[0] - 1) / 2 + 0.5) / 2 - up * scale).floor_()
        ok = (column >= 0) & (column < w) & (row >= 0) & (row < h) & (depth > 0.2)
        cell = row.clamp_(0, h - 1).long() * w + column.clamp_(0, w - 1).long() + picture[:, None] * (h * w)
        return cell, scale * scale * ok


def _illuminate(position, normal, occlusion, c: Cameras) -> tuple[torch.Tensor, ...]:
    """Red, green, blue light and highlight at vertices: wrapped key light, sky and ground, rim, half-vector gloss."""
    x, y, z = position
    nx, ny, nz = normal
    inverse = 1.0 / (nx * nx + ny * ny + nz * nz + 1e-12).sqrt_()
    nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
    facing = nx * c.lx + ny * c.ly + nz * c.lz
    diffuse = ((facing + 0.22) * (1 / 1.22)).clamp_(min=0) * (0.4 + 0.6 * occlusion)
    vx, vy, vz = c.ex - x, c.ey - y, c.ez - z
    inverse = 1.0 / (vx * vx + vy * vy + vz * vz + 1e-12).sqrt_()
    vx, vy, vz = vx * inverse, vy * inverse, vz * inverse
    rim = 1.0 - (nx * vx + ny * vy + nz * vz).clamp_(0, 1)
    sky = occlusion * (0.7 + 0.3 * (y * 2.0).clamp_(0, 1)) * (1.0 + 0.25 * (rim * rim * rim))
    up = 0.5 + 0.5 * ny
    hx, hy, hz = c.lx + vx, c.ly + vy, c.lz + vz
    spec = (nx * hx + ny * hy + nz * hz).clamp_(min=0) / (hx * hx + hy * hy + hz * hz + 1e-12).sqrt_()
    for _ in range(4):
        spec = spec * spec
    return (
        c.kr * diffuse + (c.br + (c.ar - c.br) * up) * sky,
        c.kg * diffuse + (c.bg + (c.ag - c.bg) * up) * sky,
        c.kb * diffuse + (c.bb + (c.ab - c.bb) * up) * sky,
        spec * (facing > 0),
    )


def add_figures(g: Geometry, scenes: list[Scene], cameras: Cameras, device: str) -> None:
    """All figures: body, head, hair, hat, skirt, each kind of mesh in one go."""
    people = [p for s in scenes for p in s.people]
    of_picture = np.repeat(np.arange(len(scenes)), [len(s.people) for s in scenes])
    number = np.concatenate([np.arange(1, len(s.people) + 1) for s in scenes])
    R0, t0 = body.rest_frames()
    A = np.concatenate([s.rotations for s in scenes]) * np.stack([p.girth for p in people])[:, :, None, :]
    A = A @ np.swapaxes(R0, -1, -2)
    t = np.concatenate([s.origins for s in scenes]) - (A @ t0[:, :, None])[..., 0]
    matrices = np.concatenate([A, t[..., None]], -1).reshape(-1, 17, 12).transpose(0, 2, 1)

    def put(a, dtype=torch.float32) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(a), dtype=dtype, device=device)

    tables = {
        "M": put(matrices),
        "limits": put(np.stack([p.thresholds.T for p in people])),
        "cloth": put(np.stack([p.thickness.T for p in people])),
        "shape": put(np.array([(p.belly, p.bust) for p in people])),
    }
    groups: dict[str, list[int]] = {"body": list(range(len(people))), "head": list(range(len(people)))}
    for i, person in enumerate(people):
        for kind in worn(person):
            groups.setdefault(kind, []).append(i)
    for kind in sorted(groups, key=KINDS.index):
        m, index = mesh(kind, g.fine, device), put(groups[kind], torch.int64)
        picture, owner = put(of_picture[groups[kind]], torch.int64), put(number[groups[kind]], torch.int64)
        position, normal = _skin(m, *(tables[k].index_select(0, index) for k in ("M", "limits", "cloth", "shape")))
        view = cameras.take(picture)
        region = index[:, None] * 7 + m.face_part
        form = (m.first_form + torch.arange(len(m.faces), device=device)).expand(len(index), -1)
        g.add(position, normal, m.occlusion, view, m.faces, region, owner, picture, form)
        g.cast(tuple(c[:, ::SHADOW_STRIDE] for c in position), m.area * SHADOW_STRIDE * 0.6, view, picture)


def worn(person) -> list[str]:
    """Kinds of mesh that a person wears on head and hips."""
    kinds, style = [], person.hair_style
    if person.hat != "none":
        kinds.append(person.hat)
        style = style if style in ("bob", "long", "ponytail", "bald", "buzz") else "short"
    if style not in ("bald", "buzz"):
        kinds.append(style)
    if person.skirt:
        kinds.append(str(person.skirt))
    return kinds


def _skin(m: Mesh, M: torch.Tensor, limits: torch.Tensor, cloth: torch.Tensor, shape: torch.Tensor):
    """Positions and normals, columns (p, V): linear blend skinning of the rest mesh, thickened by cloth.

    M (p, 12, 17) matrices; limits (p, 2, 7), cloth (p, 3, 7) of the parts; shape (p, 2) belly and bust.
    """
    low, high = (limits[:, i].index_select(1, m.part) for i in (0, 1))
    inner, middle, outer = (cloth[:, i].index_select(1, m.part) for i in (0, 1, 2))
    thick = inner + (middle - inner) * ((m.garment - low) * 45.0 + 0.5).clamp_(0, 1)
    thick = thick + (outer - thick) * ((m.garment - high) * 45.0 + 0.5).clamp_(0, 1)
    thick = thick + shape[:, :1] * m.belly + shape[:, 1:] * m.bust
    x, y, z = (r + n * thick for r, n in zip(m.rest, m.normal))
    p = len(M)
    B = torch.mm(M.reshape(p * 12, 17), m.weights).view(p, 12, -1)
    nx, ny, nz = m.normal
    position = tuple(B[:, 4 * i] * x + B[:, 4 * i + 1] * y + B[:, 4 * i + 2] * z + B[:, 4 * i + 3] for i in range(3))
    normal = tuple(B[:, 4 * i] * nx + B[:, 4 * i + 1] * ny + B[:, 4 * i + 2] * nz for i in range(3))
    return position, normal


@lru_cache(maxsize=4)
def _box(device: str):
    direction, sign, faces = furniture.box_template()
    axis = np.abs(direction[faces].mean(1)).argmax(1)
    first, second = np.array((2, 0, 0))[axis], np.array((1, 2, 1))[axis]

    def columns(a: np.ndarray) -> list[torch.Tensor]:
        return [torch.as_tensor(np.ascontiguousarray(a[:, i]), dtype=torch.float32, device=device) for i in range(3)]

    # A corner's texture coordinate is one of its three coordinates: an index into their concatenation.
    order = faces[:, [0, 2, 1]]
    pick = np.stack([np.stack([c[:, None] * len(direction) + order for c in (first, second)])]).reshape(2, -1, 3)
    return (
        columns(direction), columns(sign), torch.as_tensor(np.ascontiguousarray(order), device=device),
        torch.as_tensor(pick.transpose(0, 2, 1).reshape(-1), device=device),
    )  # fmt: skip


def add_things(g: Geometry, scenes: list[Scene], cameras: Cameras, people: int, device: str) -> None:
    """All rounded boxes, and points of their surfaces that cast shadows."""
    rows = torch.as_tensor(np.concatenate([s.prims[0] for s in scenes]), dtype=torch.float32, device=device)
    if not len(rows):
        return
    counts = [len(s.prims[0]) for s in scenes]
    picture = torch.as_tensor(np.repeat(np.arange(len(scenes)), counts), device=device)
    owner = torch.as_tensor(np.concatenate([s.prims[2] for s in scenes]) + 1, device=device)
    direction, sign, faces, pick = _box(device)
    c = rows.t().contiguous().unsqueeze(-1).unbind(0)
    half, bevel, taper = c[12:15], c[15:18], c[18]
    local = [sign[i] * (half[i] - bevel[i]) + direction[i] * bevel[i] for i in range(3)]
    widen = 1.0 + taper * (local[1] / half[1])
    local = [local[0] * widen, local[1], local[2] * widen]
    normal = [direction[i] / bevel[i] for i in range(3)]

    def turn(p, i: int) -> torch.Tensor:
        return p[0] * c[3 + 3 * i] + p[1] * c[4 + 3 * i] + p[2] * c[5 + 3 * i]

    position = [turn(local, i) + c[i] for i in range(3)]
    position[1].clamp_(min=0)  # the ground is no triangle: nothing may show from below it
    n, F = len(rows), len(faces)
    corner = torch.cat(local, 1).index_select(1, pick).view(n, 6, F).transpose(0, 1).reshape(6, n * F)
    g.own_forms.append(torch.cat([corner, torch.zeros_like(corner)]))
    region = (people * 7 + torch.arange(n, device=device))[:, None].expand(n, F)
    form = forms(g.fine, device).shape[1] + torch.arange(n * F, device=device).view(n, F)
    # Things darken towards the ground they stand on.
    occlusion = 0.72 + 0.28 * (position[1] * 2.5).clamp_(0, 1)
    view = cameras.take(picture)
    g.add(position, [turn(normal, i) for i in range(3)], occlusion, view, faces, region, owner, picture, form)

    area = torch.cat([4 * half[1] * half[2], 4 * half[0] * half[2], 4 * half[0] * half[1]], 1).view(-1)
    number = (area * (1 / SHADOW_CELL)).clamp(2, 300).long()
    # No shadow of skirting boards and hills, nor of rugs.
    number = number * ((rows[:, 12:15].amax(1) < 3.0) & (rows[:, 13] > 0.01)).repeat_interleave(3)
    side, step = expand(number * 2)
    thing, axis = side // 3, side % 3
    a, b = ((0.5 + step * k) % 1.0 * 2.0 - 1.0 for k in (0.7548776662, 0.5698402910))
    across = 1.0 - 2.0 * (step % 2)
    unit = [torch.where(axis == i, across, torch.where((axis + 2) % 3 == i, a, b)) for i in range(3)]
    c = rows.t().contiguous().index_select(1, thing).unsqueeze(-1).unbind(0)
    point = [unit[i][:, None] * c[12 + i] for i in range(3)]
    xyz = [turn(point, i) + c[i] for i in range(3)]
    share = (area / (number + 1e-9)).index_select(0, side)[:, None]
    pictures = picture.index_select(0, thing)
    g.cast(xyz, share * 0.55, cameras.take(pictures), pictures)
