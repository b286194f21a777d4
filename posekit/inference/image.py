"""One picture and the boxes of the people in it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from posekit.geometry import BOX_PADDING, crop_affine, crop_box
from posekit.inference.predict import Predictions, Shift, predict
from posekit.inference.runtime import Network
from posekit.skeletons import COCO17, Skeleton


def predict_image(
    model: Network,
    image: str | os.PathLike | np.ndarray,
    boxes: Any = None,
    *,
    skeleton: Skeleton = COCO17,
    flip_test: bool = True,
    shift: Shift = "auto",
    padding: float = BOX_PADDING,
    device: str | torch.device = "auto",
    bf16: bool = False,
    compile: bool = False,
) -> Predictions:
    """Find the keypoints of the people in one picture.

    Args:
        model: a top-down network.
        image: a file, or (H, W, 3) uint8 RGB.
        boxes: (N, 4) xywh of the people, picture pixels; None takes the whole picture for one person.
        skeleton: what the network's keypoints are; the flip test needs it.
        padding: enlargement of the boxes.
        flip_test, shift, device, bf16, compile: as of :func:`predict`.

    Returns:
        Predictions in the order of the boxes.

    Raises:
        posekit.data.ImageError: the file cannot be read.
        ValueError: boxes that are not (N, 4), or without size.
    """
    from posekit.data.crops import CropBatch
    from posekit.data.images import read_image, warp

    picture = image if isinstance(image, np.ndarray) else read_image(image)
    if boxes is None:
        boxes = [[0, 0, picture.shape[1], picture.shape[0]]]
    box = np.asarray(boxes, np.float64)
    if box.ndim != 2 or box.shape[1] != 4 or not len(box):
        raise ValueError(f"boxes must be (N, 4): x, y, width, height in pixels, one row a person; got {box.shape}")
    if not np.isfinite(box).all() or (box[:, 2:] <= 0).any():
        raise ValueError("a box has no size: give x, y, width and height in pixels, the last two positive")
    size, N, K = model.input_size, len(box), skeleton.num_keypoints
    region = crop_box(box, size, padding=padding)
    affine = crop_affine(region, size, protocol=getattr(model.codec, "protocol", "hrnet"))
    crops = np.empty((N, *size, 3), np.uint8)
    for crop, matrix in zip(crops, affine):
        warp(picture, matrix, crop)
    batch = CropBatch(
        images=torch.from_numpy(crops).permute(0, 3, 1, 2),  # (N, H, W, 3) -> (N, 3, H, W)
        keypoints=torch.zeros(N, K, 2),
        visibility=torch.zeros(N, K, dtype=torch.uint8),
        affine=torch.from_numpy(affine),
        person=torch.arange(N),
        box=torch.from_numpy(region),
        flip=torch.zeros(N, dtype=torch.bool),
    )
    return predict(
        model, [batch], flip_test=flip_test, flip_index=skeleton.flip_index, shift=shift, device=device, bf16=bf16,
        compile=compile,
    )  # fmt: skip
