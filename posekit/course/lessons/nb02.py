"""COCO annotations: one person with every field labelled, the crop that a network sees, a file with planted faults."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

from posekit.geometry import crop_affine, crop_box, transform_points
from posekit.skeletons import COCO17
from posekit.viz.style import COLOURS, INK, MUTED

CROP = (256, 192)


def record(dataset: Any, person: int) -> dict[str, Any]:
    """The annotation record of one person as it stands in the file, with its long fields shortened."""
    content = json.loads(dataset.annotation_file.read_text())
    wanted = int(dataset.people.ids[person])
    entry = dict(next(a for a in content["annotations"] if a["id"] == wanted))
    fields = ("id", "image_id", "category_id", "keypoints", "num_keypoints", "bbox", "area", "iscrowd", "segmentation")
    entry = {key: entry[key] for key in fields}
    counts = entry["segmentation"]["counts"]
    return {**entry, "segmentation": {**entry["segmentation"], "counts": counts[:12] + "..."}}


def mask(dataset: Any, person: int) -> np.ndarray:
    """(H, W) bool: the pixels that belong to a person, decoded by pycocotools from the file's run lengths."""
    from pycocotools import mask as coco_mask

    content = json.loads(dataset.annotation_file.read_text())
    wanted = int(dataset.people.ids[person])
    entry = next(a for a in content["annotations"] if a["id"] == wanted)
    return coco_mask.decode(entry["segmentation"]).astype(bool)


def arms_up(dataset: Any) -> int:
    """Index of the largest person whose wrists are both above the nose, all three of them visible."""
    people = dataset.people
    nose, wrists = COCO17.index("nose"), [COCO17.index("left_wrist"), COCO17.index("right_wrist")]
    raised = (people.keypoints[:, wrists, 1] < people.keypoints[:, [nose], 1]).all(axis=1)
    labelled = (people.visibility[:, [nose, *wrists]] == 2).all(axis=1)
    height = np.where(raised & labelled, people.box[:, 3], 0.0)
    # A person cut by the border has a box without room around it; prefer whole ones.
    inside = (people.box[:, :2] > 1).all(axis=1)
    return int(np.argmax(height * (1 + inside)))


def instructive(dataset: Any) -> int:
    """Index of the tallest whole person with all 17 keypoints labelled, at least two and at most six of them hidden."""
    people = dataset.people
    hidden = (people.visibility == 1).sum(axis=1)
    fits = (people.visibility > 0).all(axis=1) & (hidden >= 2) & (hidden <= 6)
    whole = (people.box[:, :2] > 2).all(axis=1) & (
        people.box[:, :2] + people.box[:, 2:] < np.array(dataset.size[::-1]) - 2
    ).all(axis=1)
    return int(np.argmax(people.box[:, 3] * (1 + 2 * fits + whole)))


def labelled_person(dataset: Any, picture: np.ndarray, person: int) -> Any:
    """Headline: one person with every field of the record pointed out."""
    import matplotlib.pyplot as plt

    people = dataset.people
    points, flags, box = people.keypoints[person], people.visibility[person], people.box[person]
    own = mask(dataset, person)
    figure, ax = plt.subplots(figsize=(9.2, 6.4))
    ax.imshow(picture)
    shade = np.zeros((*own.shape, 4))
    shade[own] = (*plt.matplotlib.colors.to_rgb(COLOURS["sky"]), 0.45)
    ax.imshow(shade)
    for a, b in COCO17.limbs:
        if flags[a] and flags[b]:
            ax.plot(*points[[a, b]].T, color="white", linestyle="-", marker="", linewidth=1.2)
    for k, (x, y) in enumerate(points):
        if flags[k]:
            face = COLOURS["vermillion"] if flags[k] == 2 else "white"
            ax.plot([x], [y], marker="o", markersize=6, markerfacecolor=face, markeredgecolor=INK, linestyle="")
    ax.add_patch(_rectangle(box, edgecolor="white"))
    _margins(ax, people, person, own)
    view = crop_box(box[None], (3, 4), padding=1.35)[0]
    ax.set(xlim=(view[0], view[0] + view[2]), ylim=(view[1] + view[3], view[1]))
    ax.axis("off")
    return figure


