"""Notebook 09's helpers: parts that add up to the package's count, a ranking that conventions reorder, a front."""

from __future__ import annotations

import pytest

from posekit.course.lessons import nb09
from posekit.experiments import costs

TRUE = {"unit": "1000^3", "transposed": "input cells", "batch_norm": False, "attention": True}


@pytest.mark.parametrize("name", ["simple_baseline_r50", "transpose_r_a4", "dpn4_64"])
def test_parts_add_up_to_the_conventions(name):
    counted = costs.network_costs((name, nb09.SIZE, 17))
    parts = nb09.parts(name)
    assert parts.cost(**TRUE) == pytest.approx(counted["mac"], rel=1e-12)
    script = parts.cost(unit="1024^3", transposed="output cells", batch_norm=False, attention=False)
    assert script == pytest.approx(counted["official"], rel=1e-12)


def test_layers_give_the_printed_figure():
    """HRNet, Table 1: 7.10 and 8.90, the second cut off after the first decimal."""
    for name, printed in (("hrnet_w32", 7.1), ("simple_baseline_r50", 8.9)):
        count = sum(layer.weights * layer.cells_out for layer in nb09.layers(name)) / 1024**3
        assert printed - 0.05 <= count < printed + 0.1
    assert sum(layer.transposed for layer in nb09.layers("simple_baseline_r50")) == 3


def test_conventions_reorder_the_ranking():
    def place(label, **changes):
        return [name for name, _ in nb09.ranking(**{**TRUE, **changes})].index(label)

    assert place("SimpleBaseline-R50") < place("HRNet-W32")
    assert place("SimpleBaseline-R50", transposed="output cells") > place("HRNet-W32", transposed="output cells")
    assert place("TransPose-R-A4", attention=False) < place("TransPose-R-A4")
    units = {unit: [name for name, _ in nb09.ranking(**{**TRUE, "unit": unit})] for unit in nb09.UNITS}
    assert units["1000^3"] == units["1024^3"]


def test_printed_figures_of_one_network_by_source():
    assert nb09.printed("simple_baseline_r50") == (("hrnet", "8.90"), ("dpn", "8.9"), ("srpose", "5.46"))


def test_front_keeps_what_nothing_beats():
    points = [(3.0, 70.0), (5.0, 69.0), (5.0, 71.0), (7.0, 71.0), (8.0, 74.0)]
    assert nb09.front(points) == [(3.0, 70.0), (5.0, 71.0), (8.0, 74.0)]


def test_a_baseline_joins_the_front_when_counted_truly():
    points = {label: (ap, cost) for label, _, ap, cost in nb09.accuracy_points()}
    for convention, there in (("official", False), ("mac", True)):
        best = nb09.front([(cost[convention], ap) for ap, cost in points.values()])
        ap, cost = points["R50"]
        assert ((cost[convention], ap) in best) is there
    assert points["W32"][0] == 74.4  # HRNet, Table 1, pretrained


def test_speed_counts_and_times():
    macs, seconds = nb09.speed("tiny_hrnet", size=(96, 64), repeats=1)
    assert macs == pytest.approx(costs.network_costs(("tiny_hrnet", (96, 64), 17))["mac"])
    assert 0 < seconds < 10
