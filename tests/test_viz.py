"""The plotting style is readable, and people are drawn where they are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from posekit import viz
from posekit.skeletons import COCO17, Skeleton

DOT = Skeleton(
    name="dots", keypoints=("left_dot", "right_dot"), flip_pairs=((0, 1),), limbs=((0, 1),), sigmas=(0.1, 0.1)
)

# Full loss of one kind of cone: Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio."""
    a, b = (float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (first, second))
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x = np.clip(matrix @ np.clip(rgb, 0, 1), 1e-9, None) / [0.9505, 1.0, 1.089]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("name", viz.COLOURS)
def test_lines_stand_out_from_the_panel(name):
    assert contrast(viz.COLOURS[name], viz.PANEL) >= 3  # WCAG 2.2, 1.4.11


def test_text_stands_out_and_the_panel_stands_out_from_a_dark_page():
    assert contrast(viz.INK, viz.PANEL) >= 7
    assert contrast(viz.MUTED, viz.PANEL) >= 4.5
    assert contrast(viz.PANEL, "#111111") >= 10


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_differ_without_one_kind_of_cone(kind):
    """The four colours that plots use first differ at least five-fold of what is just noticeable."""
    seen = {name: lab(np.array(BLINDNESS[kind]) @ linear(c)) for name, c in list(viz.COLOURS.items())[:4]}
    for a, b in combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 11.5, (a, b)


def test_series_differ_in_dash_or_marker_too():
    from posekit.viz.style import parameters

    cycle = list(parameters()["axes.prop_cycle"])
    assert len({(str(c["linestyle"]), c["marker"]) for c in cycle}) == len(cycle) == len(viz.COLOURS)


def test_style_as_a_context_leaves_nothing_behind():
    import matplotlib as mpl

    before = mpl.rcParams["axes.facecolor"]
    with viz.style():
        assert mpl.rcParams["axes.facecolor"] == viz.PANEL
    assert mpl.rcParams["axes.facecolor"] == before


def centre_of(drawn: np.ndarray, plain: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero((drawn != plain).any(axis=-1))
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("scale", [1, 4])
def test_points_are_drawn_where_they_are(scale):
    """Pixel i of the picture covers scale pixels of the enlarged one, centred at scale * i + (scale - 1) / 2."""
    plain = np.zeros((60, 80, 3), np.uint8)
    point = np.array([[30.0, 20.0], [0.0, 0.0]])
    drawn = viz.draw_people(plain, point, visibility=[2, 0], skeleton=DOT, scale=scale)
    expected = point[0] * scale + (scale - 1) / 2
    assert centre_of(drawn, np.zeros_like(drawn)) == pytest.approx(expected, abs=0.3)
    assert plain.max() == 0  # the picture that was given is not drawn on


def test_occluded_keypoints_are_hollow_and_absent_ones_are_not_drawn():
    plain = np.full((60, 80, 3), 128, np.uint8)
    points = np.array([[20.0, 30.0], [60.0, 30.0]])
    drawn = viz.draw_people(plain, points, visibility=[1, 0], skeleton=DOT, thickness=4)
    assert tuple(drawn[30, 20]) == (255, 255, 255)
    assert (drawn[:, 50:] == 128).all()  # neither the absent keypoint nor a limb to it
    both = viz.draw_people(plain, points, visibility=[2, 2], skeleton=DOT, thickness=4)
    assert tuple(both[30, 20]) != tuple(both[30, 60])  # left and right have their own colours


def test_pictures_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="give \\(H, W, 3\\) uint8"):
        viz.draw_people(np.zeros((4, 4)), np.zeros((17, 2)))


def test_limbs_have_their_side_s_colour():
    colours = dict(zip(COCO17.limbs, viz.limb_colours(COCO17)))
    assert len({colours[(7, 9)], colours[(8, 10)], colours[(5, 6)]}) == 3  # left arm, right arm, across


def test_colour_map_runs_from_one_end_to_the_other():
    colours = viz.colour_map(np.array([0.0, 0.5, 1.0, 2.0]), low=0.0, high=1.0)
    assert colours.dtype == np.uint8 and colours.shape == (4, 3)
    assert (colours[2] == colours[3]).all()
    assert np.diff(colours[:3].astype(int).sum(1)).min() > 0  # viridis gets lighter


def test_plots_hold_what_they_were_given():
    with viz.style():
        ax = viz.forest(["a", "b"], [1.0, np.nan], [0.5, np.nan], [2.0, np.nan], reference=[1.5, 1.0], unit="AP")
        assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
        assert "not run yet" in [text.get_text() for text in ax.texts]
        ax = viz.interval_lines([1, 2, 3], {"x": np.array([[1.0, 2, 3], [3, 4, 5]])})
        assert ax.lines[0].get_ydata() == pytest.approx([2, 3, 4])
        assert len(ax.collections) == 1
        ax = viz.precision_recall(np.array([[1.0, 0.5], [0.5, -1.0]]))
        assert np.isnan(ax.lines[1].get_ydata()[1])
        with pytest.raises(ValueError, match="thresholds, recall levels"):
            viz.precision_recall(np.zeros(101))
        figure = viz.show_heatmaps(np.zeros((64, 48, 3), np.uint8), np.eye(17)[:, None] * np.ones((1, 16, 1)))
        assert len([axis for axis in figure.axes if axis.images]) == 17
        import matplotlib.pyplot as plt

        plt.close("all")
