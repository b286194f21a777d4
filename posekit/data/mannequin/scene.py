"""One scene as numbers: camera, figures, things, room, light, camera response. Drawn from an explicit generator.

World: y up, ground at 0, camera at (0, height, 0) looking along -z. Picture: x right, y down, pixels, origin at the
centre of the top-left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from posekit.data.mannequin import body, furniture
from posekit.data.mannequin.body import rotation
from posekit.data.mannequin.difficulty import Difficulty
from posekit.data.mannequin.poses import CALM, POSES, Angles, local_rotations, sample_angles
from posekit.data.mannequin.wardrobe import MATERIAL, Materials, Person, dress, linear, pick

RESPONSE = 1024  # entries of the camera's response curve
SPLITS = {"train": 0, "val": 1, "test": 2}
FLOORS_IN = ("tiles", "planks", "checker", "carpet", "concrete", "parquet")
FLOORS_OUT = ("grass", "pavers", "concrete", "grass")
WALLS = ("plaster", "brick", "wallpaper", "damask", "tiles", "concrete", "planks")
WALL_COLOURS = np.array([
    (232, 226, 214), (206, 214, 212), (186, 200, 188), (214, 196, 178), (176, 190, 206), (220, 204, 170),
    (198, 176, 176), (150, 166, 158), (238, 236, 232), (132, 148, 168), (204, 160, 132), (112, 126, 116), (92, 98, 112),
])  # fmt: skip
FLOOR_COLOURS = np.array([
    (172, 130, 90), (118, 84, 58), (198, 170, 134), (150, 148, 144), (104, 108, 112), (184, 176, 164), (128, 96, 84),
    (96, 110, 100), (214, 206, 192),
])  # fmt: skip


@dataclass
class Scene:
    """Everything the renderer needs; see the module's head for the frames."""

    focal: float  # pixels
    camera: np.ndarray  # (3, 3) world -> camera rotation (camera: x right, y up, looks along -z)
    eye: np.ndarray  # (3,)
    size: tuple[int, int]
    people: list[Person]
    poses: list[str]
    yaw: np.ndarray  # (P,) radians relative to the viewing ray
    rotations: np.ndarray  # (P, 17, 3, 3) bones, world
    origins: np.ndarray  # (P, 17, 3)
    joints: np.ndarray  # (P, 17, 3) COCO-17 joints, world
    prims: tuple[np.ndarray, np.ndarray, np.ndarray] = ()  # type: ignore[assignment]
    materials: np.ndarray = field(default_factory=lambda: np.zeros((0, MATERIAL)))
    decals: np.ndarray = field(default_factory=lambda: np.zeros((0, 12)))
    walls: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))  # (W, 4) normal x, z, offset, material
    floor: int = 0
    sky: int = -1
    light: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,) towards the key light
    key: np.ndarray = field(default_factory=lambda: np.ones(3))
    ambient: np.ndarray = field(default_factory=lambda: np.ones((2, 3)))  # from above, from below
    shadow: tuple[float, float] = (0.6, 0.06)  # strength, softness in metres
    response: np.ndarray = field(default_factory=lambda: np.zeros((3, RESPONSE)))  # sqrt(light / 2) -> 8-bit level
    blur: float = 0.4
    noise: float = 0.0
    grain: int = 0


def sample_yaw(rng: np.random.Generator, view: str) -> float:
    """Radians in (-pi, pi]; 0 faces the viewer, positive turns towards the right of the picture."""
    front, side = (0.4, 0.2) if view == "balanced" else (0.68, 0.18)
    kind, spread, sign = rng.random(), rng.normal(0, 0.5), pick(rng, (-1.0, 1.0))
    if kind < front:
        yaw = spread
    elif kind < front + side:
        yaw = sign * (np.pi / 2) + spread * 0.5
    else:
        yaw = np.pi + spread
    return float((yaw + np.pi) % (2 * np.pi) - np.pi)


def _stiffen(a: Angles, spread: float) -> Angles:
    rest = Angles()
    for name in vars(a):
        old, base = getattr(a, name), getattr(rest, name)
        if isinstance(old, list):
            setattr(a, name, [b + (o - b) * spread for o, b in zip(old, base)])
        else:
            setattr(a, name, base + (old - base) * spread)
    return a


