"""The forest plot of the ledger: a row for each test of each claim, with its intervals, verdict and scope."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from posekit.experiments.ledger import KINDS, NOT_RUN, REPRODUCED_UNDER, Cell
from posekit.experiments.summary import NOT_HERE, Line, is_control
from posekit.viz import COLOURS, GRID, INK, MUTED

# Colour says which way a verdict falls, shape what kind of evidence it is: neither is needed to read the other.
BLUE, RED, OCHRE = COLOURS["blue"], COLOURS["vermillion"], COLOURS["ochre"]
LOOKS = {
    "reproduced": ("o", BLUE, BLUE),
    "mechanism shown": ("s", BLUE, BLUE),
    "seen": ("^", BLUE, BLUE),
    "contradicted": ("X", RED, RED),
    "mechanism not shown": ("s", RED, "none"),
    "not seen": ("v", RED, "none"),
    "undecided": ("D", OCHRE, OCHRE),
    "undecided in reduced form": ("D", OCHRE, "none"),
    NOT_RUN: ("o", MUTED, "none"),
    NOT_HERE: ("_", MUTED, MUTED),
}  # word -> marker, edge, face
TIED, NOT_TIED = ("d", MUTED, "none"), ("d", RED, RED)  # a control's marks: it says nothing about the claim itself


NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_LEFT = -1.365  # where the forest's text begins, in widths of its axis


def in_points(cell: Cell) -> bool:
    """Whether a cell is a difference in points (AP, PCK, per cent) and so fits the forest's axis; pixels do not."""
    absolute = cell.name.startswith("AP, ")
    return not absolute and (cell.name.endswith("%") or (cell.interval is not None and ", px" not in cell.name))


def points_of(line: Line) -> dict[str, tuple[Cell, ...]]:
    """The cells of a line that the forest draws, by name."""
    return {name: cells for name, cells in line.cells.items() if in_points(cells[0])}


def forest_figure(found: Sequence[Line], *, title: str, chart: Sequence[Line] = (), rows: float | None = None) -> Any:
    """One row for each line: claim, kind of evidence, differences with intervals, verdict with its count of cells.

    Args:
        found: the lines.
        title: of the figure.
        chart: lines of which a chart, claims by kinds, stands above in place of the legend; those that are not in
            ``found`` are pale.
        rows: a fixed height, in rows of text; lines that do not fit are left out.
    """
    import matplotlib.pyplot as plt

    blocks = _blocks(found)
    if rows is not None:
        ends = [sum(height for *_, height in blocks[: i + 1]) for i in range(len(blocks))]
        title += f", the first {sum(end <= rows for end in ends)} claims below" if ends and ends[-1] > rows else ""
        blocks = [block for block, end in zip(blocks, ends) if end <= rows]
    used = max(sum(height for *_, height in blocks), 1.0) if rows is None else rows
    head = 2.3 if chart else 1.2
    height = 0.165 * (used + 1) + head + 0.55
    figure, ax = plt.subplots(figsize=(11.0, height), layout="none")
    figure.subplots_adjust(left=0.44, right=0.755, top=1 - head / height, bottom=0.55 / height)
    ax.axvline(0, color=MUTED, linewidth=1, linestyle="-", marker="")
    y, source = 0.0, ""
    for own, texts, block in blocks:
        if own[0].claim.source != source:
            source = own[0].claim.source
            _rule(ax, y, INK)
        _text(ax, _LEFT, y, own[0].claim.id, weight="bold")
        for i, text in enumerate(texts):
            _text(ax, _LEFT + 0.085, y + i, text)
        top = y
        for line in own:
            _draw_line(ax, line, top)
            top += _height(line)
        y += block
        _rule(ax, y, GRID)
    _finish(ax, used)
    if not blocks:
        ax.text(0.5, 0.5, "no line is like that", transform=ax.transAxes, ha="center", color=MUTED)
    figure.text(0.01, 1 - 0.22 / height, title, fontsize=11, va="center", color=INK)
    for x, text in ((0.01, "claim"), (0.291, "kind of test, scope"), (0.765, "verdict (cells that hold, of all)")):
        figure.text(x, 1 - (head - 0.13) / height, text, fontsize=8, va="center", color=MUTED)
    if chart:
        _chart(figure, chart, found, inches=height)
    else:
        _legend(figure, ax, inches=height)
    return figure


def _chart(figure: Any, everything: Sequence[Line], found: Sequence[Line], *, inches: float) -> None:
    """Every line as one mark: claims from left to right, kinds from top to bottom."""
    ax = figure.add_axes((0.085, 1 - 1.78 / inches, 0.905, 1.3 / inches))
    ids = list(dict.fromkeys(line.claim.id for line in everything))
    there = {id(line) for line in found}
    seen: dict[tuple[str, str], int] = {}
    places: dict[tuple[tuple[str, str, str], bool], list[tuple[float, int]]] = {}
    for line in everything:
        n = seen[line.claim.id, line.kind] = seen.get((line.claim.id, line.kind), -1) + 1
        place = (ids.index(line.claim.id) + 0.28 * n, KINDS.index(line.kind))
        places.setdefault((look(line.verdict), id(line) in there), []).append(place)
    for ((marker, edge, face), bold), found_here in places.items():
        ax.plot(*zip(*found_here), marker=marker, color=edge, markerfacecolor=face, markersize=6.5, linestyle="",
                alpha=1.0 if bold else 0.16)  # fmt: skip
    ax.set(xlim=(-0.7, len(ids) - 0.2), ylim=(len(KINDS) - 0.5, -0.5))
    ax.set_xticks(range(len(ids)), ids, fontsize=6.5, rotation=60)
    ax.set_yticks(range(len(KINDS)), KINDS, fontsize=8)
    ax.tick_params(length=0)


