"""Figures that report on one network: a gallery of its answers, and its score over every knob of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posekit.viz.people import draw_people
from posekit.viz.style import COLOURS, MUTED

MARGIN = 0.25  # of the box, shown around it
TILE = (150, 110)  # height and width of a tile, pixels


def gallery(cases: Mapping[str, Sequence[Any]]) -> Any:
    """One row for each kind, one tile for each case: the prediction over the picture, its OKS below.

    Args:
        cases: by kind, as of :func:`posekit.experiments.gallery.cases`: each with ``picture``, ``keypoints``,
            ``visibility`` (of the labels; unlabelled joints are not drawn), ``box`` and ``oks``.

    Returns:
        matplotlib Figure.
    """
    import matplotlib.pyplot as plt

    columns = max(len(row) for row in cases.values())
    figure, axes = plt.subplots(len(cases), columns, figsize=(1.35 * columns + 0.9, 1.75 * len(cases)), squeeze=False)
    for row, (kind, found) in zip(axes, cases.items()):
        for axis in row:
            axis.set_axis_off()
        for axis, case in zip(row, found):
            axis.imshow(_tile(case))
            axis.set_title(f"OKS {case.oks:.2f}", fontsize=8, loc="center")
        row[0].text(-0.08, 0.5, kind, transform=row[0].transAxes, rotation=90, va="center", ha="right", fontsize=10)
    return figure


def _tile(case: Any) -> np.ndarray:
    """The person's surroundings at the shape of ``TILE``, grey beyond the picture, with the prediction."""
    scale = 3
    drawn = draw_people(
        case.picture, case.keypoints, visibility=np.where(case.visibility > 0, 2, 0), thickness=3, scale=scale
    )
    x, y, w, h = case.box
    height = max(h, w * TILE[0] / TILE[1]) * (1 + 2 * MARGIN) * scale
    width = height * TILE[1] / TILE[0]
    left, top = (x + w / 2) * scale - width / 2, (y + h / 2) * scale - height / 2
    rows = np.rint(top + (np.arange(2 * TILE[0]) + 0.5) * height / (2 * TILE[0])).astype(int)
    columns = np.rint(left + (np.arange(2 * TILE[1]) + 0.5) * width / (2 * TILE[1])).astype(int)
    inside = np.ix_((rows >= 0) & (rows < drawn.shape[0]), (columns >= 0) & (columns < drawn.shape[1]))
    tile = np.full((len(rows), len(columns), 3), 205, np.uint8)
    tile[inside] = drawn[np.clip(rows, 0, drawn.shape[0] - 1)[:, None], np.clip(columns, 0, drawn.shape[1] - 1)[None]][
        inside
    ]
    return tile


def robustness(points: Mapping[str, Sequence[Any]], *, columns: int = 4) -> Any:
    """One panel for each knob: AP with its interval at every value, the value of the training set marked.

    Args:
        points: by knob, as of :func:`posekit.experiments.robustness.read`: each with ``value``, ``ap``, ``low``,
            ``high`` and ``usual``.
        columns: panels side by side.

    Returns:
        matplotlib Figure.
    """
    import matplotlib.pyplot as plt

    rows = -(-len(points) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.0 * rows), sharey=True, squeeze=False)
    for axis in axes.flat[len(points) :]:
        axis.set_axis_off()
    for axis, (knob, row) in zip(axes.flat, points.items()):
        places = np.arange(len(row))
        ap = np.array([point.ap for point in row])
        reach = np.abs(np.array([[point.low, point.high] for point in row]).T - ap)
        axis.errorbar(places, ap, yerr=reach, color=COLOURS["blue"], marker="", linestyle="-", capsize=2, linewidth=1.2)
        for usual, marker, colour in ((False, "o", COLOURS["blue"]), (True, "D", COLOURS["vermillion"])):
            chosen = [place for place, point in zip(places, row) if point.usual == usual]
            axis.plot(chosen, ap[chosen], marker=marker, color=colour, linestyle="", markersize=5)
        axis.set_xticks(places, [_value(point.value) for point in row], fontsize=8)
        axis.set_xlim(-0.5, len(row) - 0.5)
        axis.set_title(knob.replace("_", " "), fontsize=10)
    for axis in axes[:, 0]:
        axis.set_ylabel("AP, %")
    figure.supxlabel("value of the knob; diamonds: as in training", fontsize=9, color=MUTED)
    axes[0, 0].set_ylim(bottom=0)
    return figure


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "–".join(f"{end:g}" for end in value)
    return value if isinstance(value, str) else f"{value:g}"
