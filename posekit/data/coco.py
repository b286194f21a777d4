"""COCO keypoint files: people, trainable people, cleaned boxes, and the boxes of a person detector."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from posekit.annotations import AnnotationError, People, read_people
from posekit.annotations.parsing import load_json
from posekit.skeletons import Skeleton

PERSON_CATEGORY = 1
TRAINABLE = "leave such records out, e.g. with dataset.trainable()"
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class PeopleDataset:
    """People of one annotation file and the folder of their pictures.

    Attributes:
        people: :class:`posekit.annotations.People`, flat arrays.
        name: short name for messages and run records.
    """

    def __init__(self, people: People, images: str | os.PathLike, *, name: str) -> None:
        self.people = people
        self.images = os.fspath(images)
        self.name = name

    def __len__(self) -> int:
        return len(self.people)

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.name}', {len(self)} people, {len(self.people.image_ids)} pictures)"

    @property
    def skeleton(self) -> Skeleton:
        return self.people.skeleton

    def image_path(self, image_index: int) -> Path:
        """File of the picture at a row of ``people.image_ids``."""
        return Path(self.image_file(image_index))

    def image_file(self, image_index: int) -> str:
        """:meth:`image_path` for worker processes: pathlib keeps every name it sees, megabytes over a large set."""
        return os.path.join(self.images, self.people.file_name(image_index))

    def with_people(self, people: People) -> Self:
        """The same dataset with other people, e.g. ``dataset.people.select(mask)``."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.people = people
        return other

    def trainable(self) -> Self:
        """Only people that give a training crop and a loss, see :func:`trainable_people`."""
        return self.with_people(self.people.select(trainable_people(self.people)))

    def clean_boxes(self) -> Self:
        """Boxes clipped to their pictures as in the official code, see :func:`clip_boxes`."""
        return self.with_people(clip_boxes(self.people))


class CocoKeypoints(PeopleDataset):
    """A COCO keypoint file (or any file written in that format).

    Args:
        annotations: path of the JSON file, e.g. ``person_keypoints_val2017.json``, or the parsed dictionary.
        images: folder of the pictures.
        skeleton: None finds it from the file's category.

    Raises:
        posekit.annotations.AnnotationError: the file is not JSON, not COCO or does not fit the skeleton.
    """

    def __init__(
        self, annotations: str | os.PathLike | dict, images: str | os.PathLike, *, skeleton: Skeleton | None = None
    ) -> None:
        people = read_people(annotations, skeleton=skeleton)
        super().__init__(people, images, name=Path(people.source).stem)


def trainable_people(people: People) -> np.ndarray:
    """(N,) bool: at least one labelled keypoint, not a crowd, positive box; positive area where the file has one."""
    labelled = (people.visibility > 0).any(1)
    with np.errstate(invalid="ignore"):
        has_area = np.isnan(people.area) | (people.area > 0)
        has_box = np.isfinite(people.box).all(1) & (people.box[:, 2:] > 0).all(1)
    return labelled & ~people.is_crowd & has_area & has_box


def clip_boxes(people: People) -> People:
    """Boxes clipped as in HRNet's COCODataset: corners at ``x + w - 1``, inside ``[0, size - 1]``.

    A box loses one pixel in width and height by this, also where it lies inside the picture. Pictures whose size the
    file does not give are left alone. People whose boxes lie outside get width or height 0;
    :meth:`PeopleDataset.trainable` drops them.
    """
    height, width = people.image_sizes[people.image_index].T.astype(float)
    x, y, w, h = people.box.T
    x1, y1 = np.maximum(x, 0), np.maximum(y, 0)
    x2 = np.minimum(width - 1, x1 + np.maximum(w - 1, 0))
    y2 = np.minimum(height - 1, y1 + np.maximum(h - 1, 0))
    clipped = np.stack([x1, y1, np.maximum(x2 - x1, 0), np.maximum(y2 - y1, 0)], 1)
    known = (width > 0) & (height > 0)
    return dataclasses.replace(people, box=np.where(known[:, None], clipped, people.box))


