"""Procedural textures, made once per process: tileable weaves and surfaces with their mip levels, and decals.

A texture is a weight between two colours, so one table serves every palette. Lookups never need a transcendental
function, which keeps pictures equal to the last bit whatever the batch they were rendered in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from posekit.data.mannequin.arrays import Array, Arrays

SIZE, LEVELS = 256, 6
OFFSETS = [sum((SIZE >> k) ** 2 for k in range(level)) for level in range(LEVELS)]  # of mip levels in a pattern
WEAVES = (
    "plain", "stripes", "pinstripes", "rugby", "vertical", "gingham", "plaid", "dots", "heather", "denim", "camouflage",
    "argyle", "floral", "chevron", "knit",
)  # fmt: skip
SURFACES = (
    "plaster", "brick", "tiles", "planks", "checker", "carpet", "concrete", "grass", "wallpaper", "damask", "parquet",
    "wood", "pavers", "foliage", "books",
)  # fmt: skip
PATTERNS = WEAVES + SURFACES
DECALS = (
    "none", "face_calm", "face_smile", "face_open", "face_beard", "face_glasses", "face_clear",
    "zip", "buttons", "disc", "bars", "star", "number",
)  # fmt: skip
DECAL = 128


def _noise(rng: np.random.Generator, cells: int, octaves: int = 4, stretch: int = 1) -> np.ndarray:
    """Tileable value noise (SIZE, SIZE), zero mean, unit deviation; `stretch` makes it longer along v."""
    out = np.zeros((SIZE, SIZE))
    x = np.arange(SIZE) / SIZE
    for o in range(octaves):
        nu, nv = min(cells << o, SIZE), max(min((cells << o) // stretch, SIZE), 1)
        table = rng.standard_normal((nv, nu))
        iu, iv = x * nu, x * nv
        fu, fv = iu % 1, (iv % 1)[:, None]
        fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
        u0, v0 = iu.astype(int), iv.astype(int)
        u1, v1 = (u0 + 1) % nu, (v0 + 1) % nv
        top = table[v0][:, u0] * (1 - fu) + table[v0][:, u1] * fu
        low = table[v1][:, u0] * (1 - fu) + table[v1][:, u1] * fu
        out += (top * (1 - fv) + low * fv) * 0.55**o
    out -= out.mean()
    return out / out.std()


def _soft(x: np.ndarray, width: float) -> np.ndarray:
    return np.clip(0.5 + x / width, 0, 1)


def _blocks(u, v, across: int, down: int, joint: float, rng, shift: float = 0.5):
    """Running bond: joints (1 on a joint) and a shade for each block."""
    row = np.floor(v * down)
    x = u * across + (row % 2) * shift
    fu, fv = x % 1, (v * down) % 1
    edge = np.minimum(np.minimum(fu, 1 - fu) / across, np.minimum(fv, 1 - fv) / down)
    shade = rng.random((down, across))[row.astype(int) % down, np.floor(x).astype(int) % across]
    return _soft(joint - edge, joint * 0.8), shade


def _pattern(name: str, rng: np.random.Generator) -> np.ndarray:
    u, v = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE, (np.arange(SIZE) + 0.5) / SIZE)
    wave = lambda t, n: 0.5 + 0.5 * np.sin(2 * np.pi * n * t)  # noqa: E731
    square = lambda t, n, duty=0.5: _soft(np.abs((t * n) % 1 - 0.5) - (1 - duty) / 2, 0.03)  # noqa: E731
    match name:
        case "plain":
            return 0.08 + 0.05 * _noise(rng, 16)
        case "stripes":
            return square(v, 4)
        case "pinstripes":
            return square(u, 10, 0.12)
        case "rugby":
            return square(v, 2)
        case "vertical":
            return square(u, 5)
        case "gingham":
            return 0.5 * (square(u, 8) + square(v, 8))
        case "plaid":
            bars = lambda t: 0.55 * square(t, 2, 0.35) + 0.35 * square(t + 0.25, 2, 0.07)  # noqa: E731
            return np.clip(bars(u) + bars(v), 0, 1)
        case "dots":
            du, dv = (u * 6 + np.floor(v * 6) % 2 * 0.5) % 1 - 0.5, (v * 6) % 1 - 0.5
            return _soft(0.25 - np.hypot(du, dv), 0.1)
        case "heather":
            return np.clip(0.35 + 0.22 * _noise(rng, 64, 2), 0, 1)
        case "denim":
            return np.clip(0.3 + 0.14 * _noise(rng, 128, 1, 8) + 0.16 * _noise(rng, 4, 3), 0, 1)
        case "camouflage":
            return _soft(_noise(rng, 6, 3) - 0.1, 0.1) * 0.75 + 0.25 * _soft(_noise(rng, 8, 3) - 0.4, 0.1)
        case "argyle":
            a, b = np.abs((u * 4) % 1 - 0.5), np.abs((v * 3) % 1 - 0.5)
            return 0.8 * _soft(0.5 - a - b, 0.05) + 0.2 * (_soft(0.03 - np.abs(a - b), 0.03))
        case "floral":
            du, dv = (u * 4 + np.floor(v * 4) % 2 * 0.5) % 1 - 0.5, (v * 4) % 1 - 0.5
            r, a = np.hypot(du, dv), np.arctan2(dv, du)
            return _soft(0.28 + 0.08 * np.cos(5 * a) - r, 0.06) - 0.6 * _soft(0.09 - r, 0.06)
        case "chevron":
            return square(v + np.abs((u * 4) % 1 - 0.5) * 0.16, 6)
        case "knit":
            return np.clip(0.4 + 0.25 * wave(v + 0.01 * np.abs((u * 32) % 1 - 0.5), 40) + 0.1 * _noise(rng, 16), 0, 1)
        case "plaster":
            return np.clip(0.3 + 0.1 * _noise(rng, 4, 6), 0, 1)
        case "brick":
            joint, shade = _blocks(u, v, 4, 12, 0.006, rng)
            return np.clip(np.maximum(joint, 0.3 * shade + 0.06 * _noise(rng, 32, 3)), 0, 1)
        case "tiles":
            joint, shade = _blocks(u, v, 6, 6, 0.004, rng, 0.0)
            return np.clip(np.maximum(joint, 0.15 * shade), 0, 1)
        case "planks":
            joint, shade = _blocks(v, u, 2, 8, 0.0025, rng, 0.37)
            return np.clip(np.maximum(joint * 0.9, 0.45 * shade + 0.1 * _noise(rng, 64, 2, 16) + 0.05), 0, 1)
        case "checker":
            return np.where((np.floor(u * 4) + np.floor(v * 4)) % 2 > 0, 0.9, 0.06) + 0.03 * _noise(rng, 8)
        case "carpet":
            return np.clip(0.4 + 0.13 * _noise(rng, 64, 3) + 0.1 * _noise(rng, 4, 3), 0, 1)
        case "concrete":
            return np.clip(0.4 + 0.14 * _noise(rng, 3, 6), 0, 1)
        case "grass":
            return np.clip(0.45 + 0.2 * _noise(rng, 64, 2) + 0.14 * _noise(rng, 4, 3), 0, 1)
        case "wallpaper":
            return 0.75 * square(u, 6) + 0.03 * _noise(rng, 8)
        case "damask":
            du, dv = (u * 4 + np.floor(v * 3) % 2 * 0.5) % 1 - 0.5, (v * 3) % 1 - 0.5
            r, a = np.hypot(du, dv * 0.8), np.arctan2(dv, du)
            return 0.7 * _soft(0.2 + 0.12 * np.cos(4 * a) + 0.05 * np.cos(8 * a) - r, 0.08)
        case "parquet":
            across = (np.floor(u * 4) + np.floor(v * 4)) % 2 > 0
            stripe = np.where(across, u, v)
            joint = _soft(0.1 - np.abs((stripe * 16) % 1 - 0.5) * -1 - 0.5, 0.06)
            shade = rng.random((2, 64))[across.astype(int), np.floor(stripe * 16).astype(int)]
            return np.clip(0.2 + 0.5 * shade + 0.3 * across + joint * 0.3 + 0.05 * _noise(rng, 64, 2), 0, 1) * 0.8
        case "wood":
            return np.clip(0.4 + 0.16 * _noise(rng, 24, 3, 12) + 0.08 * _noise(rng, 4, 2), 0, 1)
        case "pavers":
            joint, shade = _blocks(u, v, 3, 5, 0.007, rng)
            return np.clip(np.maximum(joint, 0.35 * shade + 0.1 * _noise(rng, 16, 4) + 0.1), 0, 1)
        case "foliage":
            return np.clip(0.5 + 0.28 * _noise(rng, 20, 3), 0, 1)
        case "books":
            edges = np.sort(rng.random(26))
            k = np.searchsorted(edges, u[0])
            return np.tile(rng.random(27)[k], (SIZE, 1)) * np.where((v * 4) % 1 < 0.1, 0.2, 1.0)
    raise ValueError(name)


@lru_cache(maxsize=1)
def pattern_bank() -> np.ndarray:
    """(T,) uint8 weights of all patterns, each with its mip levels one after the other."""
    flat = []
    for i, name in enumerate(PATTERNS):
        level = np.clip(_pattern(name, np.random.default_rng((17, i))), 0, 1)
        for _ in range(LEVELS):
            flat.append(np.round(level * 255).astype(np.uint8).ravel())
            n = len(level) // 2
            level = level.reshape(n, 2, n, 2).mean((1, 3))
    return np.concatenate(flat)


def _face(name: str) -> np.ndarray:
    """(DECAL, DECAL, 4) weights of hair colour, white, lips and iris over a face 0.17 m wide and 0.19 m high."""
    x, y = np.meshgrid((np.arange(DECAL) + 0.5) / DECAL - 0.5, 0.5 - (np.arange(DECAL) + 0.5) / DECAL)
    x, y = np.abs(x) * 0.17, y * 0.19 + 0.06  # metres in the head's frame, mirrored
    px = 0.0022
    out = np.zeros((DECAL, DECAL, 4))
    clear = name == "face_clear"
    grow = 1.3 if clear else 1.0
    eye = 1 - np.hypot((x - 0.0305) / (0.0145 * grow), (y - 0.083) / (0.0072 * grow))
    out[..., 1] = _soft(eye * 0.008, px)
    out[..., 3] = _soft(0.0067 * grow - np.hypot(x - 0.0305, y - 0.083), px) * out[..., 1]
    lash = np.abs(np.hypot((x - 0.0305) / (0.0155 * grow), (y - 0.082) / (0.0085 * grow)) - 1) * 0.008
    out[..., 3] = np.maximum(out[..., 3], _soft(0.0016 - lash, px) * (y > 0.083) * 0.9)
    brow = np.abs(y - (0.1035 - 3.0 * (x - 0.03) ** 2 * 4)) - (0.0034 if not clear else 0.0046)
    out[..., 0] = _soft(-brow, px) * _soft(0.019 - np.abs(x - 0.031), px)
    smile = {"face_smile": 6.0, "face_glasses": 3.0}.get(name, 0.5)
    middle = 0.018 + smile * x**2
    lips = np.abs(y - middle) - np.where(x < 0.026, 0.0048 * grow * (1 - (x / 0.027) ** 2), -0.004)
    out[..., 2] = _soft(-lips, px)
    out[..., 3] = np.maximum(out[..., 3], _soft(0.0010 - np.abs(y - middle), px) * _soft(0.022 - x, px) * 0.8)
    if name in ("face_open", "face_smile"):
        mouth = 1 - np.hypot(x / 0.017, (y - middle + 0.001) / 0.0055)
        out[..., 1] = np.maximum(out[..., 1], _soft(mouth * 0.004, px) * (name == "face_smile"))
        out[..., 3] = np.maximum(out[..., 3], _soft(mouth * 0.004, px) * (name == "face_open"))
    out[..., 3] = np.maximum(out[..., 3], 0.45 * _soft(0.003 - np.hypot(x - 0.0075, (y - 0.04) * 1.5), px))
    if name == "face_beard":
        beard = np.maximum(0.034 - y + 0.9 * np.maximum(x - 0.03, 0), 0) * 30
        out[..., 0] = np.maximum(out[..., 0], np.clip(beard, 0, 0.9) * (1 - out[..., 2]))
    if name == "face_glasses":
        ring = np.abs(np.maximum(np.abs(x - 0.032) / 0.024, np.abs(y - 0.083) / 0.018) - 1) * 0.02
        out[..., 3] = np.maximum(out[..., 3], _soft(0.0022 - ring, px))
        out[..., 3] = np.maximum(out[..., 3], _soft(0.0018 - np.abs(y - 0.089), px) * (x < 0.009))
    cheek = np.exp(-(((x - 0.043) / 0.016) ** 2) - ((y - 0.045) / 0.016) ** 2)
    out[..., 2] = np.maximum(out[..., 2], 0.22 * cheek)
    return out


def _emblem(name: str) -> np.ndarray:
    """(DECAL, DECAL, 4) garment decals, over a square of the garment's own size."""
    x, y = np.meshgrid((np.arange(DECAL) + 0.5) / DECAL - 0.5, 0.5 - (np.arange(DECAL) + 0.5) / DECAL)
    out = np.zeros((DECAL, DECAL, 4))
    r, a = np.hypot(x, y), np.arctan2(y, x)
    match name:
        case "zip":
            out[..., 0] = _soft(0.018 - np.abs(x), 0.02)
            out[..., 1] = _soft(0.008 - np.abs(x), 0.01) * ((y * 40) % 1 < 0.5)
        case "buttons":
            out[..., 0] = 0.35 * _soft(0.02 - np.abs(x), 0.02)
            out[..., 1] = _soft(0.018 - np.hypot(x, ((y * 6) % 1 - 0.5) / 6), 0.012)
        case "disc":
            out[..., 0] = _soft(0.4 - r, 0.03)
            out[..., 1] = _soft(0.26 - r, 0.03)
        case "bars":
            out[..., 0] = _soft(0.4 - np.abs(x), 0.03) * ((np.abs(y) < 0.3) & ((y * 5) % 1 < 0.55))
        case "star":
            out[..., 0] = _soft(0.28 + 0.13 * np.cos(5 * (a - np.pi / 2)) - r, 0.03)
        case "number":
            one = (np.abs(x + 0.2) < 0.06) & (np.abs(y) < 0.38)
            zero = np.abs(np.maximum(np.abs(x - 0.15) / 0.2, np.abs(y) / 0.38) - 0.82) < 0.18
            out[..., 0] = one | zero
    return out