def _camera(
    rng: np.random.Generator, size: tuple[int, int], share: float
) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Focal length, rotation, eye and the distance at which 1.7 m fill ``share`` of the picture's height."""
    focal = size[0] / (2 * np.tan(np.deg2rad(rng.uniform(30, 52)) / 2))
    distance = focal * 1.7 / (share * size[0])
    height = float(np.clip(rng.normal(1.35, 0.35), 0.6, 2.2))
    pitch = np.arctan2(height - 0.88, distance) + rng.normal(0, 0.02)
    roll = rng.normal(0, 0.015)
    # World directions to camera axes: undo the downward pitch, then the roll.
    R = rotation(2, np.array(-roll)) @ rotation(0, np.array(pitch))
    return float(focal), R, np.array((0.0, height, 0.0)), float(distance)


def _stand(rng, count, size, focal, distance, knobs) -> np.ndarray:
    """(P, 2) ground positions x, z: in view, at least half a metre apart, closer together with more occlusion."""
    spots: list[np.ndarray] = []
    gap = 0.95 - 0.45 * knobs.occlusion
    half = size[1] / 2 / focal
    for k in range(count):
        spot = np.zeros(2)
        for _ in range(12):
            d = distance * (1.0 if k == 0 else rng.uniform(0.85, 1.5))
            spot = np.array((rng.uniform(-0.8, 0.8) * max(half * d - 0.25, 0.05), -d))
            if all(np.hypot(*(spot - other)) > gap for other in spots):
                break
        else:
            if spots:
                continue
        spots.append(spot)
    return np.array(spots)


# Bones whose ends touch the ground, with the flesh below them, metres at stature 1.
_CONTACT = np.array([(13, 0.082), (16, 0.082), (12, 0.06), (15, 0.06), (7, 0.03), (10, 0.03), (0, 0.12)])
_TOES, _HAND = np.array((0.0, -0.058, 0.14)), np.array((0.0, -0.15, 0.0))


def _ground(R: np.ndarray, t: np.ndarray, stature: np.ndarray) -> np.ndarray:
    """(P,) height of each figure's lowest point with its root at 0."""
    bones = _CONTACT[:, 0].astype(int)
    low = (t[:, bones, 1] - _CONTACT[:, 1] * stature[:, None]).min(1)
    for foot in (13, 16):
        low = np.minimum(low, t[:, foot, 1] + (R[:, foot] @ _TOES)[:, 1] * stature - 0.028 * stature)
        heel = t[:, foot, 1] + (R[:, foot] @ np.array((0.0, -0.045, -0.05)))[:, 1] * stature - 0.038 * stature
        low = np.minimum(low, heel)
    for hand in (7, 10):
        low = np.minimum(low, t[:, hand, 1] + (R[:, hand] @ _HAND)[:, 1] * stature - 0.02)
    return low


def _room(rng, scene: Scene, m: Materials, prims, distance: float, far: float, knobs: Difficulty) -> None:
    outdoor = rng.random() < 0.35
    behind = far + rng.uniform(0.7, 2.6)
    if outdoor:
        name = pick(rng, FLOORS_OUT)
        colour = (
            linear((rng.integers(84, 120), rng.integers(112, 140), rng.integers(56, 80)))
            if name == "grass"
            else linear(FLOOR_COLOURS[rng.integers(3, 6)])
        )
        scene.floor = m.add(colour, colour * 0.5, pattern=name, period=2.4)
        if rng.random() < 0.5:
            scene.sky = m.add(
                linear((120 + rng.integers(40), 165 + rng.integers(30), 222)),
                linear((236, 240, 244)),
                pattern="concrete",
                period=1.6,
                offset=rng.random(2),
            )
            for _ in range(int(rng.integers(2, 7))):
                x = rng.uniform(-1, 1) * behind
                furniture.place(
                    rng,
                    prims,
                    m,
                    (furniture._bush, furniture._tree, furniture._fence),
                    np.array((x, 0, -behind - rng.uniform(0.5, 4))),
                )
            shade = linear((rng.integers(90, 130), rng.integers(105, 140), rng.integers(80, 110)))
            hills = m.add(shade * 1.1, shade * 0.8, pattern="foliage", period=12.0)
            for _ in range(5):
                r = rng.uniform(6, 14)
                prims.add((rng.uniform(-34, 34), -0.72 * r, -50 - r), (r * 2.6, r, r), hills, bevel=(r * 2.6, r, r))
        else:
            _wall(rng, scene, m, prims, behind + 1.5, ("brick", "plaster", "planks", "concrete"), rng.random() < 0.7)
    else:
        name = pick(rng, FLOORS_IN)
        colour = linear(FLOOR_COLOURS[rng.integers(len(FLOOR_COLOURS))])
        other = (
            linear(FLOOR_COLOURS[rng.integers(len(FLOOR_COLOURS))]) * 0.8
            if name == "checker"
            else colour * rng.uniform(0.4, 0.6)
        )
        scene.floor = m.add(colour, other, pattern=name, period=rng.uniform(1.4, 2.2), gloss=0.1)
        _wall(rng, scene, m, prims, behind, WALLS, True)
        if rng.random() < 0.35 * knobs.clutter:  # a rug
            c = linear(furniture.PAINTS[rng.integers(len(furniture.PAINTS))])
            rug = m.add(c, c * 0.5, pattern=pick(rng, ("damask", "plaid", "carpet", "argyle", "rugby")), period=0.9)
            prims.add(
                (rng.normal(0, 0.4), 0.006, -distance + rng.normal(0, 0.3)),
                (rng.uniform(0.7, 1.2), 0.006, rng.uniform(0.5, 0.9)),
                rug,
                bevel=0.004,
                turn=rotation(1, np.array(rng.normal(0, 0.3))),
            )
    kinds = furniture.OUTDOOR if outdoor else furniture.INDOOR
    half = scene.size[1] / 2 / scene.focal
    for _ in range(rng.binomial(4, 0.75 * knobs.clutter)):
        d = rng.uniform(distance + 0.6, max(behind - 0.35, distance + 0.7))
        at = np.array((rng.uniform(-1.1, 1.1) * half * d, 0.0, -d))
        if min((np.hypot(at[0] - t[0], at[2] - t[2]) for t in scene.origins[:, 0]), default=9.0) > 0.6:
            furniture.place(rng, prims, m, kinds, at, rotation(1, np.array(rng.normal(0, 0.5))))


