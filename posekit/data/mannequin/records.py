"""A rendered scene as COCO records: one image, one annotation for every figure of which something is seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from posekit.data.mannequin.render import Rendered
from posekit.data.mannequin.scene import Scene
from posekit.skeletons import COCO17

# A figure has keypoints when enough of it is seen to be marked; others keep box and mask with num_keypoints 0, as
# COCO does with people too small or too hidden, and count neither for nor against a detector.
MIN_VISIBLE = 6  # keypoints with flag 2
MIN_AREA = 0.004  # share of the picture
PEOPLE_PER_SCENE = 32  # annotation id = scene * 32 + number in the scene + 1
HIDDEN_BY = ("nothing", "self", "another", "thing")


def header(description: str) -> dict[str, Any]:
    """Everything of a COCO file but images and annotations."""
    limbs = [[a + 1, b + 1] for a, b in COCO17.limbs]
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO17.keypoints),
        "skeleton": limbs,
    }
    return {"info": {"description": description}, "licenses": [], "categories": [category]}


def image_record(index: int, scene: Scene, file_name: str, length: int) -> dict[str, Any]:
    """COCO image record; ``bytes`` is the file's length, ``camera`` the pinhole that made it."""
    return {
        "id": index + 1,
        "file_name": file_name,
        "height": scene.size[0],
        "width": scene.size[1],
        "bytes": length,
        "camera": {
            "focal": scene.focal,
            "rotation": np.round(scene.camera, 7).tolist(),
            "eye": np.round(scene.eye, 7).tolist(),
        },
    }


def annotation_records(index: int, scene: Scene, rendered: Rendered) -> list[dict[str, Any]]:
    """COCO annotations of one scene.

    Beyond the standard fields: ``yaw`` (radians relative to the viewing ray, 0 faces the viewer, positive turns
    towards the right of the picture), ``pose``, ``joints`` (17, 3) in the world (metres, y up), ``hidden_by``
    (17; see `HIDDEN_BY`), ``occlusion`` (share of the keypoints in the picture that others or things hide), and
    ``look`` (skin tone 0 fair to 9 deep, hair, build).
    """
    H, W = scene.size
    records = []
    for k, person in enumerate(scene.people):
        mask = rendered.owner == k + 1
        area = int(mask.sum())
        if area == 0:
            continue
        v = rendered.visibility[k]
        marked = int((v == 2).sum()) >= MIN_VISIBLE and area >= MIN_AREA * H * W
        points = np.column_stack([np.round(rendered.keypoints[k], 4), v]) * (v > 0)[:, None] * marked
        inside = max(int((v > 0).sum()), 1)
        records.append({
            "id": index * PEOPLE_PER_SCENE + k + 1,
            "image_id": index + 1,
            "category_id": 1,
            "iscrowd": 0,
            "keypoints": [int(c) if c == int(c) else float(c) for c in points.ravel()],
            "num_keypoints": int((v > 0).sum()) if marked else 0,
            "bbox": mask_box(mask),
            "area": float(area),
            "segmentation": {"size": [H, W], "counts": run_lengths(mask)},
            "yaw": round(float(scene.yaw[k]), 6),
            "pose": scene.poses[k],
            "joints": np.round(scene.joints[k], 5).tolist(),
            "hidden_by": rendered.hidden_by[k].tolist(),
            "occlusion": round(float((rendered.hidden_by[k] >= 2).sum()) / inside, 4),
            "look": {
                "skin": person.skin, "hair": person.hair_colour, "style": person.hair_style,
                "stature": round(person.stature, 3), "girth": round(float(person.girth[1, 0] / person.stature), 3),
            },
        })  # fmt: skip
    return records


def mask_box(mask: np.ndarray) -> list[float]:
    """(H, W) bool, not empty -> the box x, y, width, height that holds every pixel."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return [float(v) for v in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def run_lengths(mask: np.ndarray) -> str:
    """(H, W) bool -> COCO's compressed run lengths: columns first, the first run is outside.

    From the third on, a run is written as its difference to the one before the last; numbers as groups of five bits,
    lowest first, each a character from "0" on, whose sixth bit says that another follows.
    """
    column = mask.ravel(order="F")
    turns = np.flatnonzero(column[1:] != column[:-1]) + 1
    first = [0] if column[0] else []
    runs = np.diff(np.concatenate([[0], first, turns, [column.size]]).astype(np.int64))
    runs[3:] -= runs[1:-2].copy()
    text = bytearray()
    for number in runs.tolist():
        while True:
            bits, number = number & 31, number >> 5  # arithmetic: a negative number ends in ones
            more = number != (-1 if bits & 16 else 0)
            text.append(48 + bits + 32 * more)
            if not more:
                break
    return text.decode("ascii")
