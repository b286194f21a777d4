"""From a network and a dataset to numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from posekit.inference.predict import predict


def score(
    model: nn.Module,
    val: Any,
    *,
    flip_test: bool = True,
    device: str | torch.device = "auto",
    bf16: bool = False,
) -> dict[str, float]:
    """One dictionary of numbers for a training log, whatever ``val`` is.

    Args:
        val: a dataset (COCO's protocol on true boxes, :func:`evaluate`), or a loader of crops in fixed order, scored by
            :func:`crop_errors`; a loader without a skeleton has no flip test.
    """
    can_flip = flip_test and hasattr(getattr(val, "dataset", val), "skeleton")
    predictions = predict(model, val, flip_test=can_flip, device=device, bf16=bf16)
    return crop_errors(predictions.crop_keypoints, val)


def crop_errors(keypoints: np.ndarray, loader: Any) -> dict[str, float]:
    """Mean and median distance to the labels in crop pixels, over labelled keypoints.

    Args:
        keypoints: (N, K, 2) crop pixels, in the loader's order.
        loader: gives the labels; iterated once more.
    """
    batches = list(loader)
    labels = np.concatenate([batch.keypoints.numpy(force=True) for batch in batches])
    labelled = np.concatenate([batch.visibility.numpy(force=True) for batch in batches]) > 0
    distance = np.linalg.norm(keypoints - labels, axis=-1)[labelled]
    if not distance.size:
        raise ValueError("the validation loader has no labelled keypoint: there is nothing to score")
    return {"mean_error_px": float(distance.mean()), "median_error_px": float(np.median(distance))}
