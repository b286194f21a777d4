"""The course's plots: intervals, lines with bands, precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posekit.viz.style import COLOURS, INK, MUTED


def forest(
    names: Sequence[str],
    estimates: Any,
    low: Any,
    high: Any,
    *,
    reference: Any = None,
    zero: float | None = 0.0,
    groups: Sequence[str] | None = None,
    unit: str = "",
    ax: Any = None,
) -> Any:
    """A forest plot: one row per name with its estimate and interval.

    Args:
        names: N row names, drawn from top to bottom.
        estimates, low, high: (N,) numbers; NaN rows keep their place and show "not run yet".
        reference: (N,) published values, drawn as open diamonds, or None.
        zero: where the line of no effect stands, or None.
        groups: N group names; each group has a colour and stands in the legend.
        unit: of the horizontal axis.
        ax: axes to draw on; None makes a figure of fitting height.

    Returns:
        The matplotlib axes.
    """
    import matplotlib.pyplot as plt

    estimates, low, high = (np.asarray(v, dtype=np.float64) for v in (estimates, low, high))
    if not len(names) == len(estimates) == len(low) == len(high):
        raise ValueError(f"forest: {len(names)} names, {len(estimates)} estimates, {len(low)} and {len(high)} ends")
    if ax is None:
        _, ax = plt.subplots(figsize=(7.0, 1.0 + 0.28 * len(names)))
    palette = list(COLOURS.values())
    kinds = list(dict.fromkeys(groups)) if groups else []
    if zero is not None:
        ax.axvline(zero, color=MUTED, linewidth=1, linestyle="-", marker="")
    for row, (estimate, a, b) in enumerate(zip(estimates, low, high)):
        colour = palette[kinds.index(groups[row]) % len(palette)] if groups else palette[0]
        if np.isnan(estimate):
            ax.text(0.01, row, "not run yet", color=MUTED, fontsize=8, va="center", transform=ax.get_yaxis_transform())
            continue
        ax.plot([a, b], [row, row], color=colour, linestyle="-", marker="|")
        ax.plot([estimate], [row], color=colour, marker="o", linestyle="")
    if reference is not None:
        ax.plot(
            np.asarray(reference, dtype=np.float64),
            np.arange(len(names)),
            linestyle="",
            marker="D",
            markerfacecolor="none",
            color=INK,
            label="published",
        )
    for i, kind in enumerate(kinds):
        ax.plot([], [], color=palette[i % len(palette)], linestyle="-", marker="o", label=kind)
    if kinds or reference is not None:
        ax.legend(loc="best")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(unit)
    return ax


def interval_lines(x: Any, series: Mapping[str, Any], *, level: float = 0.95, ax: Any = None) -> Any:
    """Lines with bands: the mean over runs and its t interval.

    Args:
        x: (X,) positions.
        series: name to (R, X) runs by positions; with R = 1 there is no band.
        level: coverage of the interval of the mean.
        ax: axes to draw on; None makes a figure.

    Returns:
        The matplotlib axes, with a legend.
    """
    import matplotlib.pyplot as plt
    from scipy.stats import t

    if ax is None:
        _, ax = plt.subplots()
    for name, runs in series.items():
        runs = np.atleast_2d(np.asarray(runs, dtype=np.float64))
        (line,) = ax.plot(x, runs.mean(axis=0), label=name)
        if len(runs) > 1:
            half = t.ppf(0.5 + level / 2, len(runs) - 1) * runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
            mean = runs.mean(axis=0)
            ax.fill_between(x, mean - half, mean + half, color=line.get_color(), alpha=0.18, linewidth=0)
    ax.legend()
    return ax


def precision_recall(precision: Any, *, recall: Any = None, thresholds: Any = None, ax: Any = None) -> Any:
    """Precision against recall, one curve per OKS threshold, from strict (pale) to lenient (dark).

    Args:
        precision: (T, R) interpolated precision; entries of -1 (undefined) are left out.
        recall: (R,) recall levels; None means COCO's 0, 0.01, ..., 1.
        thresholds: (T,) OKS thresholds; None means COCO's 0.50, 0.55, ..., 0.95.
        ax: axes to draw on; None makes a figure.

    Returns:
        The matplotlib axes.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    precision = np.asarray(precision, dtype=np.float64)
    if precision.ndim != 2:
        raise ValueError(f"precision has shape {precision.shape}; give (thresholds, recall levels) of one area range")
    recall = np.linspace(0, 1, precision.shape[1]) if recall is None else np.asarray(recall)
    thresholds = 0.5 + 0.05 * np.arange(len(precision)) if thresholds is None else np.asarray(thresholds)
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 4.2))
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.8, len(precision)))
    for i, (curve, threshold) in enumerate(zip(precision, thresholds)):
        curve = np.where(curve < 0, np.nan, curve)
        label = f"OKS {threshold:.2f}" if i in (0, len(precision) // 2, len(precision) - 1) else None
        ax.plot(recall, curve, color=shades[i], linestyle="-", marker="", label=label)
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the axes: curves may run anywhere in them
    return ax
