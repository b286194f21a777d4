"""SR head and SRPose: finer maps from the same features, what they save, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posekit import create_model
from posekit.analysis import shapes_only
from posekit.codecs import GaussianHeatmap
from posekit.experiments.costs import network_costs
from posekit.viz import COLOURS, INK

Head = Literal["interpolation", "transposed convolutions", "SR head"]
HEADS: tuple[Head, ...] = ("interpolation", "transposed convolutions", "SR head")
FACTORS = (1, 2, 4, 8)
FEATURES = (64, 48)  # cells (height, width) of the features of a 256x192 crop, 4 px each
K = 17
DECODERS = ("argmax", "quarter", "dark")
READER = {"argmax": "highest cell", "quarter": "quarter offset", "dark": "DARK"}

# Reading an enlarged map


# Lengths are counted in half pixels here, so that also a map of two cells a pixel has a whole stride.
_CELLS, _CELL = 12, 8


def enlarge(maps: Tensor, factor: int) -> Tensor:
    """Bilinear interpolation: (B, K, h, w) -> (B, K, factor h, factor w), new cells inside old ones."""
    return F.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)


def draw_maps(head: Head, factor: int, points: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Maps that a perfect head of this kind would give, and the doubt of its features.

    Interpolation enlarges the coarse Gaussian; a head that learns gives the fine one. All have the same features, so
    they share their noise: it is drawn on the coarse cells and enlarged.

    Args:
        points: (1, N, 2) half pixels, on 12x12 coarse cells of 8 half pixels.
        noise: its standard deviation on a coarse cell, as a share of the peak.
    """
    rough = noise * torch.randn((1, points.shape[1], _CELLS, _CELLS), generator=generator)
    fine = 1 if head == "interpolation" else factor
    maps, _ = _codec(fine).encode(points, torch.ones(points.shape[:2]))
    return enlarge(maps + rough, factor) if fine == 1 else maps + enlarge(rough, factor)


def read_maps(head: Head, factor: int, maps: Tensor, decoder: str) -> Tensor:
    """(1, N, 2) positions in half pixels; the middle of an interpolated cell is not where a fine target has it."""
    read = _codec(factor, decoder).decode(maps)[0]
    # Cell j of an enlarged map is coarse cell (j + 1/2) / factor - 1/2.
    return read + (_CELL / factor - _CELL) / 2 if head == "interpolation" else read


def _codec(factor: int, decoder: str = "argmax") -> GaussianHeatmap:
    # The Gaussian stays as wide in pixels: 2 coarse cells, 8 px; DARK's smoothing grows with it.
    return GaussianHeatmap(
        (_CELLS * _CELL, _CELLS * _CELL), stride=_CELL // factor, sigma=2.0 * factor, centre="subpixel", window=None,
        decoder=decoder, blur_kernel=10 * factor + 1,  # type: ignore[arg-type]
    )  # fmt: skip


