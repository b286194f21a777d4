"""COCO files to flat arrays and back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posekit.annotations import parsing, uniform
from posekit.annotations.parsing import OPTIONAL_IN_ANNOTATIONS, OPTIONAL_IN_IMAGES, complain, floats, integers, rows
from posekit.annotations.types import AnnotationError, Detections, People
from posekit.files import replacing
from posekit.skeletons import SKELETONS, Skeleton

_UNREADABLE = (KeyError, TypeError, ValueError, OverflowError, AttributeError)


def read_people(source: str | os.PathLike | Mapping, *, skeleton: Skeleton | None = None) -> People:
    """Read a COCO keypoint annotation file.

    Of a file with several categories the one that fits the skeleton is read. People of zero keypoints and crowds
    are read as well: they matter to scoring.

    Args:
        source: path of the file, or its parsed content.
        skeleton: the keypoints; None finds them by the names, then by the number, in the file's category.

    Returns:
        :class:`People`. Where a person has no ``area`` it is NaN.

    Raises:
        AnnotationError: not JSON, not COCO, keys missing, wrong keypoint counts, numbers not finite, unknown images,
            repeated ids, or a box without size on a person with labelled keypoints.
    """
    if isinstance(source, Mapping):
        return _people(source, "annotations", skeleton)
    path = Path(source)
    simdjson = parsing.simdjson_or_none()
    with parsing.collector_paused():
        if simdjson is not None and path.is_file():
            try:
                document = simdjson.Parser().parse(path.read_bytes())
                return _people(document, str(path), skeleton)
            except Exception:  # whatever the fast parser stumbled over, the careful one below reads it or names it
                pass
        return _people(parsing.load_json(path), str(path), skeleton)


def _people(document: Any, source: str, skeleton: Skeleton | None) -> People:
    images, records, categories = _sections(document, source)
    category_id, skeleton = find_skeleton(categories, source, skeleton)
    K = skeleton.num_keypoints
    try:
        image_ids = integers(images, "id")
        image_sizes = np.stack([integers(images, "height", 0), integers(images, "width", 0)], -1).astype(np.int32)
        names = [image.get("file_name", "").encode() for image in images]
    except _UNREADABLE:
        complain(source, "image", images, {"id": 0}, OPTIONAL_IN_IMAGES)
    if len(categories) > 1:
        records = [record for record in records if record.get("category_id", category_id) == category_id]
    try:
        ids = integers(records, "id")
        owners = integers(records, "image_id")
        triples = rows(records, "keypoints", 3 * K).reshape(-1, K, 3)
        box = rows(records, "bbox", 4)
        area = floats(records, "area", np.nan)
        is_crowd = integers(records, "iscrowd", 0) != 0
        num_keypoints = integers(records, "num_keypoints", -1)
    except _UNREADABLE:
        fields = {"id": 0, "image_id": 0, "keypoints": 3 * K, "bbox": 4}
        complain(source, "annotation", records, fields, OPTIONAL_IN_ANNOTATIONS)
    counted = (triples[..., 2] > 0).sum(1)
    people = People(
        skeleton=skeleton,
        image_ids=image_ids,
        image_sizes=image_sizes,
        file_names=np.array(names, "S"),
        ids=ids,
        image_index=_rows_of(image_ids, owners),
        keypoints=np.ascontiguousarray(triples[..., :2]),
        visibility=np.clip(np.nan_to_num(triples[..., 2]), 0, 2).astype(np.uint8),
        box=box,
        area=area,
        is_crowd=is_crowd,
        num_keypoints=np.where(num_keypoints < 0, counted, num_keypoints).astype(np.int32),
        source=source,
        category_id=category_id,
    )
    _refuse_bad_people(people, owners, triples)
    return people


def _sections(document: Any, source: str) -> tuple[Sequence, Sequence, Sequence]:
    if not hasattr(document, "keys"):
        kind = "a list; is it a result file?" if isinstance(document, list) else "no object"
        raise AnnotationError(f"{source}: not a COCO annotation file: it holds {kind}; give the file of ground truth")
    sections = []
    for key in ("images", "annotations", "categories"):
        section = document.get(key)
        if hasattr(section, "keys") or isinstance(section, str) or not hasattr(section, "__len__"):
            raise AnnotationError(
                f"{source}: not a COCO annotation file: it has no list '{key}'; "
                "a COCO file has 'images', 'annotations' and 'categories'"
            )
        sections.append(list(section))
    return sections[0], sections[1], sections[2]


def find_skeleton(categories: Sequence, source: str, skeleton: Skeleton | None) -> tuple[int, Skeleton]:
    """The category of a file that has keypoints, and the skeleton that describes them.

    Raises:
        AnnotationError: no category has keypoints, several could be meant, or no skeleton fits.
    """
    named = []
    for category in categories:
        keypoints: Any = category.get("keypoints") if hasattr(category, "get") else None
        listed = hasattr(keypoints, "__len__") and not isinstance(keypoints, str | Mapping)
        if listed and len(keypoints) and isinstance(category.get("id"), int):
            named.append((category["id"], str(category.get("name", "")), tuple(map(str, keypoints))))
    if not named:
        raise AnnotationError(
            f"{source}: no category lists 'keypoints'; give a keypoint file such as person_keypoints_val2017.json"
        )
    known = [skeleton] if skeleton else list(SKELETONS.values())
    fitting = [(c, s) for c in named for s in known if c[2] == s.keypoints]
    fitting = fitting or [(c, s) for c in named for s in known if len(c[2]) == s.num_keypoints]
    if not fitting:
        counts = ", ".join(f"'{name}' {len(keypoints)}" for _, name, keypoints in named)
        wanted = ", ".join(f"{s.name} ({s.num_keypoints})" for s in known)
        raise AnnotationError(
            f"{source}: no skeleton fits the keypoints of its categories ({counts}; tried {wanted}); "
            "pass skeleton=Skeleton(...)"
        )
    if len({c[0] for c, _ in fitting}) > 1:
        fitting = [(c, s) for c, s in fitting if c[1] == "person"] or fitting
    (category_id, name, keypoints), chosen = fitting[0]
    if keypoints != chosen.keypoints and sorted(keypoints) == sorted(chosen.keypoints):
        raise AnnotationError(
            f"{source}: category '{name}' has the keypoints of {chosen.name} in another order; "
            "pass skeleton=Skeleton(...) in the order of the file"
        )
    return category_id, chosen


def _rows_of(image_ids: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Row of each owner in ``image_ids``; -1 where it is unknown."""
    if not len(image_ids):
        return np.full(len(owners), -1)
    order = np.argsort(image_ids, kind="stable")
    place = np.minimum(np.searchsorted(image_ids[order], owners), len(image_ids) - 1)
    return np.where(image_ids[order][place] == owners, order[place], -1)


