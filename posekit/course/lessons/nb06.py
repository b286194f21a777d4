"""Receptive fields: how far a network can see, what its taps read near the border, and what it does with a far cue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from posekit.analysis import Field, Layer, effective_receptive_field, layer_reach, live_tap_share, receptive_field
from posekit.experiments import arrays_of, ledger
from posekit.experiments.environment import DATA
from posekit.experiments.tasks import distant_cue
from posekit.viz import COLOURS, INK, MUTED, PANEL

MAP = (32, 24)  # cells (height, width): the DPN slides' feature map of a 256x192 crop
INPUTS = tuple(f"data/ledger/{test}.jsonl" for test in ("distant_cue", "distant_cue_order", "left_right_reach"))


def chain(layers: Sequence[Layer], *, channels: int = 4) -> nn.Sequential:
    """The network that a list of layers describes: "same" convolutions from 3 channels to one map, with ReLUs."""
    widths = [3, *[channels] * (len(layers) - 1), 1]
    parts: list[nn.Module] = []
    for layer, inputs, outputs in zip(layers, widths, widths[1:]):
        extent = (layer.kernel - 1) * layer.dilation
        padding = extent // 2 if layer.padding is None else layer.padding
        conv = nn.Conv2d(inputs, outputs, layer.kernel, layer.stride, padding, layer.dilation)
        parts += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts[:-2])


def probe(layers: Sequence[Layer]) -> Field:
    """The receptive field of :func:`chain`, measured by gradients on an input large enough to hold it."""
    side = layer_reach(layers)[-1].size + 2 * layer_reach(layers)[-1].jump + 2
    return receptive_field(chain(layers), input_size=(side, side))


def outer_taps_live(dilation: int, size: tuple[int, int] = MAP) -> float:
    """Share of a 3x3 kernel's eight outer taps that read the map and not the padding, mean over all positions."""
    return (9 * live_tap_share(dilation, size) - 1) / 8


def dead_taps(dilations: Sequence[int], size: tuple[int, int] = MAP) -> float:
    """Share of all taps of the 3x3 layers that read padding, mean over positions and layers."""
    return 1 - float(np.mean([live_tap_share(d, size) for d in dilations]))


def holes(dilations: Sequence[int]) -> list[int]:
    """Positive offsets inside the receptive field that no chain of taps bridges, cells."""
    steps = distant_cue.steps_of(dilations)
    return sorted(set(range(1, int(steps[-1]) + 1)) - set(steps.tolist()))


def chains_to(dilations: Sequence[int], cell: tuple[int, int], size: tuple[int, int] = MAP) -> np.ndarray:
    """Ways through the taps from every input cell to one output cell, (h, w) float64: rows times columns."""
    down, across = (distant_cue.path_counts(dilations, side)[at] for side, at in zip(size, cell))
    return np.outer(down, across).astype(np.float64)


def schedule(kind: str, layers: int, constant: int, mine: Sequence[int]) -> tuple[int, ...]:
    """Dilations by the widget's controls; ``mine`` has its own number of layers."""
    pyramid = tuple(2**n for n in range(layers))
    return {
        "DPM": pyramid[::-1],
        "reversed": pyramid,
        "constant": (constant,) * layers,
        "your own": tuple(mine),
    }[kind]


