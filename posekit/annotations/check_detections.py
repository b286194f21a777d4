"""What is wrong with detections that score 0: a try at each mistake that people make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posekit.annotations.check_people import Table, usual_number
from posekit.annotations.parsing import describe_fault, load_json
from posekit.annotations.types import AnnotationError
from posekit.geometry import crop_box

if TYPE_CHECKING:
    from posekit.annotations.checks import Findings

# Inputs and heatmaps of published networks, height x width: detections may have been left in their pixels.
_CROPS = ((256, 192), (384, 288), (128, 96), (96, 64), (256, 256), (64, 48), (96, 72))
# A mistake is named when undoing it brings this much more of the labelled keypoints near a detection.
_CLEARLY = 0.3
_PEOPLE_TRIED = 200
_DETECTIONS_COUNTED = 20


def check_detections(path: Path, table: Table | None, findings: Findings) -> None:
    """Add the problems of a result file, scored against the people of ``table``, to ``findings``."""
    try:
        records = load_json(path)
    except AnnotationError as error:
        problem, _, remedy = str(error).removeprefix(f"{path}: ").partition("; ")
        findings.about_file("error", problem, remedy)
        return
    if not isinstance(records, list):
        hint = "this looks like an annotation file" if isinstance(records, Mapping) else "it is something else"
        findings.about_file("error", f"a result file is a list of records, and {hint}", "give a list [{...}, ...]")
        return
    if not records:
        findings.about_file("error", "there are no detections: AP is 0", "check what wrote the file")
        return
    if all(isinstance(record, Mapping) and "bbox" in record and "keypoints" not in record for record in records):
        findings.about_file("error", "this is a file of boxes: no record has 'keypoints'", "give keypoint results")
        return
    K = _number_of_keypoints(records, table)
    readable = []
    for n, record in enumerate(records):
        name = f"detection at index {n}"
        if not isinstance(record, Mapping):
            findings.add("error", name, "is not an object", "each record must be {...}")
            continue
        faults = []
        for key, width in {"image_id": 0, "score": 0, "keypoints": 3 * K}.items():
            if key == "image_id" and isinstance(record.get(key), str):
                faults.append("its image_id is a string; write the integer id of the image")
            elif fault := describe_fault(record, {key: width}):
                faults.append(fault)
        if not isinstance(record.get("category_id"), int):
            findings.add("error", name, "has no integer 'category_id', which pycocotools needs", "write it")
        for fault in faults:
            findings.add("error", name, *fault.split("; ", 1))
        if not faults:
            readable.append(record)
    if not readable:
        return
    _check_scores(readable, findings)
    if table is not None:
        _check_ids(readable, table, findings)
        with findings.guarded("the places of the detections"), np.errstate(over="ignore", invalid="ignore"):
            _check_places(readable, table, K, findings)


def _number_of_keypoints(records: list, table: Table | None) -> int:
    if table is not None and (table.skeleton is not None or len(table.points)):
        return table.skeleton.num_keypoints if table.skeleton else table.points.shape[1]
    return usual_number(records)


def _check_scores(records: list[Mapping], findings: Findings) -> None:
    scores = np.array([record["score"] for record in records], np.float64)
    if len(scores) > 1 and (scores == scores[0]).all():
        problem = f"every score is {scores[0]:g}: precision needs an order"
        findings.about_file("warning", problem, "write the person's score, such as box score x mean joint score")
    crowded = [image for image, n in Counter(r["image_id"] for r in records).items() if n > _DETECTIONS_COUNTED]
    if crowded:
        problem = f"{len(crowded)} images have more than {_DETECTIONS_COUNTED} detections (image {crowded[0]}, ...)"
        findings.about_file("warning", problem, f"only the {_DETECTIONS_COUNTED} best by score count")


def _check_ids(records: list[Mapping], table: Table, findings: Findings) -> None:
    strangers = Counter(r["image_id"] for r in records if r["image_id"] not in table.image_ids)
    if strangers and table.image_ids:
        image, total = next(iter(strangers)), sum(strangers.values())
        problem = f"{total} of {len(records)} detections are of images that the annotations do not list (image {image})"
        findings.about_file("error", problem, "score them against the file of their own images")
    categories = Counter(r["category_id"] for r in records if isinstance(r.get("category_id"), int))
    known = table.category_ids
    wrong = {category: n for category, n in categories.items() if known and category not in known}
    if wrong:
        found, wanted = next(iter(wrong)), ", ".join(map(str, sorted(known)))
        problem = f"{sum(wrong.values())} detections have category_id {found}, the annotations have {wanted}"
        findings.about_file("error", f"{problem}: they are not counted", f"write category_id {wanted}")
    peopled = {table.image_id[n] for n in np.flatnonzero(table.labelled.any(1))}
    missed = peopled - {r["image_id"] for r in records}
    if peopled and len(missed) > len(peopled) / 2:
        problem = f"{len(missed)} of {len(peopled)} images with labelled people have no detection"
        findings.about_file("warning", problem, "run on all images, or score against the images you ran on")


def _check_places(records: list[Mapping], table: Table, K: int, findings: Findings) -> None:
    """Try on a sample of people which reading of the coordinates brings detections near them."""
    by_image: dict[Any, list[int]] = {}
    for n, record in enumerate(records):
        by_image.setdefault(record["image_id"], []).append(n)
    triples = np.array([record["keypoints"] for record in records], np.float64).reshape(-1, K, 3)
    sample = [n for n in np.flatnonzero(table.labelled.any(1)).tolist() if table.image_id[n] in by_image][
        :_PEOPLE_TRIED
    ]
    if not sample:
        return
    if (triples[..., :2] == triples[:1, :, :2]).all() and len(records) > 1:
        findings.about_file("error", "all detections are the same", "check what wrote the file")
        return
    near: dict[str, list[float]] = {}
    remedies = {}
    for person in sample:
        found = triples[by_image[table.image_id[person]]][..., :2]
        for reading, remedy, points in _readings(found, table, person):
            near.setdefault(reading, []).append(_nearness(points, table, person))
            remedies[reading] = remedy
    share = {reading: float(np.mean(values)) for reading, values in near.items()}
    plain = share.pop("as written")
    if share:
        best = max(share, key=share.__getitem__)
        if share[best] > plain + _CLEARLY:
            findings.about_file("error", f"detections meet the people only when {best}", remedies[best])
            return
    if plain < 0.1:
        problem = "detections meet nobody: hardly a labelled keypoint has a prediction near it"
        findings.about_file(
            "error", problem, "draw a few on their pictures; check images, boxes and the way back from the crop"
        )


def _readings(found: np.ndarray, table: Table, n: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """(D, K, 2) detections of the image of person ``n``, read in each way that people get wrong."""
    yield "as written", "", found
    yield "y is read before x", "write x before y", found[..., ::-1]
    if table.skeleton is not None and table.skeleton.flip_pairs:
        remedy = "check the order of keypoints and the flip pairs"
        yield "left and right are exchanged", remedy, found[:, table.skeleton.flip_index]
    if not np.isnan(table.size[n]).any():
        yield "multiplied by the picture's size", "write pixels, not shares of the picture", found * table.size[n]
    remedy = "map them back to the picture with the inverse of the crop's affine"
    for size in _CROPS:
        region = crop_box(table.box[n], size)
        scale = region[2:] / np.array(size[::-1])
        yield f"read as pixels of a {size[0]}x{size[1]} crop or map", remedy, region[:2] + found * scale
    yield "moved by the corner of the box", "add the corner of the box", found + table.box[n, :2]


def _nearness(points: np.ndarray, table: Table, n: int) -> float:
    """Share of a person's labelled keypoints that the best of (D, K, 2) detections meets within 8 % of the box."""
    labelled = table.labelled[n]
    distance = np.linalg.norm(points[:, labelled] - table.points[n, labelled], axis=-1)
    reach = 0.08 * max(float(table.box[n, 2:].max()), 1.0)
    return float((distance <= reach).mean(1).max())
