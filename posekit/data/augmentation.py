"""Random views of a person as the papers draw them: half body, scale, rotation, mirror.

The recipe of HRNet's and SimpleBaseline's JointsDataset, which SRPose and TransPose keep. Its traps are named here:

- the scale is ``clip(1 + N(0, 1) * scale, 1 - scale, 1 + scale)``: about a third of all people get one of the ends;
- the rotation is clipped at twice its standard deviation and happens with probability 0.6;
- the half is the upper one when a *normal* variable is below 0.5, which has probability 0.69, not 0.5.

mmpose 1.x and CPN draw from other distributions, between fixed ends; ``law`` chooses one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import ndtr, ndtri

from posekit.data.fields import NOT_NEGATIVE, POSITIVE, PROBABILITY, Rule, problem
from posekit.geometry import BOX_PADDING, crop_box
from posekit.skeletons import Skeleton

# N(0, 1) < 0.5 chooses the upper body: probability 0.6915 (JointsDataset.half_body_transform).
HALF_BODY_UPPER_BELOW = 0.5
# A half must have more than this many labelled keypoints to be chosen, and at least two to give a box.
HALF_BODY_MORE_THAN = 2
HALF_BODY_AT_LEAST = 2
# Rotations are clipped at this multiple of the standard deviation.
ROTATION_CLIP = 2.0

_RULES = {
    "flip": PROBABILITY,
    "scale": Rule(
        lambda x: 0 < x[0] <= x[1] < np.inf if isinstance(x, tuple) else 0 <= x < 1,
        "from 0 to below 1 (0.35 gives factors .65 to 1.35) or the lowest and the highest factor, above 0",
    ),
    "rotation": NOT_NEGATIVE,
    "rotation_probability": PROBABILITY,
    "half_body": PROBABILITY,
    "half_body_min_visible": Rule(lambda n: n >= 0, "a whole number from 0 up"),
    "half_body_padding": POSITIVE,
    "shift": Rule(lambda x: 0 <= x < 1, "a share of the box, from 0 to below 1"),
    "shift_probability": PROBABILITY,
}
# Fields that came after runs were recorded under the digest of their configuration: a dictionary names them only where
# they say something, so that what was recorded keeps its name.
_LATER = ("law", "shift", "shift_probability")


@dataclass(frozen=True, kw_only=True)
class View:
    """What was drawn for B people: the regions to cut and how."""

    box: np.ndarray  # (B, 4) float64 xywh, picture pixels
    rotation: np.ndarray  # (B,) degrees
    flip: np.ndarray  # (B,) bool
    half_body: np.ndarray  # (B,) bool


@dataclass(frozen=True)
class Augmentation:
    """How a training crop may differ from the annotated box.

    Args:
        flip: probability of a mirrored crop.
        scale: the size factor lies in ``1 -+ scale``, or between two given ends.
        rotation: degrees, see ``law``.
        rotation_probability: the rest stays upright.
        half_body: probability that only the upper or the lower body is cut, for people with more than
            ``half_body_min_visible`` labelled keypoints.
        half_body_min_visible: see above (NUM_JOINTS_HALF_BODY).
        half_body_padding: enlargement of the half's tight box; it takes the place of the usual 1.25.
        law: "clipped" (JointsDataset): normal variables, the size's clipped at one standard deviation, which is where
            its ends are, and the rotation's at two, ``rotation`` being one. "truncated" (mmpose 1.x): normal variables
            that are drawn until they are within one standard deviation, the ends. "uniform" between the ends (CPN).
        shift: largest displacement along each axis, as a share of the padded box' width and height.
        shift_probability: the rest stays where it is.

    Raises:
        ValueError: a field of another type, or outside its range.
    """

    flip: float = 0.5
    scale: float | tuple[float, float] = 0.35
    rotation: float = 45.0
    rotation_probability: float = 0.6
    half_body: float = 0.3
    half_body_min_visible: int = 8
    half_body_padding: float = 1.5
    law: Literal["clipped", "truncated", "uniform"] = "clipped"
    shift: float = 0.0
    shift_probability: float = 0.0

    def __post_init__(self) -> None:
        if wrong := problem(self, _RULES):
            raise ValueError(f"augmentation: {wrong}")

    def to_dict(self) -> dict[str, Any]:
        """The arguments, without those at their defaults that recorded configurations do not know."""
        plain = asdict(self)
        return {key: value for key, value in plain.items() if key not in _LATER or value != getattr(type(self), key)}

    def draw(
        self,
        keypoints: np.ndarray,
        visibility: np.ndarray,
        box: np.ndarray,
        *,
        size: tuple[int, int],
        skeleton: Skeleton,
        rng: np.random.Generator,
        padding: float = BOX_PADDING,
    ) -> View:
        """Draw a view for each of B people.

        Args:
            keypoints: (B, K, 2) picture pixels. visibility: (B, K), 0 is unlabelled. box: (B, 4) xywh.
            size: (height, width) of the crop.
            skeleton: gives the upper body.
            rng: the only source of randomness; every person takes the same number of draws, more when there is a shift.
            padding: enlargement of whole-body boxes.
        """
        B = len(box)
        uniform, normal = rng.random((3, B)), rng.standard_normal((3, B))
        region = crop_box(box, size, padding=padding)
        half, padded = np.zeros(B, bool), box[:, 2:] * padding
        if self.half_body:
            half, half_box = self._half_body(keypoints, visibility, normal[0], skeleton)
            half &= (uniform[0] < self.half_body) & ((visibility > 0).sum(1) > self.half_body_min_visible)
            if half.any():
                region[half] = crop_box(half_box[half], size, padding=self.half_body_padding)
                padded[half] = half_box[half, 2:] * self.half_body_padding
        middle, reach = self._size()
        region = _scale_boxes(region, middle + self._spread(normal[1]) * reach)
        if self.shift:
            moved = rng.random(B) < self.shift_probability
            offset = self._spread(rng.standard_normal((B, 2))) * self.shift * padded
            region[:, :2] += np.where(moved[:, None], offset, 0.0)
        rotation = self._spread(normal[2], ROTATION_CLIP) * self.rotation
        rotation = np.where(uniform[1] < self.rotation_probability, rotation, 0.0)
        return View(box=region, rotation=rotation, flip=uniform[2] < self.flip, half_body=half)

    def _size(self) -> tuple[float, float]:
        """The middle of the size factors, and how far they reach to both sides of it."""
        if isinstance(self.scale, tuple):
            low, high = self.scale
            return (low + high) / 2, (high - low) / 2
        return 1.0, self.scale

    def _spread(self, normal: np.ndarray, clip: float = 1.0) -> np.ndarray:
        """Standard normal draws as draws of ``law``: between -1 and 1, or -+ ``clip`` when it is a clipped normal."""
        if self.law == "clipped":
            return np.clip(normal, -clip, clip)
        share = ndtr(normal)  # uniform in (0, 1)
        if self.law == "uniform":
            return 2 * share - 1
        low, high = ndtr(-1.0), ndtr(1.0)
        return ndtri(low + share * (high - low))

    @staticmethod
    def _half_body(
        keypoints: np.ndarray, visibility: np.ndarray, normal: np.ndarray, skeleton: Skeleton
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B,) whether a half body exists, (B, 4) its box, centred on the mean of its keypoints."""
        is_upper = np.zeros(skeleton.num_keypoints, bool)
        is_upper[list(skeleton.upper_body)] = True
        labelled = visibility > 0
        upper, lower = labelled & is_upper, labelled & ~is_upper
        take_upper = (normal < HALF_BODY_UPPER_BELOW) & (upper.sum(1) > HALF_BODY_MORE_THAN)
        take_upper |= lower.sum(1) <= HALF_BODY_MORE_THAN
        chosen = np.where(take_upper[:, None], upper, lower)[..., None]
        count = chosen.sum(1)
        centre = np.where(chosen, keypoints, 0.0).sum(1) / np.maximum(count, 1)
        low = np.where(chosen, keypoints, np.inf).min(1)
        high = np.where(chosen, keypoints, -np.inf).max(1)
        exists = count[:, 0] >= HALF_BODY_AT_LEAST
        wh = np.where(exists[:, None], high - low, 0.0)
        exists &= wh.max(1) > 0
        return exists, np.concatenate([centre - wh * 0.5, wh], 1)


