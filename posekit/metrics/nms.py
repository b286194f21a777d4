"""Suppression of duplicate detections by OKS, for all images of a dataset at once, and rescoring before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from posekit.metrics.matching import falling, stable_order
from posekit.metrics.oks import variances

Array = Any  # np.ndarray or torch.Tensor; the result is of the argument's kind
# Published top-down code: joints below this score do not speak for a person (HRNet TEST.IN_VIS_THRE).
JOINT_SCORE = 0.2
OKS_NMS_THRESHOLD = 0.9
_BLOCK = 4096


def rescore(box_scores: Array, keypoint_scores: Array, *, threshold: float = JOINT_SCORE) -> Array:
    """Score of a person: the box's score times the mean score of the joints that are above ``threshold``.

    Source: HRNet, ``COCODataset.evaluate``. A person without such a joint gets 0.

    Args:
        box_scores: (D,) scores of the person detector.
        keypoint_scores: (D, K).

    Returns:
        (D,) of the kind of ``keypoint_scores``.
    """
    if isinstance(keypoint_scores, torch.Tensor):
        certain = (keypoint_scores > threshold).to(keypoint_scores.dtype)
    else:
        certain = (keypoint_scores > threshold).astype(keypoint_scores.dtype)
    return box_scores * ((keypoint_scores * certain).sum(-1) / certain.sum(-1).clip(1))


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    area: np.ndarray,
    *,
    sigmas: Sequence[float],
    image_ids: np.ndarray | None = None,
    threshold: float = OKS_NMS_THRESHOLD,
) -> np.ndarray:
    """Drop every detection whose OKS with a better, kept one of the same image exceeds ``threshold``.

    The OKS of two detections takes all K keypoints and the mean of their areas (HRNet, ``oks_nms``).

    Args:
        keypoints: (D, K, 2) pixels.
        scores: (D,); of equal scores the earlier one comes first.
        area: (D,) square pixels.
        sigmas: (K,) of the skeleton.
        image_ids: (D,) integers; None: all are of one image.
        threshold: in [0, 1].

    Returns:
        (n,) int64 rows that are kept, by falling score.
    """
    D = len(scores)
    image = _image_rows(image_ids, D)
    count = np.bincount(image, minlength=1)
    # Fullest images first: the detections of images with more than `lag` of them are then a head of the array.
    fullness = np.empty_like(count)
    by_count = np.argsort(-count, kind="stable")
    fullness[by_count] = np.arange(len(count))
    order = falling(scores)
    order = order[stable_order(fullness[image[order]], len(count))]
    image, count = fullness[image][order], count[by_count]
    rank = np.arange(D) - np.repeat(np.cumsum(count) - count, count)
    area = np.asarray(area, np.float64)[order]
    better, worse = _near(keypoints, order, image, count, area, variances(sigmas), threshold)
    similar = _oks_of_detections(keypoints, order, area, better, worse, variances(sigmas)) > threshold
    better, worse = better[similar], worse[similar]
    dropped = np.zeros(D, bool)
    by_rank = stable_order(rank[better], int(count[0]) + 1)
    better, worse = better[by_rank], worse[by_rank]
    begin = 0
    # The n-th best of every image is decided once all better ones have dropped what they drop.
    for end in np.cumsum(np.bincount(rank[better])).tolist():
        dropped[worse[begin:end][~dropped[better[begin:end]]]] = True
        begin = end
    kept = order[~dropped]
    return kept if image_ids is None else np.sort(kept)[falling(scores[np.sort(kept)])]


def _image_rows(image_ids: np.ndarray | None, D: int) -> np.ndarray:
    if image_ids is None or not D:
        return np.zeros(D, np.int64)
    image_ids = np.asarray(image_ids)
    if (image_ids[1:] >= image_ids[:-1]).all():
        return np.concatenate([[0], np.cumsum(image_ids[1:] != image_ids[:-1])])
    return np.unique(image_ids, return_inverse=True)[1]


def _near(
    keypoints: np.ndarray,
    order: np.ndarray,
    image: np.ndarray,
    count: np.ndarray,
    area: np.ndarray,
    var: np.ndarray,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (places in ``order``) of one image whose OKS may exceed the threshold.

    OKS > t leaves K (1 - t) for the sum of 1 - exp(-e). Of any m > K (1 - t) keypoints one must therefore have
    1 - exp(-e) <= K (1 - t) / m. The m keypoints marked most precisely are tried: two at t = 0.9 and K = 17.
    """
    K = len(var)
    budget = K * (1 - threshold)
    m = min(int(budget) + 1, K)
    limit = np.inf if budget >= m else -np.log1p(-budget / m)
    tight = np.argsort(var, kind="stable")[:m]
    columns = [(keypoints[order, k, c] / np.sqrt(var[k])).astype(np.float32) for k in tight for c in range(2)]
    largest = max((float(np.abs(column).max(initial=0)) for column in columns), default=0.0)
    # (u + v)^2 <= 1.01 u^2 + 101 v^2 for the rounding v of float32
    reach = (1.01 * limit * area).astype(np.float32)
    slack = np.float32(101 * (1.5 * 2.0**-22 * largest) ** 2)
    better, worse = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for lag in range(1, int(count[0])):
        n = int(count[count > lag].sum())
        best = np.full(n - lag, np.inf, np.float32)
        for x, y in zip(columns[0::2], columns[1::2]):
            dx, dy = x[lag:n] - x[: n - lag], y[lag:n] - y[: n - lag]
            dx *= dx
            dy *= dy
            dx += dy
            np.minimum(best, dx, out=best)
        near = np.flatnonzero((best <= reach[lag:n] + reach[: n - lag] + slack) & (image[lag:n] == image[: n - lag]))
        better.append(near)
        worse.append(near + lag)
    return np.concatenate(better), np.concatenate(worse)


