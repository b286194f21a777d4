"""OKS of all pairs of a dataset that matter: exact where it reaches the lowest threshold, skipped elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Stands for "nowhere": so far away that OKS is 0, and its square is still a float32.
FAR = 3e18
# Elements of a block in a pass over pairs: a few arrays of this many float32 stay in a core's cache.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Slots:
    """Detections of pictures with people, on a grid of P pictures x R ranks.

    Attributes:
        ranks: R, slots of a picture.
        block: (N,) row of the grid for each person.
        position: (P * R,) place of the slot's detection in the order; -1 where there is none.
        keypoints: (P * R, K, 2) float64; empty slots are far away.
    """

    ranks: int
    block: np.ndarray
    position: np.ndarray
    keypoints: np.ndarray

    @staticmethod
    def build(
        keypoints: np.ndarray, order: np.ndarray, image: np.ndarray, rank: np.ndarray, person_image: np.ndarray
    ) -> Slots:
        """Lay out detections ``order`` (rows of ``keypoints``), of known image and rank; (N,) images of people."""
        peopled = np.zeros(max(image.max(initial=-1), person_image.max(initial=-1)) + 1, bool)
        peopled[person_image] = True
        block = np.cumsum(peopled) - 1
        R = int(rank.max(initial=0)) + 1
        position = np.full(int(peopled.sum()) * R, -1)
        chosen = np.flatnonzero(peopled[image])
        position[block[image[chosen]] * R + rank[chosen]] = chosen
        D, K, _ = keypoints.shape
        grid = np.full((len(position), K * 2), -FAR)
        filled = position >= 0
        if filled.all() and D:
            grid = keypoints.reshape(D, K * 2)[order[position]]
        else:
            grid[filled] = keypoints.reshape(D, K * 2)[order[position[filled]]]
        return Slots(R, block[person_image], position, grid.reshape(-1, K, 2))


@dataclass(frozen=True)
class Annotated:
    """People sorted by image: what OKS needs to know of them.

    Attributes:
        keypoints: (N, K, 2) float64.
        labelled: (N, K) bool.
        box: (N, 4) float64 xywh.
        area: (N,) float64 square pixels.
        var: (K,) float64 ``(2 sigma)^2``.
    """

    keypoints: np.ndarray
    labelled: np.ndarray
    box: np.ndarray
    area: np.ndarray
    var: np.ndarray


def near_pairs(people: Annotated, slots: Slots, lowest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) people, (n,) slots and (n,) float64 OKS of all pairs of a picture with an OKS of at least ``lowest``.

    The OKS has the bits of pycocotools.
    """
    count = people.labelled.sum(1)
    found = []
    for pairs, exact in ((_labelled_candidates, _labelled_oks), (_box_candidates, _box_oks)):
        chosen = np.flatnonzero(count > 0) if exact is _labelled_oks else np.flatnonzero(count == 0)
        g, slot = pairs(people, slots, chosen, lowest)
        overlap = exact(people, g, slots.keypoints, slot)
        near = overlap >= lowest
        found.append((g[near], slot[near], overlap[near]))
    return tuple(np.concatenate(column) for column in zip(*found))  # type: ignore[return-value]


