"""People and detections as flat arrays: no Python object per record, so worker processes share the memory."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from posekit.skeletons import Skeleton


class AnnotationError(ValueError):
    """A file or array that cannot be used: one sentence with the file, the record and the remedy."""


@dataclass(frozen=True)
class People:
    """One annotation file: I images and N annotated people with K keypoints each.

    Coordinates are the file's own numbers: pixels, x right, y down.

    Attributes:
        skeleton: names, pairs and sigmas of the K keypoints.
        image_ids: (I,) int64, in the order of the file.
        image_sizes: (I, 2) int32 height, width; 0 where the file does not say.
        file_names: (I,) fixed-width bytes, UTF-8.
        ids: (N,) int64 annotation ids.
        image_index: (N,) int64, rows of ``image_ids``.
        keypoints: (N, K, 2) float64 x, y.
        visibility: (N, K) uint8: 0 not labelled, 1 labelled but hidden, 2 labelled and visible.
        box: (N, 4) float64 x, y, width, height.
        area: (N,) float64 square pixels, of the segment in COCO; NaN where the file gives none (CrowdPose).
        is_crowd: (N,) bool.
        num_keypoints: (N,) int32, as the file says; counted from the flags where it does not.
        source: file name, for messages.
        category_id: the file's id of the category these people belong to.
    """

    skeleton: Skeleton
    image_ids: np.ndarray
    image_sizes: np.ndarray
    file_names: np.ndarray
    ids: np.ndarray
    image_index: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    box: np.ndarray
    area: np.ndarray
    is_crowd: np.ndarray
    num_keypoints: np.ndarray
    source: str
    category_id: int = 1

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, chosen: np.ndarray) -> People:
        """The people of a boolean mask (N,) or of indices, in that order; all images stay."""
        per_person = [f.name for f in fields(self) if f.name in _PER_PERSON]
        return replace(self, **{name: getattr(self, name)[chosen] for name in per_person})

    def file_name(self, image: int) -> str:
        """File name of row ``image`` of ``image_ids``."""
        return self.file_names[image].decode("utf-8")


_PER_PERSON = frozenset(("ids", "image_index", "keypoints", "visibility", "box", "area", "is_crowd", "num_keypoints"))


@dataclass(frozen=True)
class Detections:
    """D detected people, from a result file or from a network. Arrays and CPU tensors are converted on the way in.

    Attributes:
        image_ids: (D,) int64.
        keypoints: (D, K, 2) float64 x, y in picture pixels.
        keypoint_scores: (D, K) float64.
        scores: (D,) float64, one per person; only their order matters to average precision.
        box: (D, 4) float64 x, y, width, height, or None.
        area: (D,) float64 square pixels, or None: then ``box`` gives it, then the extent of the keypoints, which is
            what pycocotools does with a result file.
        source: where they come from, for messages.

    Raises:
        AnnotationError: shapes that do not fit together.
    """

    image_ids: np.ndarray
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    scores: np.ndarray
    box: np.ndarray | None = None
    area: np.ndarray | None = None
    source: str = "detections"

    def __post_init__(self) -> None:
        for name, dtype in (
            ("image_ids", np.int64),
            ("keypoints", np.float64),
            ("keypoint_scores", np.float64),
            ("scores", np.float64),
            ("box", np.float64),
            ("area", np.float64),
        ):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, np.asarray(value, dtype))
        D = len(self.image_ids)
        K = self.keypoints.shape[1] if self.keypoints.ndim == 3 else -1
        expected = {
            "image_ids": (D,),
            "keypoints": (D, K, 2),
            "keypoint_scores": (D, K),
            "scores": (D,),
            "box": (D, 4),
            "area": (D,),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                wanted = str(shape).replace("-1", "K")
                raise AnnotationError(
                    f"{self.source}: '{name}' has shape {value.shape} where {wanted} is needed; "
                    "give one row per detected person"
                )

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, chosen: np.ndarray) -> Detections:
        """The detections of a boolean mask (D,) or of indices, in that order."""
        return Detections(
            self.image_ids[chosen],
            self.keypoints[chosen],
            self.keypoint_scores[chosen],
            self.scores[chosen],
            None if self.box is None else self.box[chosen],
            None if self.area is None else self.area[chosen],
            self.source,
        )
