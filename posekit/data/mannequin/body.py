"""The body: a tree of bones, its rest pose, forward kinematics and the skinned meshes that hang on it.

Frames: y up, the figure faces +z, its left is +x. Lengths are metres at a stature of 1.75 m.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from posekit.data.mannequin.mesh import (
    Template,
    ambient,
    cone,
    ellipsoid,
    gradient,
    smooth_max,
    smooth_min,
    surface_nets,
)

BONES = (
    "pelvis", "spine", "chest", "neck", "head",
    "upper_arm_l", "forearm_l", "hand_l", "upper_arm_r", "forearm_r", "hand_r",
    "thigh_l", "shin_l", "foot_l", "thigh_r", "shin_r", "foot_r",
)  # fmt: skip
PARENTS = (-1, 0, 1, 2, 3, 2, 5, 6, 2, 8, 9, 0, 11, 12, 0, 14, 15)
# Joint of each bone in its parent's frame; with all angles zero the figure stands straight, arms and legs down.
OFFSETS = np.array([
    (0, 0, 0), (0, 0.11, 0), (0, 0.17, 0), (0, 0.22, -0.01), (0, 0.085, 0.012),
    (0.165, 0.163, -0.012), (0, -0.285, 0), (0, -0.255, 0), (-0.165, 0.163, -0.012), (0, -0.285, 0), (0, -0.255, 0),
    (0.092, -0.04, 0), (0, -0.435, 0), (0, -0.405, 0), (-0.092, -0.04, 0), (0, -0.435, 0), (0, -0.405, 0),
])  # fmt: skip
ROOT_HEIGHT = 0.965
REST_ARM, REST_LEG = np.deg2rad(42.0), np.deg2rad(7.0)

# Parts: rows of the wardrobe. A part's garment coordinate s runs along it (see `body_template`).
TORSO, ARM, LEG, HEAD, HAIR, HAT, SKIRT = range(7)

# COCO-17 keypoints: the bone whose frame holds the point, and the point there (face points on the skin).
KEYPOINT_BONE = np.array([4, 4, 4, 4, 4, 5, 8, 6, 9, 7, 10, 11, 14, 12, 15, 13, 16])
EAR, EYE, NOSE = (0.08, 0.066, -0.012), (0.0305, 0.083), (0.0, 0.0505)
# Depth by which the surface may lie in front of a keypoint that still counts as visible: the flesh that covers it.
FLESH = np.array([0.02, 0.022, 0.022, 0.03, 0.03, 0.1, 0.1, 0.075, 0.075, 0.06, 0.06, 0.14, 0.14, 0.1, 0.1, 0.08, 0.08])


def rotation(axis: int, angle: np.ndarray) -> np.ndarray:
    """(...) radians -> (..., 3, 3) right-handed rotations about x (0), y (1) or z (2)."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    R = np.zeros((*np.shape(angle), 3, 3))
    R[..., axis, axis] = 1.0
    R[..., i, i], R[..., j, j], R[..., i, j], R[..., j, i] = c, c, -s, s
    return R


