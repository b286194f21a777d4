"""What kind of error: jitter, left-right inversion, swap with another person, or a miss; and who confuses sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.annotations import People
from posekit.metrics.coco_eval import BOX_AREA_SHARE
from posekit.metrics.oks import variances
from posekit.skeletons import Skeleton

KINDS = ("good", "jitter", "inversion", "swap", "miss")
# Similarities exp(-d^2 / (2 (2 sigma)^2 area)) of one keypoint: human annotators reach 0.85 (Ronchi & Perona 2017).
GOOD, NEAR = 0.85, 0.5
# Left-right confusion is looked at where the two joints lie further apart than this share of the box.
APART = 0.06


@dataclass(frozen=True)
class Diagnosis:
    """The kind of error of every labelled keypoint.

    Attributes:
        skeleton: its K keypoints.
        kind: (M, K) int8 index into ``KINDS``; -1 where the keypoint is not labelled.
    """

    skeleton: Skeleton
    kind: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """(5, K) int64 keypoints of each kind, by joint."""
        return np.stack([(self.kind == i).sum(0) for i in range(len(KINDS))])

    @property
    def shares(self) -> dict[str, float]:
        """Share of each kind among all labelled keypoints."""
        total = self.counts.sum(1)
        return dict(zip(KINDS, (total / max(total.sum(), 1)).tolist()))

    def __str__(self) -> str:
        lines = [f"{'':16}" + "".join(f"{kind:>11}" for kind in KINDS)]
        by_joint = self.counts / np.maximum(self.counts.sum(0), 1)
        for name, column in (*zip(self.skeleton.keypoints, by_joint.T), ("all", list(self.shares.values()))):
            lines.append(f"{name:16}" + "".join(f"{100 * share:10.1f}%" for share in column))
        return "\n".join(lines)


def diagnose(people: People, keypoints: np.ndarray, *, person: np.ndarray | None = None) -> Diagnosis:
    """Sort the errors of predicted keypoints into kinds, after Ronchi & Perona, ICCV 2017.

    With KS the similarity of one keypoint to an annotated place: *good* if KS to its own place is at least 0.85,
    *jitter* from 0.5; below, *inversion* if KS to the mirrored joint of the same person is at least 0.5, *swap* if KS
    to the same or the mirrored joint of another person in the picture is (the nearer of the two decides when both
    are), else *miss*. KS to a person's joint takes that person's area.

    Args:
        people: the annotated people; areas that are NaN are replaced by 0.53 of the box.
        keypoints: (M, K, 2) predicted x, y in picture pixels.
        person: (M,) rows of ``people`` that the predictions belong to; None: all, in order. From detections:
            ``detection, person = result.matches.pairs(threshold=0.5)``.

    Raises:
        ValueError: shapes that do not fit.
    """
    person = np.arange(len(people)) if person is None else np.asarray(person)
    keypoints = np.asarray(keypoints, np.float64)
    K = people.skeleton.num_keypoints
    if keypoints.shape != (len(person), K, 2):
        raise ValueError(f"keypoints have shape {keypoints.shape} where {(len(person), K, 2)} is needed")
    area = np.where(np.isnan(people.area), people.box[:, 2] * people.box[:, 3] * BOX_AREA_SHARE, people.area)
    labelled = people.visibility > 0
    mirror = people.skeleton.flip_index
    var = variances(people.skeleton.sigmas)

    def similarity(rows: np.ndarray, of: np.ndarray, joints: np.ndarray) -> np.ndarray:
        offset = keypoints[rows] - people.keypoints[of][:, joints]
        e = (offset**2).sum(-1) / (2 * var * (area[of, None] + np.spacing(1)))
        return np.where(labelled[of][:, joints], np.exp(-e), 0.0)

    everyone, same = np.arange(len(person)), np.arange(K)
    own = similarity(everyone, person, same)
    inverted = np.where(mirror == same, 0.0, similarity(everyone, person, mirror))
    swapped = np.zeros_like(own)
    rows, others = _others_in_picture(people, person)
    for start in range(0, len(rows), 4096):
        r, o = rows[start : start + 4096], others[start : start + 4096]
        np.maximum.at(swapped, r, np.maximum(similarity(r, o, same), similarity(r, o, mirror)))
    wrong = np.where(inverted >= np.maximum(swapped, NEAR), 2, np.where(swapped >= NEAR, 3, 4))
    kind = np.where(own >= GOOD, 0, np.where(own >= NEAR, 1, wrong))
    return Diagnosis(people.skeleton, np.where(labelled[person], kind, -1).astype(np.int8))


def _others_in_picture(people: People, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row of ``person``, another person of the same picture)."""
    by_image = np.argsort(people.image_index, kind="stable")
    count = np.bincount(people.image_index, minlength=len(people.image_ids))
    begin = np.cumsum(count) - count
    image = people.image_index[person]
    rows = np.repeat(np.arange(len(person)), count[image])
    within = np.arange(len(rows)) - np.repeat(np.cumsum(count[image]) - count[image], count[image])
    others = by_image[begin[image][rows] + within]
    different = others != person[rows]
    return rows[different], others[different]


