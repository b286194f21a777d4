"""The kinematic prior: about a dozen ways of standing, moving and sitting, each a distribution over joint angles.

Angles are degrees in anatomical terms; every draw ends inside the ranges of `LIMITS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from posekit.data.mannequin.body import BONES, rotation

LIMITS = {
    "lean": (-25, 95), "bend": (-25, 25), "turn": (-40, 40),
    "nod": (-35, 40), "look": (-55, 55), "tilt": (-25, 25),
    "arm_forward": (-55, 180), "arm_out": (-15, 175), "arm_in": (-60, 95), "elbow": (0, 150), "wrist": (-50, 50),
    "leg_forward": (-35, 125), "leg_out": (-15, 65), "leg_turn": (-30, 45), "knee": (0, 145), "toes": (-25, 50),
}  # fmt: skip
POSES = (
    "stand", "contrapposto", "walk", "run", "wave", "cheer", "reach", "hands_on_head", "arms_crossed", "phone",
    "sit", "squat", "bow", "lunge", "kick", "throw", "balance", "crawl", "jump",
)  # fmt: skip
CALM = ("stand", "contrapposto", "walk", "wave", "hands_on_head", "arms_crossed", "phone", "reach")


@dataclass
class Angles:
    """Joint angles in degrees; pairs are (left, right)."""

    lean: float = 0.0
    bend: float = 0.0
    turn: float = 0.0
    nod: float = 0.0
    look: float = 0.0
    tilt: float = 0.0
    arm_forward: list[float] = field(default_factory=lambda: [4.0, 4.0])
    arm_out: list[float] = field(default_factory=lambda: [9.0, 9.0])
    arm_in: list[float] = field(default_factory=lambda: [10.0, 10.0])
    elbow: list[float] = field(default_factory=lambda: [12.0, 12.0])
    wrist: list[float] = field(default_factory=lambda: [0.0, 0.0])
    leg_forward: list[float] = field(default_factory=lambda: [0.0, 0.0])
    leg_out: list[float] = field(default_factory=lambda: [4.0, 4.0])
    leg_turn: list[float] = field(default_factory=lambda: [8.0, 8.0])
    knee: list[float] = field(default_factory=lambda: [3.0, 3.0])
    toes: list[float] = field(default_factory=lambda: [0.0, 0.0])
    pitch: float = 0.0  # of the whole body
    lift: float = 0.0  # metres above the ground


def _arms(a: Angles, side: int, forward=0.0, out=8.0, inward=10.0, elbow=10.0) -> None:
    a.arm_forward[side], a.arm_out[side], a.arm_in[side], a.elbow[side] = forward, out, inward, elbow


def _stride(a: Angles, rng: np.random.Generator, swing: float, knee: float, elbow: float) -> None:
    phase = rng.uniform(-1, 1)
    s = phase * swing
    a.leg_forward = [s + knee * 0.25, -s + knee * 0.25]
    a.knee = [knee * (0.6 - 0.5 * phase), knee * (0.6 + 0.5 * phase)]
    a.arm_forward = [-s * 0.9, s * 0.9]
    a.elbow = [elbow, elbow]
    a.leg_out, a.toes = [2.0, 2.0], [0.0, 0.0]


def _run(a, rng):
    _stride(a, rng, 42, 75, 85)
    a.lean = rng.uniform(5, 20)


def _wave(a, rng):
    _arms(a, 0, rng.uniform(0, 40), rng.uniform(70, 150), rng.uniform(-40, 20), rng.uniform(40, 110))


def _cheer(a, rng):
    for side in (0, 1):
        _arms(a, side, rng.uniform(-10, 30), rng.uniform(95, 165), rng.uniform(-30, 10), rng.uniform(0, 50))
    a.leg_out = [rng.uniform(2, 26)] * 2


def _reach(a, rng):
    both = rng.random() < 0.4
    _arms(a, 0, rng.uniform(60, 165), rng.uniform(0, 30), 10, rng.uniform(0, 30))
    if both:
        _arms(a, 1, rng.uniform(60, 165), rng.uniform(0, 30), 10, rng.uniform(0, 30))
    a.lean += rng.uniform(-5, 15)


def _hands_on_head(a, rng):
    for side in (0, 1):
        _arms(a, side, rng.uniform(10, 40), rng.uniform(105, 130), rng.uniform(-10, 20), rng.uniform(115, 140))


def _arms_crossed(a, rng):
    for side in (0, 1):
        _arms(a, side, rng.uniform(28, 42), rng.uniform(2, 10), rng.uniform(60, 80), rng.uniform(88, 108))


def _contrapposto(a, rng):
    a.bend, a.leg_out, a.leg_forward, a.knee = rng.uniform(-9, 9), [8.0, 10.0], [0.0, 12.0], [2.0, 22.0]
    for side in (0, 1):
        if rng.random() < 0.7:  # hand on the hip
            _arms(a, side, rng.uniform(-25, -8), rng.uniform(38, 52), rng.uniform(50, 75), rng.uniform(85, 105))


def _phone(a, rng):
    _arms(a, 0, rng.uniform(30, 55), rng.uniform(8, 22), rng.uniform(15, 40), rng.uniform(115, 138))
    a.nod = rng.uniform(5, 25)


def _sit(a, rng):
    hip = rng.uniform(78, 95)
    a.leg_forward = [hip + rng.uniform(-6, 6), hip + rng.uniform(-6, 6)]
    a.knee = [rng.uniform(65, 100), rng.uniform(65, 100)]
    a.leg_out = [rng.uniform(2, 18), rng.uniform(2, 18)]
    a.lean = rng.uniform(-8, 22)
    for side in (0, 1):
        _arms(a, side, rng.uniform(20, 50), rng.uniform(2, 18), rng.uniform(10, 40), rng.uniform(30, 95))


def _squat(a, rng):
    hip = rng.uniform(70, 118)
    a.leg_forward, a.knee = [hip, hip + rng.uniform(-6, 6)], [hip * 1.1, hip * 1.1 + rng.uniform(-6, 6)]
    a.leg_out = [rng.uniform(8, 28), rng.uniform(8, 28)]
    a.toes = [-18.0, -18.0]
    a.lean = rng.uniform(15, 42)
    for side in (0, 1):
        _arms(a, side, rng.uniform(30, 95), rng.uniform(0, 20), rng.uniform(0, 40), rng.uniform(0, 80))


def _bow(a, rng):
    a.lean = rng.uniform(40, 90)
    a.nod = rng.uniform(-30, 15)
    for side in (0, 1):
        _arms(a, side, a.lean + rng.uniform(-25, 25), rng.uniform(2, 14), 10, rng.uniform(2, 30))
    a.knee, a.leg_forward = [rng.uniform(0, 25)] * 2, [rng.uniform(0, 12)] * 2


def _lunge(a, rng):
    front = rng.uniform(45, 85)
    a.leg_forward, a.knee = [front, rng.uniform(-30, -12)], [front * rng.uniform(0.85, 1.15), rng.uniform(10, 50)]
    a.toes = [0.0, -20.0]
    a.lean = rng.uniform(0, 25)
    for side in (0, 1):
        _arms(a, side, rng.uniform(-30, 80), rng.uniform(5, 50), 10, rng.uniform(5, 90))


def _kick(a, rng):
    a.leg_forward, a.knee = [rng.uniform(40, 98), -4.0], [rng.uniform(0, 45), rng.uniform(3, 15)]
    a.toes = [20.0, 0.0]
    a.lean = rng.uniform(-20, 5)
    for side in (0, 1):
        _arms(a, side, rng.uniform(-40, 60), rng.uniform(20, 75), 0, rng.uniform(10, 60))


def _throw(a, rng):
    _arms(a, 0, rng.uniform(-10, 30), rng.uniform(85, 115), rng.uniform(-45, -5), rng.uniform(50, 110))
    _arms(a, 1, rng.uniform(40, 90), rng.uniform(0, 30), 10, rng.uniform(5, 50))
    a.turn = rng.uniform(5, 32)
    a.leg_forward, a.knee = [-18.0, 24.0], [12.0, 18.0]


def _balance(a, rng):
    a.leg_forward, a.knee = [rng.uniform(40, 100), 0.0], [rng.uniform(50, 135), 3.0]
    a.leg_out[0] = rng.uniform(0, 50)
    for side in (0, 1):
        _arms(a, side, rng.uniform(-10, 20), rng.uniform(60, 160), 0, rng.uniform(0, 60))


def _crawl(a, rng):
    a.pitch = rng.uniform(72, 88)
    a.leg_forward = [rng.uniform(65, 95), rng.uniform(65, 95)]
    a.knee = [rng.uniform(80, 100), rng.uniform(80, 100)]
    a.toes = [40.0, 40.0]
    a.nod = rng.uniform(-35, -10)
    for side in (0, 1):
        _arms(a, side, rng.uniform(72, 100), rng.uniform(0, 12), 0, rng.uniform(0, 15))


def _jump(a, rng):
    a.lift = rng.uniform(0.1, 0.4)
    a.leg_forward, a.knee = [rng.uniform(0, 60), rng.uniform(-20, 50)], [rng.uniform(10, 90), rng.uniform(10, 90)]
    a.toes = [35.0, 35.0]
    a.leg_out = [rng.uniform(0, 25), rng.uniform(0, 25)]
    for side in (0, 1):
        _arms(a, side, rng.uniform(-30, 100), rng.uniform(15, 150), 0, rng.uniform(0, 70))


_MAKERS = {
    "stand": lambda a, rng: None,
    "contrapposto": _contrapposto,
    "walk": lambda a, rng: _stride(a, rng, 26, 28, 18),
    "run": _run,
    "wave": _wave, "cheer": _cheer, "reach": _reach, "hands_on_head": _hands_on_head, "arms_crossed": _arms_crossed,
    "phone": _phone, "sit": _sit, "squat": _squat, "bow": _bow, "lunge": _lunge, "kick": _kick, "throw": _throw,
    "balance": _balance, "crawl": _crawl, "jump": _jump,
}  # fmt: skip


def sample_angles(rng: np.random.Generator, pose: str) -> Angles:
    """Draw one figure's joint angles (degrees, inside `LIMITS`); half of the draws are mirrored."""
    a = Angles()
    _MAKERS[pose](a, rng)
    a.look, a.nod, a.tilt = a.look + rng.normal(0, 16), a.nod + rng.normal(0, 7), a.tilt + rng.normal(0, 5)
    a.turn, a.bend, a.lean = a.turn + rng.normal(0, 7), a.bend + rng.normal(0, 3), a.lean + rng.normal(2, 3)
    mirror = rng.random() < 0.5
    for name, (low, high) in LIMITS.items():
        value = getattr(a, name)
        if isinstance(value, list):
            jitter = rng.normal(0, 4.5 if name not in ("leg_out", "toes") else 2.0, 2)
            pair = [min(max(v + float(j), low), high) for v, j in zip(value, jitter)]
            setattr(a, name, pair[::-1] if mirror else pair)
        else:
            setattr(
                a,
                name,
                float(np.clip(-value if mirror and name in ("bend", "turn", "look", "tilt") else value, low, high)),
            )
    return a


