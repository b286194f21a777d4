"""Matching detections to people by the rules of the COCO keypoint challenge, for a whole dataset at once.

Three ideas make it fast and keep it exact:

- a float32 pass over all pairs of a picture finds those that may reach the lowest threshold, with a bound on its own
  rounding; only these are computed in float64, in the summation order of pycocotools;
- the ten thresholds times the three size classes are 30 independent greedy matchings; a pair carries them as 30 bits,
  so one pass of bitwise operations does them all;
- the n-th event of every picture is processed together, one picture never having two events in a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.annotations import AnnotationError, Detections, People
from posekit.metrics.oks import variances
from posekit.metrics.overlaps import Annotated, Slots, extent_areas, near_pairs

THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZE_CLASSES = ("all", "medium", "large")
# Square pixels; medium is 32^2 to 96^2, and COCO labels no keypoints on small people (pycocotools setKpParams).
AREA_RANGES = np.array([[0, 1e10], [32.0**2, 96.0**2], [96.0**2, 1e10]])
MAX_DETECTIONS = 20

_T = len(THRESHOLDS)
_A = len(SIZE_CLASSES)
_ALL_BITS = np.uint32((1 << (_A * _T)) - 1)
# Bit a * T + t is size class a at threshold t.
_CLASS_BITS = np.array([((1 << _T) - 1) << (a * _T) for a in range(_A)], np.uint32)
# A matched pair needs an OKS of at least this (pycocotools caps the threshold below 1).
_REACHED = np.minimum(THRESHOLDS, 1 - 1e-10)


@dataclass(frozen=True)
class Matches:
    """What was matched, kept so that other numbers come out without matching again.

    Detections stand in the order in which they are accumulated: by falling score, ties by image id, then by the
    order of the source. Bit ``a * 10 + t`` of a mask stands for size class ``a`` at threshold ``t``.

    Attributes:
        image_ids: (I,) int64, ascending.
        positives: (I, 3) int64 people that count, by image and size class.
        order: (M,) int64 rows of the detections, at most 20 of an image.
        image: (M,) int64 rows of ``image_ids``.
        scores: (M,) float64, falling.
        matched: (M,) uint32 mask: the detection found a person.
        ignored: (M,) uint32 mask: it counts neither for nor against (crowd, no keypoints, other size).
        pair_detection, pair_person: (E,) int64 rows of detections and people of the pairs matched anywhere.
        pair_oks: (E,) float64.
        pair_mask: (E,) uint32 mask: where the pair is matched.
    """

    image_ids: np.ndarray
    positives: np.ndarray
    order: np.ndarray
    image: np.ndarray
    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    pair_detection: np.ndarray
    pair_person: np.ndarray
    pair_oks: np.ndarray
    pair_mask: np.ndarray

    def pairs(self, *, threshold: float = 0.5, size: str = "all") -> tuple[np.ndarray, np.ndarray]:
        """(E',) rows of detections and of people matched at one threshold in one size class."""
        t = int(np.argmin(np.abs(THRESHOLDS - threshold)))
        if abs(THRESHOLDS[t] - threshold) > 1e-9:
            raise ValueError(f"threshold {threshold} is not among {', '.join(f'{v:.2f}' for v in THRESHOLDS)}")
        chosen = self.pair_mask >> np.uint32(SIZE_CLASSES.index(size) * _T + t) & np.uint32(1) > 0
        return self.pair_detection[chosen], self.pair_person[chosen]


def match(people: People, detections: Detections, *, area: np.ndarray) -> Matches:
    """Match all detections of a dataset.

    Args:
        people: the annotated people.
        detections: of the same keypoints; ties in score are broken by their order.
        area: (N,) square pixels of the people, finite.

    Raises:
        AnnotationError: a detection's image is unknown.
    """
    image_ids = np.unique(people.image_ids)
    I = len(image_ids)  # noqa: E741
    row = _rows(image_ids, detections)
    order, image, rank = _ranked(row, detections.scores, I)
    person_row = np.searchsorted(image_ids, people.image_ids)[people.image_index]
    by_image = stable_order(person_row, I)
    person_row = person_row[by_image]
    area = area[by_image]
    ignore = _ignored_people(people.is_crowd[by_image] | (people.num_keypoints[by_image] == 0), area)

    slots = Slots.build(detections.keypoints, order, image, rank, person_row)
    annotated = Annotated(
        keypoints=people.keypoints[by_image],
        labelled=people.visibility[by_image] > 0,
        box=people.box[by_image],
        area=area,
        var=variances(people.skeleton.sigmas),
    )
    g, slot, overlap = near_pairs(annotated, slots, _REACHED[0])
    preferred = np.lexsort((-g, -overlap, slot))
    g, slot, overlap = g[preferred], slot[preferred], overlap[preferred]

    taken, matched_slot, ignored_slot = _greedy(g, slot, overlap, ignore, people.is_crowd[by_image], slots)
    place = slots.position[slot]
    matched = np.zeros(len(order), np.uint32)
    ignored = _outside(detections, order)
    live = np.unique(slot)
    at = slots.position[live]
    matched[at] = matched_slot[live]
    ignored[at] = (ignored[at] & ~matched[at]) | ignored_slot[live]
    kept = taken != 0
    counted = ((ignore[:, None] & _CLASS_BITS) == 0).astype(np.int64)
    positives = np.stack([np.bincount(person_row, counted[:, a], I) for a in range(_A)], -1).astype(np.int64)
    return Matches(
        image_ids=image_ids,
        positives=positives,
        order=order,
        image=image,
        scores=detections.scores[order],
        matched=matched,
        ignored=ignored,
        pair_detection=order[place[kept]],
        pair_person=by_image[g[kept]],
        pair_oks=overlap[kept],
        pair_mask=taken[kept],
    )


def _rows(image_ids: np.ndarray, detections: Detections) -> np.ndarray:
    """(D,) row of each detection's image in the ascending ids."""
    wanted = detections.image_ids
    if not len(wanted):
        return np.zeros(0, np.int64)
    low, high = (int(image_ids[0]), int(image_ids[-1])) if len(image_ids) else (0, -1)
    known = np.zeros(len(wanted), bool)
    row = np.zeros(len(wanted), np.int64)
    if len(image_ids) and wanted.min() >= low and wanted.max() <= high:
        if high - low < 8 * (len(wanted) + len(image_ids)) + (1 << 20):
            table = np.full(high - low + 1, -1, np.int32)
            table[image_ids - low] = np.arange(len(image_ids))
            row = table[wanted - low]
            known = row >= 0
        else:
            row = np.searchsorted(image_ids, wanted)
            known = image_ids[row] == wanted
    elif len(image_ids):
        known = np.isin(wanted, image_ids)
    if not known.all():
        n = int(np.flatnonzero(~known)[0])
        raise AnnotationError(
            f"{detections.source}: detection at index {n} is of image {wanted[n]}, which the annotation file does not "
            f"list ({int((~known).sum())} such); score it against the file of its own images"
        )
    return row


def stable_order(values: np.ndarray, bound: int) -> np.ndarray:
    """Stable argsort of integers below ``bound``; NumPy sorts 16-bit ones by radix."""
    if len(values) and (values[1:] >= values[:-1]).all():
        return np.arange(len(values))
    return np.argsort(values.astype(np.uint16) if bound <= 1 << 16 else values, kind="stable")


def falling(values: np.ndarray) -> np.ndarray:
    """Stable argsort by falling value. The unstable sort is several times faster and is right without ties."""
    order = np.argsort(-values)
    ordered = values[order]
    if (ordered[1:] == ordered[:-1]).any():
        return np.argsort(-values, kind="stable")
    return order


def _ranked(row: np.ndarray, scores: np.ndarray, I: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: E741
    """Detections by falling score (ties: by image, then as given), the first 20 of each image, and their ranks."""
    by_image = stable_order(row, I)
    order = by_image[falling(scores[by_image])]
    image = row[order]
    back = stable_order(image, I)
    count = np.bincount(row, minlength=I)
    rank = np.empty(len(row), np.int64)
    rank[back] = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    kept = rank < MAX_DETECTIONS
    return (order, image, rank) if kept.all() else (order[kept], image[kept], rank[kept])


def _ignored_people(unscored: np.ndarray, area: np.ndarray) -> np.ndarray:
    """(N,) uint32 mask of where a person does not count."""
    outside = (area[:, None] < AREA_RANGES[:, 0]) | (area[:, None] > AREA_RANGES[:, 1])
    return np.where(outside | unscored[:, None], _CLASS_BITS, np.uint32(0)).sum(1, dtype=np.uint32)


def _outside(detections: Detections, order: np.ndarray) -> np.ndarray:
    """(M,) uint32 mask of the size classes to which a detection does not belong."""
    area = detection_areas(detections)
    mask = np.zeros(len(area), np.uint32)
    for (low, high), bits in zip(AREA_RANGES, _CLASS_BITS):
        mask |= ((area < low) | (area > high)) * bits
    return mask[order]


def detection_areas(detections: Detections) -> np.ndarray:
    """(D,) square pixels: as given, else of the box, else of the keypoints' extent (pycocotools loadRes)."""
    if detections.area is not None:
        return detections.area
    if detections.box is not None:
        return detections.box[:, 2] * detections.box[:, 3]
    return extent_areas(detections.keypoints)


def _greedy(
    g: np.ndarray, slot: np.ndarray, overlap: np.ndarray, ignore: np.ndarray, crowd: np.ndarray, slots: Slots
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Greedy matching of pairs sorted by slot, then by preference.

    Each detection in the order of score takes the free person it overlaps most among those that count; if there is
    none, among those that do not. Crowds are never used up.

    Returns:
        masks of the pairs that were matched (n,), of matched slots and of slots matched to an ignored person.
    """
    n = len(g)
    reached = np.searchsorted(_REACHED, overlap, side="right")  # thresholds reached, the lowest first
    low = ((1 << reached) - 1).astype(np.uint32)
    reach = low | low << np.uint32(_T) | low << np.uint32(2 * _T)
    counts, not_counts = reach & ~ignore[g], reach & ignore[g]
    # Events: all counting candidates of a slot, then all that do not count.
    pair = np.concatenate([np.flatnonzero(counts), np.flatnonzero(not_counts)])
    second = np.arange(len(pair)) >= np.count_nonzero(counts)
    sequence = np.argsort(slot[pair] * 2 + second, kind="stable")
    pair, second = pair[sequence], second[sequence]
    picture = slot[pair] // slots.ranks
    starts = np.flatnonzero(np.concatenate([[True], picture[1:] != picture[:-1]])) if len(pair) else pair
    step = np.arange(len(pair)) - np.repeat(starts, np.diff(np.append(starts, len(pair))))
    by_step = stable_order(step, int(step.max(initial=0)) + 1)
    ends = np.cumsum(np.bincount(step))
    pair, second = pair[by_step], second[by_step]
    event_slot, event_g = slot[pair], g[pair]
    mask = np.where(second, not_counts[pair], counts[pair])
    uses_up = np.where(crowd[event_g], np.uint32(0), _ALL_BITS)
    unmatched = np.full(len(slots.position), _ALL_BITS, np.uint32)
    free = np.full(len(ignore), _ALL_BITS, np.uint32)
    took = np.zeros(len(pair), np.uint32)
    begin = 0
    for end in ends.tolist():
        d, p = event_slot[begin:end], event_g[begin:end]
        now = mask[begin:end] & unmatched[d] & free[p]
        unmatched[d] ^= now
        free[p] ^= now & uses_up[begin:end]
        took[begin:end] = now
        begin = end
    taken = np.zeros(n, np.uint32)
    taken[pair[~second]] = took[~second]
    taken[pair[second]] |= took[second]
    ignored = np.zeros(len(slots.position), np.uint32)
    np.bitwise_or.at(ignored, event_slot[second], took[second])
    return taken, ~unmatched & _ALL_BITS, ignored
