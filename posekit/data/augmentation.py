"""Random views of a person as the papers draw them: half body, scale, rotation, mirror.

The recipe of HRNet's and SimpleBaseline's JointsDataset, which SRPose and TransPose keep. Its traps are named here:

- the scale is ``clip(1 + N(0, 1) * scale, 1 - scale, 1 + scale)``: about a third of all people get one of the ends;
- the rotation is clipped at twice its standard deviation and happens with probability 0.6;
- the half is the upper one when a *normal* variable is below 0.5, which has probability 0.69, not 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    "scale": Rule(lambda x: 0 <= x < 1, "from 0 to below 1 (0.35 gives factors .65 to 1.35)"),
    "rotation": NOT_NEGATIVE,
    "rotation_probability": PROBABILITY,
    "half_body": PROBABILITY,
    "half_body_min_visible": Rule(lambda n: n >= 0, "a whole number from 0 up"),
    "half_body_padding": POSITIVE,
}


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
        scale: standard deviation of the size factor, which is clipped to ``1 -+ scale``.
        rotation: standard deviation in degrees, clipped at twice that.
        rotation_probability: the rest stays upright.
        half_body: probability that only the upper or the lower body is cut, for people with more than
            ``half_body_min_visible`` labelled keypoints.
        half_body_min_visible: see above (NUM_JOINTS_HALF_BODY).
        half_body_padding: enlargement of the half's tight box; it takes the place of the usual 1.25.

    Raises:
        ValueError: a field of another type, or outside its range.
    """

    flip: float = 0.5
    scale: float = 0.35
    rotation: float = 45.0
    rotation_probability: float = 0.6
    half_body: float = 0.3
    half_body_min_visible: int = 8
    half_body_padding: float = 1.5

    def __post_init__(self) -> None:
        if wrong := problem(self, _RULES):
            raise ValueError(f"augmentation: {wrong}")

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
            rng: the only source of randomness; every person takes the same number of draws.
            padding: enlargement of whole-body boxes.
        """
        B = len(box)
        uniform, normal = rng.random((3, B)), rng.standard_normal((3, B))
        region = crop_box(box, size, padding=padding)
        half = np.zeros(B, bool)
        if self.half_body:
            half, half_box = self._half_body(keypoints, visibility, normal[0], skeleton)
            half &= (uniform[0] < self.half_body) & ((visibility > 0).sum(1) > self.half_body_min_visible)
            if half.any():
                region[half] = crop_box(half_box[half], size, padding=self.half_body_padding)
        factor = np.clip(1 + normal[1] * self.scale, 1 - self.scale, 1 + self.scale)
        region = _scale_boxes(region, factor)
        limit = ROTATION_CLIP * self.rotation
        rotation = np.clip(normal[2] * self.rotation, -limit, limit)
        rotation = np.where(uniform[1] < self.rotation_probability, rotation, 0.0)
        return View(box=region, rotation=rotation, flip=uniform[2] < self.flip, half_body=half)

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


def mirror_only() -> Augmentation:
    """Only the mirror: for short runs and controlled comparisons."""
    return Augmentation(scale=0.0, rotation=0.0, rotation_probability=0.0, half_body=0.0)
