"""HRNet taken apart: drawings of its wiring, made from the modules alone, with what every part costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from posekit import create_model
from posekit.analysis import complexity, quantization_bound
from posekit.course.lessons.nb07_wiring import Arrow, Box, Wiring, w32
from posekit.experiments import claims, published_rows
from posekit.viz import COLOURS, INK, MUTED

VARIANTS = {"a": "final", "b": "across", "c": "within"}
# Colour and dash of an arrow: what happens to the map on its way.
LINES: dict[str, tuple[str, Any, str]] = {
    "same": (MUTED, "-", "as it is"),
    "change": (COLOURS["purple"], (0, (1, 1.2)), "new width"),
    "down": (COLOURS["vermillion"], (0, (5, 2)), "3x3, stride 2"),
    "up": (COLOURS["blue"], "-", "1x1, then nearest"),
}


def _extent(box: Box) -> tuple[float, float]:
    """Width and height of a box in column and row units: wider with channels, taller with cells."""
    return 0.16 + 0.06 * (box.channels / 32) ** 0.5, 0.76 * (box.size[0] / 64) ** 0.5


def draw_wiring(net: Wiring, ax: Any, *, labels: bool = True) -> None:
    """Draw a network on axes: a row per branch, boxes as tall as their maps and as wide as their channels."""
    from matplotlib.patches import Rectangle

    place = [(box.column, -box.row) for box in net.boxes]
    for arrow in net.arrows:
        colour, dash, _ = LINES[arrow.kind]
        (x0, y0), (x1, y1) = place[arrow.source], place[arrow.target]
        width = 0.9 if arrow.kind == "same" else 1.0 + 0.35 * (arrow.params / 1e4) ** 0.5
        ax.plot((x0, x1), (y0, y1), color=colour, linestyle=dash, linewidth=min(width, 4), marker="", zorder=1)
    for box, (x, y) in zip(net.boxes, place):
        if box.kind == "sum":
            ax.plot(x, y, marker="o", markersize=9, markerfacecolor="white", markeredgecolor=INK, zorder=3)
            continue
        w, h = _extent(box)
        face = {"stem": "#d9d5c8", "blocks": "#c9def0", "heatmaps": "#f3d9c6"}[box.kind]
        ax.add_patch(Rectangle((x - w / 2, y - h / 2), w, h, facecolor=face, edgecolor=INK, linewidth=1, zorder=2))
    last = net.boxes[-1]
    ax.set(xlim=(-0.9, last.column + 0.9), ylim=(-max(box.row for box in net.boxes) - 0.6, 0.95))
    ax.axis("off")
    if labels:
        _label(net, ax)


def _label(net: Wiring, ax: Any) -> None:
    """Stages above; the maps' sizes on the right, where nothing crosses them."""
    for stage in sorted({box.stage for box in net.boxes} - {0, 1}):
        columns = [box.column for box in net.boxes if box.stage == stage]
        ax.text((min(columns) + max(columns)) / 2, 0.6, f"stage {stage}", ha="center", color=INK, fontsize=10)
    last = net.boxes[-1].column
    ax.text(0, 0.6, "stem,\nstage 1", ha="center", color=INK, fontsize=10)
    ax.text(last, 0.6, "heatmaps", ha="center", color=INK, fontsize=10)
    for box in {box.row: box for box in net.boxes if box.kind == "blocks"}.values():
        words = f"branch {box.row}\n{box.channels} channels\n{box.size[0]}x{box.size[1]} cells"
        ax.text(last + 0.5, -box.row, words, ha="left", va="center", color=MUTED, fontsize=9)
    ax.set_xlim(-0.9, last + 2.4)


