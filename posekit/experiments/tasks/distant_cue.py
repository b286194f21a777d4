"""Controlled task: a cue some way off decides what a joint is called, and a network answers as far as it sees.

An empty noisy picture holds one bright cue pixel, red for "left" or blue for "right", and 48 faint joint pixels up to
20 pixels from it in x and in y. Every joint of a picture takes the cue's side, and the network must say the side at
each joint. A joint looks the same on either side, the network reads one cell at a time and pools nothing, so its only
way to the answer is a chain of kernel taps from joint to cue. Where the dilations offer no chain, half of the answers
are right.

All networks have the same weights to learn and cost the same; only the dilations of the four 3x3 layers differ.

In the control the cue is a square of 9x9 pixels and all joints lie in it: every network sees the cue at the joint
itself, and dilation has nothing to add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SIZE = 48  # px, both sides of the picture
REACH = 20  # px: joints lie at most this far from the cue, in x and in y
CONTROL_REACH = 4  # px: what the narrowest network, D=1, sees to each side
CUE, JOINT, NOISE = 2.0, 0.3, 0.03  # brightness of cue and joints, standard deviation of the noise
CHANNELS = 32
BATCH = 16

SCHEMES: dict[str, tuple[int, ...]] = {
    "D=1": (1, 1, 1, 1),
    "D=2": (2, 2, 2, 2),
    "D=4": (4, 4, 4, 4),
    "D=8": (8, 8, 8, 8),
    "DPM": (8, 4, 2, 1),
    "reversed": (1, 2, 4, 8),
}


@dataclass(frozen=True)
class DistantCue:
    """Pictures of the task.

    Attributes:
        images: (N, 3, 48, 48) float32.
        cue: (N, 2) int64 pixels, x then y.
        joints: (N, J, 2) int64 pixels, x then y; all different, none on the cue.
        side: (N,) int64, 0 left (cue in channel 0) or 1 right (channel 2), the answer at every joint.
    """

    images: torch.Tensor
    cue: torch.Tensor
    joints: torch.Tensor
    side: torch.Tensor

    @property
    def offsets(self) -> np.ndarray:
        """(N, J, 2) where the cue lies as each joint sees it, pixels, x then y."""
        return (self.cue[:, None] - self.joints).numpy()


def make_pictures(count: int, *, rng: np.random.Generator, joints: int = 48, control: bool = False) -> DistantCue:
    """Draw the task.

    Args:
        count: pictures N.
        rng: source of all chance.
        joints: J, at most the 440 places that the cue in a corner leaves (24 in the control).
        control: the cue covers the square of 4 px around its place, and the joints lie in that square.
    """
    side, cue = rng.integers(0, 2, count), rng.integers(0, SIZE, (count, 2))
    reach = CONTROL_REACH if control else REACH
    window = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(window, window), -1).reshape(-1, 2)
    places = cue[:, None] + offsets  # (N, 41 * 41, 2)
    allowed = ((places >= 0) & (places < SIZE)).all(-1) & offsets.any(-1)
    order = np.where(allowed, rng.random(allowed.shape, dtype=np.float32), 2)
    chosen = np.argpartition(order, joints, axis=1)[:, :joints]
    points = np.take_along_axis(places, chosen[..., None], axis=1)
    images = rng.standard_normal((count, 3, SIZE, SIZE), dtype=np.float32) * np.float32(NOISE)
    rows = np.arange(count)
    images[rows[:, None], :, points[..., 1], points[..., 0]] += np.float32(JOINT)
    for dx, dy in offsets if control else np.zeros((1, 2), np.int64):
        column, row = (cue + np.array([dx, dy])).T
        on = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
        images[rows[on], 2 * side[on], row[on], column[on]] += np.float32(CUE)
    return DistantCue(*(torch.from_numpy(array) for array in (images, cue, points, side)))


class CueNet(nn.Module):
    """1x1 convolution, dilated 3x3 convolutions under one skip, 1x1 convolution: (B, 3, H, W) -> (B, 2, H, W).

    The 1x1 stem keeps the grid that constant dilations leave; a 3x3 stem would blur its holes.

    Args:
        dilations: one per 3x3 layer, first to last.
        channels: of all layers between.
    """

    def __init__(self, dilations: Sequence[int], *, channels: int = CHANNELS):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 1)
        self.body = nn.Sequential(*(_dilated(channels, d) for d in dilations))
        self.head = nn.Conv2d(channels, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stem(images).relu()
        return self.head(features + self.body(features))


def _dilated(channels: int, dilation: int) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


def answers(net: nn.Module, pictures: DistantCue) -> torch.Tensor:
    """Logits at the joints, (N, J, 2)."""
    maps = net(pictures.images)
    x, y = pictures.joints.unbind(-1)
    return maps[torch.arange(len(maps))[:, None], :, y, x]


@dataclass(frozen=True)
class Learned:
    """A trained network and the mean loss of every 25 steps on the way."""

    net: CueNet
    losses: tuple[float, ...]

    def steps_until(self, loss: float) -> int:
        """Steps until the mean loss of 25 of them fell below ``loss``; all steps of the run where it never did."""
        return 25 * next((n for n, value in enumerate(self.losses, 1) if value < loss), len(self.losses))


def train(
    dilations: Sequence[int], *, seed: int, steps: int = 500, channels: int = CHANNELS, control: bool = False
) -> Learned:
    """Train a network with AdamW (3e-3, one cycle, a fifth of it warm-up) on batches of 16 new pictures.

    Args:
        dilations: one per 3x3 layer, first to last; at least one, all positive.
        seed: of pictures and first weights.
        steps: of the optimizer; no picture is seen twice.
        channels: of the network.
        control: pictures of the control, with 24 joints each.
    """
    if not dilations or min(dilations) < 1:
        raise ValueError(f"dilations {tuple(dilations)}: give at least one, each 1 or more")
    rng = np.random.default_rng([seed, 0])
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        net = CueNet(dilations, channels=channels)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.2)
        history = []
        for _ in range(steps):
            batch = make_pictures(BATCH, rng=rng, joints=24 if control else 48, control=control)
            logits = answers(net, batch)
            loss = F.cross_entropy(logits.flatten(0, 1), batch.side.repeat_interleave(logits.shape[1]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            history.append(float(loss.detach()))
    groups = range(0, steps, 25)
    return Learned(net.eval(), tuple(float(np.mean(history[i : i + 25])) for i in groups))


@dataclass(frozen=True)
class Accuracy:
    """Right answers by where the cue lies as the joint sees it.

    Attributes:
        right, seen: (41, 41) int64 counts; row ``dy + 20``, column ``dx + 20``. Nothing is asked at (0, 0).
    """

    right: np.ndarray
    seen: np.ndarray

    @property
    def map(self) -> np.ndarray:
        """(41, 41) shares of right answers; NaN where nothing was asked."""
        return np.where(self.seen > 0, self.right / np.maximum(self.seen, 1), np.nan)

    def over(self, offsets: np.ndarray) -> float:
        """Share of right answers over a (41, 41) bool set of offsets; NaN for an empty one."""
        seen = self.seen[offsets].sum()
        return float(self.right[offsets].sum() / seen) if seen else float("nan")


def measure(net: nn.Module, *, pictures: int = 3000, seed: int, joints: int = 96, control: bool = False) -> Accuracy:
    """Ask a network about new pictures.

    Args:
        net: from (B, 3, 48, 48) to (B, 2, 48, 48).
        pictures: how many. All joints of one share a cue, so this is the number of independent questions.
        seed: of the pictures, apart from those of :func:`train`.
        joints: asked about per picture.
        control: pictures of the control.
    """
    rng = np.random.default_rng([seed, 1])
    right, seen = np.zeros((2, 2 * REACH + 1, 2 * REACH + 1), np.int64)
    with torch.inference_mode():
        for start in range(0, pictures, 250):
            batch = make_pictures(min(250, pictures - start), rng=rng, joints=joints, control=control)
            good = (answers(net, batch).argmax(-1) == batch.side[:, None]).numpy()
            columns, rows = (batch.offsets + REACH).reshape(-1, 2).T
            np.add.at(seen, (rows, columns), 1)
            np.add.at(right, (rows, columns), good.ravel())
    return Accuracy(right, seen)


def steps_of(dilations: Sequence[int]) -> np.ndarray:
    """All sums of one of -d, 0, d per layer, sorted: how far 3-tap layers can reach along one axis."""
    sums = np.zeros(1, np.int64)
    for d in dilations:
        sums = np.unique(sums[:, None] + np.array([-d, 0, d]))
    return sums


def reachable(dilations: Sequence[int], reach: int = REACH) -> np.ndarray:
    """Offsets that a chain of taps can bridge: (2 reach + 1, 2 reach + 1) bool, the middle (the joint itself) False.

    Each 3x3 layer chooses its step in x and in y independently, so the set is the square of :func:`steps_of`.
    """
    along = np.isin(np.arange(-reach, reach + 1), steps_of(dilations))
    grid = along[:, None] & along[None, :]
    grid[reach, reach] = False
    return grid


def path_counts(dilations: Sequence[int], length: int) -> np.ndarray:
    """Chains of live taps from every input cell to every output cell of a row, (length, length) int64.

    Entry [o, i] counts the ways from input i to output o that never leave the row: zero padding ends the others. A
    layer's own matrix is symmetric (tap -d and tap +d), so the product for layers in reversed order is the transpose:
    both orders join the same pairs by the same number of chains.
    """
    cell = np.arange(length)
    total = np.eye(length, dtype=np.int64)
    for d in dilations:
        gap = np.abs(cell[:, None] - cell[None, :])
        total = ((gap == 0) | (gap == d)).astype(np.int64) @ total
    return total
