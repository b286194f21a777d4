"""Benchmark and ledger: a leaderboard with its small print, a forest plot of all claims, chance misses, power."""

from __future__ import annotations

import csv
import textwrap
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from posekit import create_model
from posekit.course.presence import person_present
from posekit.experiments import Cell, Line, claims, gallery, interval_count, lines, robustness, verdict_counts
from posekit.experiments.ablations.analysis import POWER
from posekit.experiments.environment import DATA
from posekit.experiments.forest import BLUE, LOOKS, NUMBER, OCHRE, forest_figure, look, points_of
from posekit.viz import INK, MUTED, reports

SOURCES = ("HRNet slides", "DPN slides", "SRPose read-me", "users")
KINDS = ("exact", "bound", "controlled", "trained", "paper")
WAYS = {
    "any": "",
    "for: reproduced, shown, seen": "for",
    "against: contradicted, not shown, not seen": "against",
    "undecided": "open",
    "nothing recorded": "absent",
}
# The leaderboard


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard with the paper it comes from and what its name says about how it was made."""

    method: str
    year: int
    ap: float
    ap_medium: float
    ap_large: float
    paper: str
    arxiv: str
    ensemble: bool
    extra_data: bool

    @property
    def title(self) -> str:
        """The paper's title, as far as it fits a line of the lesson."""
        return textwrap.shorten(self.paper, 46, placeholder=" ...")


def leaderboard() -> list[Entry]:
    """The leaderboard of the HRNet slides (COCO test-dev), best first; sources from ``leaderboard_sources.csv``."""
    about = {row["method"]: row for row in _table("leaderboard_sources.csv")}
    return [
        Entry(
            row["method"], int(row["year"]), float(row["ap"]), float(row["ap_m"]), float(row["ap_l"]),
            about[row["method"]]["paper"], about[row["method"]]["arxiv"],
            about[row["method"]]["ensemble"] == "Y", about[row["method"]]["extra_data"] == "Y",
        )
        for row in _table("leaderboard_coco_testdev.csv")
    ]  # fmt: skip


