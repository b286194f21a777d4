"""From scenes to projected triangles and their light: skinned figures, rounded boxes, and where their shadows fall.

All vertices are columns; a column of the camera has one entry for every vertex, or just one for a single picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from posekit.data.mannequin import attire, body, furniture
from posekit.data.mannequin.arrays import Array, Arrays
from posekit.data.mannequin.mesh import Template
from posekit.data.mannequin.raster import NEAR
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
    """A template as columns; belly and bust are displacements along the normal."""

    rest: tuple[Array, ...]  # x, y, z (V,)
    normal: tuple[Array, ...]
    occlusion: Array
    weights: Array  # (17, V)
    faces: Array  # (3, F)
    part: Array
    face_part: Array
    garment: Array
    belly: Array
    bust: Array
    first_form: int  # row of the first face in `forms`
    area: float  # square metres for one vertex


@lru_cache(maxsize=4)
def forms(fine: bool, xp: Arrays) -> Array:
    """(12, G) texture coordinates u, v, s, frontness at the three corners of the faces of all templates."""
    tables = [make_template(kind, fine).coordinates[:, [0, 2, 1]] for kind in KINDS]
    return xp.put(np.concatenate([t.transpose(2, 1, 0).reshape(12, -1) for t in tables], 1))


@lru_cache(maxsize=64)
def mesh(kind: str, fine: bool, xp: Arrays) -> Mesh:
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
    return Mesh(
        tuple(xp.put(v[:, i]) for i in range(3)), tuple(xp.put(n[:, i]) for i in range(3)), xp.put(t.occlusion),
        xp.put(weights), xp.put(t.faces[:, [0, 2, 1]].T, np.int64), xp.put(t.part, np.int64),
        xp.put(t.face_part, np.int64), xp.put(t.garment), xp.put(belly), xp.put(bust), first, float(surface) / len(v),
    )  # fmt: skip


class Cameras:
    """Camera and light of pictures as columns."""

    NAMES = (
        *(f"R{i}{j}" for i in range(3) for j in range(3)), "ex", "ey", "ez", "focal", "lx", "ly", "lz",
        "kr", "kg", "kb", "ar", "ag", "ab", "br", "bg", "bb",
    )  # fmt: skip

    def __init__(self, table: Array, xp: Arrays) -> None:
        self.table, self.xp = table, xp
        self.__dict__.update(zip(self.NAMES, table))

    @staticmethod
    def of(scenes: list[Scene], xp: Arrays) -> Cameras:
        rows = [np.concatenate([s.camera.ravel(), s.eye, [s.focal], s.light, s.key, s.ambient.ravel()]) for s in scenes]
        return Cameras(xp.put(np.stack(rows, 1)), xp)

    def take(self, picture: Array) -> Cameras:
        """One entry for each of ``picture``; a single picture's entry serves all."""
        return self if self.table.shape[1] == 1 else Cameras(self.xp.columns(self.table, picture), self.xp)

    def view(self, x, y, z) -> tuple[Array, Array, Array]:
        """World -> camera right, up, depth."""
        x, y, z = x - self.ex, y - self.ey, z - self.ez
        return (
            x * self.R00 + y * self.R01 + z * self.R02,
            x * self.R10 + y * self.R11 + z * self.R12,
            -(x * self.R20 + y * self.R21 + z * self.R22),
        )

    def __getattr__(self, name: str) -> Array:  # columns are set from NAMES
        raise AttributeError(name)


@dataclass
class Geometry:
    """Everything to draw, as lists of columns that `join` makes one."""

    size: tuple[int, int]  # of a picture, pixels
    xp: Arrays
    vertices: list[tuple[Array, ...]] = field(default_factory=list)  # x, y, z, normal, occlusion, picture (V,)
    faces: list[tuple[Array, ...]] = field(default_factory=list)  # corners 0, 1, 2, picture, region, owner, form (F,)
    points: list[tuple[Array, ...]] = field(default_factory=list)  # x, y, z, area, picture: casters of shadow
    things: tuple[Array, Array, int] | None = None  # corners' own coordinates (3, n, V), see `coordinates`
    count: int = 0

    @property
    def fine(self) -> bool:
        return self.size[0] > COARSE_UNTIL

    def add(self, position, normal, occlusion, faces, region, owner, picture, form) -> None:
        """p copies of a mesh: columns (p, V); faces (3, F) of one copy; region, form (p, F); owner, picture (p,)."""
        (p, V), F, xp = position[0].shape, faces.shape[1], self.xp
        columns = [c.reshape(-1) for c in (*position, *normal, occlusion)]
        self.vertices.append((*columns, xp.repeat(picture, V)))
        start = self.count + xp.arange(p)[:, None] * V
        corners = [(faces[k] + start).reshape(-1) for k in range(3)]
        labels = (xp.repeat(picture, F), region.reshape(-1), xp.repeat(owner, F), form.reshape(-1))
        self.faces.append((*corners, *labels))
        self.count += p * V

    def cast(self, position, area: Array, picture: Array) -> None:
        """Surface points, columns (N,), that stand for ``area`` square metres each."""
        self.points.append((*position, area, picture))


