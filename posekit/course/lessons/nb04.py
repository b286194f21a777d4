"""Gaussian targets: how wide, where centred, and what their loss rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from posekit.annotations import People
from posekit.codecs import GaussianHeatmap
from posekit.codecs.losses import joint_mse
from posekit.geometry import crop_affine, crop_box, transform_points
from posekit.viz import COLOURS, INK, MUTED

CELLS = 128  # side of the square map on which gradients are compared
CROP = 128  # side of the widget's crop, pixels
REACH = 40  # how far the widget's loss landscape extends, pixels


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
    moves = torch.linspace(-REACH, REACH, 161)
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


def draw_target(sigma: float, stride: int, offset: float, rounded: bool) -> Any:
    """Widget: a target around its joint, the row through its peak, and the loss of a misplaced prediction.

    Args: as of :func:`target_losses`.
    """
    import matplotlib.pyplot as plt

    target, joint = _target(sigma, stride, offset, rounded)
    values = target[0, 0].numpy()
    row, column = np.unravel_index(values.argmax(), values.shape)
    x, y = joint.tolist()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.8, 3.7))
    side = CROP - stride / 2
    left.imshow(values, extent=(-stride / 2, side, side, -stride / 2), vmin=0, vmax=1)
    left.plot([x], [y], marker="+", markersize=15, markeredgewidth=2.5, color="white", linestyle="")
    left.plot([column * stride], [row * stride], marker="o", markersize=11, markeredgewidth=2, linestyle="",
              markerfacecolor="none", color=COLOURS["vermillion"])  # fmt: skip
    left.set(xlim=(x - REACH, x + REACH), ylim=(y + REACH, y - REACH), xlabel="x, px", ylabel="y, px",
             title="target: + joint, o argmax")  # fmt: skip
    left.grid(visible=False)
    middle.bar(np.arange(len(values)) * stride, values[row], width=0.86 * stride, color=COLOURS["sky"])
    right_x, losses = target_losses(sigma, stride, offset, rounded)
    right.plot(x + right_x, losses, color=COLOURS["blue"], marker="")
    best = int(losses.argmin())
    right.plot([x + right_x[best]], [losses[best]], marker="o", markersize=8, linestyle="", color=COLOURS["vermillion"])
    for ax in (middle, right):
        ax.axvline(x, color=INK, linestyle="-", marker="", linewidth=1)
        ax.set(xlim=(x - REACH, x + REACH), xlabel="x, px")
    middle.set(ylim=(0, 1.05), title=f"row of the peak; sigma {sigma * stride:.1f} px")
    right.axhline(1, color=MUTED, linestyle=(0, (4, 3)), marker="", linewidth=1)
    right.text(x + REACH, 0.97, "blank map", ha="right", va="top", color=MUTED, fontsize=8.5)
    right.set(ylim=(-0.05, 2.15), title="loss of a Gaussian put at x, blank = 1")
    return figure
