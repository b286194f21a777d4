"""Notebook 08's helpers agree with the codec, the closed form and arithmetic; recorded runs are found by their arms."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from posekit import metrics
from posekit.analysis import oks_ceiling
from posekit.codecs import GaussianHeatmap
from posekit.course.lessons import nb08, nb08_runs
from posekit.data import Mannequin
from posekit.experiments import LedgerError, Row, Scope, ledger
from posekit.experiments.ablations import ABLATIONS
from posekit.experiments.ablations.reading import recorded_arms, recorded_comparison
from posekit.skeletons import COCO17


@pytest.fixture(scope="module")
def data() -> Mannequin:
    return Mannequin("test", level="face", scenes=8, progress=False)


@pytest.mark.parametrize("decoder", nb08.DECODERS)
@pytest.mark.parametrize("stride", [2, 8])
def test_reading_without_a_map_is_what_the_codec_reads(decoder, stride):
    size = (32 * stride, 32 * stride)
    points = stride * (8 + 16 * torch.rand(1, 400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    codec = GaussianHeatmap(size, stride=stride, centre="subpixel", decoder=decoder.lower())
    decoded = codec.decode(codec.encode(points, torch.ones(1, 400))[0])[0]
    assert nb08.read(points.numpy(), stride, decoder) == pytest.approx(decoded.numpy(), abs=2e-3 * stride)


def test_only_cells_on_the_person_matter(data):
    ceilings = {nb08.ceiling(data.people, (h, 3 * h // 4), s) for h, s in ((64, 4), (128, 8), (256, 16))}
    (oks, ap) = ceilings.pop()
    assert not ceilings
    assert 0 < ap < 100
    assert nb08.ceiling(data.people, (128, 96), 4)[0] > oks
    assert nb08.cells_on_person((64, 48), 4) == nb08.cells_on_person((256, 192), 16) == 12.8


@pytest.mark.parametrize("decoder", ["argmax", "quarter"])
def test_a_random_grid_meets_the_closed_form_ceiling(decoder):
    size, rng = (128, 96), np.random.default_rng(0)
    truth = rng.random((3000, 17, 2)) * size[::-1]
    area = np.full(len(truth), 0.53 * size[0] * size[1] / 1.25**2)
    found = metrics.oks(
        nb08.anywhere(truth, 8, decoder), truth, area=area, visibility=np.full((3000, 17), 2), sigmas=COCO17.sigmas
    )
    assert found.mean() == pytest.approx(oks_ceiling(8, decoder, input_size=size), abs=0.003)


def test_squares_of_errors_add():
    rng = np.random.default_rng(1)
    truth = rng.random((50_000, 2)) * 100
    answer = truth + rng.normal(0, 3, truth.shape)
    assert nb08.rms(truth, answer) == pytest.approx(3 * math.sqrt(2), rel=0.01)
    for stride in (2, 8, 32):
        expected = math.sqrt(18 + stride**2 / 6)
        assert nb08.rms(truth, nb08.anywhere(answer, stride)) == pytest.approx(expected, rel=0.01)


def test_a_coarser_picture_loses_detail_and_nothing_else():
    class Same(torch.nn.Module):
        codec = None

        def forward(self, images):
            return images

    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2.0
    images = torch.stack([board, torch.full((16, 16), 0.25)])[None]
    assert torch.equal(nb08.Shrunk(Same(), 1)(images), images)
    shrunk = nb08.Shrunk(Same(), 2)(images)
    assert torch.equal(shrunk[0, 0], torch.full((16, 16), 0.5))  # squares of black and white turn grey
    assert torch.equal(shrunk[0, 1], images[0, 1])


def test_two_causes_start_together_and_the_perfect_network_falls(data):
    table = nb08.two_causes(data, (1, 4))
    trained = [values for name, values in table.items() if name.startswith("trained")]
    assert len({values[0] for values in trained}) == 1
    assert all(values[1] < values[0] < table["perfect, coarser ruler"][0] for values in trained)
    assert table["trained, both"][1] < min(table["trained, coarser ruler"][1], table["trained, coarser picture"][1])


def test_the_trained_network_is_best_at_the_size_it_knows(data):
    found = {size: nb08.answers(nb08.trained(size), data) for size in ((48, 32), (96, 64), (192, 128))}
    oks = {size: one.oks(answer) for size, (one, answer) in found.items()}
    assert max(oks, key=oks.__getitem__) == (96, 64)
    truth, _ = nb08.found_joints(*found[96, 64], share=np.inf)
    assert len(truth) == (found[96, 64][0].people.visibility > 0).sum() > len(nb08.found_joints(*found[96, 64])[0]) > 0


def test_own_error_is_a_share_of_the_person(data):
    one = nb08.cut(data.people, (128, 96))
    assert one.oks(nb08.with_own_error(one, 0)) == pytest.approx(1)
    moved = nb08.with_own_error(one, 2.0) - one.keypoints
    assert moved.std() == pytest.approx(0.02 * 128 / 1.25, rel=0.05)


# Recorded runs


def _run(ablation: str, arm: str, seed: int, ap: float, **changes) -> Row:
    config = ABLATIONS[ablation].configs("quick")[arm]
    values = {
        "test": "training", "claims": ("H04",), "kind": "trained", "scope": Scope("Mannequin", "quick"),
        "config": config, "config_hash": ledger.config_hash(config), "seed": seed, "commit": "0" * 40,
        "versions": {}, "hardware": {"device": "cpu"}, "wall_s": 1.0, "tolerance": 1.0,
        "metrics": {"AP": ap, "mean OKS": 50.0, "AP, argmax": ap - 1, "AP, dark": ap + 1},
    }  # fmt: skip
    return Row(**{**values, **changes})


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A ledger of five runs, one of them recorded again later."""
    rows = [_run("input_size", "HRNet, smallest", seed, 10.0 + seed) for seed in (2, 1)]
    rows += [_run("hrnet_branches", "1/4", seed, 20.0 + 2 * seed) for seed in (1, 2)]
    rows += [_run("hrnet_branches", "1/8", 1, 15.0), _run("hrnet_branches", "1/8", 1, 16.0, commit="1" * 40)]
    ledger.append(tmp_path, rows)
    return tmp_path


