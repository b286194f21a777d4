"""An ablation, written once: arms that differ in one thing, and the contrasts that decide a claim.

A profile sets sizes, samples and the recipe. What an arm trains is a plain JSON configuration, and equal configurations
are one run: two ablations that share an arm share its seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from posekit.data.mannequin.dataset import GENERATOR
from posekit.experiments import ledger
from posekit.training import recipes

Size = Literal["smallest", "small", "base", "large"]
CONFIRM = (1, 2, 3, 4, 5)  # seeds of a recorded ablation
LOOK = (101, 102, 103, 104, 105)  # seeds for looking around, so that the others stay unseen


@dataclass(frozen=True)
class Profile:
    """Sizes of every ablation: input sizes by name, scenes of Mannequin's splits, crops seen in training.

    Args:
        reduced: tiny networks, spatial cross-entropy; otherwise the papers' networks and mean squared error.
        seeds: how many a recorded ablation needs.
    """

    sizes: Mapping[Size, tuple[int, int]]
    scenes: Mapping[str, int]
    samples: int
    reduced: bool
    seeds: int
    level: str = "bib"
    view: str = "balanced"


# The small sizes are not all of one shape, because networks take multiples of 16: 2:3, 3:4, 2:3 and 3:4.
_TINY: dict[Size, tuple[int, int]] = {"smallest": (48, 32), "small": (64, 48), "base": (96, 64), "large": (128, 96)}
_PAPER: dict[Size, tuple[int, int]] = {
    "smallest": (128, 96),
    "small": (192, 160),
    "base": (256, 192),
    "large": (384, 288),
}
PROFILES: dict[str, Profile] = {
    "smoke": Profile(_TINY, {"train": 24, "val": 12, "test": 12}, samples=240, reduced=True, seeds=2),
    "quick": Profile(_TINY, {"train": 3000, "val": 500, "test": 500}, samples=24_000, reduced=True, seeds=5),
    "full": Profile(_PAPER, {"train": 20_000, "val": 2000, "test": 2000}, samples=2_000_000, reduced=False, seeds=3),
}


def _full_recipe(samples: int) -> recipes.Recipe:
    """HRNet's loss, optimizer and views; one cycle over a fixed number of crops in place of 210 epochs."""
    return replace(
        recipes.hrnet_coco(),
        name="full",
        schedule="one_cycle",
        milestones=(),
        epochs=None,
        samples=samples,
        bf16=True,
        evaluations=1,
    )


@dataclass(frozen=True)
class Arm:
    """One network trained in one way.

    Args:
        tiny, full: the network of the reduced profiles and of the papers' size.
        options: of the network in both; ``tiny_options`` and ``full_options`` in one of them.
        size: of the crop.
        samples, scenes: shares of the profile's.
        codec: fields of the network's codec that are replaced.
        recipe: fields of the recipe that are replaced.
        own_loss: keep the loss and target of the network's codec, which knows no cross-entropy.
        level: of the cue, where it is not the profile's.
    """

    tiny: str
    full: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tiny_options: Mapping[str, Any] = field(default_factory=dict)
    full_options: Mapping[str, Any] = field(default_factory=dict)
    size: Size = "base"
    samples: float = 1.0
    scenes: float = 1.0
    codec: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    own_loss: bool = False
    level: str = ""

    def config(self, profile: str) -> dict[str, Any]:
        """Everything that a run of this arm depends on besides its seed, as JSON values."""
        sizes = PROFILES[profile]
        name, extra = (self.tiny, self.tiny_options) if sizes.reduced else (self.full, self.full_options)
        return {
            "network": name,
            "options": {**self.options, **extra},
            "input_size": list(sizes.sizes[self.size]),
            "codec": dict(self.codec),
            "recipe": self._recipe(sizes).to_dict(),
            "data": {
                "level": self.level or sizes.level,
                "view": sizes.view,
                "scenes": {**sizes.scenes, "train": round(sizes.scenes["train"] * self.scenes)},
                "generator": GENERATOR,
            },
        }

    def _recipe(self, sizes: Profile) -> recipes.Recipe:
        samples = round(sizes.samples * self.samples)
        if sizes.reduced:
            built = recipes.quick(samples) if self.own_loss else recipes.quick_ce(samples)
        else:
            built = _full_recipe(samples)
            built = replace(built, loss=None, centre=None) if self.own_loss else built
        return replace(built, **self.recipe)


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of metrics of arms under one seed, expected to be positive.

    Args:
        name: what it says, with the metric's unit.
        terms: (weight, arm, metric).
        published: the papers' value.
        margin: added before asking whether it is positive: a claim of "as good as" within so much.
    """

    name: str
    terms: tuple[tuple[float, str, str], ...]
    published: str = ""
    margin: float = 0.0


@dataclass(frozen=True)
class Ablation:
    """Arms, the contrasts between them and the claims these decide.

    Args:
        arms, contrasts: of every profile.
        full_arms, full_contrasts: further ones at the papers' size, where a table has cells that tiny networks on
            small crops cannot fill.
    """

    name: str
    claims: tuple[str, ...]
    question: str
    arms: Mapping[str, Arm]
    contrasts: tuple[Contrast, ...]
    full_arms: Mapping[str, Arm] = field(default_factory=dict)
    full_contrasts: tuple[Contrast, ...] = ()

    def arms_of(self, profile: str) -> dict[str, Arm]:
        return {**self.arms, **({} if PROFILES[profile].reduced else self.full_arms)}

    def contrasts_of(self, profile: str) -> tuple[Contrast, ...]:
        return self.contrasts + (() if PROFILES[profile].reduced else self.full_contrasts)

    def configs(self, profile: str) -> dict[str, dict[str, Any]]:
        """What each arm trains."""
        return {name: arm.config(profile) for name, arm in self.arms_of(profile).items()}

    def definition(self, profile: str) -> dict[str, Any]:
        """What is frozen before the recorded seeds run."""
        return {
            "arms": {name: ledger.config_hash(config) for name, config in self.configs(profile).items()},
            "contrasts": [
                {"name": c.name, "terms": [list(term) for term in c.terms], "margin": c.margin}
                for c in self.contrasts_of(profile)
            ],
            "seeds": list(CONFIRM[: max(PROFILES[profile].seeds, 2)]),
        }

    def digest(self, profile: str) -> str:
        return ledger.config_hash(self.definition(profile))


def gain(better: str, worse: str, published: str = "", *, metric: str = "AP", margin: float = 0.0) -> Contrast:
    """The plain contrast: one arm minus another."""
    return Contrast(f"{metric}: {better} minus {worse}", ((1, better, metric), (-1, worse, metric)), published, margin)


def effect(arm: str, with_: str, without: str, published: str = "") -> Contrast:
    """Two ways of decoding one network: metric ``with_`` minus metric ``without``."""
    return Contrast(f"{arm}: {with_} minus {without}", ((1, arm, with_), (-1, arm, without)), published)
