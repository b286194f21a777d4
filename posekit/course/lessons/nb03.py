"""OKS and AP: a simulated estimator, its precision-recall curves, and six files whose AP is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from posekit.annotations import Detections, People, write_detections
from posekit.geometry import crop_affine, crop_box, transform_points
from posekit.metrics import Interval, KeypointResult, evaluate_coco, oks
from posekit.skeletons import COCO17
from posekit.viz.style import COLOURS, INK, MUTED


def estimator(people: People, rng: np.random.Generator, *, error: float = 1.0, miss: float = 0.1) -> Detections:
    """Detections of an imaginary estimator: the truth plus noise, with people missed and others invented.

    Args:
        people: what there is to find.
        rng: where the noise comes from.
        error: noise of a keypoint in units of its own tolerance, sigma * sqrt(area); a person's own noise is spread
            around it by a factor of two, as some people are harder than others.
        miss: share of people that are missed; as many are invented elsewhere.
    """
    N, K = people.visibility.shape
    hard = error * 2.0 ** rng.normal(0, 1, N)
    tolerance = np.sqrt(people.area)[:, None] * np.asarray(people.skeleton.sigmas)
    keypoints = people.keypoints + rng.normal(0, 1, (N, K, 2)) * (hard[:, None] * tolerance)[..., None]
    # Scores know something about quality, but not everything.
    scores = 1 / (1 + hard * 2.0 ** rng.normal(0, 0.7, N))
    found, invented = np.flatnonzero(rng.random(N) >= miss), np.flatnonzero(rng.random(N) < miss)
    ghosts = keypoints[invented] + rng.normal(0, 40, (len(invented), 1, 2))
    image_ids = people.image_ids[people.image_index]
    return Detections(
        image_ids=np.concatenate([image_ids[found], image_ids[invented]]),
        keypoints=np.concatenate([keypoints[found], ghosts]),
        keypoint_scores=np.ones((len(found) + len(invented), K)),
        scores=np.concatenate([scores[found], scores[invented] * 0.7]),
        source="an imaginary estimator",
    )


def portrait(dataset: Any, person: int) -> tuple[np.ndarray, np.ndarray]:
    """A person cut out of their picture with a fifth of room around: RGB pixels, and their keypoints in them."""
    from posekit.data.images import read_image

    people = dataset.people
    picture = read_image(dataset.image_path(people.image_index[person]))
    x, y, w, h = people.box[person]
    left, top = max(0, int(x - 0.2 * w)), max(0, int(y - 0.1 * h))
    cut = picture[top : int(y + 1.1 * h) + 1, left : int(x + 1.2 * w) + 1]
    return np.ascontiguousarray(cut), people.keypoints[person] - [left, top]


def same_as_pycocotools(annotation_file: Any, detections: Detections, folder: Any) -> np.ndarray:
    """The ten numbers of pycocotools on the same annotation file and the same detections, written as a result file."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "03-detections.json"
    write_detections(path, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotation_file))
        evaluation = COCOeval(truth, truth.loadRes(str(path)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


def curves_and_intervals(results: dict[str, KeypointResult], intervals: dict[str, Interval]) -> Any:
    """Headline: precision-recall curves of the first estimator, and the AP of all with 95 % intervals."""
    import matplotlib.pyplot as plt

    from posekit.viz import forest, precision_recall

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=(1.25, 1))
    first = next(iter(results))
    precision_recall(results[first].precision[..., 0], ax=left)
    left.set_title(f"estimator {first}: AP is the mean height of ten curves")
    names = list(results)
    forest(
        [f"estimator {name}" for name in names],
        [100 * results[name].ap for name in names],
        [100 * intervals[name].low for name in names],
        [100 * intervals[name].high for name in names],
        zero=None,
        unit="AP, with the 95 % interval over images",
        ax=right,
    )
    return figure


def draw_contours(sigma: float, side: float) -> Any:
    """Widget: how similar a keypoint is to its truth, for every place it might have been predicted at.

    Args:
        sigma: of the keypoint.
        side: square root of the person's area, pixels.
    """
    import matplotlib.pyplot as plt

    reach = 40
    axis = np.linspace(-reach, reach, 161)
    x, y = np.meshgrid(axis, axis)
    points = np.stack([x, y], axis=-1)[..., None, :]  # (h, w, K=1, xy)
    similarity = oks(points, np.zeros((1, 2)), area=np.float64(side**2), visibility=np.ones(1), sigmas=(sigma,))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.0))
    image = left.imshow(similarity, extent=(-reach, reach, reach, -reach), vmin=0, vmax=1)
    lines = left.contour(axis, axis, similarity, levels=[0.5, 0.75, 0.95], colors="white", linestyles=["-", "--", ":"])
    left.clabel(lines, fmt="%.2f", fontsize=8)
    left.set(xlabel="error in x (px)", ylabel="error in y (px)")
    left.grid(visible=False)
    figure.colorbar(image, ax=left, label="similarity", shrink=0.85)
    middle = similarity[80, 80:]
    right.plot(axis[80:], middle, marker="", color=COLOURS["blue"])
    for level in (0.5, 0.75, 0.95):
        distance = 2 * sigma * side * np.sqrt(-2 * np.log(level))
        right.plot([0, min(distance, reach)], [level, level], color=MUTED, linestyle=":", marker="")
        if distance <= reach:
            right.text(distance + 0.8, level, f"{level:.2f} at {distance:.1f} px", va="center", fontsize=8.5)
    right.set(xlabel="error (px)", ylabel="similarity", xlim=(0, reach), ylim=(0, 1.03))
    return figure