def _oks_of_detections(
    keypoints: np.ndarray, order: np.ndarray, area: np.ndarray, a: np.ndarray, b: np.ndarray, var: np.ndarray
) -> np.ndarray:
    """(n,) float64 OKS of pairs of detections (places in ``order``)."""
    out = np.empty(len(a))
    for start in range(0, len(a), _BLOCK):
        s = slice(start, start + _BLOCK)
        offset = np.asarray(keypoints[order[a[s]]], np.float64) - keypoints[order[b[s]]]
        mean_area = (area[a[s]] + area[b[s]]) / 2 + np.spacing(1)
        e = (offset[..., 0] ** 2 + offset[..., 1] ** 2) / var / mean_area[:, None] / 2
        out[s] = np.sum(np.exp(-e), axis=1) / len(var)
    return out


def soft_oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    area: np.ndarray,
    *,
    sigmas: Sequence[float],
    image_ids: np.ndarray | None = None,
    threshold: float = OKS_NMS_THRESHOLD,
    max_detections: int = 20,
) -> tuple[np.ndarray, np.ndarray]:
    """Instead of dropping duplicates, multiply their scores by exp(-OKS^2 / threshold) for each better one.

    Source: HRNet, ``soft_oks_nms``. Arguments as in :func:`oks_nms`; at most ``max_detections`` of an image stay.

    Returns:
        (n,) int64 rows that are kept, by image, then in the order in which they were chosen, and their (n,) new
        scores.
    """
    D = len(scores)
    image = _image_rows(image_ids, D)
    order = falling(scores)
    order = order[stable_order(image[order], int(image.max(initial=0)) + 1)]
    image = image[order]
    count = np.bincount(image, minlength=1)
    R = int(count.max())
    rank = np.arange(D) - np.repeat(np.cumsum(count) - count, count)
    grid = np.full((len(count), R), -1)
    grid[image, rank] = order
    left = np.where(grid >= 0, np.asarray(scores, np.float64)[grid], -np.inf)
    area = np.asarray(area, np.float64)
    var = variances(sigmas)
    picture = np.arange(len(count))
    kept = np.full((len(count), min(R, max_detections)), -1)
    new_scores = np.zeros(kept.shape)
    for step in range(kept.shape[1]):
        best = left.argmax(1)
        chosen = grid[picture, best]
        alive = left[picture, best] > -np.inf
        kept[alive, step] = chosen[alive]
        new_scores[alive, step] = left[alive, best[alive]]
        left[picture, best] = -np.inf
        row, column = np.nonzero(left > -np.inf)
        pairs = np.arange(len(row))
        both = np.concatenate([chosen[row], grid[row, column]])
        overlap = _oks_of_detections(keypoints, both, area[both], pairs, pairs + len(row), var)
        left[row, column] *= np.exp(-(overlap**2) / threshold)
    return kept[kept >= 0], new_scores[kept >= 0]