def draw_schedule(kind: str, layers: int, constant: int, column: int, mine: Sequence[int] = (1, 3, 9)) -> Any:
    """Widget: what one output cell of a 32x24 map sees through a schedule of dilated 3x3 layers.

    Args:
        kind: "DPM", "reversed", "constant" or "your own".
        layers: N, of the first three kinds.
        constant: dilation of "constant".
        column: of the output cell, which stands in the middle row.
        mine: dilations of "your own".
    """
    import matplotlib.pyplot as plt

    dilations = schedule(kind, layers, constant, mine)
    row, numbers = MAP[0] // 2, np.arange(1, len(dilations) + 1)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.8, 4.3), width_ratios=(1, 1.1, 1.1))
    ways = chains_to(dilations, (row, column))
    shares = np.where(ways > 0, ways / ways.max(), np.nan)
    left.set_facecolor("#c9c6bd")
    left.imshow(np.log10(shares), vmin=-3, vmax=0)
    left.plot([column], [row], marker="s", markersize=7, markerfacecolor="none", markeredgewidth=2,
              color=COLOURS["vermillion"], linestyle="")  # fmt: skip
    left.set(title=f"seen: {100 * (ways > 0).mean():.0f} % of the map", xlabel="column", ylabel="row")
    left.grid(visible=False)
    live = [100 * outer_taps_live(d) for d in dilations]
    middle.bar(numbers, live, color=COLOURS["sky"])
    for x, d, share in zip(numbers, dilations, live):
        middle.text(x, share + 2, f"d={d}", ha="center", color=INK, fontsize=9)
    middle.set(ylim=(0, 112), xlabel="layer", title="outer taps on the map, %")
    fields = [reach.size for reach in layer_reach([Layer(3, dilation=d) for d in dilations])]
    right.plot(numbers, fields, color=COLOURS["blue"], linestyle="-", marker="o")
    for side, name in zip(MAP, ("height", "width")):
        right.axhline(side, color=MUTED, linestyle=(0, (4, 3)), marker="", linewidth=1)
        right.text(0.55, side, f"map {name}", color=MUTED, fontsize=8.5, va="bottom")
    gaps = len(holes(dilations))
    right.set(ylim=(0, max(40, max(fields) * 1.12)), xlabel="layer", xlim=(0.5, len(dilations) + 0.5),
              title=f"field {fields[-1]}, {gaps if gaps else 'no'} hole{'s' * (gaps != 1)} to a side")  # fmt: skip
    for ax in (middle, right):
        ax.set_xticks(numbers)
    return figure