def _scale_boxes(box: np.ndarray, factor: np.ndarray) -> np.ndarray:
    wh = box[:, 2:] * factor[:, None]
    return np.concatenate([box[:, :2] + (box[:, 2:] - wh) * 0.5, wh], 1)


def hrnet_coco() -> Augmentation:
    """HRNet on COCO (official yaml): scale 0.35, rotation 45, half body 0.3. TransPose-R uses the same."""
    return Augmentation()


def hrnet_mpii() -> Augmentation:
    """HRNet on MPII (official yaml): scale 0.25, rotation 30, no half body."""
    return Augmentation(scale=0.25, rotation=30.0, half_body=0.0)


def simple_baseline_coco() -> Augmentation:
    """SimpleBaseline on COCO (Xiao et al. 2018, 4.1): scale 0.3, rotation 40, no half body."""
    return Augmentation(scale=0.3, rotation=40.0, half_body=0.0)


def srpose_coco() -> Augmentation:
    """SRPose, top-down (its public configs): scale 0.5, rotation 40, half body 0.3."""
    return Augmentation(scale=0.5, rotation=40.0)


def mmpose_coco() -> Augmentation:
    """mmpose 1.x on COCO (RandomFlip, RandomHalfBody and RandomBBoxTransform as they are set by default).

    Rotation within 80 degrees, size 0.5 to 1.5, shift 0.16. Two things of its half body differ here: the upper half has
    probability 0.69 and not 0.7, and needs three labelled keypoints and not two.
    """
    return Augmentation(law="truncated", scale=0.5, rotation=80.0, shift=0.16, shift_probability=0.3)


def cpn_coco() -> Augmentation:
    """CPN on COCO (GengDavid/pytorch-cpn): size .7 to 1.35, rotation within 45 degrees, both uniform; no half body.

    Of four views of a person, one is mirrored and two are rotated; here the two happen independently. Its crops never
    grow beyond 1.25, because its larger sizes are cut from a box of that padding, and its colours change by a fifth;
    neither is done here. It enlarges boxes by 1.2 in width and 1.3 in height, this package by 1.25 both ways.
    """
    return Augmentation(
        law="uniform", flip=0.25, scale=(0.7, 1.35), rotation=45.0, rotation_probability=0.5, half_body=0.0
    )


def mirror_only() -> Augmentation:
    """Only the mirror: for short runs and controlled comparisons."""
    return Augmentation(scale=0.0, rotation=0.0, rotation_probability=0.0, half_body=0.0)