CROP = (256, 192)


@dataclass(frozen=True)
class Patient:
    """One file of the clinic: detections whose AP is wrong although the estimator is good."""

    letter: str
    cause: str
    people: People
    detections: Detections


CAUSES = {
    "fractions": "the keypoints are fractions of the picture instead of pixels",
    "swapped": "x and y have changed places",
    "ids": "the image ids are those of other pictures",
    "crop": "the keypoints are still in the pixels of the crop",
    "unlabelled": "nobody in the annotation file has a labelled keypoint",
    "mirrored": "left and right have changed places",
}


DIAGNOSES = {"A": "crop", "B": "mirrored", "C": "unlabelled", "D": "ids", "E": "fractions", "F": "swapped"}


def clinic(people: People, rng: np.random.Generator) -> list[Patient]:
    """Six pairs of annotations and detections from one good estimator, each broken in another way.

    Only people with all keypoints labelled are kept, so that every skeleton can be drawn whole.
    """
    people = people.select(np.flatnonzero((people.visibility > 0).all(axis=1)))
    good = estimator(people, rng, error=0.4, miss=0.0)
    height, width = people.image_sizes[0]
    others = people.image_ids[(np.searchsorted(people.image_ids, good.image_ids) + 1) % len(people.image_ids)]
    to_crop = crop_affine(crop_box(people.box, CROP), CROP)
    nothing = {name: np.zeros_like(getattr(people, name)) for name in ("visibility", "num_keypoints")}
    broken = {
        "fractions": (people, replace(good, keypoints=good.keypoints / [width, height])),
        "swapped": (people, replace(good, keypoints=good.keypoints[..., ::-1])),
        "ids": (people, replace(good, image_ids=others)),
        "crop": (people, replace(good, keypoints=transform_points(to_crop, good.keypoints))),
        "unlabelled": (replace(people, **nothing), good),
        "mirrored": (people, replace(good, keypoints=good.keypoints[:, COCO17.flip_index])),
    }
    return [Patient(letter, cause, *broken[cause]) for letter, cause in DIAGNOSES.items()]


def clinic_table(patients: list[Patient]) -> str:
    """What the evaluator says about each patient, as a text table."""
    lines = ["file     AP   AP50  first detection, its left and right shoulder"]
    left, right = COCO17.index("left_shoulder"), COCO17.index("right_shoulder")
    for patient in patients:
        result = evaluate_coco(patient.people, patient.detections)
        points = patient.detections.keypoints[0]
        lines.append(
            f"  {patient.letter}  {result.ap:6.3f} {result.ap50:6.3f}  "
            f"({points[left, 0]:.4g}, {points[left, 1]:.4g}), ({points[right, 0]:.4g}, {points[right, 1]:.4g})"
        )
    return "\n".join(lines)


def clinic_pictures(patients: list[Patient], image: int, picture: np.ndarray) -> Any:
    """The detections of every patient on one picture: truth as rings, detections as skeletons.

    Args:
        patients: from :func:`clinic`.
        image: index of the picture.
        picture: (H, W, 3) uint8 RGB.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(10.5, 5.8))
    for ax, patient in zip(axes.flat, patients):
        ax.imshow(picture)
        here = patient.detections.image_ids == patient.people.image_ids[image]
        for points in patient.detections.keypoints[here]:
            for a, b in COCO17.limbs:
                ax.plot(*points[[a, b]].T, color="white", linestyle="-", marker="", linewidth=1.4)
            for k, (x, y) in enumerate(points):
                side = "blue" if COCO17.keypoints[k].startswith("left") else "vermillion"
                ax.plot([x], [y], color=COLOURS[side], marker="o", markersize=3.5, linestyle="")
        for points in patients[0].people.keypoints[patients[0].people.image_index == image]:
            ax.plot(*points.T, marker="o", markersize=7, markerfacecolor="none", linestyle="", markeredgecolor=INK)
        ax.set_title(f"file {patient.letter}")
        ax.set(xlim=(-8, picture.shape[1] + 8), ylim=(picture.shape[0] + 8, -8))
        ax.axis("off")
    return figure


def repeated_labels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Deviations of 400 annotators' clicks on one keypoint: (N, 2) pixels, (N,) areas, and the sigma behind them."""
    sigma = 0.079
    areas = rng.uniform(40, 160, 400) ** 2
    # E[d^2 / s^2] = sigma^2 with d the distance: each coordinate has half of the variance.
    deviations = rng.normal(0, 1, (400, 2)) * (sigma / np.sqrt(2) * np.sqrt(areas))[:, None]
    return deviations, areas, sigma
