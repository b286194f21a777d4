"""Things in the scene: furniture, plants, doors, balls, all put together from one primitive, the rounded box.

With the rounding as large as the half size it is a ball, a cylinder or a cushion; with a taper, a cone or a pot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from posekit.data.mannequin.body import rotation
from posekit.data.mannequin.wardrobe import Materials, linear, pick

WOODS = np.array([(158, 112, 70), (110, 72, 44), (196, 158, 112), (84, 58, 44), (214, 190, 152)])
PAINTS = np.array([
    (232, 228, 218), (60, 72, 84), (176, 74, 58), (86, 118, 104), (216, 176, 96), (98, 130, 160),
    (144, 100, 120),
    (48, 50, 54), (198, 146, 120), (150, 160, 130),
])  # fmt: skip


UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def _three(value) -> tuple:
    return (value,) * 3 if isinstance(value, int | float) else tuple(value)


@dataclass
class Prims:
    """Rounded boxes as growing lists; `arrays` makes them (O, ...) float64."""

    rows: list[list[float]] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)

    def add(self, centre, half, material: int, *, bevel=0.012, turn=None, taper: float = 0.0, owner: int = -1) -> None:
        """A box of half sizes (3) about a centre (3), metres; bevel: radius (scalar or 3) of its edges; turn (3, 3)."""
        half, bevel = _three(half), _three(bevel)
        bevel = tuple(min(b, h) for b, h in zip(bevel, half))
        self.rows.append([*centre, *(UPRIGHT if turn is None else turn.ravel()), *half, *bevel, taper])
        self.material.append(material)
        self.owner.append(owner)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = np.array(self.rows).reshape(-1, 19)
        return rows, np.array(self.material, int), np.array(self.owner, int)


@lru_cache(maxsize=1)
def box_template(n: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sphere cut into octants, to be pulled apart: directions (V, 3), corner signs (V, 3), faces (F, 3)."""
    lon = np.concatenate([np.linspace(0, np.pi / 2, n) + k * np.pi / 2 for k in range(4)])
    slon = np.repeat(np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]), n, 0)  # signs of x and z
    lat = np.concatenate([np.linspace(-np.pi / 2, 0, n), np.linspace(0, np.pi / 2, n)])
    slat = np.repeat((-1, 1), n)
    la, lo = np.meshgrid(lat, lon, indexing="ij")
    direction = np.stack([np.cos(la) * np.cos(lo), np.sin(la), np.cos(la) * np.sin(lo)], -1)
    sign = np.stack(
        [np.tile(slon[:, 0], (2 * n, 1)), np.tile(slat[:, None], (1, 4 * n)), np.tile(slon[:, 1], (2 * n, 1))], -1
    )
    rows, columns = 2 * n, 4 * n
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    side = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    # The flat top and bottom: the first and last rings hold four corners each (n copies of every corner).
    top, corner = (rows - 1) * columns, np.arange(4) * n
    quad = np.array([(0, 1, 2), (0, 2, 3)])
    faces = np.concatenate([side, corner[quad], top + corner[quad]])
    direction, sign = direction.reshape(-1, 3), sign.reshape(-1, 3).astype(float)
    v = sign + direction
    p = v[faces]
    normal = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    solid = np.linalg.norm(normal, axis=1) > 1e-9
    faces, normal, p = faces[solid], normal[solid], p[solid]
    flip = np.einsum("ij,ij->i", normal, p.mean(1)) < 0
    faces[flip] = faces[flip][:, ::-1]
    return direction, sign, faces


def _wood(rng, m: Materials) -> int:
    c = linear(WOODS[rng.integers(len(WOODS))])
    return m.add(c, c * 0.55, pattern="wood", period=0.6, offset=rng.random(2), gloss=0.1)


def _paint(rng, m: Materials, pattern="plain", **options) -> int:
    c = linear(PAINTS[rng.integers(len(PAINTS))])
    return m.add(c, c * 0.75, pattern=pattern, offset=rng.random(2), gloss=0.08, **options)


