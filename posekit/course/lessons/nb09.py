"""Complexity: what a count is made of, how conventions rank networks, accuracy against compute under two of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from posekit import create_model
from posekit.analysis.complexity import shapes_only, trace
from posekit.experiments import costs
from posekit.viz import COLOURS, INK, MUTED

SIZE = (256, 192)
# What the widget ranks: label -> network.
RANKED = {
    "SimpleBaseline-R50": "simple_baseline_r50",
    "HRNet-W32": "hrnet_w32",
    "CPN-R50": "cpn_r50",
    "SRPose on R50": "r50_srpose",
    "SRPose on HRNet-W32": "hrnet_w32_srpose",
    "TransPose-R-A4": "transpose_r_a4",
    "HRFormer-S": "hrformer_s",
    "DPN4_64": "dpn4_64",
    "DPN2 on HRNet-W32": "dpn2_hrnet",
}
UNITS = {"1000^3": 1000**3, "1024^3": 1024**3}
SOURCES = {"hrnet": "HRNet slides", "dpn": "DPN slides", "srpose": "SRPose read-me"}


class Layer(NamedTuple):
    """One convolution of a network: its weights, without bias, and the cells of one channel going in and out."""

    weights: int
    cells_in: int
    cells_out: int
    transposed: bool


def layers(name: str, *, size: tuple[int, int] = SIZE) -> list[Layer]:
    """Every convolution that a network's evaluation calls, in order, found by hooks on a network without memory."""
    found: list[Layer] = []

    def note(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        cells_in, cells_out = inputs[0].shape[2:].numel(), output.shape[2:].numel()
        found.append(Layer(layer.weight.numel(), cells_in, cells_out, isinstance(layer, nn.ConvTranspose2d)))

    with shapes_only():
        model = create_model(name, input_size=size).eval()
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(note)
        model(torch.empty(1, 3, *size))
    return found


@dataclass(frozen=True)
class Parts:
    """What one forward pass is made of, for one picture.

    Attributes:
        convolutions: multiply-adds of ordinary convolutions and linear layers.
        transposed_in, transposed_out: of transposed convolutions, weights applied at every input, or output, cell.
        attention: of the products inside attention.
        normalised: elements that pass a batch norm.
    """

    convolutions: int
    transposed_in: int
    transposed_out: int
    attention: int
    normalised: int

    def cost(self, *, unit: str, transposed: str, batch_norm: bool, attention: bool) -> float:
        """The figure that a table would print: each argument is one decision of whoever wrote the counting script.

        Args:
            unit: "1000^3" or "1024^3".
            transposed: transposed convolutions count at their "input cells" or "output cells".
            batch_norm: two operations per element, or none.
            attention: whether its products count.
        """
        count = self.convolutions + (self.transposed_in if transposed == "input cells" else self.transposed_out)
        count += 2 * self.normalised * batch_norm + self.attention * attention
        return count / UNITS[unit]


@cache
def parts(name: str) -> Parts:
    """A network's parts at 256x192."""
    with shapes_only():
        model = create_model(name, input_size=SIZE)
    operations = trace(model, SIZE)[0]
    convolutions = [op for op in operations if op.kind == "conv"]
    turned = [op for op in convolutions if op.by_output != op.macs]
    return Parts(
        convolutions=sum(op.macs for op in operations if op.kind in ("conv", "linear")) - sum(op.macs for op in turned),
        transposed_in=sum(op.macs for op in turned),
        transposed_out=sum(op.by_output for op in turned),
        attention=sum(op.macs for op in operations if op.kind == "matmul"),
        normalised=sum(op.taken for op in operations if op.kind == "batch_norm"),
    )


def ranking(*, unit: str, transposed: str, batch_norm: bool, attention: bool) -> list[tuple[str, float]]:
    """(label, giga-operations) of :data:`RANKED` from cheap to dear."""
    settings: dict[str, Any] = {
        "unit": unit, "transposed": transposed, "batch_norm": batch_norm, "attention": attention
    }  # fmt: skip
    return sorted(((label, parts(name).cost(**settings)) for label, name in RANKED.items()), key=lambda pair: pair[1])


@cache
def printed(name: str) -> tuple[tuple[str, str], ...]:
    """(source, GFLOPs as printed) of a network at 256x192, each figure once."""
    found: dict[tuple[str, float], str] = {}
    for figure in costs.printed_figures():
        if figure.quantity == "GFLOPs" and figure.network[:2] == (name, SIZE):
            found.setdefault((figure.table.split("_")[0], figure.value), figure.text)
    return tuple((source, text) for (source, _), text in found.items())


def draw_ranking(unit: str, transposed: str, batch_norm: bool, attention: bool) -> Any:
    """The networks from cheap to dear as one convention counts them, with the printed figures as open marks."""
    import matplotlib.pyplot as plt

    true = [label for label, _ in ranking(unit="1000^3", transposed="input cells", batch_norm=False, attention=True)]
    rows = ranking(unit=unit, transposed=transposed, batch_norm=batch_norm, attention=attention)
    figure, ax = plt.subplots(figsize=(8.8, 4.4))
    marks = {"hrnet": ("D", COLOURS["vermillion"]), "dpn": ("^", COLOURS["purple"]), "srpose": ("s", COLOURS["green"])}
    for row, (label, cost) in enumerate(rows):
        moved = true.index(label) - row
        change = f"  {'▲' if moved > 0 else '▼'} {abs(moved)}" if moved else ""
        ax.barh(row, cost, height=0.62, color=COLOURS["blue"], alpha=0.32)
        ax.text(10.1, row, f"{cost:.2f}{change}", va="center", fontsize=9, color=INK)
        for source, text in printed(RANKED[label]):
            marker, colour = marks[source]
            ax.plot(float(text), row, marker=marker, color=colour, markerfacecolor="none", markersize=8, linestyle="")
    for source, (marker, colour) in marks.items():
        ax.plot([], [], marker=marker, color=colour, markerfacecolor="none", markersize=8, linestyle="",
                label=f"printed in the {SOURCES[source]}")  # fmt: skip
    ax.set_yticks(range(len(rows)), [label for label, _ in rows])
    ax.set(xlim=(0, 11.6), ylim=(len(rows) - 0.4, -0.6), xlabel=f"operations, in units of {unit.replace('^3', '³')}",
           title="From cheap to dear; ▲ ▼ places gained and lost against true multiply-adds")  # fmt: skip
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


# The headline's points: (label, table, words that begin its row, family).
POINTS = (
    ("CPN-R50", "hrnet_table1_coco_val", "CPN + OHKM", "CPN"),
    ("R50", "hrnet_table1_coco_val", "SimpleBaseline ResNet-50", "SimpleBaseline"),
    ("R101", "hrnet_table1_coco_val", "SimpleBaseline ResNet-101", "SimpleBaseline"),
    ("R152", "hrnet_table1_coco_val", "SimpleBaseline ResNet-152 256", "SimpleBaseline"),
    ("W32", "hrnet_table1_coco_val", "HRNet-W32 256x192", "HRNet"),
    ("W48", "hrnet_table1_coco_val", "HRNet-W48 256x192", "HRNet"),
    ("DPN4_64", "dpn_table6_coco_val", "DPN4_64", "DPN"),
    ("DPN2 on W32", "dpn_table6_coco_val", "DPN2_hrnet", "DPN"),
)


def accuracy_points() -> list[tuple[str, str, float, dict[str, float]]]:
    """(label, family, published AP, operations by convention) of the headline figure."""
    found = []
    for label, table, words, family in POINTS:
        figures = [f for f in costs.printed_figures([table]) if f.row.startswith(words) and f.quantity == "GFLOPs"]
        figure = next(f for f in figures if not f.row.endswith("scratch"))
        _, describe = costs.TABLES[table]
        ap = next(
            float(record["ap"]) for record in costs.read_table(table) if (describe(record) or ("",))[0] == figure.row
        )
        found.append((label, family, ap, costs.network_costs(figure.network)))
    return found


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both cost (first, less is better) and accuracy, from cheap to dear."""
    kept: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


def accuracy_figure() -> Any:
    """Headline figure: published AP against operations, the same networks under the script's count and the true one."""
    import matplotlib.pyplot as plt

    points = accuracy_points()
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.4), sharey=True)
    looks = dict(zip(("SimpleBaseline", "HRNet", "DPN", "CPN"), zip(COLOURS.values(), "osD^")))
    titles = {"official": "As the HRNet script counts", "mac": "True multiply-adds"}
    for ax, (convention, title) in zip(axes, titles.items()):
        places = [(cost[convention], ap) for _, _, ap, cost in points]
        best = front(places)
        steps = np.array([*best, (17.5, best[-1][1])])
        ax.step(*steps.T, where="post", color=MUTED, linestyle=(0, (4, 2)), marker="", linewidth=1.2)
        for (label, family, _, _), place in zip(points, places):
            colour, marker = looks[family]
            ax.plot(*place, color=colour, marker=marker, markersize=8, linestyle="",
                    markerfacecolor=colour if place in best else "none")  # fmt: skip
            right = label not in ("DPN2 on W32", "W48")
            ax.annotate(label, place, (7, -11) if right else (-6, 8), textcoords="offset points", fontsize=9,
                        ha="left" if right else "center", color=INK)  # fmt: skip
        ax.set(title=title, xlabel="operations, " + ("1024³" if convention == "official" else "1000³"),
               xlim=(0, 17.5), ylim=(68.6, 76.2))  # fmt: skip
    axes[0].set_ylabel("published AP, COCO val, 256x192")
    for family, (colour, marker) in looks.items():
        axes[0].plot([], [], color=colour, marker=marker, markersize=8, linestyle="", label=family)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def speed(name: str, *, size: tuple[int, int] = (128, 96), repeats: int = 3) -> tuple[float, float]:
    """(giga-multiply-adds, best seconds of processor time) of one picture through a network on one thread."""
    model = create_model(name, input_size=size).eval()
    with shapes_only():
        shape_only = create_model(name, input_size=size)
    macs = sum(op.macs for op in trace(shape_only, size)[0]) / 1e9
    picture = torch.zeros(1, 3, *size)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.process_time()
            model(picture)
            best = min(best, time.process_time() - start)
    return macs, best
