"""Gaussian targets: how wide, where centred, and what their loss rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from posekit.annotations import People
from posekit.codecs import GaussianHeatmap
from posekit.codecs.losses import joint_mse
from posekit.geometry import crop_affine, crop_box, transform_points
from posekit.viz import COLOURS, INK, MUTED, PANEL, style

CELLS = 128  # side of the square map on which gradients are compared
CROP = 128  # side of the widget's crop, pixels
REACH = 40  # how far from the crop's middle the widget shows, pixels


def gradient(sigma: float, distances: Sequence[float] | np.ndarray, loss: str = "mse") -> np.ndarray:
    """Pull on a predicted peak: derivative of the codec's loss by the peak's distance from the target, per cell.

    The prediction is a Gaussian of the target's own width, moved along x; for cross-entropy it is given as logits.
    Squared errors are summed over the map instead of averaged, so that its size plays no part.

    Args:
        sigma: cells.
        distances: cells, (n,).
        loss: "mse" or "cross_entropy".

    Returns:
        (n,) derivatives, by autograd.
    """
    codec = GaussianHeatmap((CELLS, CELLS), stride=1, sigma=sigma, centre="subpixel", window=None, loss=loss)
    middle = CELLS / 2
    target, weights = codec.encode(torch.full((1, 1, 2), middle, dtype=torch.float64), torch.ones(1, 1))
    cells = torch.arange(CELLS, dtype=torch.float64)
    down = (cells - middle).square()[:, None]
    slopes = []
    for distance in distances:
        moved = torch.tensor(middle + distance, dtype=torch.float64, requires_grad=True)
        logits = -(down + (cells - moved).square()[None]) / (2 * sigma**2)
        value = codec.loss((logits.exp() if loss == "mse" else logits)[None, None], target, weights)
        slopes.append(float(torch.autograd.grad(value, moved)[0]))
    return np.array(slopes) * (CELLS**2 if loss == "mse" else 1)


def closed_gradient(sigma: float, distance: float, loss: str = "mse") -> float:
    """The same in closed form, far from the map's border.

    Squared error: ``pi d exp(-d^2 / 4 sigma^2) / 2``, with HRNet's factor of one half. Cross-entropy:
    ``d / sigma^2``.
    """
    if loss == "cross_entropy":
        return distance / sigma**2
    return math.pi * distance * math.exp(-((distance / (2 * sigma)) ** 2)) / 2


def gradient_figure(sigmas: Sequence[float], *, points: int = 60) -> Any:
    """Headline figure: the pull on a misplaced peak against its distance, for squared error and cross-entropy."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2))
    distances = np.linspace(0.25, 24.25, points)
    for ax, loss, title in zip(axes, ("mse", "cross_entropy"), ("squared error", "cross-entropy")):
        for sigma in sigmas:
            ax.plot(distances, gradient(sigma, distances, loss), label=f"sigma {sigma:g}", markevery=6)
        ax.set(xlabel="distance of the predicted peak from the target, cells", title=title)
    for sigma in sigmas:
        top = sigma * math.sqrt(2)
        axes[0].plot([top], [closed_gradient(sigma, top)], marker="|", markersize=16, color=INK, linestyle="")
    axes[0].set(ylabel="pull, summed over the map's cells", ylim=(-0.5, 15))
    axes[1].set(ylabel="pull", yscale="log", ylim=(1e-2, 60))
    axes[0].plot([], [], marker="|", markersize=10, color=INK, linestyle="", label="top: 1.41 sigma")
    axes[0].legend(ncols=3, loc="upper right")
    axes[1].legend(ncols=2, loc="lower right")
    return figure


def height_loss(height: Any, chance: float) -> Any:
    """Expected squared error of a Gaussian of some height in a place that is right with some chance.

    Both places are far apart; the unit is the loss of the blank map: ``1 - 2 height chance + height^2``.
    """
    return 1 - 2 * height * chance + height**2