def join(parts: list[tuple[Array, ...]], xp: Arrays) -> list[Array]:
    return [xp.concat(column) for column in zip(*parts)]


def project_vertices(g: Geometry, position: list[Array], view: Cameras) -> tuple[Array, Array, Array]:
    """Columns x, y (samples) and inverse depth; x is not a number where a vertex cannot be drawn."""
    right, up, depth = view.view(*position)
    w = 1.0 / g.xp.clip(depth, 1e-3)
    scale = w * (view.focal * SAMPLES)
    x = right * scale + (g.size[1] * SAMPLES - 1) / 2
    y = (g.size[0] * SAMPLES - 1) / 2 - up * scale
    x[w >= 1 / NEAR] = float("nan")
    return x, y, w


def shadow_points(g: Geometry, cameras: Cameras) -> tuple[Array, ...]:
    """Where surfaces darken the floor, at half the resolution: cell under the sun, cell below, weight of either."""
    x, y, z, area, picture = join(g.points, g.xp)
    view = cameras.take(picture)
    g.xp.clip(y, 0)
    k = y / view.ly
    sun, weight = _ground(g, x - view.lx * k, z - view.lz * k, view, picture)
    below, near = _ground(g, x, z, view, picture)
    return sun, below, weight * area, near * area * g.xp.clip(1.0 - y * 4.0, 0)


def _ground(g: Geometry, x: Array, z: Array, view: Cameras, picture: Array) -> tuple[Array, Array]:
    h, w = (g.size[0] + 1) // 2, (g.size[1] + 1) // 2
    xp = g.xp
    right, up, depth = view.view(x, xp.full(1, 0.0), z)
    ok = depth > 0.2
    scale = (view.focal * 0.5) / xp.clip(depth, 0.05)
    # Half-resolution cells lie on pairs of pixels.
    column = xp.floor(right * scale + ((g.size[1] - 1) / 2 + 0.5) / 2)
    row = xp.floor(((g.size[0] - 1) / 2 + 0.5) / 2 - up * scale)
    ok &= (column >= 0) & (column < w) & (row >= 0) & (row < h)
    cell = xp.int64(xp.clip(row, 0, h - 1)) * w + xp.int64(xp.clip(column, 0, w - 1)) + picture * (h * w)
    return cell, scale * scale * ok


def illuminate(vertices: list[Array], c: Cameras, xp: Arrays) -> tuple[Array, ...]:
    """Red, green, blue light and highlight at vertices: wrapped key light, sky and ground, rim, half-vector gloss."""
    x, y, z, nx, ny, nz, occlusion = vertices
    inverse = 1.0 / xp.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
    facing = nx * c.lx + ny * c.ly + nz * c.lz
    diffuse = xp.clip((facing + 0.22) * (1 / 1.22), 0) * (0.4 + 0.6 * occlusion)
    vx, vy, vz = c.ex - x, c.ey - y, c.ez - z
    inverse = 1.0 / xp.sqrt(vx * vx + vy * vy + vz * vz + 1e-12)
    vx, vy, vz = vx * inverse, vy * inverse, vz * inverse
    rim = 1.0 - xp.clip(nx * vx + ny * vy + nz * vz, 0, 1)
    sky = occlusion * (0.7 + 0.3 * xp.clip(y * 2.0, 0, 1)) * (1.0 + 0.25 * (rim * rim * rim))
    up = 0.5 + 0.5 * ny
    hx, hy, hz = c.lx + vx, c.ly + vy, c.lz + vz
    spec = xp.clip(nx * hx + ny * hy + nz * hz, 0) / xp.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
    for _ in range(4):
        spec = spec * spec
    return (
        c.kr * diffuse + (c.br + (c.ar - c.br) * up) * sky,
        c.kg * diffuse + (c.bg + (c.ag - c.bg) * up) * sky,
        c.kb * diffuse + (c.bb + (c.ab - c.bb) * up) * sky,
        spec * (facing > 0),
    )