def _repeated(values: np.ndarray) -> int | None:
    ordered = np.sort(values)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    return int(again[0]) if len(again) else None


def _refuse_bad_people(people: People, owners: np.ndarray, triples: np.ndarray) -> None:
    source = people.source
    if (image := _repeated(people.image_ids)) is not None:
        raise AnnotationError(f"{source}: image id {image} occurs twice; give every image its own id")
    if (person := _repeated(people.ids)) is not None:
        raise AnnotationError(f"{source}: annotation id {person} occurs twice; give every annotation its own id")

    def refuse(bad: Any, text: str) -> None:
        if bad.any():
            n = int(np.flatnonzero(bad)[0])
            raise AnnotationError(f"{source}: annotation {people.ids[n]} (image {owners[n]}) {text}")

    refuse(people.image_index < 0, "belongs to an image that 'images' does not list; add the image or drop it")
    refuse(
        ~np.isfinite(triples).all((1, 2)), "has NaN, null or infinite keypoints; write 0, 0, 0 for an unlabelled one"
    )
    refuse(~np.isfinite(people.box).all(1), "has NaN, null or infinity in 'bbox'; write finite numbers")
    refuse(np.isinf(people.area) | (people.area < 0), "has an area that is negative or infinite; correct it")
    refuse(~np.isin(triples[..., 2], (0, 1, 2)).all(1), "has a visibility flag that is not 0, 1 or 2; correct it")
    scored = (people.visibility > 0).any(1) & ~people.is_crowd
    refuse(
        scored & (people.box[:, 2:] <= 0).any(1),
        "has labelled keypoints in a box of no size; give 'bbox' a positive width and height",
    )


def read_detections(
    source: str | os.PathLike | Sequence | Detections,
    *,
    skeleton: Skeleton | None = None,
    category_id: int | None = None,
) -> Detections:
    """Read a COCO keypoint result file.

    Args:
        source: path of the file, its parsed content (a list of records), or detections, which come back unchanged.
        skeleton: the keypoints; None takes K from the first record.
        category_id: keep the records of this category; None keeps all.

    Returns:
        :class:`Detections`; ``box`` is there when the first record has ``bbox``, as in pycocotools.

    Raises:
        AnnotationError: not JSON, not a list of results, wrong keypoint counts, numbers not finite, or no record of
            the category.
    """
    if isinstance(source, Detections):
        return source
    width = 3 * skeleton.num_keypoints if skeleton else None
    if not isinstance(source, str | os.PathLike):
        return _finished(_careful_columns(source, "detections", width), "detections", category_id)
    path = Path(source)
    simdjson = parsing.simdjson_or_none()
    if path.is_file():
        try:
            with path.open("rb") as file, parsing.collector_paused():
                fast = parsing.record_pieces(file, simdjson.Parser()) if simdjson else uniform.uniform_pieces(file)
                columns = _columns_in_pieces(fast, str(path), width)
            return _finished(columns, str(path), category_id)
        except Exception:  # whatever the fast reader stumbled over, the careful one below reads it or names it
            pass
    return _finished(_careful_columns(parsing.load_json(path), str(path), width), str(path), category_id)


