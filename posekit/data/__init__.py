"""Datasets and person crops. Names load on first use.

A dataset has ``people`` (:class:`posekit.annotations.People`), ``image_path(image_index)``, ``name`` and
``skeleton``; everything that reads people takes any object with these four.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posekit.data.augmentation import Augmentation as Augmentation
    from posekit.data.coco import Boxes as Boxes
    from posekit.data.coco import CocoKeypoints as CocoKeypoints
    from posekit.data.coco import read_boxes as read_boxes
    from posekit.data.crops import CropBatch as CropBatch
    from posekit.data.crops import CropLoader as CropLoader
    from posekit.data.crowdpose import CrowdPose as CrowdPose
    from posekit.data.download import fetch as fetch
    from posekit.data.images import ImageError as ImageError
    from posekit.data.images import denormalise as denormalise
    from posekit.data.images import normalise as normalise
    from posekit.data.images import read_image as read_image
    from posekit.data.mannequin import Mannequin as Mannequin
    from posekit.data.mpii import MpiiKeypoints as MpiiKeypoints

_HOME = {
    "Augmentation": "augmentation",
    "Boxes": "coco",
    "CocoKeypoints": "coco",
    "CropBatch": "crops",
    "CropLoader": "crops",
    "CrowdPose": "crowdpose",
    "ImageError": "images",
    "Mannequin": "mannequin",
    "MpiiKeypoints": "mpii",
    "denormalise": "images",
    "fetch": "download",
    "normalise": "images",
    "read_boxes": "coco",
    "read_image": "images",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(_HOME)
