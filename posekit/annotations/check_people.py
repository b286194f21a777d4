"""Who counts in the score, and are their coordinates pixels: checks of the people in an annotation file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from posekit.annotations.parsing import OPTIONAL_IN_ANNOTATIONS, describe_fault, record_name
from posekit.skeletons import SKELETONS, Skeleton

if TYPE_CHECKING:
    from posekit.annotations.checks import Findings

# COCO's size classes; AP_medium and AP_large are -1 where nobody is of that size.
MEDIUM, LARGE = 32.0**2, 96.0**2
# A finding about "most" records holds for this share of them.
MOST = 0.8


@dataclass(frozen=True)
class Table:
    """The annotations that could be read as numbers, and the pictures they belong to."""

    skeleton: Skeleton | None
    category_ids: frozenset
    image_ids: frozenset
    image_id: list
    size: np.ndarray  # (N, 2) width, height; NaN where unknown
    name: list[str]
    points: np.ndarray  # (N, K, 2)
    flags: np.ndarray  # (N, K)
    box: np.ndarray  # (N, 4)
    area: np.ndarray  # (N,)
    crowd: np.ndarray  # (N,)

    @property
    def labelled(self) -> np.ndarray:
        return (self.flags > 0) & ~self.crowd[:, None]


def tabulate(
    annotations: list, skeleton: Skeleton | None, category_ids: frozenset, sizes: dict, findings: Findings
) -> Table:
    K = skeleton.num_keypoints if skeleton else usual_number(annotations)
    rows: list[Mapping] = []
    names: list[str] = []
    seen: set = set()
    for n, record in enumerate(annotations):
        fields = {"id": 0, "image_id": 0, "keypoints": 3 * K, "bbox": 4}
        if not isinstance(record, Mapping):
            findings.add("error", record_name("annotation", record, n), "is not an object", "each record must be {...}")
            continue
        name = record_name("annotation", record, n)
        faults = [fault for key in fields if (fault := describe_fault(record, {key: fields[key]}))]
        faults += [fault for key in OPTIONAL_IN_ANNOTATIONS if (fault := describe_fault(record, {}, (key,)))]
        for fault in faults:
            findings.add("error", name, *fault.split("; ", 1))
        number = record.get("id")
        if isinstance(number, int) and number in seen:
            findings.add("error", name, "the id occurs twice", "give every annotation its own id")
        seen.add(number if isinstance(number, int) else None)
        if number == 0:
            findings.add("warning", name, "pycocotools counts a match with id 0 as a miss", "number from 1")
        _check_references(record, name, category_ids, sizes, findings)
        if not faults:
            rows.append(record)
            names.append(name)
    triples = np.array([r["keypoints"] for r in rows], np.float64).reshape(len(rows), K, 3)
    return Table(
        skeleton=skeleton,
        category_ids=category_ids,
        image_ids=frozenset(sizes),
        image_id=[r["image_id"] for r in rows],
        size=np.array([sizes.get(r["image_id"], (np.nan, np.nan)) for r in rows], np.float64).reshape(-1, 2),
        name=names,
        points=triples[..., :2],
        flags=triples[..., 2],
        box=np.array([r["bbox"] for r in rows], np.float64).reshape(-1, 4),
        area=np.array([_number_or_nan(r.get("area")) for r in rows]),
        crowd=np.array([bool(r.get("iscrowd", 0)) for r in rows], bool),
    )


def usual_number(annotations: list) -> int:
    """Keypoints that most records have; 17 where no record has any."""
    lengths = [
        len(r["keypoints"]) for r in annotations if isinstance(r, Mapping) and isinstance(r.get("keypoints"), list)
    ]
    return max(set(lengths), key=lengths.count) // 3 if lengths else SKELETONS["coco17"].num_keypoints


def _number_or_nan(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def _check_references(record: Mapping, name: str, category_ids: frozenset, sizes: dict, findings: Findings) -> None:
    image = record.get("image_id")
    if isinstance(image, int | float) and image not in sizes:
        findings.add("error", name, "its image is not among 'images'", "add the image, or drop the annotation")
    category = record.get("category_id")
    if not isinstance(category, int):
        findings.add("error", name, "has no integer 'category_id'", "write the id of the person category")
    elif category_ids and category not in category_ids:
        ids = ", ".join(map(str, sorted(category_ids)))
        findings.add("error", name, f"its category_id {category} is not among 'categories' ({ids})", "correct it")
    if "iscrowd" not in record:
        findings.add("warning", name, "has no 'iscrowd', which pycocotools needs", "write 0 for a single person")
    flags = record.get("keypoints")
    if isinstance(flags, list) and all(isinstance(v, int | float) for v in flags):
        labelled = sum(v > 0 for v in flags[2::3])
        said = record.get("num_keypoints")
        if not isinstance(said, int):
            findings.add("error", name, "has no 'num_keypoints', which pycocotools needs", "count the flags above 0")
        elif said == 0 and labelled:
            remedy = "count the flags above 0; people with 0 are left out of the score"
            findings.add("error", name, "num_keypoints is 0, but keypoints are labelled", remedy)
        elif said != labelled:
            findings.add("warning", name, "num_keypoints is not the number of flags above 0", "count the flags above 0")


def check_scoring(table: Table, findings: Findings) -> None:
    """What decides who counts: flags, areas, boxes, sizes."""
    name = table.name.__getitem__
    person = table.labelled.any(1)
    odd = ~np.isin(table.flags, (0, 1, 2)).all(1)
    findings.about_rows(
        "error", odd, name, "has a visibility flag that is not 0, 1 or 2", "write 2 seen, 1 hidden, 0 not"
    )
    if not person.any():
        remedy = "set the visibility flags and num_keypoints of the people you labelled"
        findings.about_file("error", "nobody has a labelled keypoint: AP is -1", remedy)
    flat = (table.box[:, 2:] <= 0).any(1)
    findings.about_rows("error", flat & person, name, "its box has no size", "give 'bbox' as x, y, width, height")
    findings.about_rows("warning", flat & ~person, name, "its box has no size", "give 'bbox' as x, y, width, height")
    absent = np.isnan(table.area)
    remedy = "write the area of the segment in square pixels, or score with area='box'"
    if absent.all():
        findings.about_file("error", "no annotation has an 'area', which OKS needs", remedy)
    else:
        findings.about_rows("error", absent, name, "has no 'area', which OKS needs", remedy)
    findings.about_rows("error", (table.area < 0) | np.isinf(table.area), name, "its area is not a size", remedy)
    zero = (table.area == 0) & person
    findings.about_rows("error", zero, name, "its area is 0: only a perfect prediction can match", remedy)
    box_area = table.box[:, 2] * table.box[:, 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = table.area / box_area
    if person.any() and np.mean(np.abs(share[person] - 1) < 0.01) > MOST:
        problem = "areas are those of the boxes, which makes OKS and AP higher than with the area of segments"
        findings.about_file("warning", problem, "take the segment's area, or about 0.53 of the box")
    measured = table.area[person & ~absent]
    if len(measured) and measured.max() <= 1 and box_area[person].max() > 1:
        findings.about_file("error", "areas are at most 1: they look normalised", "write square pixels")
    counted = table.area[person]
    for size, meaning, empty in (
        ("medium", "between 32^2 and 96^2 square pixels", not ((counted >= MEDIUM) & (counted <= LARGE)).any()),
        ("large", "over 96^2 square pixels", not (counted >= LARGE).any()),
    ):
        if person.any() and not absent.all() and empty:
            problem = f"no labelled person is {size} ({meaning}): AP_{size} is -1"
            findings.about_file("warning", problem, "expected for small sets; else check the areas")


def check_coordinates(table: Table, findings: Findings) -> None:
    """Are keypoints and boxes pixels of the picture, x before y."""
    name, labelled, points = table.name.__getitem__, table.labelled, table.points
    person = labelled.any(1)
    known = ~np.isnan(table.size).any(1)
    width_height = np.where(known[:, None], table.size, np.inf)
    x, y, w, h = table.box.T
    beyond = known & ((x + w > width_height[:, 0] * 1.02 + 1) | (y + h > width_height[:, 1] * 1.02 + 1))
    as_corners = (w <= width_height[:, 0] + 1) & (h <= width_height[:, 1] + 1) & (w > x) & (h > y)
    if known.any() and (beyond & as_corners)[known].mean() > 0.5:
        findings.about_file("error", "boxes look like corners x1, y1, x2, y2", "write x, y, width, height")
    else:
        findings.about_rows(
            "warning", beyond, name, "its box reaches beyond the picture", "cut it, or correct the size"
        )
    origin = labelled & (points == 0).all(-1)
    findings.about_rows(
        "warning", origin.any(1), name, "has a labelled keypoint at 0, 0", "set its flag to 0 if it is unlabelled"
    )
    if not person.any():
        return
    shown = labelled[person]
    if np.abs(points[person][shown]).max() <= 1.5 and table.box[person, 2:].max() > 2:
        problem = "keypoints lie between 0 and 1: they look normalised"
        findings.about_file("error", problem, "multiply x by the width and y by the height of the picture")
        return
    inside = share_in_boxes(points, table)
    exchanged = share_in_boxes(points[..., ::-1], table)
    from_corner = share_in_boxes(points + table.box[:, None, :2], table)
    if inside < 0.5 and exchanged > max(inside + 0.3, from_corner):
        findings.about_file("error", "keypoints lie in their boxes only as y, x", "write x before y")
    elif inside < 0.5 and from_corner > inside + 0.3:
        findings.about_file("error", "keypoints are relative to the box or crop", "add the corner of the box")
    elif inside < 0.5:
        findings.about_file("error", "most keypoints lie outside their person's box", "check boxes, order and units")
    else:
        astray = person & ((labelled & ~in_boxes(points, table)).sum(1) > 0.5 * labelled.sum(1))
        problem = "most of its labelled keypoints lie outside its box"
        findings.about_rows("error", astray, name, problem, "check its units and order, and whether the box is its own")
    outside = labelled & ((points < -1) | (points > width_height[:, None] + 1)).any(-1)
    problem = "has labelled keypoints outside the picture"
    findings.about_rows("warning", outside.any(1), name, problem, "check units and order, or set their flags to 0")


def in_boxes(points: np.ndarray, table: Table) -> np.ndarray:
    """(N, K) bool: keypoints that lie in their person's box, with a tenth of its size to spare."""
    spare = 0.1 * table.box[:, None, 2:] + 1
    low, high = table.box[:, None, :2] - spare, table.box[:, None, :2] + table.box[:, None, 2:] + spare
    return ((points >= low) & (points <= high)).all(-1)


def share_in_boxes(points: np.ndarray, table: Table) -> float:
    """Share of all labelled keypoints that lie in their person's box."""
    return float(in_boxes(points, table)[table.labelled].mean()) if table.labelled.any() else 1.0
