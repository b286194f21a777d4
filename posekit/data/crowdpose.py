"""CrowdPose (Li et al., CVPR 2019): COCO's format with 14 keypoints, a crowd index per picture and no areas."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from posekit.annotations.parsing import load_json
from posekit.data.coco import CocoKeypoints
from posekit.skeletons import CROWDPOSE14, Skeleton

# The crowd index splits pictures into easy, medium and hard (CrowdPose API): [0, 0.1], (0.1, 0.8], (0.8, 1].
CROWD_LEVELS = (0.1, 0.8)


class CrowdPose(CocoKeypoints):
    """CrowdPose people.

    Attributes:
        crowd_index: (I,) float64 per picture, in the order of ``people.image_ids``; 0 is a person alone.
    """

    def __init__(
        self, annotations: str | os.PathLike, images: str | os.PathLike, *, skeleton: Skeleton = CROWDPOSE14
    ) -> None:
        super().__init__(annotations, images, skeleton=skeleton)
        pictures = load_json(Path(annotations))["images"]
        crowd = {picture["id"]: picture.get("crowdIndex", np.nan) for picture in pictures}
        self.crowd_index = np.array([crowd[i] for i in self.people.image_ids.tolist()], np.float64)

    @property
    def crowd_level(self) -> np.ndarray:
        """(I,) 0 easy, 1 medium, 2 hard."""
        return np.searchsorted(CROWD_LEVELS, self.crowd_index)