def _labelled_candidates(
    people: Annotated, slots: Slots, chosen: np.ndarray, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of people ``chosen``, who have labelled keypoints, that may reach ``lowest``: a pass in float32."""
    K, R = len(people.var), slots.ranks
    labelled = people.labelled[chosen]
    # A keypoint that is not labelled lies nowhere and so adds nothing.
    x, y = (np.where(labelled, people.keypoints[chosen, :, c], FAR).astype(np.float32) for c in (0, 1))
    scale = people.var * 2 * (people.area[chosen] + np.spacing(1))[:, None]
    inverse = (1 / scale).astype(np.float32)
    # Rounding to float32 moves a coordinate by at most 2^-24 of the largest one, and moving a keypoint by one
    # standard deviation changes its term by at most exp(-1/2).
    largest = max(
        float(np.abs(part).max(initial=0.0))
        for part in (slots.keypoints[slots.position >= 0], people.keypoints[chosen][labelled])
    )
    moved = 1.5 * 2.0**-22 * largest
    enough = (lowest - 0.607 * moved / np.sqrt(scale.min(1, initial=np.inf) / 2) - 1e-4) * labelled.sum(1)
    enough = enough.astype(np.float32)

    # (pictures, R * K): all ranks of a picture in one row
    X, Y = (slots.keypoints[..., c].astype(np.float32).reshape(-1, R * K) for c in (0, 1))
    ones = np.ones(K, np.float32)
    found_g, found_slot = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    step = max(1, _BLOCK // (R * K))
    for start in range(0, len(chosen), step):
        s = slice(start, start + step)
        block = slots.block[chosen[s]]
        dx, dy = (plane[block].reshape(-1, R, K) for plane in (X, Y))
        dx -= x[s, None]
        dy -= y[s, None]
        dx *= dx
        dy *= dy
        dx += dy
        with np.errstate(over="ignore"):  # infinitely far is far enough
            dx *= inverse[s, None]
        np.negative(dx, out=dx)
        np.exp(dx, out=dx)
        # "not below" instead of "at least": what overflowed to NaN is left to the exact pass
        near, rank = np.nonzero(~(dx @ ones < enough[s, None]))
        found_g.append(chosen[s][near])
        found_slot.append(block[near] * R + rank)
    return _real(np.concatenate(found_g), np.concatenate(found_slot), slots)


def _real(g: np.ndarray, slot: np.ndarray, slots: Slots) -> tuple[np.ndarray, np.ndarray]:
    real = slots.position[slot] >= 0
    return g[real], slot[real]


def _labelled_oks(people: Annotated, g: np.ndarray, keypoints: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """(n,) float64 OKS of pairs, by the operations of pycocotools in its order."""
    first = np.argsort(~people.labelled, axis=1, kind="stable")  # labelled keypoints first, in their order
    count = people.labelled.sum(1)[g]
    area = (people.area + np.spacing(1))[g, None]
    out = np.empty(len(g))
    for k in np.unique(count):
        group = np.flatnonzero(count == k)
        for start in range(0, len(group), _BLOCK // 16):
            n = group[start : start + _BLOCK // 16]
            index = first[g[n], :k]
            offset = keypoints[slot[n, None], index] - people.keypoints[g[n, None], index]
            e = (offset[..., 0] ** 2 + offset[..., 1] ** 2) / people.var[index] / area[n] / 2
            out[n] = np.sum(np.exp(-e), axis=1) / k
    return out


def _box_candidates(
    people: Annotated, slots: Slots, chosen: np.ndarray, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of people ``chosen``, who have no labelled keypoint."""
    g = np.repeat(chosen, slots.ranks)
    slot = (slots.block[chosen, None] * slots.ranks + np.arange(slots.ranks)).reshape(-1)
    return _real(g, slot, slots)


def _box_oks(people: Annotated, g: np.ndarray, keypoints: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """(n,) float64 OKS of pairs whose person has no labelled keypoint: distances are to the doubled box."""
    x, y, w, h = people.box.T
    low, high = np.stack([x - w, y - h], -1), np.stack([x + w * 2, y + h * 2], -1)
    # Inside the box every distance is 0 and OKS is 1: most pairs need no exponential.
    least, most = _extent(keypoints)
    inside = ((least[slot] >= low[g]) & (most[slot] <= high[g])).all(1)
    out = np.ones(len(g))
    rest = np.flatnonzero(~inside)
    area = people.area + np.spacing(1)
    for start in range(0, len(rest), _BLOCK // 16):
        n = rest[start : start + _BLOCK // 16]
        person, points = g[n], keypoints[slot[n]]
        dx, dy = (
            np.maximum(0, low[person, c, None] - points[..., c]) + np.maximum(0, points[..., c] - high[person, c, None])
            for c in (0, 1)
        )
        e = (dx**2 + dy**2) / people.var / area[person, None] / 2
        out[n] = np.sum(np.exp(-e), axis=1) / e.shape[1]
    return out


def _extent(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D, K, 2) -> (D, 2) least and (D, 2) greatest coordinates."""
    D, K, _ = keypoints.shape
    least, most = np.empty((D, 2)), np.empty((D, 2))
    # Keypoints first, detections last, a block at a time: reductions over the long axis are several times faster.
    for start in range(0, D, 1024):
        block = np.ascontiguousarray(keypoints[start : start + 1024].reshape(-1, K * 2).T).reshape(K, 2, -1)
        least[start : start + 1024] = block.min(0).T
        most[start : start + 1024] = block.max(0).T
    return least, most


def extent_areas(keypoints: np.ndarray) -> np.ndarray:
    """(D, K, 2) -> (D,) area of the smallest upright box round all keypoints, square pixels."""
    least, most = _extent(keypoints)
    return (most[:, 0] - least[:, 0]) * (most[:, 1] - least[:, 1])