def stool(rng, prims: Prims, m: Materials, at: np.ndarray, height: float) -> None:
    """Something to sit on whose top is at ``height``: a crate, a stool or an upholstered cube."""
    turn = rotation(1, np.array(rng.uniform(0, np.pi)))
    kind = rng.integers(3)
    if kind == 0 or height < 0.3:
        prims.add((at[0], height / 2, at[2]), (0.2, height / 2, 0.2), _wood(rng, m), bevel=0.015, turn=turn)
    elif kind == 1:
        prims.add((at[0], height - 0.05, at[2]), (0.23, 0.05, 0.23), _paint(rng, m), bevel=0.04, turn=turn)
        prims.add((at[0], height / 2 - 0.05, at[2]), (0.21, height / 2 - 0.05, 0.21), _wood(rng, m), turn=turn)
    else:
        top = _wood(rng, m)
        prims.add((at[0], height - 0.02, at[2]), (0.2, 0.02, 0.2), top, bevel=(0.2, 0.015, 0.2))
        for x in (-1, 1):
            for z in (-1, 1):
                leg = np.array((at[0], height / 2 - 0.02, at[2])) + turn @ np.array((0.13 * x, 0, 0.13 * z))
                prims.add(leg, (0.018, height / 2 - 0.02, 0.018), top, bevel=(0.018, 0.004, 0.018))


def _table(rng, prims, m, at, turn):
    wood = _wood(rng, m)
    w, d, h = rng.uniform(0.4, 0.75), rng.uniform(0.3, 0.4), rng.uniform(0.62, 0.76)
    prims.add((at[0], h - 0.02, at[2]), (w, 0.02, d), wood, turn=turn)
    for x in (-1, 1):
        for z in (-1, 1):
            foot = np.array((at[0], h / 2 - 0.02, at[2])) + turn @ np.array(((w - 0.06) * x, 0, (d - 0.06) * z))
            prims.add(foot, (0.028, h / 2 - 0.02, 0.028), wood, bevel=0.006, turn=turn)
    if rng.random() < 0.6:
        x = rng.uniform(-0.6, 0.6) * w
        prims.add(
            np.array((at[0], h + 0.09, at[2])) + turn @ np.array((x, 0, 0)),
            (0.05, 0.09, 0.05),
            _paint(rng, m),
            bevel=(0.05, 0.02, 0.05),
            taper=0.25,
        )


def _chair(rng, prims, m, at, turn):
    frame, seat = _wood(rng, m), _paint(rng, m)
    prims.add((at[0], 0.45, at[2]), (0.21, 0.025, 0.21), seat, bevel=0.02, turn=turn)
    for x in (-1, 1):
        for z in (-1, 1):
            tall = 0.46 if z < 0 else 0.22
            leg = np.array((at[0], tall, at[2])) + turn @ np.array((0.18 * x, 0, 0.18 * z))
            prims.add(leg, (0.018, tall, 0.018), frame, bevel=0.006, turn=turn)
    prims.add(np.array((at[0], 0.75, at[2])) + turn @ np.array((0, 0, -0.18)), (0.19, 0.13, 0.015), seat, turn=turn)


def _sofa(rng, prims, m, at, turn):
    cloth = _paint(rng, m, "heather", period=0.4)
    w = rng.uniform(0.6, 0.95)

    def put(offset, half, bevel):
        prims.add(np.array((at[0], 0, at[2])) + turn @ np.asarray(offset, float), half, cloth, bevel=bevel, turn=turn)

    put((0, 0.22, 0), (w, 0.18, 0.38), 0.05)
    put((0, 0.55, -0.3), (w, 0.3, 0.11), 0.08)
    for x in (-1, 1):
        put((x * (w - 0.02), 0.34, 0), (0.1, 0.28, 0.38), 0.07)
        put((x * w * 0.45, 0.45, 0.04), (w * 0.43, 0.07, 0.32), 0.06)


def _shelf(rng, prims, m, at, turn):
    wood = _wood(rng, m)
    w, levels = rng.uniform(0.35, 0.6), int(rng.integers(3, 6))
    bindings = (((196, 176, 140), (96, 44, 44)), ((60, 84, 110), (206, 196, 170)), ((120, 130, 92), (60, 40, 52)))
    books = [m.add(linear(a), linear(b), pattern="books", period=0.5, offset=rng.random(2)) for a, b in bindings]
    base = np.array((at[0], 0.0, at[2]))
    for k in range(levels + 1):
        prims.add(base + np.array((0, 0.04 + 0.34 * k, 0)), (w, 0.014, 0.15), wood, bevel=0.004, turn=turn)
        if k < levels and rng.random() < 0.85:
            span = rng.uniform(0.4, 0.95) * w
            prims.add(
                base + (0, 0.165 + 0.34 * k, 0) + turn @ np.array((-(w - span) * 0.9, 0, 0)),
                (span, 0.105, 0.1),
                books[rng.integers(3)],
                bevel=0.004,
                turn=turn,
            )
    for x in (-1, 1):
        prims.add(
            base + (0, 0.17 * levels + 0.04, 0) + turn @ np.array((x * w, 0, 0)),
            (0.014, 0.17 * levels + 0.03, 0.15),
            wood,
            bevel=0.004,
            turn=turn,
        )