def height_figure(chances: Sequence[float]) -> Any:
    """Expected loss against the height of the predicted peak, one line per chance of being right."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6.4, 3.9))
    heights = np.linspace(0, 1.15, 70)
    for chance in chances:
        (line,) = ax.plot(heights, height_loss(heights, chance), marker="", label=f"right with chance {chance:g}")
        ax.plot([chance], [height_loss(chance, chance)], marker="o", markersize=8, color=line.get_color(), linestyle="")
    ax.axhline(1, color=MUTED, linestyle="-", marker="", linewidth=1)
    ax.text(1.15, 1.03, "blank map", ha="right", color=MUTED, fontsize=9)
    ax.set(xlabel="height of the predicted peak", ylabel="expected loss, blank = 1", ylim=(-0.04, 2.4))
    ax.legend(loc="upper left")
    return figure


def crop_keypoints(people: People, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints (N, K, 2) in the crops that the boxes give, pixels, and visibility (N, K)."""
    affine = torch.from_numpy(crop_affine(crop_box(people.box, size), size))
    return transform_points(affine, torch.from_numpy(people.keypoints)).float(), torch.from_numpy(people.visibility)


def constant_losses(people: People, codec: GaussianHeatmap) -> tuple[float, float, np.ndarray]:
    """What a network that never looks at the picture pays at best.

    Returns:
        Loss of blank maps, loss of the best constant maps, and those maps (K, h, w): the mean targets.
    """
    targets, weights = codec.encode(*crop_keypoints(people, codec.input_size))
    count = weights.sum(0).clamp(min=1)[:, None, None]
    mean = (targets.sum(0) / count)[None]
    blank = codec.loss(torch.zeros_like(targets), targets, weights)
    constant = codec.loss(mean.expand_as(targets), targets, weights)
    return float(blank), float(constant), mean[0].numpy()