def local_rotations(angles: list[Angles]) -> np.ndarray:
    """Joint angles of P figures -> (P, 17, 3, 3) rotations of bones in their parents' frames (the root without yaw)."""

    def get(name: str) -> np.ndarray:
        return np.deg2rad(np.array([getattr(a, name) for a in angles]))

    R = np.tile(np.eye(3), (len(angles), len(BONES), 1, 1))
    lean, bend, turn = get("lean"), get("bend"), get("turn")
    # Bowing turns the pelvis on the thighs first; the spine and chest share the rest.
    hips = np.maximum(lean - 0.35, 0.0) * 0.65
    spine = rotation(1, turn * 0.5) @ rotation(0, (lean - hips) * 0.5) @ rotation(2, bend * 0.5)
    R[:, 0] = rotation(0, get("pitch") + hips)
    R[:, 1] = R[:, 2] = spine
    head = (
        rotation(1, get("look") * 0.5) @ rotation(0, get("nod") * 0.5 - lean[:] * 0.12) @ rotation(2, get("tilt") * 0.5)
    )
    R[:, 3] = R[:, 4] = head
    for k, (arm, leg, side) in enumerate(((5, 11, 1), (8, 14, -1))):

        def pair(name: str, k: int = k) -> np.ndarray:
            return get(name)[:, k]

        R[:, arm] = (
            rotation(2, side * pair("arm_out"))
            @ rotation(0, -pair("arm_forward"))
            @ rotation(1, -side * pair("arm_in"))
        )
        R[:, arm + 1] = rotation(0, -pair("elbow"))
        R[:, arm + 2] = rotation(0, pair("wrist"))
        R[:, leg] = (
            rotation(0, -hips)
            @ rotation(0, -pair("leg_forward"))
            @ rotation(2, side * pair("leg_out"))
            @ rotation(1, side * pair("leg_turn"))
        )
        R[:, leg + 1] = rotation(0, pair("knee"))
        R[:, leg + 2] = rotation(0, pair("toes"))
    # Feet stay level where the leg allows: the ankle undoes half of what hip and knee add up to.
    for k, (leg, _) in enumerate(((11, 0), (14, 0))):
        slope = get("leg_forward")[:, k] - get("knee")[:, k]
        grounded = np.array([a.pitch < 30 and a.lift == 0 for a in angles])
        R[:, leg + 2] = rotation(0, np.where(grounded, np.clip(slope, -0.5, 0.5), 0.0)) @ R[:, leg + 2]
    return R
