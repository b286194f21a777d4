"""Average precision and recall by the COCO keypoint protocol, equal to pycocotools bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from posekit.annotations import AnnotationError, Detections, People, read_detections, read_people
from posekit.metrics.matching import SIZE_CLASSES, THRESHOLDS, Matches, match
from posekit.metrics.oks import oks
from posekit.skeletons import Skeleton

RECALLS = np.linspace(0, 1, 101)
STATS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")
# Files without areas (CrowdPose): xtcocotools and mmpose take this share of the box as the area of the person.
BOX_AREA_SHARE = 0.53

_T, _A = len(THRESHOLDS), len(SIZE_CLASSES)


@dataclass(frozen=True)
class KeypointResult:
    """The COCO keypoint numbers of one set of detections.

    Attributes:
        stats: (10,) float64 in the order of pycocotools, see ``STATS``; -1 where nobody counts.
        precision: (T, R, A) float64 by OKS threshold (0.50 to 0.95), recall level (0 to 1 by 0.01) and size class
            (all, medium, large); -1 where nobody counts.
        recall: (T, A) float64.
        matches: who was matched to whom, by image; see :class:`Matches`.
        source: file names, for messages and tables.
    """

    stats: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    matches: Matches
    source: str = ""

    @property
    def ap(self) -> float:
        """AP averaged over OKS 0.50:0.95."""
        return float(self.stats[0])

    @property
    def ap50(self) -> float:
        return float(self.stats[1])

    @property
    def ap75(self) -> float:
        return float(self.stats[2])

    @property
    def ap_medium(self) -> float:
        return float(self.stats[3])

    @property
    def ap_large(self) -> float:
        return float(self.stats[4])

    @property
    def ar(self) -> float:
        """AR averaged over OKS 0.50:0.95, at most 20 detections an image."""
        return float(self.stats[5])

    @property
    def ar50(self) -> float:
        return float(self.stats[6])

    @property
    def ar75(self) -> float:
        return float(self.stats[7])

    @property
    def ar_medium(self) -> float:
        return float(self.stats[8])

    @property
    def ar_large(self) -> float:
        return float(self.stats[9])

    @property
    def thresholds(self) -> np.ndarray:
        """(T,) OKS thresholds of ``precision`` and ``recall``."""
        return THRESHOLDS

    @property
    def recalls(self) -> np.ndarray:
        """(R,) recall levels of ``precision``."""
        return RECALLS

    def to_json(self) -> str:
        """The numbers as JSON; floats come back bit for bit."""
        per_threshold = [
            {
                "oks": float(f"{threshold:.2f}"),
                "AP": mean_of(self.precision[t, :, 0]),
                "AR": mean_of(self.recall[t, :1]),
            }
            for t, threshold in enumerate(THRESHOLDS)
        ]
        positives = self.matches.positives.sum(0).tolist()
        return json.dumps(
            {
                "stats": dict(zip(STATS, self.stats.tolist())),
                "per_threshold": per_threshold,
                "people": dict(zip(SIZE_CLASSES, positives)),
                "detections": len(self.matches.order),
                "images": len(self.matches.image_ids),
                "source": self.source,
            }
        )

    def __str__(self) -> str:
        people = self.matches.positives.sum(0)
        lines = [
            f"{self.source or 'COCO keypoints'}: {people[0]} people, {len(self.matches.order)} detections, "
            f"{len(self.matches.image_ids)} images",
            "        OKS .50:.95      .50      .75   medium    large",
        ]
        for name, values in (("AP", self.stats[:5]), ("AR", self.stats[5:])):
            lines.append(f"    {name}  " + "  ".join(f"{_percent(v):>{w}}" for v, w in zip(values, (12, 7, 7, 7, 7))))
        if people[0] == 0:
            lines.append("    nobody counts: no person has labelled keypoints; see `posekit data check`")
        return "\n".join(lines)

    __repr__ = __str__


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.2f}"


def evaluate_coco(
    gt: str | os.PathLike | Mapping | People,
    detections: str | os.PathLike | Sequence | Detections,
    *,
    skeleton: Skeleton | None = None,
    area: Literal["file", "box"] = "file",
) -> KeypointResult:
    """Score detections by the COCO keypoint protocol.

    The numbers equal those of pycocotools 2.0 bit for bit, with one exception: it takes a person whose annotation id
    is 0 for unmatched, and this function does not.

    Args:
        gt: annotation file, its parsed content, or :class:`People`.
        detections: result file, its parsed content, or :class:`Detections`. At most 20 of an image count, the best
            by score. None at all gives an AP of 0.
        skeleton: the keypoints, for files whose category no built-in skeleton fits.
        area: where the areas of people come from: the file, or ("box") 0.53 of the box, for files without areas.

    Raises:
        AnnotationError: unusable files (see the readers), another number of keypoints, absent areas, detections of
            unknown images.
    """
    people = gt if isinstance(gt, People) else read_people(gt, skeleton=skeleton)
    if not isinstance(detections, Detections):
        detections = read_detections(detections, skeleton=people.skeleton, category_id=people.category_id)
    K = people.skeleton.num_keypoints
    if detections.keypoints.shape[1] != K:
        raise AnnotationError(
            f"{detections.source}: detections have {detections.keypoints.shape[1]} keypoints where "
            f"{people.skeleton.name} has {K}; score them against a file of the same keypoints"
        )
    _refuse_not_finite(detections)
    matches = match(people, detections, area=person_areas(people, area))
    precision, recall = accumulate(matches)
    return KeypointResult(
        summarise(precision, recall), precision, recall, matches, f"{detections.source} on {people.source}"
    )


def person_areas(people: People, area: Literal["file", "box"] = "file") -> np.ndarray:
    """(N,) float64 areas of people, square pixels.

    Raises:
        AnnotationError: a person has none in the file.
    """
    if area == "box":
        return people.box[:, 2] * people.box[:, 3] * BOX_AREA_SHARE
    if area != "file":
        raise ValueError(f"unknown area {area!r}; use 'file' or 'box'")
    missing = np.isnan(people.area)
    if missing.any():
        n = int(np.flatnonzero(missing)[0])
        raise AnnotationError(
            f"{people.source}: annotation {people.ids[n]} has no 'area' ({int(missing.sum())} such), which OKS needs; "
            f"add it, or take {BOX_AREA_SHARE} of the box with area='box'"
        )
    return people.area


def person_oks(people: People, keypoints: np.ndarray) -> np.ndarray:
    """(N,) OKS of one answer for each person, as the evaluation of COCO scores a pair.

    Args:
        people: N people with areas.
        keypoints: (N, K, 2) answers in picture pixels.

    Raises:
        AnnotationError: a person has no area.
    """
    return oks(
        keypoints,
        people.keypoints,
        area=person_areas(people),
        visibility=people.visibility,
        sigmas=people.skeleton.sigmas,
        box=people.box,
    )


def _refuse_not_finite(detections: Detections) -> None:
    # The sum is finite unless an element is not, or unless it overflows: look closer only then.
    for name in ("keypoints", "scores", "box", "area"):
        values = getattr(detections, name)
        if values is not None and not np.isfinite(values.sum()):
            bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
            if bad.any():
                n = int(np.flatnonzero(bad)[0])
                raise AnnotationError(
                    f"{detections.source}: detection at index {n} (image {detections.image_ids[n]}) has NaN or "
                    f"infinity in '{name}'; give finite numbers"
                )


def accumulate(
    matches: Matches, weights: np.ndarray | None = None, *, sizes: Sequence[int] = range(_A)
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (T, R, A) and recall (T, A) of matched detections.

    Args:
        matches: from :func:`posekit.metrics.matching.match`.
        weights: (I,) how often each image counts; None: once each.
        sizes: the size classes to work out; the others stay -1.
    """
    live = np.flatnonzero(matches.matched)  # the rest are misses, the same at every threshold
    dead = matches.matched == 0
    matched, ignored = matches.matched[live], matches.ignored[live]
    weight = None if weights is None else weights[matches.image]
    live_weight = None if weight is None else weight[live]
    people = matches.positives.sum(0) if weights is None else weights @ matches.positives
    precision, recall = -np.ones((_T, len(RECALLS), _A)), -np.ones((_T, _A))
    for a in sizes:
        if people[a] == 0:
            continue
        misses = dead & (matches.ignored & _bit(a, 0) == 0)
        misses_before = np.cumsum(misses if weight is None else misses * weight)[live]
        for t in range(_T):
            counts = ignored & _bit(a, t) == 0
            seen = misses_before + np.cumsum(counts if live_weight is None else counts * live_weight)
            true = np.flatnonzero(counts & (matched & _bit(a, t) != 0))
            found = np.arange(1, len(true) + 1) if live_weight is None else np.cumsum(live_weight[true])
            recall[t, a] = found[-1] / people[a] if len(true) else 0
            precision[t, :, a] = _interpolated(found, seen[true], people[a])
    return precision, recall


def _bit(a: int, t: int) -> np.uint32:
    return np.uint32(1 << (a * _T + t))


def _interpolated(found: np.ndarray, seen: np.ndarray, people: int) -> np.ndarray:
    """(R,) best precision at or beyond each recall level, from the counts at the true positives alone."""
    out = np.zeros(len(RECALLS))
    if len(found):
        # spacing(1) as in pycocotools: it changes the last bit of a precision of 1
        precision = found / (seen + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        first = np.searchsorted(found / people, RECALLS, side="left")
        first[0] = 0
        reached = first < len(found)
        out[reached] = precision[first[reached]]
    return out


def mean_of(values: np.ndarray) -> float:
    """Mean of what is there; -1 when nothing is."""
    present = values[values > -1]
    return float(np.mean(present)) if len(present) else -1.0


def summarise(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """(10,) stats in the order of ``STATS``."""
    t75 = 5
    average = [precision[:, :, 0], precision[0, :, 0], precision[t75, :, 0], precision[:, :, 1], precision[:, :, 2]]
    found = [recall[:, 0], recall[:1, 0], recall[t75 : t75 + 1, 0], recall[:, 1], recall[:, 2]]
    return np.array([mean_of(values) for values in average + found])
