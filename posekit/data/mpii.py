"""MPII Human Pose, in the list-of-dicts JSON that HRNet's and mmpose's code reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from posekit.annotations import AnnotationError, People
from posekit.annotations.parsing import load_json
from posekit.data.coco import PeopleDataset
from posekit.geometry import PIXEL_STD
from posekit.skeletons import MPII16

# Centres are moved down and boxes enlarged "to avoid cropping limbs" (HRNet's MPIIDataset). The enlargement, a factor
# 1.25, is the loader's usual padding and therefore not part of the box here.
CENTRE_SHIFT = 15.0  # pixels per unit of scale
# MATLAB counts pixels from 1.
FIRST_PIXEL = 1.0


class MpiiKeypoints(PeopleDataset):
    """MPII people with square boxes made from centre and scale.

    The file says neither how large pictures are (``people.image_sizes`` is 0) nor which keypoints are occluded
    (visibility is 0 or 2), and has no areas: ``people.area`` is that of the box.

    Args:
        annotations: ``mpii_{train,valid}.json``: a list of people with ``joints`` (16, 2), ``joints_vis``,
            ``center``, ``scale`` and ``image``.
        images: folder of the pictures.
        head_boxes: (N, 4) corners x1, y1, x2, y2 of the head boxes in the order of the file
            (:func:`read_head_boxes`); :func:`posekit.metrics.pckh` needs them.

    Raises:
        AnnotationError: not such a list, or a record that does not fit.
    """

    def __init__(
        self, annotations: str | os.PathLike, images: str | os.PathLike, *, head_boxes: np.ndarray | None = None
    ) -> None:
        people = _people(_records(annotations), os.fspath(annotations))
        super().__init__(people, images, name=Path(people.source).stem)
        if head_boxes is not None and np.shape(head_boxes) != (len(people), 4):
            raise AnnotationError(
                f"{people.source}: head boxes have shape {np.shape(head_boxes)}; give one row of x1, y1, x2, y2 for "
                f"each of the {len(people)} people"
            )
        self._head_boxes = np.full((len(people), 4), np.nan) if head_boxes is None else np.asarray(head_boxes)

    @property
    def head_box(self) -> np.ndarray:
        """(N, 4) corners x1, y1, x2, y2 of the heads of ``people``, NaN when none were given."""
        return self._head_boxes[self.people.ids]


def read_head_boxes(path: str | os.PathLike) -> np.ndarray:
    """(N, 4) corners x1, y1, x2, y2 from ``gt_valid.mat`` (also called ``mpii_gt_val.mat``), ``headboxes_src``.

    Raises:
        AnnotationError: the file cannot be read, or has no head boxes.
    """
    from scipy.io import loadmat

    try:
        corners = loadmat(path)["headboxes_src"]  # (corner, xy, N)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (KeyError, ValueError, TypeError) as error:
        raise AnnotationError(f"{path} has no headboxes_src ({error}); give MPII's gt_valid.mat") from None
    return np.moveaxis(corners, 2, 0).reshape(-1, 4).astype(np.float64)


def _records(annotations: str | os.PathLike) -> list[dict[str, Any]]:
    records = load_json(Path(annotations))
    if not isinstance(records, list):
        raise AnnotationError(
            f"{os.fspath(annotations)} holds no list of people; give MPII's list-of-dicts JSON (mpii_valid.json)"
        )
    return records


def _people(records: list[dict[str, Any]], source: str) -> People:
    K, N = MPII16.num_keypoints, len(records)
    keypoints, labelled = np.zeros((N, K, 2)), np.zeros((N, K), bool)
    centre, scale = np.zeros((N, 2)), np.zeros(N)
    names = []
    for i, record in enumerate(records):
        try:
            keypoints[i], labelled[i] = record["joints"], record["joints_vis"]
            centre[i], scale[i] = record["center"], record["scale"]
            names.append(str(record["image"]))
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(
                f"{source}: person {i} needs joints ({K}, 2), joints_vis ({K}), center, scale and image ({error}); "
                "correct or remove it"
            ) from None
    # HRNet's MPIIDataset marks people without a centre with -1 and leaves those alone.
    centre[:, 1] += np.where(centre[:, 0] != -1, CENTRE_SHIFT * scale, 0.0)
    centre -= FIRST_PIXEL
    side = scale[:, None] * PIXEL_STD * np.ones(2)
    files, image_index = np.unique(np.array([n.encode() for n in names], dtype=bytes), return_inverse=True)
    return People(
        skeleton=MPII16,
        image_ids=np.arange(len(files)),
        image_sizes=np.zeros((len(files), 2), np.int32),
        file_names=files,
        ids=np.arange(N),  # rows of the file
        image_index=image_index.astype(np.int64),
        keypoints=np.where(labelled[..., None], keypoints - FIRST_PIXEL, 0.0),
        visibility=np.where(labelled, 2, 0).astype(np.uint8),
        box=np.concatenate([centre - side / 2, side], 1),
        area=side.prod(1),
        is_crowd=np.zeros(N, bool),
        num_keypoints=labelled.sum(1).astype(np.int32),
        source=source,
    )