def _columns_in_pieces(fast: Iterator[Any], source: str, width: int | None) -> list[np.ndarray]:
    pieces: list[list[np.ndarray]] = []
    with_box: bool | None = None
    for records in fast:
        if len(records) and with_box is None:
            first = {key: column[0] for key, column in records.items()} if isinstance(records, dict) else records[0]
            width, with_box = width or _width_of(first, source), _has_box(first)
            del first
        pieces.append(_columns(records, width or 0, bool(with_box)))
        del records  # simdjson refuses to parse on while records of the last piece live
    return [np.concatenate(column) for column in zip(*pieces)]


def _has_box(record: Any) -> bool:
    return "bbox" in record and len(record["bbox"]) > 0


def _width_of(record: Any, source: str) -> int:
    width = len(record["keypoints"])
    if width % 3:
        raise AnnotationError(
            f"{source}: 'keypoints' of detection at index 0 has {width} numbers; write x, y, score for each keypoint"
        )
    return width


def _columns(records: Any, width: int, with_box: bool) -> list[np.ndarray]:
    """Image ids, categories, scores, keypoints, keypoint scores and boxes of records, or of their columns."""
    read: Any = uniform if isinstance(records, dict) else parsing
    triples = read.rows(records, "keypoints", width).reshape(-1, width // 3, 3) if width else np.zeros((0, 0, 3))
    return [
        read.integers(records, "image_id"),
        read.integers(records, "category_id", -1),
        read.floats(records, "score"),
        np.ascontiguousarray(triples[..., :2]),
        np.ascontiguousarray(triples[..., 2]),
        read.rows(records, "bbox", 4) if with_box else np.zeros((len(triples), 0)),
    ]


def _careful_columns(records: Any, source: str, width: int | None) -> list[np.ndarray]:
    if not isinstance(records, list | tuple):
        hint = "; is it the annotation file?" if isinstance(records, Mapping) else ""
        raise AnnotationError(f"{source}: a result file is a list of records [{{...}}, ...]{hint}")
    with_box = False
    fields = {"image_id": 0, "score": 0, "keypoints": width or 0}
    try:
        if records:
            width = _width_of(records[0], source) if width is None else width
            with_box = _has_box(records[0])
            fields["keypoints"] = width
        with parsing.collector_paused():
            return _columns(records, width or 0, with_box)
    except AnnotationError:
        raise
    except _UNREADABLE:
        if all(isinstance(record, Mapping) and "bbox" in record and "keypoints" not in record for record in records):
            message = f"{source}: this is a file of boxes: no record has 'keypoints'; give keypoint results"
            raise AnnotationError(message) from None
        complain(source, "detection", records, fields | ({"bbox": 4} if with_box else {}), ("category_id",))


def _finished(columns: list[np.ndarray], source: str, category_id: int | None) -> Detections:
    image_ids, categories, scores, keypoints, keypoint_scores, box = columns
    D = len(scores)
    finite = [np.isfinite(column.reshape(D, -1)).all(1) for column in columns[2:] if column.size]
    bad = ~np.logical_and.reduce(finite) if finite else np.zeros(0, bool)
    if bad.any():
        n = int(np.flatnonzero(bad)[0])
        raise AnnotationError(
            f"{source}: detection at index {n} (image {image_ids[n]}) has NaN, null or infinity; write finite numbers"
        )
    detections = Detections(image_ids, keypoints, keypoint_scores, scores, box if box.shape[1] else None, source=source)
    if category_id is None:
        return detections
    chosen = (categories == category_id) | (categories == -1)
    if D and not chosen.any():
        raise AnnotationError(
            f"{source}: every detection has another category_id ({categories[0]}) than the annotations "
            f"({category_id}); write category_id {category_id}"
        )
    return detections if chosen.all() else detections.select(chosen)


def write_detections(path: str | os.PathLike, detections: Detections, *, category_id: int = 1) -> None:
    """Write a COCO result file, to a temporary name first; numbers come back bit for bit when read.

    Folders on the way to it are made.

    Raises:
        OSError: the disk refuses; one sentence with the path.
    """
    triples = np.concatenate([detections.keypoints, detections.keypoint_scores[..., None]], -1)
    keypoints = triples.reshape(len(detections), -1).tolist()
    records = [
        {"image_id": image, "category_id": category_id, "score": score, "keypoints": numbers}
        for image, score, numbers in zip(detections.image_ids.tolist(), detections.scores.tolist(), keypoints)
    ]
    if detections.box is not None:
        for record, box in zip(records, detections.box.tolist()):
            record["bbox"] = box
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(records, allow_nan=False))
