"""Object keypoint similarity: how near a prediction is, measured in the spread of human annotators.

OKS = mean over labelled keypoints of exp(-d^2 / (2 (2 sigma)^2 area)), the similarity of the COCO keypoint challenge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Array = Any  # np.ndarray or torch.Tensor; the result is of the argument's kind


def variances(sigmas: Sequence[float]) -> np.ndarray:
    """(K,) float64 ``(2 sigma)^2``, with the very bits of pycocotools for COCO's sigmas.

    pycocotools writes its sigmas as tenths (``.26 / 10``), which is not always the double nearest to ``.026``; a
    result that should equal its result bit for bit has to start from the same bits.
    """
    given = np.asarray(sigmas, np.float64)
    tenths = np.round(given * 10, 8) / 10
    same = np.abs(tenths - given) <= 2 * np.spacing(given)
    return (np.where(same, tenths, given) * 2) ** 2


def oks(
    pred: Array,
    gt: Array,
    *,
    area: Array,
    visibility: Array,
    sigmas: Sequence[float],
    box: Array | None = None,
) -> Array:
    """Object keypoint similarity, as pycocotools computes it.

    Leading shapes broadcast, so ``oks(pred[:, None], gt[None], ...)`` is the matrix of all pairs.

    Args:
        pred: (..., K, 2) predicted x, y, pixels; float32 or float64, NumPy or torch.
        gt: (..., K, 2) annotated x, y, pixels.
        area: (...) of the annotated person, square pixels.
        visibility: (..., K) flags; keypoints with a flag above 0 count.
        sigmas: (K,) of the skeleton.
        box: (..., 4) xywh of the annotated person. Where no keypoint is labelled, distances are to the box doubled
            about its centre (three times as wide), as in pycocotools; without boxes such people get NaN.

    Returns:
        (...) similarities in [0, 1], of the kind of ``pred``.

    Raises:
        ValueError: numbers of keypoints and sigmas that differ.
    """
    xp = torch if isinstance(pred, torch.Tensor) else np
    if not len(sigmas) == pred.shape[-2] == gt.shape[-2]:
        raise ValueError(
            f"OKS of {pred.shape[-2]} predicted and {gt.shape[-2]} annotated keypoints with {len(sigmas)} sigmas; "
            "all three must be of the same skeleton"
        )
    two_variances: Array = 2 * variances(sigmas)
    if isinstance(pred, torch.Tensor):
        two_variances = torch.as_tensor(two_variances, dtype=pred.dtype, device=pred.device)
    scale = (area + np.spacing(1.0))[..., None] * two_variances
    labelled = visibility > 0
    offset = pred - gt
    similarity = xp.exp(-(offset[..., 0] ** 2 + offset[..., 1] ** 2) / scale)
    count = labelled.sum(-1)
    mean = xp.where(labelled, similarity, xp.zeros_like(similarity)).sum(-1) / xp.clip(count, 1, None)
    if box is None:
        return xp.where(count > 0, mean, mean * np.nan)
    low, high = box[..., :2] - box[..., 2:], box[..., :2] + 2 * box[..., 2:]
    outside = xp.clip(low[..., None, :] - pred, 0, None) + xp.clip(pred - high[..., None, :], 0, None)
    by_box = xp.exp(-(outside[..., 0] ** 2 + outside[..., 1] ** 2) / scale).mean(-1)
    return xp.where(count > 0, mean, by_box)
