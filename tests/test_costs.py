"""Published costs: each figure explained by a convention or kept with its reason, each claim judged by its numbers."""

from __future__ import annotations

import csv
import dataclasses
import json

import pytest
import torch
from torch import nn

from posekit import create_model
from posekit.analysis import complexities
from posekit.cli import main
from posekit.experiments import Measurement, claims, cost_tables, costs, run, zoo
from posekit.experiments.cost_claims import COST_TESTS
from posekit.experiments.environment import DATA

TESTS = {experiment.name: experiment for experiment in COST_TESTS}


@pytest.fixture(scope="module")
def compared():
    return {one.printed.key: one for one in costs.compare_all()}


def find(compared, *words):
    (one,) = [one for key, one in compared.items() if all(word in key for word in words)]
    return one


def test_every_printed_figure_of_a_known_network_is_there(compared):
    """110 figures: the filled cells of the six tables, less the rows that no network here stands for."""
    cells = 0
    for table, (columns, _) in costs.TABLES.items():
        with open(DATA / "papers" / f"{table}.csv", newline="") as file:
            cells += sum(bool(row[column]) for row in csv.DictReader(file) for column in columns)
    literature = 2 * 4 + 2 * 6  # G-RMI twice, Integral, RMPE; DeeperCut, MCA, JADA, LFP, Deeply, PIL
    assert len(compared) == cells - literature == 110


def test_what_its_table_does_not_give_has_a_reason_and_nothing_else_has(compared):
    for one in compared.values():
        assert bool(one.reason) == (one.reading != one.printed.reading), one.printed.key
        assert "{" not in one.reason
    used = {
        (one.printed.network[0], one.printed.quantity, one.printed.value) for one in compared.values() if one.reason
    }
    assert used == set(costs.REASONS)


def test_figures_that_no_reading_gives(compared):
    missed = {(one.printed.network[0], one.printed.quantity, one.printed.value)
              for one in compared.values() if not one.reproduced}  # fmt: skip
    assert missed == {
        ("hourglass8", "params, M", 25.1),
        ("hourglass8", "GFLOPs", 14.3),
        ("cpn_r50", "GFLOPs", 6.2),
        ("simple_baseline_r152", "GFLOPs", 35.6),
        ("simple_baseline_r152", "GFLOPs", 20.9),
        ("transpose_r_a4_srpose", "GFLOPs", 6.26),
    }


@pytest.mark.parametrize(
    ("words", "reading"),
    [
        (("table1", "HRNet-W48 384x288, GFLOPs"), "official"),
        (("table1", "SimpleBaseline ResNet-50", "GFLOPs"), "official, cut off"),
        (("table4", "DPN4_64, features 64x48"), "official"),
        (("top-down ResNet-50, SRPose, GFLOPs",), "mmcv"),
        (("HRFormer-S, SR head, GFLOPs",), "mmcv, synchronised BN"),
        (("HRFormer-S, SRPose, GFLOPs",), "mmcv, synchronised BN, training heads"),
        (("HRFormer-S, SRPose, backbone",), "with training heads"),
        (("HRNet-W32, SRPose, backbone",), "in evaluation, by difference"),
        (("bottom-up ResNet-50, SR head, GFLOPs",), "mmcv"),
        (("TransPose-R-A4, SR head, GFLOPs",), "transpose"),
    ],
)
def test_the_reading_that_explains_a_figure(compared, words, reading):
    assert find(compared, *words).reading == reading


def test_every_ring_of_the_figure_is_around_a_mark(compared):
    ax = cost_tables.published_figure(list(compared.values())).axes[0]
    points = {
        line.get_label(): {(round(float(x), 9), y) for x, y in zip(*line.get_data(orig=True))} for line in ax.lines
    }
    rings = points.pop("explains it")
    del points["nothing does"]
    assert rings <= set().union(*points.values())
    assert len(rings) == sum(one.reproduced for one in compared.values() if one.printed.quantity == "GFLOPs")


def test_a_wrong_network_is_not_explained(compared):
    """DPN as the slides draw it, without the extra bottleneck, misses the printed 9.6."""
    with torch.device("meta"):
        model = create_model("dpn4_64_highres", bridge=False)
    printed = find(compared, "table4", "DPN4_64, features 64x48").printed
    wrong = costs.compare(printed, {name: cost.giga for name, cost in complexities(model).items()})
    assert not wrong.reproduced


@pytest.mark.parametrize("name", ["hrnet_w32", "simple_baseline_r50", "dpn4_64"])
def test_official_count_by_plain_hooks(name):
    """The HRNet script's rule, written again from its description: weights times output positions, over 1024^3."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        total += layer.weight.numel() * output.shape[-2] * output.shape[-1]

    with torch.device("meta"):
        model = create_model(name).eval()
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(count)
        model(torch.empty(1, 3, 256, 192))
    assert total / 1024**3 == pytest.approx(costs.network_costs((name, (256, 192), 17))["official"], rel=1e-12)


def test_a_padded_zero_is_no_digit():
    figures = costs.printed_figures(["hrnet_table1_coco_val", "srpose_coco_val"])
    units = {(f.table, f.quantity): f.unit for f in figures}
    assert units["hrnet_table1_coco_val", "GFLOPs"] == pytest.approx(0.1)  # 7.10 stands beside 14.6
    assert units["srpose_coco_val", "GFLOPs"] == pytest.approx(0.01)  # 29.20 stands beside 5.46


EXPECTED = {
    "hrnet_ranking": "reproduced under convention official, transpose",
    "hrnet_parameters": "undecided",
    "hrnet_operations": "contradicted",
    "hrnet_against_cpn": "reproduced",
    "dpn_resolution_cost": "reproduced",
    "dpn_costs": "contradicted",
    "dpn_tenth": "reproduced",
    "dpn_thirteenth": "reproduced",
    "srpose_light": "reproduced",
    "srpose_costs": "undecided",
}


@pytest.mark.parametrize("name", TESTS)
def test_verdicts(name):
    (row,) = run(TESTS[name], profile="quick")
    assert row.verdict == EXPECTED[name]
    assert row.cells and all(cell.published for cell in row.cells)


def test_every_cost_half_has_its_test():
    named = {claim for experiment in COST_TESTS for claim in experiment.claims}
    assert named == {"H07", "H08", "H09", "H16", "D05", "D07", "D09", "D11", "S04", "S05"}
    # Where the claims table splits a claim into cost and accuracy, this is the cost half.
    assert named >= {claim.id for claim in claims() if "cost" in claim.parts}


def _changed(name, change):
    """The verdict after the measurement's numbers are changed."""
    experiment = TESTS[name]
    metrics = experiment.measure(experiment.profiles["quick"], 0).metrics
    return experiment.judge(Measurement({key: change(key, value) for key, value in metrics.items()}))


