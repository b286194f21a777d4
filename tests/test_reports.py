"""What a network's report shows is what was measured, and nobody picked it."""

from __future__ import annotations

import numpy as np
import pytest

from posekit import create_model
from posekit.experiments import gallery, robustness
from posekit.viz import reports


@pytest.fixture(scope="module")
def net():
    return create_model("tiny_simple_baseline", weights="mannequin")


def test_the_gallery_is_drawn_by_its_seed_and_shows_the_worst(net):
    first, again = (gallery.cases(net, scenes=12, each=3, seed=1) for _ in range(2))
    other = gallery.cases(net, scenes=12, each=3, seed=2)
    assert list(first) == ["front", "side", "back", "partly hidden", "several people", "artefacts", "worst"]
    boxes = {name: [case.box.tolist() for row in drawn.values() for case in row] for name, drawn in
             (("first", first), ("again", again), ("other", other))}  # fmt: skip
    assert boxes["first"] == boxes["again"] != boxes["other"]
    worst = [case.oks for case in first["worst"]]
    everyone = [case.oks for kind, row in first.items() if kind not in ("worst", "artefacts") for case in row]
    assert worst == sorted(worst) and max(worst) <= np.quantile(everyone, 0.5) and worst[0] <= min(everyone)
    figure = reports.gallery(first)
    shown = [axis.get_title() for axis in figure.axes if axis.images]
    assert shown == [f"OKS {case.oks:.2f}" for row in first.values() for case in row]


def test_a_knob_turned_to_its_usual_value_changes_nothing(net):
    usual = [robustness.measure(net, knob, value, scenes=10) for knob, value in (("noise", 2.5), ("blur", 0.6))]
    harsh = robustness.measure(net, "blur", 6.0, scenes=10)
    assert usual[0].usual and usual[1].usual and not harsh.usual
    assert (usual[0].ap, usual[0].mean_oks) == (usual[1].ap, usual[1].mean_oks)
    assert harsh.mean_oks < usual[0].mean_oks - 5


def test_every_knob_has_its_usual_value_in_the_table_and_in_the_figure():
    for knob, values in robustness.KNOBS.items():
        points = [robustness.Point(knob, list(v) if isinstance(v, tuple) else v, 1, 1, 0, 2, 3, 4) for v in values]
        assert sum(point.usual for point in points) == 1, knob
    figure = reports.robustness(dict.fromkeys(("a", "b"), points))
    titles = [axis.get_title(loc) for axis in figure.axes for loc in ("left", "center")]
    assert list(filter(None, titles)) == ["a", "b"]