def _wall(rng, scene: Scene, m: Materials, prims, behind: float, kinds, dressed: bool) -> None:
    name = pick(rng, kinds)
    colour = linear(WALL_COLOURS[rng.integers(len(WALL_COLOURS))])
    if name == "brick":
        colour = linear((rng.integers(140, 190), rng.integers(84, 110), rng.integers(66, 90)))
    second = linear((206, 200, 190)) if name in ("brick",) else colour * rng.uniform(0.62, 0.85)
    wall = m.add(
        colour,
        second,
        pattern=name,
        period={"brick": 1.0, "tiles": 0.9, "planks": 1.2}.get(name, 1.6),
        offset=rng.random(2),
    )
    angle = rng.normal(0, 0.25)
    planes = [(angle, behind)]
    if rng.random() < 0.35:
        planes.append((angle + pick(rng, (-1, 1)) * np.pi / 2, behind * rng.uniform(0.75, 1.1)))
    trim = m.add(linear((238, 236, 230)) if rng.random() < 0.6 else colour * 0.4, gloss=0.1)
    rows = []
    for a, d in planes:
        normal = np.array((np.sin(a), np.cos(a)))  # x, z; points into the room
        rows.append((*normal, -d, wall))
        turn = rotation(1, np.array(a))
        origin = np.array((-normal[0] * d, 0.0, -normal[1] * d))
        if dressed:
            prims.add(origin + np.array((0, 0.05, 0)), (12.0, 0.05, 0.02), trim, turn=turn, bevel=0.01)
            for x in (-1.6, 0.0, 1.6):
                if rng.random() < 0.55:
                    furniture.hang(rng, prims, m, origin, turn, x * rng.uniform(0.7, 1.3))
    scene.walls = np.array(rows)


