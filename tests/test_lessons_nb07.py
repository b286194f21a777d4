"""The drawn HRNet is the real one: every parameter and multiply-add lies on a box or an arrow."""

from __future__ import annotations

import pytest
import torch

from posekit import create_model
from posekit.analysis import complexity
from posekit.course.exercises.nb07 import count_parameters
from posekit.course.lessons import nb07, nb07_wiring


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hrnet_w32", {}),
        ("hrnet_w32", {"exchange": "across", "predict_from": 3}),
        ("hrnet_w48", {"exchange": "final", "attention": "psa"}),
        ("tiny_hrnet", {"predict_from": 1}),
    ],
)
def test_boxes_and_arrows_hold_the_whole_network(name, options):
    with torch.device("meta"):
        model = create_model(name, **options)
    net, cost = nb07_wiring.wiring(model), complexity(model)
    assert net.params == cost.params
    assert net.macs == pytest.approx(cost.count, rel=1e-9)


def test_arrows_follow_the_published_layout():
    net = nb07_wiring.w32()
    counts = [sum(a.junction == name for a in net.arrows) for name in nb07_wiring.JUNCTIONS]
    # Every unit has branches squared paths, the last one a path from each branch to output 0.
    assert counts == [2, 4, 3, 9, 9, 9, 9, 4, 16, 16, 4, 1]
    for arrow in net.arrows:
        source, target = net.boxes[arrow.source], net.boxes[arrow.target]
        assert source.column < target.column
        assert (arrow.kind == "down") == (target.size[0] < source.size[0])
        assert (arrow.kind == "up") == (target.size[0] > source.size[0])


def test_routes_are_the_product_of_the_choices():
    assert nb07_wiring.w32("final").routes() == 4  # one way down to each branch, one way back up
    # Stage 2: 2 ways into each of 2 sums; the third branch hears sum 1. Stage 3 sums 2 + 2 + 2 in each of 3, and the
    # fourth branch hears the last: 4 branches of 6.
    assert nb07_wiring.w32("across").routes() == 4 * 6
    # Each further unit of n branches multiplies by n.
    assert nb07_wiring.w32("within").routes() == 24 * 3**3 * 4**2


@pytest.mark.parametrize(("name", "width"), [("hrnet_w32", 32), ("hrnet_w48", 48)])
def test_arithmetic_counts_what_is_there(name, width):
    for joints in (17, 14):
        with torch.device("meta"):
            model = create_model(name, num_keypoints=joints)
        assert count_parameters(width, joints) == sum(p.numel() for p in model.parameters())


def test_explorer_knows_every_junction_of_every_variant():
    for exchange in nb07.VARIANTS.values():
        for junction in nb07_wiring.JUNCTIONS:
            for output in ("all", "3"):
                figure = nb07.stage_explorer(junction=junction, output=output, shows="multiply-adds", exchange=exchange)
                assert figure.axes[0].texts[0].get_text() == junction


def test_cost_shares_add_up():
    params, macs = zip(*nb07.cost_shares(nb07_wiring.w32()).values())
    assert sum(params) == pytest.approx(1) and sum(macs) == pytest.approx(1)
