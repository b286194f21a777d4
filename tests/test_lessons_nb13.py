"""Notebook 13's helpers: the leaderboard's small print, the filter of the ledger, chance misses and power."""

from __future__ import annotations

import numpy as np
import pytest

from posekit.course.lessons import nb13
from posekit.experiments import claims, interval_count
from posekit.experiments.ablations import paired
from posekit.experiments.forest import forest_figure, in_points, points_of
from posekit.experiments.ledger import Cell


def test_every_row_of_the_leaderboard_has_its_paper():
    entries = nb13.leaderboard()
    assert len(entries) == 8
    assert [entry.ap for entry in entries] == sorted((entry.ap for entry in entries), reverse=True)
    ids = {entry.method.split()[0]: entry.arxiv for entry in entries}
    assert ids["HRNet-W48"] == "1902.09212"  # as the HRNet slides print it
    assert {entry.year for entry in entries if entry.paper.startswith("Learning Delicate")} == {2020}
    assert sum(entry.ensemble for entry in entries) == 2


def test_rows_with_medium_above_large_are_those_known():
    assert {(method, table.split("_")[0]) for table, method, _, _ in nb13.odd_rows()} == {
        ("4xRSN-50 (ensemble)", "leaderboard"),
        ("4xRSN-50", "leaderboard"),
        ("CFN", "hrnet"),
    }


def test_filter_keeps_what_was_asked_for():
    everything = nb13.chosen()
    assert [line.claim.id for line in everything] == [line.claim.id for line in nb13.all_lines()]
    parts = [nb13.chosen(verdict=way) for way in nb13.WAYS if way != "any"]
    assert sum(map(len, parts)) == len(everything) and all(parts)
    assert {line.claim.source for line in nb13.chosen(source="DPN slides")} == {"DPN slides"}
    assert {line.kind for line in nb13.chosen(kind="paper")} == {"paper"}
    large = nb13.chosen(least=5.0)
    assert large and len(large) < len(everything)
    for line in large:
        assert max(abs(cell.measured) for cells in points_of(line).values() for cell in cells) >= 5


@pytest.mark.parametrize(
    ("name", "interval", "fits"),
    [
        ("AP: HRNet minus CPN", (0.0, 1.0), True),
        ("HRNet: AP, dark minus AP, quarter", (0.0, 1.0), True),
        ("offsets answered, DPM minus reversed, %", None, True),
        ("dataset, stride 4, px", (1.5, 1.6), False),
        ("AP, stride 32, argmax", (3.0, 4.0), False),  # a score, not a difference
        ("HRNet-W32 / CPN, params, M", None, False),
    ],
)
def test_only_differences_in_points_share_the_axis(name, interval, fits):
    assert in_points(Cell(name, 0.5, "reproduced", interval=interval)) is fits


def test_every_difference_is_inside_the_forest():
    ax = forest_figure(nb13.all_lines(), title="all").axes[0]
    low, high = ax.get_xlim()
    ends = [x for line in nb13.all_lines() for cells in points_of(line).values() for c in cells
            for x in (c.measured, *(c.interval or ()))]  # fmt: skip
    assert low < min(ends) <= max(ends) < high


def test_the_summary_counts_every_line_and_expects_one_miss_in_twenty():
    first, *counts = nb13.chance_summary(np.random.default_rng(0), repeats=400).splitlines()
    count = interval_count(claims())
    assert first.startswith(f"{count} intervals; about ")
    assert float(first.split("about ")[1].split(" miss")[0]) == pytest.approx(count / 20, abs=0.6)  # of 400 repeats
    low, high = map(int, first.split("nearly always ")[1].split(" to "))
    assert low < count / 20 < high < count / 4
    assert sum(int(part.split(": ")[1]) for part in " ".join(counts).split("; ")) == len(nb13.all_lines())


def test_one_interval_in_twenty_misses():
    misses = nb13.chance_misses(np.random.default_rng(0), intervals=20, repeats=4000)
    assert misses.mean() == pytest.approx(1.0, abs=4 * (0.95 / 4000) ** 0.5)
    assert (misses > 0).mean() == pytest.approx(1 - 0.95**20, abs=4 * (0.23 / 4000) ** 0.5)


def test_detectable_effect_is_the_ledgers():
    values = [0.3, 1.9, -0.4, 1.1, 0.8]
    assert nb13.detectable(float(np.std(values, ddof=1)), 5) == pytest.approx(paired(values).detectable, rel=1e-12)


def test_detectable_effect_is_found_four_times_in_five():
    """Simulated: the approximation behind the formula is off by a few per cent at five seeds."""
    x = np.random.default_rng(1).standard_normal((4000, 5)) + nb13.detectable(1.0, 5)
    low = x.mean(axis=1) - 2.7764 * x.std(axis=1, ddof=1) / 5**0.5
    assert (low > 0).mean() == pytest.approx(0.8, abs=0.05)
