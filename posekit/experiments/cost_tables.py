"""Costs as text, plain values and a figure: what ``posekit complexity`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from posekit.analysis import Complexity
from posekit.experiments.costs import CONVENTIONS, SYNC, Compared, Printed
from posekit.viz import COLOURS, DASHES, GRID, INK, MARKERS, MUTED


def published_json(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """One plain record per printed figure."""
    return [
        {
            "table": one.printed.table,
            "row": one.printed.row,
            "network": one.printed.network[0],
            "input_size": list(one.printed.network[1]),
            "num_keypoints": one.printed.network[2],
            "quantity": one.printed.quantity,
            "published": one.printed.text,
            "ours": dict(one.ours),
            "fits": list(one.matches),
            "reading": one.reading,
            "verdict": one.verdict,
            "reason": one.reason,
        }
        for one in compared
    ]


def published_text(compared: Sequence[Compared]) -> str:
    """A plain-text table per published table: printed beside ours, what explains it, and reasons below."""
    lines: list[str] = []
    for table, group in groupby(compared, key=lambda one: one.printed.table):
        figures = list(group)
        width = max(len(one.printed.row) for one in figures) + 2
        head = "".join(f"{name:>10}" for name in ("printed", "ours", *CONVENTIONS))
        lines += [table, f"  {'':<{width + 20}}{head}  explained by"]
        reasons: dict[str, int] = {}
        for one in figures:
            mark = ""
            if one.reason:
                mark = f" [{reasons.setdefault(one.reason, len(reasons) + 1)}]"
            verdict = (one.reading or f"nothing: {one.verdict}") + mark
            every = "".join(f"{one.ours[c]:>10.3f}" if c in one.ours else " " * 10 for c in CONVENTIONS)
            shown = f"{one.printed.text:>10}{one.nearest:>10.3f}{every}  {verdict}"
            lines.append(f"  {one.printed.row:<{width}}{one.printed.quantity:<20}{shown}")
        lines += [f"  [{number}] {reason}" for reason, number in reasons.items()]
        lines.append("")
    held = sum(one.reproduced for one in compared)
    lines.append(f"{held} of {len(compared)} figures are explained by a named reading; the others keep their reason.")
    return "\n".join(lines)


def network_json(name: str, costs: dict[str, Complexity], *, layers: str = "") -> dict[str, Any]:
    """A network's cost as plain values: the first convention's in full, and every one's count under ``conventions``.

    Args:
        layers: a convention; adds one record per module, counted so.
    """
    cost = next(iter(costs.values()))
    facts: dict[str, Any] = {
        "model": name,
        "input_size": list(cost.input_size),
        "convention": cost.convention,
        "params": cost.params,
        "params_backbone": cost.params_backbone,
        "params_other": cost.params_other,
        "params_training_only": cost.params_training_only,
        "params_unused": cost.params_unused,
        "count": cost.count,
        "giga": cost.giga,
        "conventions": {convention: {"count": one.count, "giga": one.giga} for convention, one in costs.items()},
    }
    if layers:
        facts["layers"] = [
            {
                "name": layer.name,
                "type": layer.type,
                "part": layer.part,
                "params": layer.params,
                "count": layer.count,
                "output_shape": list(layer.output_shape),
            }
            for layer in costs[layers].layers
        ]
    return facts


def network_text(name: str, costs: dict[str, Complexity], *, layers: str = "") -> str:
    """Parameters and every convention's figure of a network; ``layers`` names a convention to take apart."""
    cost = next(iter(costs.values()))
    size = "x".join(map(str, cost.input_size))
    parts = f"backbone {cost.params_backbone / 1e6:.3f} M, other {cost.params_other / 1e6:.3f} M"
    if cost.params_training_only:
        parts += f", training only {cost.params_training_only / 1e6:.3f} M"
    counted = ", ".join(f"{one.giga:.3f} G ({convention})" for convention, one in costs.items())
    lines = [f"{name} at {size}: {cost.params_m:.3f} M parameters ({parts})", f"  {counted}"]
    if layers:
        lines += _layer_lines(costs[layers])
    return "\n".join(lines)


def _layer_lines(cost: Complexity) -> list[str]:
    rows = [layer for layer in cost.layers if layer.params or layer.count]
    width = max(len(layer.name) for layer in rows) + 2
    lines = [f"  {'module':<{width}}{'type':<18}{'parameters':>11}{'mega':>10}  output ({cost.convention})"]
    for layer in rows:
        shape = "x".join(map(str, layer.output_shape[1:])) or ("training only" if layer.part == "training-only" else "")
        lines.append(
            f"  {layer.name:<{width}}{layer.type:<18}{layer.params:>11,}{layer.count / 1e6:>10.2f}  {shape}"
        )  # fmt: skip
    return lines


def published_figure(compared: Sequence[Compared], *, quantity: str = "GFLOPs") -> Any:
    """Our count over the printed one, a row per published figure and a mark per convention.

    Args:
        compared: from :func:`posekit.experiments.costs.compare_all`.
        quantity: which figures.

    Returns:
        A matplotlib figure; the ring is around the mark whose reading explains the figure, a cross stands where none
        does. HRFormer's rows have a mark of their own: mmcv's tool takes synchronised batch norm for free.
    """
    import matplotlib.pyplot as plt

    chosen = [one for one in compared if one.printed.quantity == quantity]
    figure, ax = plt.subplots(figsize=(8.6, 1.4 + 0.19 * len(chosen)))
    colours = list(COLOURS.values())
    for i, convention in enumerate(CONVENTIONS):
        ratios = [one.ours[convention] / one.printed.value for one in chosen]
        ax.plot(ratios, range(len(chosen)), color=colours[i], marker=MARKERS[i], linestyle="", label=convention)
    variants = [row for row, one in enumerate(chosen) if one.reproduced and one.reading.startswith(SYNC)]
    ratios = [chosen[row].nearest / chosen[row].printed.value for row in variants]
    ax.plot(ratios, variants, color=colours[4], marker=MARKERS[4], linestyle="", label="mmcv, batch norm free")
    rows = {state: [row for row, one in enumerate(chosen) if one.reproduced == state] for state in (True, False)}
    explained = [chosen[row].nearest / chosen[row].printed.value for row in rows[True]]
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "linestyle": ""}
    ax.plot(explained, rows[True], marker="o", markersize=11, label="explains it", **ring)
    ax.plot([0.45] * len(rows[False]), rows[False], marker="x", markersize=7, label="nothing does", **ring)
    ax.axvline(1, color=MUTED, linestyle="-", marker="", linewidth=1)
    starts = [i for i in range(1, len(chosen)) if chosen[i].printed.table != chosen[i - 1].printed.table]
    for start in starts:
        ax.axhline(start - 0.5, color=GRID, linestyle=DASHES[0], marker="", linewidth=2)
    ax.set_yticks(range(len(chosen)), [f"{_short(one.printed)}  {one.printed.text}" for one in chosen], fontsize=7)
    ax.set(ylim=(len(chosen) - 0.4, -0.6), xlim=(0.43, 1.85), xlabel="our count / printed GFLOPs")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _short(printed: Printed) -> str:
    source, table = printed.table.split("_")[:2]
    name = {"hrnet": "HRNet", "dpn": "DPN", "srpose": "SRPose"}[source]
    number = f" {table.removeprefix('table')}" if table.startswith("table") else ""
    return f"{name}{number}: {printed.row}"