@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    [
        ("hrnet_ranking", lambda k, v: v * 9 if "HRNet" in k else v, "contradicted"),
        ("hrnet_ranking", lambda k, v: v / 9 if "HRNet" in k else v, "reproduced"),
        ("hrnet_against_cpn", lambda k, v: v * 1.3 if "HRNet" in k else v, "contradicted"),
        ("dpn_resolution_cost", lambda k, v: v * 1.3 if "64x48" in k else v, "contradicted"),
        ("dpn_tenth", lambda k, v: v * 1.3 if "DPN4_64" in k else v, "contradicted"),
        ("dpn_thirteenth", lambda k, v: v * 1.3, "contradicted"),
        ("srpose_light", lambda k, v: v * 9 if k.startswith("SRPose") else v, "contradicted"),
        ("srpose_costs", lambda k, v: v * 1.01, "contradicted"),
        ("hrnet_parameters", lambda k, v: v * 1.01, "contradicted"),
    ],
)
def test_other_numbers_give_another_verdict(name, change, verdict):
    assert _changed(name, change).verdict == verdict


def test_complexity_verb_prints_what_the_package_counts(capsys):
    assert main(["complexity", "dpn4_32", "simple_baseline_r50", "--convention", "official", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [round(one["giga"], 3) for one in shown] == [1.058, 8.991]
    assert main(["complexity", "dpn4_32", "--layers"]) == 0
    text = capsys.readouterr().out
    assert "backbone.conv0.0" in text and "Conv2d" in text and "128x96" in text


def test_published_verb_gives_every_figure_with_its_verdict(capsys, compared):
    assert main(["complexity", "--published", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown) == len(compared)
    assert main(["complexity", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown
    assert {one["verdict"] for one in shown} >= {"reproduced under convention official", "undecided", "contradicted"}
    assert main(["complexity", "--published"]) == 0
    text = capsys.readouterr().out
    assert "99 of 110" in text and "cut off after the first decimal" in text


def test_models_and_published_exclude_each_other(capsys):
    assert main(["complexity"]) == 2
    assert main(["complexity", "hrnet_w32", "--published"]) == 2
    assert "name a network" in capsys.readouterr().err


def test_the_zoo_is_up_to_date():
    assert zoo.zoo_table() == zoo.PATH.read_text(encoding="utf-8"), "run posekit complexity --zoo"


def test_the_zoo_shows_recorded_runs_with_their_interval(tmp_path):
    """Mean and t-interval (two degrees of freedom: 4.3027) over the seeds of the plain network, and of no other arm."""
    from posekit.experiments import Scope, ledger
    from posekit.experiments.ablations import Arm

    (row,) = run("flip_shift_stride4", profile="smoke")

    def trained(arm, seed, ap):
        config = arm.config("quick")
        return dataclasses.replace(
            row, test="training", kind="trained", seed=seed, config=config, config_hash=ledger.config_hash(config),
            scope=Scope("Mannequin, bib, balanced", "quick", "tiny_hrnet"), metrics={"AP": ap},
            intervals={"AP": (ap - 1, ap + 3)}, verdict=None, cells=(),
        )  # fmt: skip

    plain = Arm("tiny_hrnet", "hrnet_w32")
    others = [
        dataclasses.replace(plain, tiny_options={"width": 18}),
        dataclasses.replace(plain, size="large"),
        dataclasses.replace(plain, samples=2.0),
        dataclasses.replace(plain, codec={"sigma": 3.0}),
        dataclasses.replace(plain, own_loss=True),
    ]

    def ours():
        lines = zoo.zoo_table(folder=tmp_path).splitlines()
        (line,) = [line for line in lines if line.startswith("| `tiny_hrnet`")]
        return line

    ledger.append(tmp_path, [trained(arm, 1, 90.0) for arm in others[:4]])
    assert "not run yet" in ours()
    ledger.append(tmp_path, [trained(plain, 1, 70.0), trained(others[4], 1, 90.0)])
    assert "70.0 [69.0, 73.0] Mannequin, bib, balanced, quick, 96x64; training, seed 1 " in ours()
    ledger.append(tmp_path, [trained(plain, 2, 72.0), trained(plain, 3, 71.0)])
    assert "71.0 [68.5, 73.5] Mannequin, bib, balanced, quick, 96x64; training, seeds 1, 2, 3 " in ours()


def test_the_zoo_prints_no_figure_of_other_data():
    assert "CrowdPose" not in zoo.zoo_table()
