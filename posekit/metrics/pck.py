"""Percentage of correct keypoints: PCK with any reference length, PCKh as MPII counts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from posekit.skeletons import MPII16

Array = Any  # np.ndarray or torch.Tensor
# MPII's reference length is 0.6 times the diagonal of the head's box (eval script of Andriluka et al. 2014, SC_BIAS).
HEAD_SIZE_FACTOR = 0.6
# MPII's mean leaves out pelvis and thorax: they are seen through clothes, and follow from hips and shoulders.
_NOT_IN_MEAN = ("pelvis", "thorax")
_GROUPS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def head_size(head_box: Array) -> Array:
    """(N, 4) boxes x1, y1, x2, y2 of heads -> (N,) reference lengths of PCKh, pixels."""
    width, height = head_box[..., 2] - head_box[..., 0], head_box[..., 3] - head_box[..., 1]
    return HEAD_SIZE_FACTOR * (width**2 + height**2) ** 0.5


def pck(pred: Array, gt: Array, *, visibility: Array, reference: Array, threshold: float = 0.2) -> np.ndarray:
    """Share of labelled keypoints predicted within ``threshold`` times a reference length, by joint.

    Args:
        pred: (N, K, 2) predicted x, y, pixels. Only differences count: both may be 0-based or both 1-based (MPII's
            own files are 1-based; predictions made from its pictures are 0-based, so add 1 to them).
        gt: (N, K, 2) annotated x, y, pixels.
        visibility: (N, K) flags; keypoints with a flag above 0 count.
        reference: (N,) lengths, pixels: the larger side of the person's box, the torso's diagonal, the head's size.
        threshold: of the reference length; a distance equal to it is correct.

    Returns:
        (K,) float64 shares in [0, 1]; NaN for a joint that nobody has labelled.

    Raises:
        ValueError: a person with labelled keypoints has no positive reference length.
    """
    pred, gt, visibility, reference = (np.asarray(a) for a in (pred, gt, visibility, reference))
    labelled = visibility > 0
    bad = labelled.any(1) & ~(reference > 0)
    if bad.any():
        n = int(np.flatnonzero(bad)[0])
        raise ValueError(f"person {n} has the reference length {reference[n]}; give a positive length in pixels")
    distance = np.linalg.norm(np.asarray(pred, np.float64) - gt, axis=-1)
    correct = (distance <= threshold * reference[:, None]) & labelled
    count = labelled.sum(0)
    return np.where(count > 0, correct.sum(0) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class PckhResult:
    """PCKh on MPII, shares in [0, 1].

    Attributes:
        joints: (16,) by joint.
        mean: over all labelled joints but pelvis and thorax.
        mean_at_01: the same at a tenth of the head's size.
        threshold: of ``joints`` and ``mean``.
    """

    joints: np.ndarray
    mean: float
    mean_at_01: float
    threshold: float

    @property
    def groups(self) -> dict[str, float]:
        """Head, shoulder ... ankle as papers print them: the mean of left and right."""
        out = {}
        for group in _GROUPS:
            index = [i for i, name in enumerate(MPII16.keypoints) if name.endswith(group) or name == f"{group}_top"]
            out[group] = float(np.mean(self.joints[index]))
        return out

    def __str__(self) -> str:
        names = "".join(f"{group:>10}" for group in (*_GROUPS, "mean", "mean@0.1"))
        values = "".join(f"{100 * v:10.3f}" for v in (*self.groups.values(), self.mean, self.mean_at_01))
        return f"PCKh@{self.threshold}\n{names}\n{values}"


def pckh(pred: Array, gt: Array, *, visibility: Array, head_box: Array, threshold: float = 0.5) -> PckhResult:
    """PCKh of MPII people (16 keypoints).

    Args:
        pred: (N, 16, 2) predicted x, y, pixels, of the same base (0 or 1) as ``gt``.
        gt: (N, 16, 2) annotated x, y, pixels.
        visibility: (N, 16) flags; keypoints with a flag above 0 count.
        head_box: (N, 4) x1, y1, x2, y2.
        threshold: of the head's size.

    Raises:
        ValueError: another number of keypoints, or a head without size.
    """
    if pred.shape[1] != MPII16.num_keypoints:
        raise ValueError(f"PCKh is defined on MPII's 16 keypoints, got {pred.shape[1]}; use pck for other skeletons")
    reference = head_size(np.asarray(head_box, np.float64))
    joints, fine = (pck(pred, gt, visibility=visibility, reference=reference, threshold=t) for t in (threshold, 0.1))
    count = (np.asarray(visibility) > 0).sum(0)
    count[[MPII16.index(name) for name in _NOT_IN_MEAN]] = 0
    mean, mean_at_01 = (float(np.nansum(values * count) / max(count.sum(), 1)) for values in (joints, fine))
    return PckhResult(joints, mean, mean_at_01, threshold)