@dataclass(frozen=True)
class Boxes:
    """Person boxes to crop instead of the annotated ones.

    Attributes:
        image_index: (D,) int64 rows of ``people.image_ids``.
        box: (D, 4) float64 xywh, pixels.
        score: (D,) float64 of the detector.
    """

    image_index: np.ndarray
    box: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.box)

    def select(self, rows: np.ndarray) -> Boxes:
        return Boxes(self.image_index[rows], self.box[rows], self.score[rows])


def read_boxes(source: str | os.PathLike | list[dict[str, Any]], people: People, *, min_score: float = 0.0) -> Boxes:
    """Boxes of a person detector, e.g. ``COCO_val2017_detections_AP_H_56_person.json``.

    Args:
        source: path or list of records with ``image_id``, ``category_id``, ``bbox`` (xywh) and ``score``.
        people: gives the pictures.
        min_score: lower scores are left out (0 in the papers).

    Raises:
        AnnotationError: not a list of boxes, no box of a person, a box without size, a picture that ``people`` does not
            have.
    """
    name, records = _read_records(source)
    try:
        rows = np.array(
            [n for n, r in enumerate(records) if r.get("category_id", PERSON_CATEGORY) == PERSON_CATEGORY], np.int64
        )
        image_ids, box, score = _box_columns([records[n] for n in rows])
    except _UNREADABLE:
        raise AnnotationError(
            f"{name}: the record at index {_first_unreadable(records)} lacks image_id, bbox (four numbers) or score; "
            "give a list of COCO box detections"
        ) from None
    if not len(rows):
        raise AnnotationError(
            f"{name} has no box of a person ({len(records)} records); give the results of a person detector"
        )
    keep = score >= min_score
    rows, image_ids, box, score = rows[keep], image_ids[keep], box[keep], score[keep]
    order = np.argsort(people.image_ids, kind="stable")
    place = np.searchsorted(people.image_ids, image_ids, sorter=order).clip(max=len(order) - 1)
    image_index = order[place]
    unknown = np.flatnonzero(people.image_ids[image_index] != image_ids)
    if len(unknown):
        raise AnnotationError(
            f"{name}: {len(unknown)} boxes are of pictures that {people.source} does not have, the first is image id "
            f"{image_ids[unknown[0]]}; use the detections of the same split"
        )
    check_boxes(box, name, "the box at index", rows, remedy="remove such records from the file")
    return Boxes(image_index, box, score)


def _box_columns(records: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image_ids = np.array([r["image_id"] for r in records], np.int64)
    box = np.array([r["bbox"] for r in records], np.float64).reshape(len(records), 4)
    return image_ids, box, np.array([r["score"] for r in records], np.float64)


def _first_unreadable(records: list[Any]) -> int:
    """Index of the record that :func:`_box_columns` stumbles over."""
    for n, record in enumerate(records):
        try:
            if record.get("category_id", PERSON_CATEGORY) == PERSON_CATEGORY:
                _box_columns([record])
        except _UNREADABLE:
            return n
    return 0


def _read_records(source: str | os.PathLike | list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    if isinstance(source, list):
        return "boxes", source
    name, records = os.fspath(source), load_json(Path(source))
    if not isinstance(records, list):
        raise AnnotationError(f"{name} holds no list; give a list of COCO box detections")
    return name, records


def check_boxes(box: np.ndarray, source: str, what: str, ids: np.ndarray, *, remedy: str = TRAINABLE) -> None:
    """Raise when a box cannot be cropped: NaN, or neither width nor height positive.

    Args:
        box: (N, 4) xywh, pixels.
        source: of the boxes, usually a file.
        what: a record is called.
        ids: (N,) of the records.
        remedy: what to do, as half a sentence.

    Raises:
        AnnotationError: names the source, the first such record and the remedy.
    """
    bad = np.flatnonzero(~np.isfinite(box).all(1) | (box[:, 2:] < 0).any(1) | (box[:, 2:].max(1, initial=0) <= 0))
    if len(bad):
        values = ", ".join(f"{v:g}" for v in box[bad[0]])
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise AnnotationError(f"{source}: {what} {ids[bad[0]]} has no size ({values}){more}; {remedy}")