@dataclass(frozen=True)
class LeftRightConfusion:
    """Which predictions took left for right.

    Attributes:
        skeleton: its K keypoints.
        eligible: (N, K) bool: a mirrored joint exists, both are labelled and far enough apart.
        confused: (N, K) bool: eligible, and nearer to the mirrored joint than half the prediction's own error.
        decided: (N, K) bool: eligible, and near one of the two joints; among these, guessing gives 50 percent.
        nearer_mirrored: (N, K) bool: decided, and the mirrored joint is the nearer one.
    """

    skeleton: Skeleton
    eligible: np.ndarray
    confused: np.ndarray
    decided: np.ndarray
    nearer_mirrored: np.ndarray

    @property
    def rate(self) -> float:
        """Share of eligible predictions that are confused; NaN without any."""
        return _share(self.confused, self.eligible)

    def by_joint(self) -> dict[str, float]:
        """Share nearer to the mirrored joint among decided predictions, left and right of a joint together."""
        return {
            self.skeleton.keypoints[a].replace("left_", "").replace("right_", ""): _share(
                self.nearer_mirrored[:, [a, b]], self.decided[:, [a, b]]
            )
            for a, b in self.skeleton.flip_pairs
        }

    def by_view(self, yaw: np.ndarray) -> dict[str, float]:
        """Confused share by view; ``yaw`` (N,) radians relative to the viewing ray, 0 facing the camera.

        Front is within 45 degrees of the camera, back beyond 135, side between.
        """
        turned = np.abs((np.asarray(yaw) + np.pi) % (2 * np.pi) - np.pi)
        views = {"front": turned < np.pi / 4, "back": turned > 3 * np.pi / 4}
        views["side"] = ~views["front"] & ~views["back"]
        return {view: _share(self.confused[rows], self.eligible[rows]) for view, rows in views.items()}

    def by_distance(self, distance: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Confused share against a distance, such as that of each joint to the cue that tells the sides apart.

        Args:
            distance: (N, K), any unit.
            edges: (B + 1,) rising; a bin holds its left edge.

        Returns:
            (B,) shares, NaN in empty bins, and (B,) eligible predictions.
        """
        place = np.digitize(distance, edges) - 1
        bins = len(edges) - 1
        inside = self.eligible & (place >= 0) & (place < bins)
        count = np.bincount(place[inside], minlength=bins)
        confused = np.bincount(place[inside & self.confused], minlength=bins)
        return np.where(count > 0, confused / np.maximum(count, 1), np.nan), count


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")


def lr_confusion(
    pred: np.ndarray,
    gt: np.ndarray,
    *,
    visibility: np.ndarray,
    box: np.ndarray,
    skeleton: Skeleton,
    apart: float = APART,
) -> LeftRightConfusion:
    """Find the predictions that took a left joint for a right one.

    A prediction is confused if its distance to the mirrored joint is less than half its distance to its own; it is
    judged only where the two joints lie further apart than ``apart`` times the larger side of the person's box.

    Args:
        pred: (N, K, 2) predicted x, y, pixels.
        gt: (N, K, 2) annotated x, y, pixels.
        visibility: (N, K) flags; keypoints with a flag above 0 count.
        box: (N, 4) xywh, pixels.
        skeleton: names the mirrored joints.
        apart: also how near a prediction must be to one of the two joints to be *decided*.
    """
    pred, gt, box = (np.asarray(a, np.float64) for a in (pred, gt, box))
    mirror = skeleton.flip_index
    labelled = np.asarray(visibility) > 0
    near = apart * box[:, 2:].max(1)[:, None]
    own = np.linalg.norm(pred - gt, axis=-1)
    other = np.linalg.norm(pred - gt[:, mirror], axis=-1)
    separation = np.linalg.norm(gt - gt[:, mirror], axis=-1)
    eligible = labelled & labelled[:, mirror] & (mirror != np.arange(len(mirror))) & (separation > near)
    decided = eligible & (np.minimum(own, other) <= near)
    return LeftRightConfusion(skeleton, eligible, eligible & (other < own / 2), decided, decided & (other < own))