def effective_figure(nets: Mapping[str, nn.Module], size: tuple[int, int], *, samples: int, seed: int) -> Any:
    """Where the middle output cell's gradient falls, one panel per network, with the theoretical field outlined."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    from posekit.analysis import effective_size

    figure, axes = plt.subplots(1, len(nets), figsize=(10.5, 4.0), squeeze=False)
    for ax, (name, net) in zip(axes[0], nets.items()):
        share = effective_receptive_field(net, input_size=size, samples=samples, seed=seed)
        mask = receptive_field(net, input_size=size).mask
        ax.imshow(np.log10(np.where(share > 0, share / share.max(), 1e-9)), vmin=-4, vmax=0)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        corner = (columns[0] - 0.5, rows[0] - 0.5)
        ax.add_patch(
            Rectangle(
                corner, float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1, fill=False, edgecolor=PANEL, linewidth=2
            )
        )
        ax.set_title(f"{name}: 95 % in {effective_size(share):.0f} px square", fontsize=10)
        ax.set(xlabel="x, px")
        ax.grid(visible=False)
    axes[0, 0].set_ylabel("y, px")
    return figure


def recorded(test: str) -> list[ledger.Row]:
    """Recorded runs of a test, one per seed: the newest of each."""
    rows = {row.seed: row for row in ledger.read_file(DATA / "ledger" / f"{test}.jsonl")}
    return [rows[seed] for seed in sorted(rows)]


def recorded_maps() -> dict[str, distant_cue.Accuracy]:
    """Accuracy over the cue's offset of every recorded scheme, seeds added up; schemes in the task's order."""
    found: dict[str, dict[int, distant_cue.Accuracy]] = {}
    for row in [*recorded("distant_cue"), *recorded("distant_cue_order")]:
        arrays = arrays_of(row)
        for name in row.config["schemes"]:
            counts = (arrays[f"{what}, {name}"].astype(np.int64) for what in ("right", "seen"))
            found.setdefault(name, {})[row.seed] = distant_cue.Accuracy(*counts)
    return {
        name: distant_cue.Accuracy(*(sum(getattr(one, part) for one in found[name].values()) for part in parts))
        for parts in [("right", "seen")]
        for name in distant_cue.SCHEMES
    }


def cue_figure(
    maps: Mapping[str, distant_cue.Accuracy], live: tuple[str, distant_cue.Accuracy], pictures: distant_cue.DistantCue
) -> Any:
    """Headline: accuracy over the cue's offset for each scheme and the arm trained live, beside a picture of the task.

    Of ``pictures`` the one whose cue is nearest the middle is shown.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(11.0, 5.9))
    first, example = axes[0, 0], int((pictures.cue - distant_cue.SIZE // 2).abs().amax(1).argmin())
    # Joints are faint beside the cue: everything is brightened until a joint is light grey, which cuts the cue at full.
    first.imshow(np.clip(0.08 + 2.2 * pictures.images[example].permute(1, 2, 0).numpy(), 0, 1))
    x, y = pictures.cue[example].tolist()
    cue = COLOURS[("vermillion", "sky")[int(pictures.side[example])]]
    first.plot([x], [y], marker="s", markersize=4, color=cue, linestyle="")
    first.plot([x], [y], marker="o", markersize=13, markerfacecolor="none", markeredgewidth=1.8,
               color=PANEL, linestyle="")  # fmt: skip
    first.set_title("one picture; ring: the cue")
    first.grid(visible=False)
    reach = distant_cue.REACH
    extent = (-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5)
    panels = [*maps.items(), live]
    for ax, (name, accuracy) in zip(axes.flat[1:], panels):
        shown = ax.imshow(accuracy.map, extent=extent, vmin=0.4, vmax=1)
        dilations = distant_cue.SCHEMES.get(name)
        ax.set_title(f"{name}: {', '.join(map(str, dilations))}" if dilations else name)
        ax.plot([0], [0], marker="s", markersize=3, color=PANEL, linestyle="")
        ax.grid(visible=False)
    for ax in axes[1]:
        ax.set_xlabel("cue right of the joint, px")
    for ax in axes[:, 0]:
        ax.set_ylabel("row, px" if ax is first else "cue below, px")
    figure.colorbar(shown, ax=axes, label="share of right answers", shrink=0.8, pad=0.01)
    return figure


def sides_figure(rows: Sequence[ledger.Row], *, least: int = 40) -> Any:
    """Headline: left-right confusion against distance from the nose, and by joint, from recorded runs.

    Args:
        rows: of test ``left_right_reach``.
        least: judged joints that a bin needs, all seeds together, to be drawn.
    """
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.8, 4.3), width_ratios=(1.25, 1))
    looks = {"D=1": (COLOURS["vermillion"], "s"), "DPM": (COLOURS["blue"], "o")}
    joints = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for place, (name, (colour, marker)) in enumerate(looks.items()):
        runs = [arrays_of(row) for row in rows]
        edges = runs[0]["edges"]
        confused, judged = (np.stack([run[f"{what}, {name}"] for run in runs]) for what in ("confused", "judged"))
        kept = judged.sum(0) >= least
        middle = ((edges[1:] + edges[:-1]) / 2)[kept]
        for one in confused / np.maximum(judged, 1):
            left.plot(middle, 100 * one[kept], color=colour, linestyle="-", marker="", linewidth=0.9, alpha=0.5)
        mean = 100 * confused.sum(0)[kept] / judged.sum(0)[kept]
        field = rows[0].metrics[f"receptive field px, {name}"]
        left.plot(middle, mean, color=colour, linestyle="-", marker=marker, label=f"{name}: field {field:.0f} px")
        by_joint = np.array([[100 * row.metrics[f"{joint}, {name}"] for joint in joints] for row in rows])
        right.bar(np.arange(len(joints)) + 0.4 * place - 0.2, by_joint.mean(0), width=0.38, color=colour, label=name)
        for one in by_joint:
            right.plot(np.arange(len(joints)) + 0.4 * place - 0.2, one, linestyle="", marker="_", color=INK)
    half = rows[0].metrics["receptive field px, D=1"] // 2
    left.axvline(half, color=INK, linestyle=(0, (2, 2)), marker="", linewidth=1.2)
    left.text(half + 0.8, 1, f"D=1 sees {half:.0f} px", color=INK, fontsize=9)
    left.set(xlabel="distance of the joint from the nose, px of a 96x64 crop", ylabel="left and right confused, %",
             ylim=(0, None), title="Confusion against distance")  # fmt: skip
    left.legend(loc="upper left")
    right.axhline(50, color=MUTED, linestyle=(0, (4, 3)), marker="", linewidth=1)
    right.text(-0.45, 50.8, "guessing", color=MUTED, fontsize=8.5)
    right.set_xticks(range(len(joints)), joints)
    right.set(ylim=(0, 60), ylabel="wrong side among decided, %", title="By joint; ticks: single runs")
    right.grid(axis="x", visible=False)
    return figure
