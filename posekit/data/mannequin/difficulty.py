"""The knobs of the embedded dataset, and its named levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cue = Literal["natural", "face", "bib"]
View = Literal["balanced", "front"]


@dataclass(frozen=True)
class Difficulty:
    """What makes a picture hard; every field is independent of the others. Vary one with ``dataclasses.replace``.

    Args:
        cue: front/back cue. "natural": hair, face, hats, zips, logos, backpacks as they come; "face": a clear face
            between a white band and a white neckerchief in front, dark behind, nothing that confuses; "bib": as "face",
            and the torso is yellow-orange in front and navy behind.
        view: yaw mix. "balanced": 40 % front, 20 % side, 40 % back; "front": 68 / 18 / 14 %.
        poses: "all" of the modes or only the "calm" ones (standing, walking, gestures).
        pose_spread: 0 upright and stiff to 1 the full ranges.
        people: most people in a scene, at least 1; the number is uniform from 1.
        occlusion: 0 to 1, chance that an object stands in front, and how close people stand.
        clothing: 0 plain tight clothes to 1 the whole wardrobe.
        illumination: 0 even daylight to 1 strong differences of gain, gamma, colour cast and direction of light.
        noise: standard deviation of sensor noise at mid-grey, 8-bit levels.
        blur: largest sigma of the point spread function, in pixels.
        clutter: 0 empty scenes to 1 furnished ones.
        size_range: height of a standing person as a share of the picture's height.
    """

    cue: Cue = "natural"
    view: View = "balanced"
    poses: Literal["all", "calm"] = "all"
    pose_spread: float = 1.0
    people: int = 3
    occlusion: float = 0.35
    clothing: float = 1.0
    illumination: float = 0.6
    noise: float = 2.5
    blur: float = 0.6
    clutter: float = 0.8
    size_range: tuple[float, float] = (0.45, 0.95)

    def __post_init__(self) -> None:
        if self.cue not in ("natural", "face", "bib"):
            raise ValueError(f"Difficulty: cue '{self.cue}' is unknown; choose natural, face or bib")
        if self.view not in ("balanced", "front"):
            raise ValueError(f"Difficulty: view '{self.view}' is unknown; choose balanced or front")
        if self.poses not in ("all", "calm"):
            raise ValueError(f"Difficulty: poses '{self.poses}' is unknown; choose all or calm")
        if self.people < 1:
            raise ValueError(f"Difficulty: people is {self.people}; a scene has at least 1")
        for name in ("pose_spread", "occlusion", "clothing", "illumination", "clutter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Difficulty: {name} is {getattr(self, name)}; it lies between 0 and 1")
        for name in ("noise", "blur"):
            if getattr(self, name) < 0:
                raise ValueError(f"Difficulty: {name} is {getattr(self, name)}; it cannot be negative")
        if not 0.1 <= self.size_range[0] <= self.size_range[1] <= 1.5:
            raise ValueError(f"Difficulty: size_range {self.size_range} must rise within 0.1 to 1.5")


LEVELS: dict[str, Difficulty] = {cue: Difficulty(cue=cue) for cue in ("bib", "face", "natural")}  # type: ignore[arg-type]