@lru_cache(maxsize=1)
def decal_bank() -> np.ndarray:
    """(D * DECAL * DECAL, 4) uint8 weights."""
    made = [_face(name) if name.startswith("face") else _emblem(name) for name in DECALS]
    return np.round(np.clip(np.stack(made), 0, 1) * 255).astype(np.uint8).reshape(-1, 4)


@lru_cache(maxsize=1)
def packed_bank() -> np.ndarray:
    """(T,) int32: every texel of `pattern_bank` with its neighbours to the right, below and across, a byte each."""
    parts, bank = [], pattern_bank().reshape(len(PATTERNS), -1)
    for level, offset in enumerate(OFFSETS):
        n = SIZE >> level
        t = bank[:, offset : offset + n * n].reshape(-1, n, n).astype(np.uint32)
        right, below = np.roll(t, -1, 2), np.roll(t, -1, 1)
        packed = t | right << 8 | below << 16 | np.roll(right, -1, 1) << 24
        parts.append(packed.reshape(len(PATTERNS), -1))
    return np.concatenate(parts, 1).reshape(-1).view(np.int32)


@dataclass(frozen=True)
class Bank:
    """The pattern bank: flat texels, the same with their neighbours, offsets of mip levels, texels of one pattern."""

    texels: Array
    packed: Array
    offsets: Array
    stride: int

    @staticmethod
    @lru_cache(maxsize=4)
    def of(xp: Arrays) -> Bank:
        flat = pattern_bank()
        offsets = xp.put(OFFSETS, np.int32)
        return Bank(xp.put(flat, np.uint8), xp.put(packed_bank(), np.int32), offsets, len(flat) // len(PATTERNS))


def _octave(texels: Array, xp: Arrays) -> Array:
    """floor(log2) of positive floats from their bits: exact, unlike a logarithm."""
    return (xp.bits(texels) >> 23) - 127


def lookup(bank: Bank, pattern: Array, u: Array, v: Array, footprint: Array, xp: Arrays) -> Array:
    """(S,) weights of patterns (S,) at (u, v) in tiles: nearest texel of the mip level that fits the footprint."""
    footprint = footprint * (SIZE * 1.4)
    level = _octave(xp.clip(footprint, 1.0, float(1 << (LEVELS - 1))), xp)
    n = SIZE >> level
    u, v, side = u - xp.floor(u), v - xp.floor(v), xp.float32(n)
    u *= side
    v *= side
    at = xp.minimum(xp.int32(v), n - 1) * n
    at += xp.minimum(xp.int32(u), n - 1)
    at += xp.take(bank.offsets, level)
    at += xp.int32(pattern) * bank.stride
    return xp.float32(xp.take(bank.texels, at)) * (1.0 / 255.0)


def _bilinear(bank: Bank, pattern: int, u: Array, v: Array, level, xp: Arrays) -> Array:
    """(S,) texels 0 to 255 of one mip level: a number for all or (S,) int32."""
    n = SIZE >> level
    last = n - 1
    side = n if isinstance(level, int) else xp.float32(n)
    x, y = u * side - 0.5, v * side - 0.5
    x0, y0 = xp.floor(x), xp.floor(y)
    x -= x0
    y -= y0
    offset = OFFSETS[level] if isinstance(level, int) else xp.take(bank.offsets, level)
    at = (xp.int32(y0) & last) * n
    at += xp.int32(x0) & last
    at += offset + pattern * bank.stride
    quad = xp.take(bank.packed, at)
    a, b, c, d = (xp.float32((quad >> shift) & 255) for shift in (0, 8, 16, 24))
    b -= a
    b *= x
    a += b
    d -= c
    d *= x
    c += d
    c -= a
    c *= y
    a += c
    return a


def trilinear(bank: Bank, pattern: int, u: Array, v: Array, footprint: Array, xp: Arrays) -> Array:
    """(S,) weights of one pattern at (u, v) in tiles, filtered over ``footprint`` tiles: bilinear in two mip levels."""
    texels = xp.clip(footprint * SIZE, 1.0, (1 << (LEVELS - 1)) - 0.01)
    low = _octave(texels, xp)
    blend = xp.float32(xp.bits(texels) & 0x7FFFFF) * (1.0 / (1 << 23))  # how far from one octave to the next
    u, v = u - xp.floor(u), v - xp.floor(v)
    first, final = int(low.min()), int(low.max())
    # A wall is mostly within one octave; plain numbers then take the place of tables.
    near, far = (first, first + 1) if first == final else (low, low + 1)
    out = _bilinear(bank, pattern, u, v, near, xp)
    out += (_bilinear(bank, pattern, u, v, far, xp) - out) * blend
    return out * (1.0 / 255.0)