def _light(rng, scene: Scene, knobs: Difficulty) -> None:
    k = knobs.illumination
    azimuth = rng.normal(0, 0.5 + 0.5 * k)
    elevation = np.deg2rad(rng.uniform(42, 72))
    scene.light = np.array(
        (np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
    )
    warm = rng.normal(0, 0.10 * k)
    key = rng.uniform(0.72, 0.72 + 0.55 * k)
    scene.key = key * np.array((1 + warm, 1.0, 1 - warm))
    up = rng.uniform(0.48, 0.68)
    scene.ambient = np.stack(
        [up * np.array((1 - warm * 0.5, 1.0, 1 + warm * 0.6)), 0.55 * up * np.array((1.06, 1.0, 0.92))]
    )
    scene.shadow = (float(rng.uniform(0.35, 0.75)), float(rng.uniform(0.03, 0.09)))
    gain = np.exp(rng.normal(0, 0.22 * k)) * np.exp(rng.normal(0, 0.05 * k, 3))
    gamma = np.exp(rng.normal(0, 0.1 * k)) / 2.2
    x = 2.0 * np.linspace(0, 1.0, RESPONSE)[None] ** 2 * gain[:, None]
    x = x * (1 + x / 6.0) / (1 + 0.55 * x)  # highlights roll off
    scene.response = np.clip(x, 0, 1) ** gamma * 255.0
    scene.blur = float(rng.uniform(min(0.3, knobs.blur), knobs.blur))
    scene.noise = float(knobs.noise * rng.uniform(0.4, 1.0))
    scene.grain = int(rng.integers(1 << 20))


def sample_scene(seed: int, split: str, index: int, knobs: Difficulty, size: tuple[int, int]) -> Scene:
    """Draw scene ``index`` of a split. It depends on these arguments alone.

    Poses and views, looks, bags and rooms come from streams of their own, so the levels of the cue ladder show the
    same people in the same poses and rooms, from the same side.
    """
    key = (seed, SPLITS[split], index)
    rng, look, bag, room = (np.random.default_rng(np.random.SeedSequence(key, spawn_key=(s,))) for s in range(4))
    share = rng.uniform(*knobs.size_range)
    focal, R, eye, distance = _camera(rng, size, share)
    spots = _stand(rng, int(rng.integers(1, knobs.people + 1)), size, focal, distance, knobs)
    pool = CALM if knobs.poses == "calm" else POSES
    poses = [pick(rng, pool) for _ in spots]
    angles = [_stiffen(sample_angles(rng, pose), knobs.pose_spread) for pose in poses]
    yaw = np.array([sample_yaw(rng, knobs.view) for _ in spots])
    materials, prims = Materials(), furniture.Prims()
    people = [dress(look, materials, knobs.cue, knobs.clothing) for _ in spots]
    # Yaw is counted from the direction of the viewer, not from the camera's axis.
    to_viewer = np.arctan2(-spots[:, 0], -spots[:, 1])
    world = rotation(1, yaw + to_viewer)
    local = local_rotations(angles)
    local[:, 0] = world @ local[:, 0]
    offsets = np.stack([p.offsets for p in people])
    rotations, origins = body.forward_kinematics(local, offsets)
    stature = np.array([p.stature for p in people])
    lift = np.array([a.lift for a in angles]) - _ground(rotations, origins, stature)
    origins += np.stack([spots[:, 0], lift, spots[:, 1]], -1)[:, None]
    joints = body.keypoints(rotations, origins, np.array([p.girth[4, 0] for p in people]))
    scene = Scene(focal, R, eye, size, people, poses, yaw, rotations, origins, joints)
    for k, pose in enumerate(poses):
        if pose == "sit" and knobs.pose_spread > 0.3:
            top = origins[k, 0, 1] - 0.105 * people[k].girth[0, 2]
            behind = rotations[k, 0] @ np.array((0, 0, -0.06))
            furniture.stool(room, prims, materials, origins[k, 0] + behind, max(float(top), 0.12))
        if knobs.cue == "natural" and bag.random() < 0.14:
            _backpack(bag, prims, materials, scene, k)
    far = float(-spots[:, 1].min())
    _room(room, scene, materials, prims, distance, far, knobs)
    if room.random() < knobs.occlusion * 0.7:
        d = distance * room.uniform(0.62, 0.85)
        half = size[1] / 2 / focal
        furniture.place(
            room, prims, materials, furniture.OCCLUDERS, np.array((room.uniform(-0.9, 0.9) * half * d, 0.0, -d))
        )
    _light(room, scene, knobs)
    scene.prims = prims.arrays()
    scene.materials, scene.decals = np.array(materials.rows), np.array(materials.decals)
    return scene


def _backpack(rng, prims, m: Materials, scene: Scene, k: int) -> None:
    R, t, s = scene.rotations[k, 2], scene.origins[k, 2], scene.people[k].stature
    deep = scene.people[k].girth[2, 2]
    bag = furniture._paint(rng, m, "knit", period=0.2)
    prims.add(
        t + R @ (np.array((0, 0.02, -0.2 * deep)) * s),
        np.array((0.14, 0.21, 0.085)) * s,
        bag,
        bevel=0.07 * s,
        turn=R,
        owner=k,
    )
    prims.add(
        t + R @ (np.array((0, -0.05, -0.29 * deep)) * s),
        np.array((0.1, 0.1, 0.04)) * s,
        bag,
        bevel=0.035 * s,
        turn=R,
        owner=k,
    )


def project(scene: Scene, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 3) world points -> (..., 2) pixels and (...) depths along the axis, metres."""
    q = (points - scene.eye) @ scene.camera.T
    h, w = scene.size
    depth = -q[..., 2]
    x = (w - 1) / 2 + scene.focal * q[..., 0] / depth
    y = (h - 1) / 2 - scene.focal * q[..., 1] / depth
    return np.stack([x, y], -1), depth