def _blocks(found: Sequence[Line]) -> list[tuple[list[Line], list[str], float]]:
    """Lines by claim, with the claim's text in rows and the height of the block in rows."""
    by_claim: dict[str, list[Line]] = {}
    for line in found:
        by_claim.setdefault(line.claim.id, []).append(line)
    blocks = []
    for own in by_claim.values():
        texts = textwrap.wrap(own[0].claim.claim, 46)
        blocks.append((own, texts, max(sum(map(_height, own)), len(texts)) + 0.3))
    return blocks


def _height(line: Line) -> float:
    return max(1.0, 0.5 * len(points_of(line)))


def _where(line: Line) -> str:
    """The kind of evidence and its scope in a few words."""
    if not line.rows:
        return line.kind
    scope = line.rows[0].scope
    if line.kind == "trained":
        size = {"full": "papers' widths"}.get(scope.profile, "reduced")
        return f"trained, {size}, {line.seeds} seeds"
    return line.kind + (f", {scope.dataset}" if scope.dataset != "none" else "")


def _words(line: Line) -> str:
    return line.short.replace(REPRODUCED_UNDER, "reproduced under ")


def look(verdict: str) -> tuple[str, str, str]:
    return LOOKS["reproduced" if verdict.startswith(REPRODUCED_UNDER) else verdict]


def _control(cell: Cell) -> tuple[str, str, str]:
    return TIED if cell.verdict == "seen" else NOT_TIED


def _text(ax: Any, x: float, row: float, text: str, **look: Any) -> None:
    """Text beside the axis: ``x`` in its widths, ``row`` counted from the top."""
    look = {"color": INK, "fontsize": 7.5, **look}
    ax.text(x, row + 0.5, text, transform=ax.get_yaxis_transform(), va="center", **look)


def _rule(ax: Any, row: float, colour: str) -> None:
    ax.axhline(row - 0.1, xmin=_LEFT, xmax=1.76, color=colour, linewidth=0.7, linestyle="-", marker="", clip_on=False)


def _draw_line(ax: Any, line: Line, top: float) -> None:
    height = _height(line)
    _text(ax, -0.475, top, _where(line), color=MUTED)
    marker, edge, face = look(line.verdict)
    ax.plot(1.04, top + 0.5, marker=marker, color=edge, markerfacecolor=face, markersize=5.5, linestyle="",
            transform=ax.get_yaxis_transform(), clip_on=False)  # fmt: skip
    _text(ax, 1.075, top, _words(line))
    cells = points_of(line)
    for i, (name, seeds) in enumerate(cells.items()):
        y = top + height * (i + 0.5) / len(cells)
        for cell in seeds:
            marker, edge, face = _control(cell) if is_control(name) else look(cell.verdict)
            if cell.interval:
                ax.plot(cell.interval, (y, y), color=edge, linestyle="-", linewidth=1.1, marker="")
            ax.plot(cell.measured, y, marker=marker, color=edge, markerfacecolor=face, markersize=3.6, linestyle="")
        printed = NUMBER.fullmatch(seeds[0].published)
        if printed:
            ax.plot(float(printed[0]), y, marker="|", color=INK, markersize=6, markeredgewidth=1.1, linestyle="")


def _finish(ax: Any, rows: float) -> None:
    ticks = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100)
    ax.set_xscale("symlog", linthresh=1, linscale=0.7)
    ax.set_xlim(-170, 170)
    ax.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_ylim(rows, -0.3)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="x", top=True, labeltop=True, labelsize=8)
    ax.set_xlabel("difference in points (AP, PCK or per cent) with its 95 % interval", fontsize=8)


def _legend(figure: Any, ax: Any, *, inches: float) -> None:
    handles = [
        ax.plot([], [], marker=marker, color=edge, markerfacecolor=face, markersize=5, linestyle="", label=word)[0]
        for word, (marker, edge, face) in LOOKS.items()
    ]
    marker, edge, face = TIED
    handles += ax.plot([], [], marker=marker, color=edge, markerfacecolor=face, markersize=5, linestyle="",
                       label="control: must tie")  # fmt: skip
    handles += ax.plot([], [], marker="|", color=INK, markersize=7, linestyle="", label="published, on real pictures")
    figure.legend(handles=handles, loc="upper left", ncols=6, fontsize=7.4, bbox_to_anchor=(0.0, 1 - 0.36 / inches))