def _margins(ax: Any, people: Any, person: int, own: np.ndarray) -> None:
    """The labels beside the picture, each with a line to what it names."""
    points, flags, box = people.keypoints[person], people.visibility[person], people.box[person]
    top = int(np.argmin(np.where(flags > 0, points[:, 1], np.inf)))
    hidden, seen = np.flatnonzero(flags == 1), [k for k in np.flatnonzero(flags == 2) if k != top]
    rows, columns = np.nonzero(own)
    middle = len(rows) // 2
    knee = points[COCO17.index("left_knee")]
    notes = [
        (points[top], f"keypoints: {COCO17.keypoints[top]}\nx, y, v = {points[top][0]:.1f}, "
                      f"{points[top][1]:.1f}, {flags[top]}"),
        (box[:2] - 0.5, "bbox: x, y, width, height\n" + ", ".join(f"{v:.0f}" for v in box)),
        ((columns[middle], rows[middle]), f"segmentation: the shaded pixels\narea: {people.area[person]:.0f} of them"),
        (knee, f"num_keypoints: {people.num_keypoints[person]}, those with v > 0"),
    ]  # fmt: skip
    if len(hidden):
        notes.append((points[hidden[-1]], f"v = 1: labelled, hidden\n({COCO17.keypoints[hidden[-1]]})"))
    if seen:
        notes.append((points[seen[0]], f"v = 2: labelled, visible\n({COCO17.keypoints[seen[0]]})"))
    for i, (target, words) in enumerate(sorted(notes, key=lambda note: note[0][1])):
        at = (1.03, 0.94 - i * 0.88 / max(1, len(notes) - 1))
        ax.annotate(words, xy=target, xycoords="data", xytext=at, textcoords="axes fraction", fontsize=10, va="center",
                    annotation_clip=False, arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 1})  # fmt: skip


def crop_view(dataset: Any, picture: np.ndarray, person: int) -> Any:
    """Make the widget's drawing function for one person.

    The returned ``draw(padding, fix_aspect, tight)`` gives a figure: the picture with the box and the region that is
    cut, and the crop a network would see.
    """
    people = dataset.people
    points, flags, box = people.keypoints[person], people.visibility[person], people.box[person]

    def draw(padding: float, fix_aspect: bool, tight: float) -> Any:
        import cv2
        import matplotlib.pyplot as plt

        size = np.array([1 - tight, 1 - tight])
        found = np.concatenate([box[:2] + box[2:] * (1 - size) / 2, box[2:] * size])
        if fix_aspect:
            region = crop_box(found[None], CROP, padding=padding)[0]
        else:
            centre, wh = found[:2] + found[2:] / 2, found[2:] * padding
            region = np.concatenate([centre - wh / 2, wh])
        matrix = crop_affine(region[None], CROP)[0] if fix_aspect else _stretched(region)
        crop = cv2.warpAffine(picture, matrix, (CROP[1], CROP[0]))
        moved = transform_points(matrix, points)
        inside = ((moved >= -0.5) & (moved <= np.array([CROP[1], CROP[0]]) - 0.5)).all(axis=1)
        lost = int((~inside & (flags > 0)).sum())

        figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 4.6), width_ratios=(4 / 3 * 1.25, 0.75 * 1.25))
        left.imshow(picture)
        for rectangle, colour, style, words in (
            (found, "white", "-", "detector's box"),
            (region, COLOURS["ochre"], "--", "what is cut"),
        ):
            left.add_patch(_rectangle(rectangle, edgecolor=colour, linestyle=style, label=words))
        left.legend(loc="lower left", facecolor=INK, frameon=True, labelcolor="white", framealpha=0.75)
        left.set_title(f"box {found[2]:.0f} x {found[3]:.0f}, cut {region[2]:.0f} x {region[3]:.0f} px")
        right.imshow(crop)
        shown = (flags > 0) & inside
        right.plot(*moved[shown].T, color=COLOURS["vermillion"], marker="o", linestyle="", markeredgecolor="white")
        right.set_title(f"crop {CROP[1]} x {CROP[0]}; keypoints lost: {lost}")
        for ax in (left, right):
            ax.axis("off")
        return figure

    return draw


