"""Who the figures are and what they wear: skin tones, hair, garments, and the front/back cue of each level.

Every skin tone, hair colour, hair style and build is drawn with the same odds at every level. The cue of `face` and
`bib` is made by contrast: a band over the forehead and a neckerchief, both white in front, and dark behind: where hair
is not much darker than the skin, a dark scarf is tied over the back of the head. Between band and scarf everybody's own
hair shows. The neckerchief is there for size: a band alone is two pixels tall in a crop of 96, and a keypoint loss did
not find it within 48,000 samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.data.mannequin import attire, body
from posekit.data.mannequin.textures import DECALS, PATTERNS, WEAVES

# sRGB 8-bit, ten steps from fair to deep (after the Monk scale's range).
SKIN_TONES = np.array([
    (246, 224, 205), (240, 208, 182), (231, 188, 156), (219, 168, 130), (200, 146, 106),
    (176, 120, 82), (150, 98, 66), (122, 78, 52), (94, 60, 42), (68, 45, 35),
])  # fmt: skip
HAIR_COLOURS = {
    "black": (24, 21, 22), "dark_brown": (52, 36, 28), "brown": (92, 60, 38), "auburn": (128, 58, 32),
    "blond": (206, 168, 104), "ginger": (186, 92, 40), "grey": (150, 148, 146), "white": (226, 222, 216),
}  # fmt: skip
HAIR_ODDS = np.array((0.26, 0.2, 0.16, 0.06, 0.12, 0.05, 0.09, 0.06))
STYLES = ("bald", "buzz", *attire.HAIR_STYLES)
STYLE_ODDS = np.array((0.06, 0.12, 0.2, 0.1, 0.1, 0.07, 0.1, 0.12, 0.07, 0.06))
# Back of the head against face, linear luminance: below this the contrast reads at 60 pixels of height.
SCARF_CONTRAST = 0.3
NECKERCHIEF = 0.05  # metres from the collar down

CLOTH = np.array([
    (236, 232, 222), (38, 42, 54), (27, 58, 96), (74, 112, 156), (142, 174, 200), (176, 48, 48), (214, 96, 70),
    (232, 164, 80), (240, 206, 120), (58, 96, 72), (112, 142, 92), (168, 186, 150), (98, 58, 92), (168, 118, 158),
    (214, 160, 170), (122, 84, 60), (182, 152, 116), (110, 116, 122), (178, 182, 184), (36, 110, 116), (120, 188, 180),
    (70, 66, 62), (150, 60, 80), (204, 190, 160),
])  # fmt: skip
DENIM = np.array(
    [(44, 62, 92), (66, 92, 130), (110, 138, 170), (34, 38, 48), (120, 118, 112), (176, 160, 130), (86, 82, 70)]
)
SHOES = np.array(
    [(240, 238, 232), (34, 32, 34), (96, 60, 40), (178, 44, 44), (44, 70, 120), (206, 178, 130), (90, 92, 96)]
)
BIB_FRONT, BIB_BACK = (250, 176, 34), (26, 34, 84)

MATERIAL = 18  # columns of a material row, see `Wardrobe.add`
PARTS = 7


def pick(rng: np.random.Generator, items, odds=None):
    """One of ``items``, evenly or by odds that add up to 1; a tenth of the cost of ``Generator.choice``."""
    if odds is None:
        return items[int(rng.integers(len(items)))]
    return items[min(int(np.searchsorted(np.cumsum(odds), rng.random(), side="right")), len(items) - 1)]


def linear(srgb) -> np.ndarray:
    """8-bit sRGB -> linear light, 0 to 1 (gamma 2.2 approximation, undone by the camera's response)."""
    return (np.asarray(srgb, float) / 255.0) ** 2.2


def luminance(rgb: np.ndarray) -> float:
    return float(np.asarray(rgb) @ (0.2126, 0.7152, 0.0722))


class Materials:
    """Rows of surface descriptions; an index into them is what geometry carries."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []
        self.decals: list[np.ndarray] = []

    def add(
        self, colour, second=None, *, pattern: str = "plain", period: float = 0.3, offset=(0.0, 0.0),
        gloss: float = 0.05, decal: str = "none", place=(0.0, 0.0, 1.0, 1.0), inks=None,
    ) -> int:  # fmt: skip
        """Colours are linear; `period` metres of one texture tile; `place` is the decal's centre and size in metres."""
        second = [c * 0.8 for c in colour] if second is None else second
        self.rows.append([
            *colour, *(b - a for a, b in zip(colour, second)), 1 / period, 1 / period, *offset,
            PATTERNS.index(pattern), DECALS.index(decal), place[0], place[1], 1 / place[2], 1 / place[3], gloss, 0.0,
        ])  # fmt: skip
        self.decals.append(np.zeros(12) if inks is None else np.asarray(inks, float).reshape(12))
        return len(self.rows) - 1


@dataclass(frozen=True)
class Person:
    """One dressed figure, before it is posed.

    thresholds (7, 2): garment coordinate at which the first layer of each part ends and the third begins;
    materials (7, 3, 2): index of the material of each part, layer and side (back, front);
    thickness (7, 3) metres of cloth over the skin.
    """

    skin: int
    hair_colour: str
    hair_style: str
    hat: str
    skirt: float
    scarf: bool
    girth: np.ndarray  # (17, 3) scale of each bone's flesh along its own axes
    stature: float
    offsets: np.ndarray  # (17, 3) joints in parents' frames
    belly: float
    bust: float
    thresholds: np.ndarray
    materials: np.ndarray
    thickness: np.ndarray


def _build(rng: np.random.Generator) -> dict:
    """Proportions: stature, limb and trunk lengths, shoulder and hip width, girth."""
    stature = float(np.clip(rng.normal(0.985, 0.06), 0.82, 1.14))
    heavy = float(np.clip(rng.normal(0.05, 0.11), -0.15, 0.38))
    frame = float(rng.uniform(-1, 1))  # -1 wide hips, +1 wide shoulders
    offsets = body.OFFSETS * stature
    offsets[[5, 8], 0] *= 1 + 0.05 * frame + 0.25 * heavy
    offsets[[11, 14], 0] *= 1 - 0.05 * frame + 0.25 * heavy
    arm, leg = rng.normal(1, 0.025, 2)
    offsets[[6, 7, 9, 10]] *= arm
    offsets[[12, 13, 15, 16]] *= leg
    head = float(np.clip(rng.normal(1.0, 0.03), 0.93, 1.08)) * (0.35 + 0.65 * stature)
    girth = np.full((17, 3), stature)
    wide = np.array([1 + 0.8 * heavy - 0.05 * frame, 1 + 1.25 * heavy, 1 + 0.8 * heavy + 0.05 * frame])
    girth[:3, 0] *= wide
    girth[:3, 2] *= wide + 0.2 * heavy
    girth[3, [0, 2]] *= 1 + 0.5 * heavy + 0.04 * frame
    girth[4] = head
    girth[5:11, 0] *= 1 + 0.9 * heavy + 0.05 * frame
    girth[5:11, 2] *= 1 + 0.9 * heavy + 0.05 * frame
    girth[11:, 0] *= 1 + 0.8 * heavy
    girth[11:, 2] *= 1 + 0.8 * heavy
    girth[[13, 16]] = stature * (1 + 0.2 * max(heavy, 0))
    girth[[7, 10]] = stature * (1 + 0.2 * max(heavy, 0))
    girth[[5, 6, 8, 9], 1] *= arm
    girth[[11, 12, 14, 15], 1] *= leg
    belly = float(max(heavy, 0.0) * rng.uniform(0.1, 0.3))
    bust = float(max(-frame, 0.0) * rng.uniform(0.0, 0.035))
    return {"stature": stature, "girth": girth, "offsets": offsets, "belly": belly, "bust": bust}


def _cloth(rng, materials: Materials, colours: np.ndarray, *, weave=None, **options) -> int:
    colour, second = linear(colours[rng.integers(len(colours))]), linear(CLOTH[rng.integers(len(CLOTH))])
    weave = weave or (pick(rng, WEAVES[1:]) if rng.random() < 0.5 else "plain")
    if weave in ("plain", "heather", "knit", "denim"):
        second = colour * rng.uniform(0.5, 0.75)
    return materials.add(
        colour, second, pattern=weave, period=rng.uniform(0.22, 0.42), offset=rng.random(2),
        gloss=rng.uniform(0.0, 0.12), **options,
    )  # fmt: skip


def dress(rng: np.random.Generator, materials: Materials, cue: str, clothing: float) -> Person:
    """Draw a person and their clothes.

    Args:
        cue: "natural", "face" or "bib"; it changes what is worn, never who is drawn.
        clothing: 0 plain tight clothes, 1 the whole wardrobe.
    """
    built = _build(rng)
    skin = int(rng.integers(len(SKIN_TONES)))
    hair = pick(rng, tuple(HAIR_COLOURS), HAIR_ODDS)
    style = pick(rng, STYLES, STYLE_ODDS)
    hat = pick(rng, attire.HATS) if rng.random() < 0.18 else "none"
    sleeve = pick(rng, (0.05, 0.17, 0.24, 0.5, 0.525), (0.12, 0.3, 0.13, 0.25, 0.2))
    hem = pick(rng, (0.22, 0.36, 0.5, 0.8), (0.12, 0.2, 0.08, 0.6))
    skirt = pick(rng, (0.5, 0.72)) if rng.random() < 0.16 * clothing else 0.0
    loose = rng.uniform(0.0, 1.0, 3) * clothing
    shoe_line = pick(rng, (0.81, 0.825, 0.72))
    face = pick(rng, ("face_calm", "face_smile", "face_open", "face_beard", "face_glasses"))
    emblem = pick(rng, ("none", "none", "zip", "buttons", "disc", "bars", "star", "number"))
    weave = None if rng.random() < clothing else "plain"
    plain_cue = cue != "natural"
    if plain_cue:
        hat, emblem, face = "none", "none", "face_clear"

    skin_rgb, hair_rgb = linear(SKIN_TONES[skin]), linear(HAIR_COLOURS[hair])
    lips = np.clip(skin_rgb * (1.0, 0.5, 0.5) + (0.06, 0.0, 0.01), 0, 1)
    inks = np.stack([hair_rgb * 0.7 if luminance(hair_rgb) < 0.5 * luminance(skin_rgb) else skin_rgb * 0.3,
                     (0.9, 0.9, 0.88), lips, (0.008, 0.007, 0.007)])  # fmt: skip
    skin_m = materials.add(skin_rgb, skin_rgb * (0.9, 0.84, 0.82), gloss=0.12, offset=rng.random(2))
    face_m = materials.add(
        skin_rgb, skin_rgb * (0.9, 0.84, 0.82), gloss=0.12, decal=face, place=(0.0, 0.06, 0.17, 0.19), inks=inks
    )
    hair_m = materials.add(hair_rgb, hair_rgb * 0.45, pattern="wood", period=0.1, gloss=0.22, offset=rng.random(2))
    bare = style == "bald"
    back_rgb = skin_rgb if bare else hair_rgb
    scarf = plain_cue and luminance(back_rgb) > SCARF_CONTRAST * luminance(skin_rgb)
    scarf_m = materials.add(
        linear((30, 28, 40)) * min(1.0, luminance(skin_rgb) * 4), linear((16, 16, 22)), pattern="heather", period=0.2
    )

    decal = {"zip": (0, 1.22, 0.5, 0.5), "buttons": (0, 1.2, 0.5, 0.5)}.get(emblem, (0.0, 1.3, 0.15, 0.15))
    ink = [linear(CLOTH[rng.integers(len(CLOTH))]) for _ in range(2)]
    top = _cloth(rng, materials, CLOTH, weave=weave)
    front = materials.add(np.zeros(3))
    materials.rows[front] = materials.rows[top].copy()
    if emblem != "none":
        materials.rows[front][11:16] = DECALS.index(emblem), decal[0], decal[1], 1 / decal[2], 1 / decal[3]
        materials.decals[front] = np.concatenate([ink[0], ink[1], ink[0], ink[1]])
    back = top
    if cue == "bib":
        front = materials.add(linear(BIB_FRONT), linear(BIB_FRONT) * 0.85, gloss=0.04)
        back = materials.add(linear(BIB_BACK), linear(BIB_BACK) * 0.8, gloss=0.04)
    bottom = _cloth(
        rng, materials, DENIM if rng.random() < 0.6 else CLOTH, weave="denim" if rng.random() < 0.4 else weave
    )
    sock = _cloth(rng, materials, CLOTH, weave="plain") if rng.random() < 0.35 else skin_m
    shoe = materials.add(linear(SHOES[rng.integers(len(SHOES))]), gloss=0.2)
    hat_m = _cloth(rng, materials, CLOTH, weave="plain")

    neck = rng.uniform(1.4, 1.445)
    waist = rng.uniform(0.93, 1.02)
    m = np.zeros((PARTS, 3, 2), int)
    m[body.TORSO] = ((bottom, bottom), (back, front), (skin_m, skin_m))
    m[body.ARM] = ((top, top), (skin_m, skin_m), (skin_m, skin_m))
    m[body.LEG] = (
        (bottom, bottom),
        (sock if sock != skin_m and hem > 0.3 else skin_m, sock if sock != skin_m and hem > 0.3 else skin_m),
        (shoe, shoe),
    )
    own, behind = (skin_m if bare else hair_m), (scarf_m if scarf else hair_m)
    if plain_cue:
        band = materials.add(linear((252, 250, 244)), linear((236, 234, 228)), gloss=0.02)
        m[body.HEAD] = ((behind, face_m), (behind, band), (behind, own))
        m[body.TORSO, 2] = scarf_m, band
        m[body.HAIR] = ((band, band), (hair_m, hair_m), (behind, behind))
    else:
        m[body.HEAD] = ((skin_m, face_m), (own, own), (own, own))
        m[body.HAIR] = hair_m
    m[body.HAT], m[body.SKIRT] = hat_m, bottom
    thresholds = np.full((PARTS, 2), 9.0)
    thresholds[body.TORSO] = waist, neck - NECKERCHIEF if plain_cue else neck
    thresholds[body.ARM, 0] = sleeve
    # Under a skirt the thighs are dressed in its cloth, which hides where they push through it.
    thresholds[body.LEG] = (skirt - 0.2 if skirt else hem), shoe_line
    thresholds[body.HEAD] = (0.0, 0.06) if plain_cue or not bare else (9.0, 9.0)
    thresholds[body.HAIR] = -0.04, -0.005
    thickness = np.zeros((PARTS, 3))
    thickness[body.TORSO] = 0.005 + 0.008 * loose[1], 0.007 + 0.016 * loose[0], 0.012 if plain_cue else 0.0
    thickness[body.ARM, 0] = 0.005 + 0.012 * loose[0]
    thickness[body.LEG] = 0.005 + 0.022 * loose[1], 0.003 if sock != skin_m else 0.0, 0.008
    thickness[body.HEAD, 1:] = 0.004 if plain_cue or not bare else 0.0
    return Person(
        skin=skin, hair_colour=hair, hair_style=style, hat=hat, skirt=skirt, scarf=scarf,
        **built, thresholds=thresholds, materials=m, thickness=thickness,
    )  # fmt: skip