@cache
def reading_error(
    head: Head, factor: int, decoder: str = "argmax", *, noise: float = 0.0, samples: int = 300, seed: int = 0
) -> float:
    """Mean distance, pixels of a 256x192 crop, between joints and what is read from maps enlarged ``factor`` times."""
    generator = torch.Generator().manual_seed(seed)
    points = (_CELLS // 2 + torch.rand(1, samples, 2, generator=generator) - 0.5) * _CELL
    maps = draw_maps(head, factor, points, noise, generator)
    return float((read_maps(head, factor, maps, decoder) - points).norm(dim=-1).mean()) / 2


def same_as_quarter(*, samples: int = 2000, noise: float = 0.1, seed: int = 0) -> float:
    """Share of noisy coarse maps on which "interpolate twice, highest cell" and the quarter offset give one answer."""
    generator = torch.Generator().manual_seed(seed)
    points = (_CELLS // 2 + torch.rand(1, samples, 2, generator=generator) - 0.5) * _CELL
    coarse = draw_maps("interpolation", 1, points, noise, generator)
    twice = read_maps("interpolation", 2, enlarge(coarse, 2), "argmax")
    return float(torch.isclose(twice, read_maps("interpolation", 1, coarse, "quarter")).all(-1).float().mean())


# What enlarging costs


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-adds of a head on 64x48 features."""

    params: int
    macs: int


def head_cost(head: Head, factor: int, *, channels: int = 32, keypoints: int = K) -> Cost:
    """Cost of heatmaps ``factor`` times as fine as the features.

    Args:
        head: "interpolation": 1x1 convolution, then four multiply-adds a pixel; "transposed convolutions": one of
            4x4, stride 2, with batch norm for every doubling, then 1x1; "SR head": 1x1 to four values a keypoint, a
            grouped 9x9 convolution, pixel shuffle.
        channels: of the features.
    """
    cells = FEATURES[0] * FEATURES[1]
    fine = cells * factor**2
    if head == "interpolation":
        return Cost(keypoints * (channels + 1), keypoints * (channels * cells + 4 * fine * (factor > 1)))
    if head == "transposed convolutions":
        doublings = int(np.log2(factor))
        weights = 16 * channels**2
        works = sum(weights * cells * 4**i for i in range(doublings))
        params = doublings * (weights + 2 * channels) + keypoints * (channels + 1)
        return Cost(params, works + keypoints * channels * fine)
    embedded = 4 * keypoints
    grouped = 81 * 4 * keypoints * factor**2
    return Cost(embedded * (channels + 1) + grouped + keypoints * factor**2, (embedded * channels + grouped) * cells)


def draw_super_resolution(factor: int, head: Head, decoder: str, noise: float, channels: int) -> Any:
    """Widget: a map enlarged ``factor`` times, the error of reading it, the price of making it.

    Args:
        factor: r; cells of the map are 4/r px.
        noise: of the features, a share of the peak.
        channels: of the features.
    """
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11.2, 3.9), width_ratios=(0.9, 1.1, 1.35))
    generator = torch.Generator().manual_seed(3)
    point = torch.tensor([[[_CELLS * _CELL / 2 + 2.6, _CELLS * _CELL / 2 - 1.8]]])
    maps = draw_maps(head, factor, point, noise, generator)
    # Drawn where the cells' middles are, in pixels from the joint.
    x, y = (float(v) for v in point[0, 0])
    cell = _CELL / factor
    first = (cell - _CELL) / 2 if head == "interpolation" else 0.0
    extent = [(end - at) / 2 for at in (x, y) for end in (first - cell / 2, first + cell * (_CELLS * factor - 0.5))]
    left.imshow(maps[0, 0].numpy(), extent=(extent[0], extent[1], extent[3], extent[2]), vmin=-0.2, vmax=1.1)
    rx, ry = ((read_maps(head, factor, maps, decoder)[0, 0] - point[0, 0]) / 2).tolist()
    left.plot([0], [0], marker="+", markersize=13, markeredgewidth=2, color=INK, linestyle="")
    left.plot([rx], [ry], marker="o", markersize=13, markerfacecolor="none", markeredgewidth=2,
              color=COLOURS["vermillion"], linestyle="")  # fmt: skip
    left.set(
        xlim=(-8, 8),
        ylim=(8, -8),
        xlabel="px from the joint\ncross: joint, ring: as read",
        ylabel="px from the joint",
        title=f"cells of {4 / factor:g} px",
    )
    left.grid(visible=False)
    _error_lines(middle, factor, head, decoder, noise)
    _cost_bars(right, factor, head, channels)
    return figure


def _error_lines(ax: Any, factor: int, head: Head, decoder: str, noise: float) -> None:
    kinds: dict[str, tuple[Head, str, str]] = {
        "interpolated": ("interpolation", COLOURS["vermillion"], "s"),
        "learned, ideal": ("SR head", COLOURS["blue"], "o"),
    }
    for label, (kind, colour, marker) in kinds.items():
        errors = [reading_error(kind, f, decoder, noise=noise) for f in FACTORS]
        ax.plot(FACTORS, errors, label=label, color=colour, marker=marker, linestyle="-")
    here = reading_error("interpolation" if head == "interpolation" else "SR head", factor, decoder, noise=noise)
    ax.plot([factor], [here], marker="o", markersize=15, markerfacecolor="none", color=INK, linestyle="")
    top = max(2.0, 1.1 * max(line.get_ydata().max() for line in ax.lines))
    ax.set(xscale="log", xlabel="r", ylabel="mean error, px", title=f"{READER[decoder]}: {here:.2f} px", ylim=(0, top))
    ax.set_xticks(FACTORS, [str(f) for f in FACTORS])
    ax.minorticks_off()
    ax.legend(loc="best")


def _cost_bars(ax: Any, factor: int, head: Head, channels: int) -> None:
    costs = [head_cost(kind, factor, channels=channels) for kind in HEADS]
    giga = [cost.macs / 1e9 for cost in costs]
    ax.barh(range(len(HEADS)), giga, color=[COLOURS["blue"] if kind == head else "#b9c7d2" for kind in HEADS])
    for row, cost in enumerate(costs):
        text = f"{HEADS[row]}: {cost.macs / 1e9:.3g} G, {cost.params:,} parameters"
        ax.text(0, row - 0.44, text, va="bottom", color=INK, fontsize=9)
    ax.set_yticks([])
    ax.set(ylim=(len(HEADS) - 0.5, -0.75), xlim=(0, max(giga) * 1.02), xlabel="multiply-adds, 10$^9$")
    megabytes = 4 * K * FEATURES[0] * FEATURES[1] * factor**2 / 2**20
    ax.set_title(f"cost of the head; {megabytes:.1f} MiB of maps")
    for bar in ax.patches:
        bar.set_height(0.42)


# SRPose: outputs and targets at every scale


@dataclass(frozen=True)
class Output:
    """One output of SRPose in training: its size, the factor of its loss, and one joint's target there."""

    size: tuple[int, int]
    weight: float
    target: np.ndarray


def srpose_outputs(name: str = "r50_srpose", *, joint: tuple[float, float] = (90.0, 118.0)) -> list[Output]:
    """What SRPose returns in ``train()``, coarse to fine, and what each output is compared with."""
    with shapes_only():
        model = create_model(name).train()
        predictions = model(torch.empty(2, 3, *model.input_size))
    codec = replace(model.codec, centre="subpixel")
    final, _ = codec.encode(torch.tensor([[joint]]), torch.ones(1, 1))
    supervision = model.supervision
    assert supervision is not None
    return [
        Output(tuple(p.shape[-2:]), supervision.weights[i], supervision.target(i, p, final)[0, 0].numpy())
        for i, p in enumerate(predictions)
    ]


def outputs_figure(outputs: Sequence[Output]) -> Any:
    """The targets of every output, coarse to fine, each with its cells as they are."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(outputs), figsize=(11.0, 3.5))
    last = len(outputs) - 1
    for i, (ax, output) in enumerate(zip(axes, outputs)):
        ax.imshow(output.target, vmin=0, vmax=1)
        height, width = output.size
        role = "rough map" if i == 0 else "answer" if i == last else f"SR head {i}"
        ax.set_title(f"{role}: {height}x{width}\npeak {output.target.max():.2f}, loss x {output.weight:g}")
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    return figure


def head_table(names: Sequence[str]) -> list[dict[str, Any]]:
    """Millions of parameters of backbone, head and what only training uses; multiply-adds; published operations."""
    rows = []
    for name in names:
        with shapes_only():
            model = create_model(name)
        prefixes = tuple(model.training_only)
        of = {n: p.numel() / 1e6 for n, p in model.named_parameters()}
        only = sum(size for n, size in of.items() if prefixes and n.startswith(prefixes))
        backbone = sum(size for n, size in of.items() if n.startswith("backbone."))
        cost = network_costs((name, (256, 192), K))
        rows.append(
            {
                "network": name,
                "backbone": backbone,
                "head": sum(of.values()) - backbone - only,
                "training only": only,
                "multiply-adds": cost["mac"],
                "as SRPose counts": cost["mmcv"],
            }
        )
    return rows