def _legend(figure: Any, kinds: Sequence[str] = tuple(LINES)) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=LINES[k][0], linestyle=LINES[k][1], linewidth=2, label=LINES[k][2]) for k in kinds]
    handles.append(Line2D([], [], color=INK, marker="o", markerfacecolor="white", linestyle="", label="sum and ReLU"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def network_figure(net: Wiring) -> Any:
    """Headline figure: the whole network."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(11, 4.8))
    draw_wiring(net, ax)
    _legend(figure)
    return figure


def variants_figure() -> Any:
    """Rows (a), (b) and (c) of Table 6, drawn, with their costs and the published AP."""
    import matplotlib.pyplot as plt

    published = published_exchange()
    figure, axes = plt.subplots(3, 1, figsize=(10, 7.6))
    for ax, (row, exchange) in zip(axes, VARIANTS.items()):
        net = w32(exchange)
        draw_wiring(net, ax, labels=False)
        words = f"{net.params / 1e6:.2f} M parameters, {net.macs / 1e9:.2f} G multiply-adds, {net.routes():,} routes"
        ax.set_title(f"({row}) exchange={exchange!r}: {words}; published AP {published[row]}")
    _legend(figure)
    return figure


def cost_figure(net: Wiring) -> Any:
    """Where parameters and multiply-adds lie: the blocks of each branch, and everything between them."""
    import matplotlib.pyplot as plt

    parts = cost_shares(net)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for ax, column, what in zip(axes, (0, 1), ("parameters", "multiply-adds")):
        shares = [100 * values[column] for values in parts.values()]
        bars = ax.barh(list(parts), shares, color=COLOURS["blue"] if column == 0 else COLOURS["vermillion"])
        ax.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=3, color=INK, fontsize=9)
        ax.set(xlabel=f"share of {what}, %", xlim=(0, 1.18 * max(shares)))
        ax.grid(axis="y", visible=False)
    axes[0].invert_yaxis()
    return figure


def cost_shares(net: Wiring) -> dict[str, tuple[float, float]]:
    """Part of the network -> its share of all parameters and of all multiply-adds."""
    parts: dict[str, list[Box | Arrow]] = {"stem and stage 1": [b for b in net.boxes if b.kind == "stem"]}
    for row in sorted({box.row for box in net.boxes if box.kind == "blocks"}):
        parts[f"blocks, branch {row}"] = [b for b in net.boxes if b.kind == "blocks" and b.row == row]
    parts["exchange units"] = [a for a in net.arrows if "module" in a.junction]
    parts["transitions, head"] = [a for a in net.arrows if "module" not in a.junction]
    return {
        name: (sum(part.params for part in members) / net.params, sum(part.macs for part in members) / net.macs)
        for name, members in parts.items()
    }


def stage_explorer(*, junction: str, output: str, shows: str, exchange: str) -> Any:
    """The widget: one junction of HRNet-W32, every arrow with what it does or costs.

    Args:
        junction: one of :data:`posekit.course.lessons.nb07_wiring.JUNCTIONS`.
        output: "all", or a branch as text; arrows into others fade.
        shows: "operations", "parameters" or "multiply-adds".
        exchange: "within", "across" or "final".
    """
    from matplotlib.figure import Figure

    net = w32(exchange)
    arrows = [arrow for arrow in net.arrows if arrow.junction == junction]
    figure = Figure(figsize=(9, 4.6))
    figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 9), ylim=(-4.3, 1.0))
    ax.axis("off")
    ax.text(0.2, 0.72, junction, fontsize=13, color=INK)
    if not arrows:
        ax.text(0.2, -1.5, f'exchange="{exchange}": no exchange unit here, every branch goes on by itself', color=INK)
        return figure
    rows = {net.boxes[arrow.target].row for arrow in arrows}
    chosen = rows if output == "all" else {int(output)} & rows
    _draw_ends(ax, net, arrows)
    largest = max(1.0, *(_cost(arrow, shows) for arrow in arrows))
    lines = dict.fromkeys(rows, 0)
    for arrow in arrows:
        source, target = net.boxes[arrow.source].row, net.boxes[arrow.target].row
        colour, dash, _ = LINES[arrow.kind]
        faded = 1.0 if target in chosen else 0.12
        width = 1.0 + 4 * (_cost(arrow, shows) / largest) ** 0.5
        ax.plot((2.45, 4.75), (-source, -target), color=colour, linestyle=dash, linewidth=width, alpha=faded, marker="")
        count = sum(net.boxes[a.target].row == target for a in arrows)
        y = -target + 0.2 * ((count - 1) / 2 - lines[target])
        lines[target] += 1
        words = f"from {source}: {_amount(arrow, shows)}"
        ax.text(6.5, y, words, va="center", fontsize=9, color=INK, alpha=max(faded, 0.25))
    total, share = sum(a.params for a in arrows), sum(a.macs for a in arrows)
    words = f"all arrows here: {total:,} parameters ({100 * total / net.params:.1f} % of the network), "
    words += f"{share / 1e6:,.1f} M multiply-adds ({100 * share / net.macs:.1f} %)"
    if not chosen:
        words = f"there is no branch {output} here; " + words
    ax.text(0.2, -4.0, words, fontsize=9, color=MUTED)
    return figure


def _draw_ends(ax: Any, net: Wiring, arrows: Sequence[Arrow]) -> None:
    from matplotlib.patches import Rectangle

    for end, x in (("source", 0.2), ("target", 4.75)):
        for box in {net.boxes[getattr(arrow, end)] for arrow in arrows}:
            ax.add_patch(Rectangle((x, -box.row - 0.3), 2.25 if end == "source" else 1.6, 0.6, facecolor="#e9eef3",
                                   edgecolor=INK, linewidth=1))  # fmt: skip
            name = {"sum": f"sum {box.row}", "stem": "stem", "heatmaps": "heatmaps"}.get(box.kind, f"branch {box.row}")
            words = f"{name}: {box.channels} x {box.size[0]} x {box.size[1]}"
            if end == "source" and box.params:
                words += f"\nblocks {box.params / 1e6:.2f} M, {box.macs / 1e9:.2f} G"
            ax.text(x + 0.08, -box.row, words, va="center", fontsize=8.5, color=INK)


def _cost(arrow: Arrow, shows: str) -> float:
    return {"operations": 1.0, "parameters": arrow.params, "multiply-adds": arrow.macs}[shows]


def _amount(arrow: Arrow, shows: str) -> str:
    if shows == "operations" or arrow.kind == "same":
        return arrow.words
    return f"{arrow.params:,}" if shows == "parameters" else f"{arrow.macs / 1e6:.1f} M"


def published_exchange() -> dict[str, float]:
    """Table 6's AP by row, from the claim that quotes it."""
    claim = next(claim for claim in claims() if claim.id == "H02")
    return {row["variant"]: float(row["ap"]) for row in published_rows(claim)}


def resolutions(name: str) -> list[int]:
    """Heights of the maps along a network's convolutions, 256x192 crops, repeats left out."""
    with torch.device("meta"):
        model = create_model(name)
    heights = [
        layer.output_shape[2] for layer in complexity(model).layers if "Conv" in layer.type and layer.output_shape
    ]
    return [h for i, h in enumerate(heights) if i == 0 or h != heights[i - 1]]


def branch_table() -> list[tuple[int, int, tuple[int, int], float, float, float]]:
    """Predicting from branch b: b, stride, heatmap, mean argmax error in pixels, parameters and multiply-adds."""
    rows: list[tuple[int, int, tuple[int, int], float, float, float]] = []
    for branch in range(4):
        net, stride = w32(predict_from=branch), 4 * 2**branch
        bound = quantization_bound(stride, "argmax")
        rows.append((branch, stride, net.boxes[-1].size, bound, net.params, net.macs))
    return rows