def forward_kinematics(local: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations and joint offsets -> frames of all bones.

    Args:
        local: (P, 17, 3, 3) rotation of each bone in its parent's frame; offsets: (P, 17, 3) metres.

    Returns:
        rotations (P, 17, 3, 3) and origins (P, 17, 3) in the frame of the pelvis' parent.
    """
    R, t = np.empty_like(local), np.empty_like(offsets)
    for b, parent in enumerate(PARENTS):
        if parent < 0:
            R[:, b], t[:, b] = local[:, b], offsets[:, b]
        else:
            R[:, b] = R[:, parent] @ local[:, b]
            t[:, b] = t[:, parent] + (R[:, parent] @ offsets[:, b, :, None])[..., 0]
    return R, t


@lru_cache(maxsize=1)
def rest_frames() -> tuple[np.ndarray, np.ndarray]:
    """Rotations (17, 3, 3) and origins (17, 3) of the pose in which the meshes are modelled: arms and legs apart."""
    local = np.tile(np.eye(3), (1, 17, 1, 1))
    for bone, angle in ((5, REST_ARM), (8, -REST_ARM), (11, REST_LEG), (14, -REST_LEG)):
        local[0, bone] = rotation(2, np.array(angle))
    offsets = OFFSETS[None].copy()
    offsets[0, 0, 1] = ROOT_HEIGHT
    R, t = forward_kinematics(local, offsets)
    return R[0], t[0]


def _to_bone(p: np.ndarray, bone: int) -> np.ndarray:
    R, t = rest_frames()
    return (p - t[bone]) @ R[bone]


def _trunk(p: np.ndarray) -> np.ndarray:
    d = ellipsoid(p, (0, 0.955, -0.004), (0.158, 0.125, 0.108))
    d = smooth_min(d, ellipsoid(p, (0, 1.10, 0.004), (0.135, 0.19, 0.098)), 0.09)
    d = smooth_min(d, ellipsoid(p, (0, 1.285, -0.002), (0.155, 0.185, 0.11)), 0.09)
    for side in (-1, 1):
        d = smooth_min(d, ellipsoid(p, (0.072 * side, 0.915, -0.05), (0.085, 0.095, 0.075)), 0.06)
        d = smooth_min(d, ellipsoid(p, (0.07 * side, 1.325, 0.055), (0.08, 0.075, 0.05)), 0.06)
        d = smooth_min(d, cone(p, (0.03 * side, 1.43, -0.02), (0.145 * side, 1.408, -0.012), 0.05, 0.05), 0.06)
    return smooth_min(d, cone(p, (0, 1.40, -0.02), (0, 1.51, -0.015), 0.075, 0.05), 0.07)


def _limb(q: np.ndarray, knots, radii, forward=(0.0, 0.0)) -> np.ndarray:
    """A limb down the -y axis of its bone: radius and forward bend are smooth functions of the way along it.

    One profile, not a chain of blended cones: blending shapes that continue each other swells where they meet.
    """
    t = np.clip(-q[:, 1], knots[0], knots[-1])
    fine = np.linspace(knots[0], knots[-1], 64)
    window = np.hanning(17) / np.hanning(17).sum()

    def smooth(values) -> np.ndarray:
        padded = np.pad(np.interp(fine, knots, values), 8, mode="reflect", reflect_type="odd")
        return np.interp(t, fine, np.convolve(padded, window, "valid"))

    bend = smooth(np.interp(knots, (knots[0], knots[-1]), forward) if len(forward) == 2 else forward)
    return np.sqrt(q[:, 0] ** 2 + (q[:, 2] - bend) ** 2 + (q[:, 1] + t) ** 2) - smooth(radii)


def _limb_fields(p: np.ndarray) -> list[tuple[int, np.ndarray]]:
    fields = []
    for arm, leg, side in ((5, 11, 1), (8, 14, -1)):
        upper = _limb(_to_bone(p, arm), (0, 0.06, 0.14, 0.285), (0.054, 0.052, 0.047, 0.038), (0, 0, 0.004, 0))
        fore = _limb(_to_bone(p, arm + 1), (0, 0.07, 0.255), (0.038, 0.0415, 0.027), (0, 0.004, 0))
        q = _to_bone(p, arm + 2)
        hand = ellipsoid(q, (0, -0.075, 0.002), (0.023, 0.075, 0.04))
        thumb = cone(q, (-0.005 * side, -0.02, 0.02), (-0.01 * side, -0.08, 0.058), 0.016, 0.011)
        hand = smooth_min(hand, thumb, 0.015)
        hand = smooth_min(hand, ellipsoid(q, (0, -0.13, 0.0), (0.017, 0.05, 0.034)), 0.02)
        fields += [(arm, upper), (arm + 1, fore), (arm + 2, hand)]
        thigh = _limb(
            _to_bone(p, leg),
            (0.02, 0.12, 0.25, 0.36, 0.435),
            (0.089, 0.086, 0.075, 0.062, 0.056),
            (0, 0.004, 0.006, 0.002, 0),
        )
        shin = _limb(
            _to_bone(p, leg + 1),
            (0, 0.06, 0.14, 0.26, 0.405),
            (0.055, 0.053, 0.0555, 0.046, 0.036),
            (0.002, -0.004, -0.012, -0.006, 0),
        )
        q = _to_bone(p, leg + 2)
        foot = cone(q, (0, -0.043, -0.045), (0, -0.05, 0.06), 0.04, 0.04)
        foot = smooth_min(foot, cone(q, (0, -0.05, 0.06), (0, -0.058, 0.14), 0.042, 0.03), 0.04)
        foot = smooth_max(foot, -(q[:, 1] + 0.086), 0.012)  # a flat sole
        fields += [(leg, thigh), (leg + 1, shin), (leg + 2, foot)]
    return fields


def _body_field(p: np.ndarray) -> np.ndarray:
    d = _trunk(p)
    for bone, f in _limb_fields(p):
        d = smooth_min(
            d, f, {5: 0.05, 8: 0.05, 11: 0.05, 14: 0.05, 6: 0.012, 9: 0.012, 12: 0.012, 15: 0.012}.get(bone, 0.025)
        )
    return d


def _top(distances: np.ndarray, band: float) -> tuple[np.ndarray, np.ndarray]:
    """(V, 17) distances to bones -> the three nearest and weights that fall off over ``band`` metres."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :3]
    near = np.take_along_axis(distances, order, 1)
    w = np.exp(-(((near - near[:, :1]) / band) ** 1.0))
    return order, (w / w.sum(1, keepdims=True)).astype(np.float32)


def _spread(y: np.ndarray, knots: tuple[float, ...], bones: tuple[int, ...]) -> np.ndarray:
    """(V, 17) weights of a column of bones that hand over to each other linearly between heights ``knots``."""
    w = np.zeros((len(y), 17))
    for i, bone in enumerate(bones):
        unit = np.zeros(len(bones))
        unit[i] = 1.0
        w[:, bone] = np.interp(y, knots, unit)
    return w


def assemble(vertices, faces, field, weights, part, coordinates, garment, face_part=None) -> Template:
    normals = gradient(field, vertices)
    order = np.argsort(-weights, axis=1, kind="stable")[:, :3]
    w = np.take_along_axis(weights, order, 1)
    if face_part is None:
        face_part = part[faces[:, 0]]
    return Template(
        vertices.astype(np.float32), normals.astype(np.float32), ambient(field, vertices, normals).astype(np.float32),
        order, (w / w.sum(1, keepdims=True)).astype(np.float32), faces, part, face_part,
        coordinates.astype(np.float32), garment.astype(np.float32),
    )  # fmt: skip


@lru_cache(maxsize=2)
def body_template(cell: float = 0.0215) -> Template:
    """Trunk, arms with hands, legs with feet. s: torso, height; arm, metres from the shoulder; leg, from the hip."""
    v, faces = surface_nets(_body_field, (-0.72, -0.03, -0.2), (0.72, 1.58, 0.24), cell)
    limbs = _limb_fields(v)
    distances = np.full((len(v), 17), 9.0)
    for bone, f in limbs:
        distances[:, bone] = f
    trunk = _trunk(v)
    nearest_limb = np.argmin(distances, 1)
    limb_distance = distances.min(1)
    column = _spread(v[:, 1], (0.99, 1.12, 1.24, 1.44, 1.5), (0, 1, 2, 2, 3))
    # Hips and shoulders are moved by the trunk as far as its flesh reaches, then handed over.
    weights = np.zeros((len(v), 17))
    limb_share = 1.0 / (1.0 + np.exp(np.clip((limb_distance - trunk - 0.002) / 0.016, -30, 30)))
    order, w = _top(distances, 0.014)
    np.put_along_axis(weights, order, w * limb_share[:, None], 1)
    weights += column * (1 - limb_share[:, None])
    side_arm = np.isin(nearest_limb, (5, 6, 7, 8, 9, 10))
    part = np.where(limb_share < 0.5, TORSO, np.where(side_arm, ARM, LEG))
    part[(part == LEG) & (v[:, 1] > 0.9)] = TORSO
    face_part = np.sort(part[faces], 1)[:, 1]
    s = np.zeros((len(v), 3))
    # The neckline runs round the neck: towards the shoulders s falls behind the height.
    s[:, TORSO] = v[:, 1] - np.clip((v[:, 1] - 1.3) / 0.08, 0, 1) * np.maximum(np.abs(v[:, 0]) - 0.055, 0)
    along_arm = np.where(v[:, 0] > 0, -_to_bone(v, 5)[:, 1], -_to_bone(v, 8)[:, 1])
    along_leg = np.where(v[:, 0] > 0, -_to_bone(v, 11)[:, 1], -_to_bone(v, 14)[:, 1])
    s[:, ARM], s[:, LEG] = along_arm, along_leg
    u = np.stack([v[:, 0], v[:, 2], v[:, 0] * 1.0], 1)
    c = np.empty((len(faces), 3, 4))
    c[..., 0] = u[faces, face_part[:, None]]
    c[..., 1] = np.where(face_part[:, None] == ARM, s[faces, ARM], v[faces, 1])
    c[..., 2] = s[faces, face_part[:, None]]
    c[..., 3] = v[faces, 2] - np.interp(v[faces, 1], (0.9, 1.1, 1.3, 1.45), (-0.01, 0.0, -0.01, -0.02))
    return assemble(v, faces, _body_field, weights, part, c, s[np.arange(len(v)), part], face_part)


def cranium(p: np.ndarray, grow: float = 0.0) -> np.ndarray:
    return ellipsoid(p, (0, 0.115, -0.016), np.array((0.077, 0.094, 0.097)) + grow)


def _head_field(p: np.ndarray) -> np.ndarray:
    d = smooth_min(cranium(p), ellipsoid(p, (0, 0.05, 0.022), (0.06, 0.078, 0.07)), 0.035)
    d = smooth_min(d, cone(p, (0, -0.008, 0.06), (0, -0.004, 0.07), 0.02, 0.016), 0.03)
    d = smooth_min(d, cone(p, (0, 0.082, 0.086), (0, 0.053, 0.1), 0.007, 0.012), 0.012)
    for side in (-1, 1):
        d = smooth_min(d, ellipsoid(p, (0.076 * side, 0.066, -0.01), (0.009, 0.031, 0.018)), 0.008)
        d = smooth_max(d, -ellipsoid(p, (0.032 * side, 0.084, 0.1), (0.022, 0.012, 0.016)), 0.012)
    return smooth_min(d, cone(p, (0, -0.11, -0.03), (0, 0.03, -0.015), 0.054, 0.05), 0.02)


@lru_cache(maxsize=1)
def face_points() -> np.ndarray:
    """(5, 3) nose, left eye, right eye, left ear, right ear on the skin, in the head's frame."""

    def front(x: float, y: float) -> float:
        z = np.linspace(0.03, 0.14, 2201)
        p = np.stack([np.full_like(z, x), np.full_like(z, y), z], -1)
        return float(z[_head_field(p) < 0].max())

    nose, eye = front(*NOSE), front(*EYE)
    return np.array([(*NOSE, nose), (*EYE, eye), (-EYE[0], EYE[1], eye), EAR, (-EAR[0], *EAR[1:])])


def keypoints(R: np.ndarray, t: np.ndarray, head_scale: np.ndarray) -> np.ndarray:
    """Bone frames (P, 17, 3, 3), (P, 17, 3) and head sizes (P,) -> (P, 17, 3) COCO-17 joints in the same frame."""
    point = np.zeros((len(R), 17, 3))
    point[:, :5] = face_points() * head_scale[:, None, None]
    return t[:, KEYPOINT_BONE] + (R[:, KEYPOINT_BONE] @ point[..., None])[..., 0]


def rigid(field, low, high, cell: float, part: int, garment) -> Template:
    """A mesh on the head (head frame -> rest frame); the neck end follows the neck."""
    v, faces = surface_nets(field, low, high, cell)
    _, t = rest_frames()
    weights = _spread(v[:, 1], (-0.1, 0.0), (3, 4)) if part == HEAD else _spread(v[:, 1], (-9.0, 9.0), (4, 4))
    weights[:, 4] = 1 - weights[:, 3]
    s = garment(v)
    c = np.stack([v[faces, 0], v[faces, 1], s[faces], v[faces, 2]], -1)
    made = assemble(v, faces, field, weights, np.full(len(v), part), c, s)
    object.__setattr__(made, "vertices", made.vertices + t[4].astype(np.float32))
    return made


def scalp(p: np.ndarray) -> np.ndarray:
    """Height above the hairline, from the forehead over the ears to the nape, metres."""
    return p[:, 1] - (0.14 + 0.875 * (p[:, 2] - 0.075))


@lru_cache(maxsize=2)
def head_template(cell: float = 0.0115) -> Template:
    """Head with ears, nose and neck. s: height above the hairline."""
    return rigid(_head_field, (-0.11, -0.11, -0.14), (0.11, 0.24, 0.14), cell, HEAD, scalp)