def target_losses(sigma: float, stride: int, offset: float, rounded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Loss of a predicted Gaussian against its distance in x from the joint, relative to the loss of a blank map.

    Args:
        sigma: of target and prediction, cells.
        stride: pixels per cell.
        offset: of the joint from the middle of its cell, cells to the right.
        rounded: target centred on a cell instead of on the joint.

    Returns:
        Distances in pixels (n,) and losses (n,).
    """
    target, joint = _target(sigma, stride, offset, rounded)
    moves = torch.arange(-REACH - 4, REACH + 4.5, 0.5)
    free = GaussianHeatmap((CROP, CROP), stride=stride, sigma=sigma, centre="subpixel", window=None)
    guesses = joint + torch.stack([moves, torch.zeros_like(moves)], -1)[None]
    maps, ones = free.encode(guesses, torch.ones(1, len(moves)))
    loss = joint_mse(maps, target.expand_as(maps), ones)[0]
    return moves.numpy(), (loss / target.square().mean()).numpy()


def _target(sigma: float, stride: int, offset: float, rounded: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Target (1, 1, h, w) of a joint near the middle of the widget's crop, and the joint (2,) in pixels."""
    centre: Any = "rounded" if rounded else "subpixel"
    codec = GaussianHeatmap((CROP, CROP), stride=stride, sigma=sigma, centre=centre)
    cell = CROP // stride // 2
    joint = torch.tensor([(cell + offset) * stride, float(cell * stride)])
    return codec.encode(joint[None, None], torch.ones(1, 1))[0], joint


class _Stage:
    """The widget's three axes, drawn once; each state draws what it changes over a copy of them."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.collections import PolyCollection
        from matplotlib.figure import Figure

        near: Any = (CROP / 2 - REACH, CROP / 2 + REACH)
        with style():  # type: ignore[union-attr]
            figure = Figure(figsize=(10.8, 3.7), layout="none", facecolor=PANEL)  # type: ignore[arg-type]
            self.canvas = FigureCanvasAgg(figure)
            axes = [figure.add_axes((x, 0.14, 0.275, 0.78)) for x in (0.055, 0.376, 0.71)]
            self.left, self.middle, self.right = axes
            for ax in axes:
                ax.set(xlim=near, xlabel="x, px")
                ax.set_autoscale_on(False)
            self.left.set(ylim=near[::-1], ylabel="y, px", title="target: + joint, o argmax")
            self.left.grid(visible=False)
            self.middle.set(ylim=(0, 1.05))
            self.right.set(ylim=(-0.05, 2.15), title="loss of a Gaussian put at x, blank = 1")
            self.right.axhline(1, color=MUTED, linestyle=(0, (4, 3)), marker="", linewidth=1)
            self.right.text(near[1], 0.97, "blank map", ha="right", va="top", color=MUTED, fontsize=8.5)

            def marks(ax: Any, marker: str, size: float, colour: str, **looks: Any) -> Any:
                return ax.plot([], [], marker=marker, markersize=size, color=colour, linestyle="", **looks)[0]

            self.map = self.left.imshow(np.zeros((2, 2)), vmin=0, vmax=1, aspect="auto")
            self.joint = marks(self.left, "+", 15, "white", markeredgewidth=2.5)
            self.peak = marks(self.left, "o", 11, COLOURS["vermillion"], markeredgewidth=2, markerfacecolor="none")
            self.bars = PolyCollection([], facecolor=COLOURS["sky"])
            self.middle.add_collection(self.bars, autolim=False)
            self.width = self.middle.text(0.0, 1.02, "", transform=self.middle.transAxes, fontsize=11, va="bottom")
            (self.losses,) = self.right.plot([], [], color=COLOURS["blue"], marker="")
            self.best = marks(self.right, "o", 8, COLOURS["vermillion"])
            self.lines = [ax.axvline(0, color=INK, linestyle="-", marker="", linewidth=1) for ax in axes[1:]]
        self.moving = [self.map, self.joint, self.peak, self.bars, self.width, self.losses, self.best, *self.lines]
        for artist in self.moving:
            artist.set_animated(True)
        self.canvas.draw()
        self.empty = self.canvas.copy_from_bbox(figure.bbox)  # type: ignore[attr-defined]

    def draw(self, sigma: float, stride: int, offset: float, rounded: bool) -> np.ndarray:
        target, joint = _target(sigma, stride, offset, rounded)
        values = target[0, 0].numpy()
        row, column = np.unravel_index(values.argmax(), values.shape)
        x, y = joint.tolist()
        side = CROP - stride / 2
        self.map.set_data(values)
        self.map.set_extent((-stride / 2, side, side, -stride / 2))
        self.joint.set_data([x], [y])
        self.peak.set_data([column * stride], [row * stride])
        left = (np.arange(len(values)) - 0.43) * stride
        ends = left, left, left + 0.86 * stride, left + 0.86 * stride
        heights = np.zeros_like(left), values[row], values[row], np.zeros_like(left)
        self.bars.set_verts(list(np.stack([np.stack(ends, -1), np.stack(heights, -1)], -1)))  # n of (4, 2)
        self.width.set_text(f"row of the peak; sigma {sigma * stride:.1f} px")
        away, losses = target_losses(sigma, stride, offset, rounded)
        self.losses.set_data(x + away, losses)
        best = int(losses.argmin())
        self.best.set_data([x + away[best]], [losses[best]])
        for line in self.lines:
            line.set_xdata([x, x])
        self.canvas.restore_region(self.empty)  # type: ignore[attr-defined]
        for artist in self.moving:
            artist.axes.draw_artist(artist)
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


@cache
def _stage() -> _Stage:
    return _Stage()


def draw_target(sigma: float, stride: int, offset: float, rounded: bool) -> np.ndarray:
    """Widget: a target around its joint, the row through its peak, and the loss of a misplaced prediction.

    Args: as of :func:`target_losses`.
    """
    return _stage().draw(sigma, stride, offset, rounded)