def add_figures(g: Geometry, scenes: list[Scene]) -> None:
    """All figures: body, head, hair, hat, skirt, each kind of mesh in one go."""
    xp = g.xp
    people = [p for s in scenes for p in s.people]
    of_picture = np.repeat(np.arange(len(scenes)), [len(s.people) for s in scenes])
    number = np.concatenate([np.arange(1, len(s.people) + 1) for s in scenes])
    R0, t0 = body.rest_frames()
    A = np.concatenate([s.rotations for s in scenes]) * np.stack([p.girth for p in people])[:, :, None, :]
    A = A @ np.swapaxes(R0, -1, -2)
    t = np.concatenate([s.origins for s in scenes]) - (A @ t0[:, :, None])[..., 0]
    matrices = np.concatenate([A, t[..., None]], -1).reshape(-1, 17, 12).transpose(0, 2, 1)
    limits = np.stack([p.thresholds.T for p in people])
    cloth = np.stack([p.thickness.T for p in people])
    shape = np.array([(p.belly, p.bust) for p in people])
    groups: dict[str, list[int]] = {"body": list(range(len(people))), "head": list(range(len(people)))}
    for i, person in enumerate(people):
        for kind in worn(person):
            groups.setdefault(kind, []).append(i)
    for kind in sorted(groups, key=KINDS.index):
        m, index = mesh(kind, g.fine, xp), np.array(groups[kind])
        picture, owner = xp.put(of_picture[index], np.int64), xp.put(number[index], np.int64)
        position, normal = _skin(m, xp, *(xp.put(table[index]) for table in (matrices, limits, cloth, shape)))
        occlusion = m.occlusion + xp.full((len(index), 1), 0.0)
        region = xp.put(index, np.int64)[:, None] * 7 + m.face_part
        form = m.first_form + xp.arange(m.faces.shape[1]) + xp.arange(len(index))[:, None] * 0
        g.add(position, normal, occlusion, m.faces, region, owner, picture, form)
        every = [c[:, ::SHADOW_STRIDE] for c in position]
        caster = [c.reshape(-1) for c in every]
        area = xp.full(len(caster[0]), m.area * SHADOW_STRIDE * 0.6)
        g.cast(caster, area, xp.repeat(picture, every[0].shape[1]))


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


def _skin(m: Mesh, xp: Arrays, M: Array, limits: Array, cloth: Array, shape: Array):
    """Positions and normals, columns (p, V): linear blend skinning of the rest mesh, thickened by cloth.

    M (p, 12, 17) matrices; limits (p, 2, 7), cloth (p, 3, 7) of the parts; shape (p, 2) belly and bust.
    """
    low, high = (xp.take(limits[:, i], m.part) for i in (0, 1))
    inner, middle, outer = (xp.take(cloth[:, i], m.part) for i in (0, 1, 2))
    thick = inner + (middle - inner) * xp.clip((m.garment - low) * 45.0 + 0.5, 0, 1)
    thick = thick + (outer - thick) * xp.clip((m.garment - high) * 45.0 + 0.5, 0, 1)
    thick = thick + shape[:, :1] * m.belly + shape[:, 1:] * m.bust
    x, y, z = (r + n * thick for r, n in zip(m.rest, m.normal))
    p = len(M)
    B = xp.mm(M.reshape(p * 12, 17), m.weights).reshape(p, 12, -1)
    nx, ny, nz = m.normal
    position = tuple(B[:, 4 * i] * x + B[:, 4 * i + 1] * y + B[:, 4 * i + 2] * z + B[:, 4 * i + 3] for i in range(3))
    normal = tuple(B[:, 4 * i] * nx + B[:, 4 * i + 1] * ny + B[:, 4 * i + 2] * nz for i in range(3))
    return position, normal


@lru_cache(maxsize=4)
def _box(xp: Arrays):
    """Directions, corner signs (3 columns each), faces (3, F), and the axes (2, F) that u and v run along."""
    direction, sign, faces = furniture.box_template()
    axis = np.abs(direction[faces].mean(1)).argmax(1)
    along = np.array([(2, 0, 0), (1, 2, 1)])[:, axis]
    columns = ([xp.put(a[:, i]) for i in range(3)] for a in (direction, sign))
    return *columns, xp.put(faces[:, [0, 2, 1]].T, np.int64), xp.put(along, np.int64)