def _rectangle(box: np.ndarray, **style: Any) -> Any:
    """An xywh box as a matplotlib patch around the pixels it holds."""
    from matplotlib.patches import Rectangle

    x, y, width, height = box.tolist()
    return Rectangle((x - 0.5, y - 0.5), width, height, fill=False, linewidth=2, **style)


def _stretched(region: np.ndarray) -> np.ndarray:
    """The 2x3 matrix that stretches a region to the crop, whatever it does to the person's proportions."""
    sx, sy = CROP[1] / region[2], CROP[0] / region[3]
    return np.array([[sx, 0.0, -region[0] * sx], [0.0, sy, -region[1] * sy]])


FAULTS = {
    3: "its image_id names no picture of the file",
    5: "its keypoints are fractions of the picture, not pixels",
    6: "its bbox is x1, y1, x2, y2 instead of x, y, width, height",
    9: "it says 17 keypoints, but only some flags are above 0",
    11: "its area is 0, so its size class and its OKS scale are void",
}


def planted(seed: int = 3) -> dict[str, Any]:
    """A small annotation file of twelve people in which five records are wrong; ``FAULTS`` says which and how."""
    rng = np.random.default_rng(seed)
    images = [{"id": i, "file_name": f"{i:06d}.png", "width": 640, "height": 480} for i in (1, 2, 3, 4)]
    annotations: list[dict[str, Any]] = []
    for number in range(1, 13):
        w, h = rng.uniform(90, 150), rng.uniform(200, 320)
        x, y = rng.uniform(170, 640 - 1.3 * w - 160), rng.uniform(10, 470 - h)
        points = np.column_stack([x + rng.uniform(0.05, 0.95, 17) * w, y + rng.uniform(0.02, 0.98, 17) * h])
        flags = rng.choice([0, 1, 2], 17, p=[0.15, 0.2, 0.65])
        points[flags == 0] = 0
        annotations.append({
            "id": number, "image_id": int(rng.integers(1, 5)), "category_id": 1, "iscrowd": 0,
            "keypoints": np.column_stack([points.round(1), flags]).ravel().tolist(),
            "num_keypoints": int((flags > 0).sum()), "bbox": [round(float(v), 1) for v in (x, y, w, h)],
            "area": round(float(0.5 * w * h), 1),
        })  # fmt: skip
    by_id = {a["id"]: a for a in annotations}
    by_id[3]["image_id"] = 40
    triples = np.reshape(by_id[5]["keypoints"], (17, 3)) / [640, 480, 1]
    by_id[5]["keypoints"] = triples.round(4).ravel().tolist()
    x, y, w, h = by_id[6]["bbox"]
    by_id[6]["bbox"] = [x, y, round(x + w, 1), round(y + h, 1)]
    by_id[9]["num_keypoints"] = 17
    by_id[11]["area"] = 0.0
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints),
                "skeleton": [[a + 1, b + 1] for a, b in COCO17.limbs]}  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [category]}


def as_table(content: dict[str, Any]) -> Any:
    """A pandas table of the records, with the extent of the labelled keypoints beside the box."""
    import pandas as pd

    rows = []
    for entry in copy.deepcopy(content)["annotations"]:
        triples = np.reshape(entry["keypoints"], (-1, 3))
        seen = triples[triples[:, 2] > 0]
        rows.append({
            "id": entry["id"], "image_id": entry["image_id"], "num_keypoints": entry["num_keypoints"],
            "flags > 0": len(seen), "bbox": [round(v) for v in entry["bbox"]], "area": entry["area"],
            "keypoints from": "({:.4g}, {:.4g})".format(*seen[:, :2].min(0)),
            "to": "({:.4g}, {:.4g})".format(*seen[:, :2].max(0)),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index("id")