def _table(name: str) -> list[dict[str, str]]:
    with open(DATA / "papers" / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def odd_rows() -> list[tuple[str, str, float, float]]:
    """(table, method, AP medium, AP large) of test-dev rows where medium people score above large ones."""
    found = []
    for table, large in (("leaderboard_coco_testdev.csv", "ap_l"), ("hrnet_table2_coco_testdev.csv", "ap_l")):
        for row in _table(table):
            if row["ap_m"] and float(row["ap_m"]) > float(row[large]):
                found.append((table.removesuffix(".csv"), row["method"], float(row["ap_m"]), float(row[large])))
    return found


def leaderboard_figure() -> Any:
    """AP on COCO test-dev against year, the best so far as a step, ensembles and extra data marked."""
    import matplotlib.pyplot as plt

    entries = leaderboard()
    figure, ax = plt.subplots(figsize=(9.8, 4.4))
    best: dict[int, float] = {}
    for entry in sorted(entries, key=lambda entry: entry.year):
        best[entry.year] = max(entry.ap, best.get(entry.year, 0.0), *best.values(), 0.0)
    years = sorted(best)
    ax.step([*years, years[-1] + 1], [*(best[y] for y in years), best[years[-1]]], where="post", color=MUTED,
            linestyle=(0, (4, 2)), linewidth=1.2, marker="", label="best row so far")  # fmt: skip
    for entry in entries:
        marker, colour = ("s", OCHRE) if entry.extra_data else ("o", BLUE)
        face = "none" if entry.ensemble else colour
        ax.plot(entry.year, entry.ap, marker=marker, color=colour, markerfacecolor=face, markersize=9, linestyle="")
        above = entry.ap == max(other.ap for other in entries if other.year == entry.year)
        ax.annotate(f"{entry.method}  {entry.ap:.1f}", (entry.year, entry.ap), (8, 5 if above else -13),
                    textcoords="offset points", fontsize=8.6, color=INK)  # fmt: skip
    for label, marker, colour, face in (
        ("one network", "o", BLUE, BLUE),
        ("ensemble", "o", BLUE, "none"),
        ("known to use extra training data", "s", OCHRE, OCHRE),
    ):
        ax.plot([], [], marker=marker, color=colour, markerfacecolor=face, markersize=8, linestyle="", label=label)
    ax.set(xlim=(years[0] - 0.25, years[-1] + 1.15), ylim=(76.4, 81.7), ylabel="AP, COCO test-dev",
           title="Eight rows of one leaderboard, and what is known of them")  # fmt: skip
    ax.set_xticks(years)
    ax.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


# The ledger


@cache
def all_lines() -> tuple[Line, ...]:
    """Every line of the claims table, read from the ledger once."""
    return tuple(lines(claims()))


def chosen(*, source: str = "all", verdict: str = "any", kind: str = "all", least: float = 0.0) -> list[Line]:
    """Lines of one source, way of falling and kind, with an effect of at least so many points (0: or none at all)."""
    return [
        line
        for line in all_lines()
        if source in ("all", line.claim.source)
        and WAYS[verdict] in ("", line.way)
        and kind in ("all", line.kind)
        and (least == 0 or any(abs(c.measured) >= least for cells in points_of(line).values() for c in cells))
    ]


def draw_ledger(source: str, verdict: str, kind: str, least: float) -> Any:
    """All lines as a chart, the chosen ones in full colour, and the forest plot of as many of these as fit."""
    found = chosen(source=source, verdict=verdict, kind=kind, least=least)
    title = f"{len(found)} of {len(all_lines())} lines of the ledger"
    return forest_figure(found, title=title, chart=all_lines(), rows=24)


# Chance and power


def chance_misses(rng: np.random.Generator, *, intervals: int, seeds: int = 5, repeats: int = 2000) -> np.ndarray:
    """How many of so many 95 % intervals miss, when there is no effect at all.

    Returns:
        (repeats,) counts; each interval is Student's t over ``seeds`` paired differences drawn from a normal law.
    """
    from scipy.stats import t

    x = rng.standard_normal((repeats, intervals, seeds))
    half = t.ppf(0.975, seeds - 1) * x.std(axis=-1, ddof=1) / np.sqrt(seeds)
    return (np.abs(x.mean(axis=-1)) > half).sum(axis=-1)


def chance_summary(rng: np.random.Generator, *, repeats: int = 2000) -> str:
    """How many intervals the ledger holds, how many of so many miss by chance alone, and the count of each verdict."""
    table = claims()
    count = interval_count(table)
    low, high = np.percentile(chance_misses(rng, intervals=max(count, 1), repeats=repeats), [2.5, 97.5])
    verdicts = "; ".join(f"{word}: {number}" for word, number in verdict_counts(table).items())
    return (
        f"{count} intervals; about {0.05 * count:.1f} miss by chance alone, nearly always {low:.0f} to {high:.0f}\n"
        f"{textwrap.fill(verdicts, 100)}"
    )


def detectable(spread: float, seeds: int) -> float:
    """Smallest true effect that so many paired seeds find with 80 % probability.

    Args:
        spread: standard deviation of the differences.
        seeds: two or more.
    """
    from scipy.stats import t

    return float(t.ppf(0.975, seeds - 1) + t.ppf(POWER, seeds - 1)) * spread / seeds**0.5


def comparisons() -> list[tuple[Line, Cell, float]]:
    """(line, cell, smallest detectable effect) of every trained comparison in the ledger, the sharpest first."""
    found = [
        (line, cells[0], line.rows[0].metrics[f"detectable, {name}"])
        for line in all_lines()
        if line.kind == "trained"
        for name, cells in line.cells.items()
        if f"detectable, {name}" in line.rows[0].metrics
    ]
    return sorted(found, key=lambda item: item[2])


def detectable_figure() -> Any:
    """Left: what n seeds can see, in standard deviations. Right: published effects and what could have been seen."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.3))
    seeds = np.arange(2, 31)
    left.plot(seeds, [detectable(1.0, int(n)) for n in seeds], color=BLUE, marker="", linestyle="-")
    for n in (3, 5, 10, 20):
        left.plot(n, detectable(1.0, n), "o", color=BLUE)
        left.annotate(f"{n} seeds: {detectable(1.0, n):.2f}", (n, detectable(1.0, n)), (6, 5), fontsize=9,
                      textcoords="offset points", color=INK)  # fmt: skip
    left.set(yscale="log", xlabel="paired seeds", ylabel="smallest effect found 4 times in 5, in spreads",
             title="What seeds buy")  # fmt: skip
    left.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    left.set_yticks([], minor=True)
    ends = (0.08, 40.0)
    right.plot(ends, ends, color=MUTED, linestyle=(0, (4, 2)), linewidth=1.2, marker="")
    known = [(cell, seen) for _, cell, seen in comparisons() if NUMBER.fullmatch(cell.published) and seen > 0]
    used = {cell.verdict for cell, _ in known}
    for cell, seen in known:
        marker, edge, face = look(cell.verdict)
        right.plot(np.clip(abs(float(cell.published)), *ends), np.clip(seen, *ends), marker=marker, color=edge,
                   markerfacecolor=face, linestyle="", markersize=6)  # fmt: skip
    for word in (word for word in LOOKS if word in used):
        marker, edge, face = LOOKS[word]
        right.plot([], [], marker=marker, color=edge, markerfacecolor=face, linestyle="", label=word)
    if known:
        right.legend(loc="upper left")
    else:
        right.text(0.5, 0.62, "no comparison over seeds is recorded yet", transform=right.transAxes, ha="center",
                   color=MUTED)  # fmt: skip
    for word, x, y, side in (
        ("too small to see here", 0.12, 0.13, "bottom"),
        ("would have been seen", 0.13, 0.12, "top"),
    ):
        along = np.degrees(np.arctan2(y, x))  # parallel to the dashed line, on logarithmic axes
        right.text(x, y, word, color=MUTED, fontsize=9, va=side, rotation=along, rotation_mode="anchor",
                   transform_rotates_text=True)  # fmt: skip
    right.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="published difference, points",
              ylabel="smallest detectable difference here, points",
              title="Could this course have seen it?")  # fmt: skip
    for axis in (right.xaxis, right.yaxis):
        axis.set_ticks([0.1, 0.3, 1, 3, 10, 30], ["0.1", "0.3", "1", "3", "10", "30"])
        axis.set_ticks([], minor=True)
    return figure


def gallery_figure(*, scenes: int, seed: int = 0) -> Any:
    """Answers of the course's own network on random people of every kind, and its five worst.

    Args:
        scenes: of Mannequin's test split that are looked at.
        seed: of the draw.
    """
    net = create_model(robustness.NETWORK, weights="mannequin")
    found = gallery.cases(net, level=robustness.LEVEL, scenes=scenes, seed=seed, progress=person_present())
    return reports.gallery(found)


def robustness_figure() -> Any:
    """AP of the same network, one panel for each knob of Mannequin, as recorded in ``data/runs``."""
    points, _ = robustness.read()
    return reports.robustness(points)