def add_things(g: Geometry, scenes: list[Scene], people: int) -> None:
    """All rounded boxes, and points of their surfaces that cast shadows."""
    xp = g.xp
    table = np.concatenate([s.prims[0] for s in scenes]).T.astype(np.float32)
    n = table.shape[1]
    if not n:
        return
    c = xp.put(table)
    picture = np.repeat(np.arange(len(scenes)), [len(s.prims[0]) for s in scenes])
    owner = np.concatenate([s.prims[2] for s in scenes]) + 1
    direction, sign, faces, _ = _box(xp)
    c = c[:, :, None]
    half, bevel, taper = c[12:15], c[15:18], c[18]
    local = [sign[i] * (half[i] - bevel[i]) + direction[i] * bevel[i] for i in range(3)]
    widen = 1.0 + taper * (local[1] / half[1])
    local = [local[0] * widen, local[1], local[2] * widen]
    position = [_turn(local, i, c) + c[i] for i in range(3)]
    xp.clip(position[1], 0)  # the ground is no triangle: nothing may show from below it
    normal = [direction[i] / bevel[i] for i in range(3)]
    F, first = faces.shape[1], forms(g.fine, xp).shape[1]
    g.things = xp.stack(local).reshape(-1), g.count, first
    region = (people * 7 + xp.arange(n))[:, None] + xp.arange(F) * 0
    form = first + xp.arange(n * F)
    # Things darken towards the ground they stand on.
    occlusion = 0.72 + 0.28 * xp.clip(position[1] * 2.5, 0, 1)
    normal = [_turn(normal, i, c) for i in range(3)]
    labels = xp.put(owner, np.int64), xp.put(picture, np.int64)
    g.add(position, normal, occlusion, faces, region, *labels, form)
    _cast_things(g, table, picture)


def _turn(p, i: int, c: Array) -> Array:
    return p[0] * c[3 + 3 * i] + p[1] * c[4 + 3 * i] + p[2] * c[5 + 3 * i]


def coordinates(g: Geometry, corners: Array, form: Array) -> Array:
    """(12, F) texture coordinates of drawn faces: the templates' for figures, a corner's own coordinates for things.

    corners: (3, F) vertices; form: (F,), ascending where things begin.
    """
    xp = g.xp
    if g.things is None:
        return xp.columns(forms(g.fine, xp), form)
    local, start, first = g.things
    figures = int((form < first).sum())
    *_, faces, along = _box(xp)
    axis = xp.take(along, (form[figures:] - first) % faces.shape[1])
    at = axis[:, None] * (local.shape[0] // 3) + (corners[:, figures:] - start)
    own = xp.full((12, axis.shape[1]), 0.0)
    own[:6] = xp.take(local, at.reshape(-1)).reshape(6, -1)
    return xp.concat([xp.columns(forms(g.fine, xp), form[:figures]), own])


def _cast_things(g: Geometry, table: np.ndarray, picture: np.ndarray) -> None:
    """Quasi-random points on the six sides of every box."""
    half, xp = table[12:15], g.xp
    area = np.stack([4 * half[1] * half[2], 4 * half[0] * half[2], 4 * half[0] * half[1]], 1).reshape(-1)
    number = np.clip(area * np.float32(1 / SHADOW_CELL), 2, 300).astype(np.int64)
    # No shadow of skirting boards and hills, nor of rugs.
    number *= ((half.max(0) < 3.0) & (half[1] > 0.01)).repeat(3)
    share = area / (number.astype(np.float32) + np.float32(1e-9)) * np.float32(0.55)
    runs = xp.runs(xp.put(number * 2, np.int64))
    axis = xp.put(np.tile((0, 1, 2), len(picture)), np.int64)
    rows = [*xp.put(table[:15].repeat(3, 1)), xp.put(share), xp.as_float(axis), xp.as_float(runs.starts)]
    c = runs.spread(xp.stack(rows))
    axis, step = xp.bits(c[16]), xp.arange(c.shape[1]) - xp.bits(c[17])
    a, b = (0.5 + xp.float32(step) * k for k in (0.7548776662, 0.5698402910))
    a, b = ((t - xp.floor(t)) * 2.0 - 1.0 for t in (a, b))
    across = 1.0 - 2.0 * xp.float32(step & 1)
    unit = [xp.where(axis == i, across, xp.where(axis == (i + 1) % 3, a, b)) for i in range(3)]
    point = [unit[i] * c[12 + i] for i in range(3)]
    position = [_turn(point, i, c) + c[i] for i in range(3)]
    g.cast(position, c[15], runs.spread(xp.put(picture.repeat(3), np.int64)))
