"""Skeletons: which keypoints a person has, how they mirror, how they are joined, how precisely people mark them.

A skeleton of your own takes a few lines::

    hand = Skeleton(name="hand", keypoints=("wrist", "thumb", "index"), flip_pairs=(),
                    limbs=((0, 1), (0, 2)), sigmas=(0.05, 0.04, 0.04))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """The K keypoints of one kind of body.

    Args:
        name: short name, used in messages and file names.
        keypoints: K distinct names, in the order of the annotations.
        flip_pairs: pairs of indices that change places when a picture is mirrored; no index twice.
        limbs: pairs of indices joined by a line when a person is drawn.
        sigmas: K standard deviations of annotators, as a fraction of sqrt(object area) (OKS, COCO).
        upper_body: indices of the upper body, for half-body augmentation; the rest is the lower body.

    Raises:
        ValueError: names repeat, an index is out of range, a pair repeats an index or joins a "left" name
            to anything but its "right" counterpart, or the number of sigmas is not K.
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        K = len(self.keypoints)
        if len(set(self.keypoints)) != K:
            raise ValueError(f"skeleton '{self.name}': keypoint names repeat; give every keypoint its own name")
        if len(self.sigmas) != K:
            raise ValueError(
                f"skeleton '{self.name}': {len(self.sigmas)} sigmas for {K} keypoints; give one sigma each"
            )
        if odd := [sigma for sigma in self.sigmas if not 0 < sigma < math.inf]:
            raise ValueError(f"skeleton '{self.name}': sigmas must be positive and finite, got {odd[0]}")
        for what, groups in (
            ("flip pair", self.flip_pairs),
            ("limb", self.limbs),
            ("upper-body index", tuple((i,) for i in self.upper_body)),
        ):
            for group in groups:
                if not all(0 <= i < K for i in group):
                    raise ValueError(
                        f"skeleton '{self.name}': {what} {group} names no keypoint; indices run from 0 to {K - 1}"
                    )
        self._check_flip_pairs()

    def _check_flip_pairs(self) -> None:
        paired = [i for pair in self.flip_pairs for i in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(
                f"skeleton '{self.name}': a keypoint stands in two flip pairs; "
                "each keypoint mirrors to exactly one other"
            )
        partner = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        for i, name in enumerate(self.keypoints):
            for side, other in (("left", "right"), ("right", "left")):
                mirrored = name.replace(side, other)
                if side in name and mirrored in self.keypoints:
                    j = self.keypoints.index(mirrored)
                    if partner.get(i) != j:
                        raise ValueError(
                            f"skeleton '{self.name}': flip pairs do not match: '{name}' ({i}) must be paired "
                            f"with '{mirrored}' ({j})"
                        )

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoints)

    @cached_property
    def flip_index(self) -> np.ndarray:
        """(K,) int64: keypoint ``i`` of the mirrored picture is keypoint ``flip_index[i]`` of the original."""
        index = np.arange(self.num_keypoints)
        for a, b in self.flip_pairs:
            index[[a, b]] = b, a
        return index

    @property
    def lower_body(self) -> tuple[int, ...]:
        return tuple(i for i in range(self.num_keypoints) if i not in self.upper_body)

    def index(self, keypoint: str) -> int:
        """Position of a keypoint by name; ``KeyError`` with the known names when there is none."""
        try:
            return self.keypoints.index(keypoint)
        except ValueError:
            raise KeyError(
                f"skeleton '{self.name}' has no keypoint '{keypoint}'; it has {', '.join(self.keypoints)}"
            ) from None


# Sigmas: pycocotools cocoeval.Params.setKpParams; limbs: the person category of COCO's annotation files, 0-based.
COCO17 = Skeleton(
    name="coco17",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    upper_body=tuple(range(11)),
)  # fmt: skip

# MPII publishes no sigmas (it is scored by PCKh); these are mmpose's choice for its OKS on MPII.
MPII16 = Skeleton(
    name="mpii16",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "pelvis", "thorax", "upper_neck", "head_top",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9),
        (10, 11), (11, 12), (12, 7), (7, 13), (13, 14), (14, 15),
    ),
    sigmas=(
        0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026,
        0.062, 0.072, 0.179, 0.179, 0.072, 0.062,
    ),
    upper_body=(7, 8, 9, 10, 11, 12, 13, 14, 15),
)  # fmt: skip

# Sigmas: the CrowdPose API's evaluator (Li et al. 2019).
CROWDPOSE14 = Skeleton(
    name="crowdpose14",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    limbs=(
        (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5),
        (12, 13), (13, 0), (13, 1),
    ),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079,
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
)  # fmt: skip

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO17, MPII16, CROWDPOSE14)}