def _plant(rng, prims, m, at, turn):
    size = rng.uniform(0.6, 1.25)
    pot = _paint(rng, m)
    prims.add(
        (at[0], 0.16 * size, at[2]),
        (0.15 * size, 0.16 * size, 0.15 * size),
        pot,
        bevel=(0.15 * size, 0.02, 0.15 * size),
        taper=0.22,
    )
    green = linear((rng.integers(40, 90), rng.integers(90, 140), rng.integers(40, 80)))
    leaf = m.add(green, green * 0.45, pattern="foliage", period=0.25, gloss=0.15)
    for _ in range(int(rng.integers(9, 15))):
        yaw, rise = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.35)
        R = rotation(1, np.array(yaw)) @ rotation(2, np.array(rise))
        long = rng.uniform(0.2, 0.36) * size
        prims.add(
            np.array((at[0], 0.36 * size, at[2])) + R @ np.array((long, 0, 0)),
            (long, 0.008, 0.055 * size),
            leaf,
            bevel=(long, 0.008, 0.055 * size),
            turn=R,
        )


def _lamp(rng, prims, m, at, turn):
    metal = _paint(rng, m)
    shade = m.add(linear((246, 226, 180)) * 1.6, gloss=0.0)
    h = rng.uniform(1.3, 1.7)
    prims.add((at[0], 0.015, at[2]), (0.15, 0.015, 0.15), metal, bevel=(0.15, 0.01, 0.15))
    prims.add((at[0], h / 2, at[2]), (0.014, h / 2, 0.014), metal, bevel=(0.014, 0.01, 0.014))
    prims.add((at[0], h, at[2]), (0.19, 0.15, 0.19), shade, bevel=(0.19, 0.01, 0.19), taper=-0.3)


def _ball(rng, prims, m, at, turn):
    r = rng.uniform(0.09, 0.32)
    ball = _paint(rng, m, pick(rng, ("rugby", "vertical", "plain", "gingham")), period=2 * r)
    prims.add((at[0], r, at[2]), r, ball, bevel=r, turn=rotation(0, np.array(rng.uniform(0, 3))))


def _boxes(rng, prims, m, at, turn):
    y = 0.0
    card = linear((186, 148, 104)) * rng.uniform(0.7, 1.1)
    box = m.add(card, card * 0.75, pattern="heather", period=0.5) if rng.random() < 0.6 else _paint(rng, m)
    for _ in range(int(rng.integers(1, 4))):
        h = rng.uniform(0.12, 0.25)
        side = rng.uniform(0.16, 0.3)
        prims.add(
            (at[0] + rng.normal(0, 0.02), y + h, at[2]),
            (side, h, side * 0.9),
            box,
            turn=turn @ rotation(1, np.array(rng.normal(0, 0.15))),
        )
        y += 2 * h


def _pole(rng, prims, m, at, turn):
    r, h = rng.uniform(0.03, 0.07), rng.uniform(1.2, 2.9)
    prims.add(
        (at[0], h / 2, at[2]),
        (r, h / 2, r),
        _paint(rng, m, pick(rng, ("plain", "rugby")), period=0.8),
        bevel=(r, 0.01, r),
    )


def _bush(rng, prims, m, at, turn):
    green = linear((rng.integers(50, 100), rng.integers(88, 130), rng.integers(40, 70)))
    leaf = m.add(green, green * 0.35, pattern="foliage", period=0.5, gloss=0.0)
    for _ in range(int(rng.integers(3, 7))):
        r = rng.uniform(0.22, 0.45)
        p = np.array((at[0] + rng.normal(0, 0.3), r * rng.uniform(0.7, 1.1), at[2] + rng.normal(0, 0.15)))
        prims.add(p, (r, r * 0.85, r), leaf, bevel=r, turn=rotation(1, np.array(rng.uniform(0, 3))))


def _tree(rng, prims, m, at, turn):
    bark = linear((96, 72, 54))
    h = rng.uniform(1.4, 2.4)
    prims.add(
        (at[0], h / 2, at[2]),
        (0.1, h / 2, 0.1),
        m.add(bark, bark * 0.5, pattern="wood", period=0.3),
        bevel=(0.1, 0.01, 0.1),
        taper=-0.2,
    )
    green = linear((rng.integers(60, 120), rng.integers(95, 135), rng.integers(36, 70)))
    leaf = m.add(green, green * 0.35, pattern="foliage", period=0.7, gloss=0.0)
    for _ in range(int(rng.integers(6, 10))):
        r = rng.uniform(0.4, 0.7)
        p = np.array((at[0] + rng.normal(0, 0.45), h + rng.uniform(-0.1, 0.9), at[2] + rng.normal(0, 0.3)))
        prims.add(p, (r, r * 0.8, r), leaf, bevel=r, turn=rotation(1, np.array(rng.uniform(0, 3))))