def test_runs_are_found_by_arm_and_shared_between_ablations(book):
    arms = recorded_arms("input_size", folder=book)
    assert list(arms) == list(ABLATIONS["input_size"].arms)
    assert [(seed, run["AP"]) for seed, run in arms["HRNet, smallest"].items()] == [(1, 11.0), (2, 12.0)]
    assert [run["AP"] for run in arms["HRNet, base"].values()] == [22.0, 24.0]  # recorded for hrnet_branches
    assert arms["HRNet, large"] == {}
    assert recorded_arms("hrnet_branches", folder=book)["1/8"][1]["AP"] == 16.0  # the newest
    assert recorded_arms("input_size", "full", folder=book)["HRNet, smallest"] == {}


def test_comparisons_are_read_by_profile(tmp_path):
    row = _run("input_size", "HRNet, base", 1, 20.0, test="larger_input", verdict="seen")
    other = dataclasses.replace(row, scope=Scope("Mannequin", "smoke"), seed=2)
    ledger.append(tmp_path, [row, other])
    assert recorded_comparison("larger_input", folder=tmp_path) == row
    assert recorded_comparison("larger_input", "full", folder=tmp_path) is None
    with pytest.raises(LedgerError, match="no ablation 'figure6'"):
        recorded_arms("figure6", folder=tmp_path)


def test_parts_of_the_gain_add_up_and_what_is_missing_is_said(book, monkeypatch):
    monkeypatch.setattr(nb08_runs, "recorded_arms", lambda name: recorded_arms(name, folder=book))
    parts = nb08_runs.split_gain("AP")
    assert parts["in all"].values.tolist() == [11.0, 12.0]  # both seeds
    picture, branch = (
        parts[name].values[0] for name in ("the picture, at equal cells", "the finer branch, at equal pictures")
    )
    assert picture + branch == parts["in all"].values[0]
    assert nb08_runs.written(parts["the finer branch, at equal pictures"]) == "6.0 (one seed)"
    assert nb08_runs.written(nb08_runs.difference({1: {"AP": 1.0}}, {2: {"AP": 1.0}}, "AP")) == nb08_runs.NOT_YET
    lines = nb08_runs.arms_table("hrnet_branches").splitlines()
    assert "23.0 [10.3, 35.7], 2 seeds" in lines[0]  # 12.706 is t(0.975) of one degree of freedom
    assert lines[2].endswith(nb08_runs.NOT_YET)


def test_figures_draw_what_is_there(book, data, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(nb08_runs, "recorded_arms", lambda name: recorded_arms(name, folder=book))
    figure = nb08_runs.input_size_figure(data.people, nb08_runs.recorded_arms("input_size"))
    left, right = figure.axes
    assert "HRNet" in left.get_legend_handles_labels()[1]
    assert "SimpleBaseline" not in left.get_legend_handles_labels()[1]
    assert [text.get_text() for text in right.texts] == [f"trained pairs: {nb08_runs.NOT_YET}"]
    (drawn,) = (line for line in left.lines if line.get_marker() == "o")
    assert drawn.get_ydata().tolist() == [11.5, 23.0]
    figure = nb08_runs.cells_figure(data.people)
    assert nb08_runs.NOT_YET in figure.axes[0].texts[0].get_text()
    plt.close("all")
