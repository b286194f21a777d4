"""The ambiguity slider: labels around two places, and the answer that each metric pays for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from posekit.viz import COLOURS, MUTED, PANEL, style

TOLERANCE = 2.0  # px: an answer nearer than this is a hit
PLACES = np.linspace(-16, 16, 641)  # px along the line through both modes: answers that are shown
GRID = np.linspace(-28, 28, 1121)  # px: labels, which may lie outside the picture
_APART = PLACES[:, None] - GRID
_COSTS = {
    "squared error": _APART**2,
    "absolute error": np.abs(_APART),
    f"missed by over {TOLERANCE:.0f} px": (np.abs(_APART) > TOLERANCE).astype(float),
}


@dataclass(frozen=True)
class Answers:
    """What a network that knows the label distribution, and no more, should answer.

    Attributes:
        mean: least expected squared error.
        median: least expected absolute error.
        modes: the most likely places, two when they tie.
        density: of the labels on :data:`GRID`, sum 1.
        costs: metric to its expectation for every answer of :data:`PLACES`.
    """

    mean: float
    median: float
    modes: tuple[float, ...]
    density: np.ndarray
    costs: Mapping[str, np.ndarray]


def best_answers(distance: float, right: float, spread: float) -> Answers:
    """Answers to labels that lie on the right mode with probability ``right``, else on the left one.

    Args:
        distance: between the modes, px; they lie at plus and minus half of it.
        right: probability of the right mode.
        spread: standard deviation of the labels about their mode, px.
    """
    bells = [np.exp(-0.5 * ((GRID - side * distance / 2) / spread) ** 2) for side in (-1, 1)]
    density = (1 - right) * bells[0] / bells[0].sum() + right * bells[1] / bells[1].sum()
    mean = float(density @ GRID)
    cumulative = np.cumsum(density) - density / 2
    # Between two even modes every place is a median: show the middle of them.
    median = float(np.interp([0.5 - 1e-6, 0.5 + 1e-6], cumulative, GRID).mean())
    top = GRID[density >= density.max() * (1 - 1e-9)]
    modes = (float(top[0]), float(top[-1])) if np.ptp(top) > spread else (float(top.mean()),)
    costs = {metric: cost @ density for metric, cost in _COSTS.items()}
    return Answers(mean, median, modes, density, costs)


_LOOKS: dict[str, tuple[str, Any, str]] = {
    "mean": (COLOURS["blue"], "-", "o"),
    "median": (COLOURS["vermillion"], (0, (5, 2)), "s"),
    "mode": (COLOURS["green"], (0, (1, 1.2)), "^"),
}


class _Stage:
    """The widget's axes, drawn once; each state draws its few lines over a copy of them."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with style():  # type: ignore[union-attr]
            figure = Figure(figsize=(8.4, 4.6), layout="none", facecolor=PANEL)  # type: ignore[arg-type]
            self.canvas = FigureCanvasAgg(figure)
            self.top = figure.add_axes((0.04, 0.60, 0.68, 0.33))
            self.bottom = figure.add_axes((0.04, 0.12, 0.68, 0.33))
            self.top.set_title("Where the labels lie")
            self.bottom.set_title("What an answer at x costs (each metric's worst here: 1)")
            self.bottom.set_xlabel("x along the line through both places, px")
            for ax in (self.top, self.bottom):
                ax.set(xlim=(-16, 16), ylim=(0, 1.12), yticks=[])
        self.marks, self.costs, self.texts = {}, {}, {}
        for row, (name, (colour, dash, marker)) in enumerate(_LOOKS.items()):
            plain: dict[str, Any] = {"color": colour, "animated": True}
            size = 15 - 4 * row  # so that marks at the same place can all be seen
            self.marks[name] = self.top.plot([], [], linestyle="", marker=marker, markersize=size, **plain)[0]
            self.costs[name] = self.bottom.plot([], [], linestyle=dash, marker=marker, markersize=8, **plain)[0]
            self.texts[name] = figure.text(0.74, 0.90 - 0.25 * row, "", va="top", fontsize=10, linespacing=1.4, **plain)
        self.canvas.draw()
        self.empty = self.canvas.copy_from_bbox(figure.bbox)  # type: ignore[attr-defined]

    def draw(self, answers: Answers) -> np.ndarray:
        self.canvas.restore_region(self.empty)  # type: ignore[attr-defined]
        height = answers.density / answers.density.max()
        shade = self.top.fill_between(GRID, height, color=MUTED, alpha=0.25, linewidth=0, animated=True)
        self.top.draw_artist(shade)
        shade.remove()
        places = {"mean": (answers.mean,), "median": (answers.median,), "mode": answers.modes}
        for (name, found), (metric, cost) in zip(places.items(), answers.costs.items()):
            heights = np.interp(found, GRID, height)
            self.marks[name].set_data(found, np.maximum(heights, 0.05))
            low = [int(np.abs(PLACES - x).argmin()) for x in found]
            self.costs[name].set_data(PLACES, cost / cost.max())
            self.costs[name].set_markevery(low)
            answer = " or ".join(f"{round(x, 1) + 0.0:+.1f}" for x in found)  # + 0.0: no negative zero
            self.texts[name].set_text(f"{metric}\n{name}: {answer} px")
            self.top.draw_artist(self.marks[name])
            self.top.draw_artist(self.texts[name])
            self.bottom.draw_artist(self.costs[name])
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


@cache
def _stage() -> _Stage:
    return _Stage()


def draw_ambiguity(distance: float, right: float, spread: float) -> np.ndarray:
    """Widget: labels around two places, the best answer under each metric, and what every other answer would cost.

    Args:
        distance, right, spread: as of :func:`best_answers`.
    """
    return _stage().draw(best_answers(distance, right, spread))