def _bench(rng, prims, m, at, turn):
    wood, metal = _wood(rng, m), _paint(rng, m)
    base = np.array((at[0], 0.0, at[2]))
    for z in (-0.14, 0.0, 0.14):
        prims.add(base + turn @ np.array((0, 0.45, z)), (0.75, 0.018, 0.06), wood, bevel=0.008, turn=turn)
    for y in (0.62, 0.78):
        prims.add(base + turn @ np.array((0, y, -0.22)), (0.75, 0.06, 0.018), wood, bevel=0.008, turn=turn)
    for x in (-0.6, 0.6):
        prims.add(base + turn @ np.array((x, 0.22, 0)), (0.03, 0.22, 0.17), metal, turn=turn)
        prims.add(base + turn @ np.array((x, 0.6, -0.25)), (0.02, 0.26, 0.02), metal, turn=turn)


def _fence(rng, prims, m, at, turn):
    wood = _wood(rng, m)
    base = np.array((at[0], 0.0, at[2]))
    for x in np.linspace(-1, 1, 9):
        prims.add(base + turn @ np.array((x, 0.5, 0)), (0.06, 0.5, 0.014), wood, bevel=0.01, turn=turn)
    for y in (0.3, 0.8):
        prims.add(base + turn @ np.array((0, y, -0.03)), (1.1, 0.04, 0.014), wood, bevel=0.006, turn=turn)


INDOOR = (_table, _chair, _sofa, _shelf, _plant, _lamp, _ball, _boxes, _pole)
OUTDOOR = (_bush, _tree, _bench, _fence, _ball, _boxes, _pole, _bush)
OCCLUDERS = (_chair, _plant, _boxes, _pole, _table, _ball)


def place(rng, prims: Prims, m: Materials, kinds: tuple, at: np.ndarray, turn: np.ndarray | None = None) -> None:
    """Put one thing of the given kinds on the ground at (x, _, z)."""
    if turn is None:
        turn = rotation(1, np.array(rng.uniform(0, 2 * np.pi)))
    kinds[int(rng.integers(len(kinds)))](rng, prims, m, at, turn)


def hang(rng, prims: Prims, m: Materials, origin: np.ndarray, turn: np.ndarray, x: float) -> None:
    """Hang a picture, a window or a door on a wall whose frame has its normal along z, at ``x`` metres along it."""
    kind = rng.integers(4)
    frame = _wood(rng, m) if rng.random() < 0.5 else m.add(linear((236, 234, 228)), gloss=0.1)

    def put(dx, y, z, half, material, **options):
        prims.add(origin + turn @ np.array((x + dx, 0, z)) + (0, y, 0), half, material, turn=turn, **options)

    if kind == 0:  # a door
        leaf = _wood(rng, m) if rng.random() < 0.5 else _paint(rng, m)
        put(0, 1.03, 0.01, (0.5, 1.03, 0.02), frame)
        put(0, 1.0, 0.03, (0.43, 1.0, 0.02), leaf)
        for y in (0.52, 1.42):
            put(0, y, 0.045, (0.3, 0.36, 0.012), leaf)
        put(0.35, 1.0, 0.07, 0.025, frame, bevel=0.025)
    elif kind == 1:  # a window
        sky = linear((188, 212, 236)) * rng.uniform(0.7, 1.5)
        glass = m.add(sky, sky * 0.8, pattern="concrete", period=3.0, gloss=0.4)
        w, h, y = rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.65), rng.uniform(1.4, 1.7)
        put(0, y, 0.005, (w, h, 0.012), glass, bevel=0.002)
        for dx, dy, a, b in (
            (-w, 0, 0.035, h + 0.03),
            (w, 0, 0.035, h + 0.03),
            (0, h, w, 0.035),
            (0, -h, w + 0.06, 0.035),
            (0, 0, 0.02, h),
        ):
            put(dx, y + dy, 0.03, (a, b, 0.02), frame)
    else:
        w, h = rng.uniform(0.15, 0.45, 2)
        y = rng.uniform(1.3, 1.9)
        art = _paint(
            rng,
            m,
            pick(rng, ("camouflage", "floral", "argyle", "concrete", "chevron", "rugby")),
            period=rng.uniform(0.4, 1.0),
        )
        m.rows[art][3:6] = linear(PAINTS[rng.integers(len(PAINTS))]) - m.rows[art][:3]
        put(0, y, 0.01, (w + 0.035, h + 0.035, 0.015), frame)
        put(0, y, 0.022, (w, h, 0.008), art, bevel=0.002)
