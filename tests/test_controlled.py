"""Controlled tests: what the tasks promise, what the judges say to right and wrong numbers, and what was recorded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from posekit import analysis
from posekit.experiments import EXPERIMENTS, Measurement, ledger, run
from posekit.experiments.environment import DATA
from posekit.experiments.tasks import detail, distant_cue, two_modes

SHOWN, NOT_SHOWN = "mechanism shown", "mechanism not shown"
NAMES = ("detail_read_out", "detail_recovered", "detail_crowded", "two_modes", "distant_cue_control")


def judge(name: str, metrics: dict[str, float], intervals: dict[str, tuple[float, float]] | None = None):
    return EXPERIMENTS[name].judge(Measurement(metrics, intervals or {}))


# The detail tasks ---------------------------------------------------------------------------------------------------


def test_isolated_pictures_hold_what_they_promise():
    pictures = detail.make_isolated(300, rng=np.random.default_rng(0))
    images, blobs = pictures.images.numpy(), pictures.blobs
    ring = np.zeros((5, 5))
    ring[2], ring[:, 2] = 1, 1
    # The cross is where its own shape correlates best.
    response = nn.functional.conv2d(pictures.images[:, 1:], torch.from_numpy(ring).float()[None, None])[:, 0].flatten(1)
    at = response.argmax(1).numpy()
    cross = np.stack([at % 60 + 2, at // 60 + 2], -1)
    apart = np.linalg.norm(blobs - cross[:, None], axis=-1)
    assert ((apart[:, 0] >= 6) & (apart[:, 0] <= 12)).all() and (apart[:, 1:] > 18).all()
    assert pictures.answer.tolist() == [[True, False, False]] * 300
    between = np.linalg.norm(blobs[:, :, None] - blobs[:, None], axis=-1)[:, *np.triu_indices(3, 1)]
    assert between.min() > 8
    rows, columns = blobs.round().astype(int)[..., 1], blobs.round().astype(int)[..., 0]
    assert images[np.arange(300)[:, None], 0, rows, columns].mean() == pytest.approx(0.88, abs=0.02)
    assert not (blobs % 1 == 0).any(), "centres are sub-pixel"


def test_crowds_hold_what_they_promise():
    pictures = detail.make_crowd(100, 60, rng=np.random.default_rng(0))
    between = np.linalg.norm(pictures.blobs[:, :, None] - pictures.blobs[:, None], axis=-1) + 99 * np.eye(60)
    assert np.quantile(between.min((1, 2)), 0.5) >= 3
    answers = pictures.answer.sum(1)
    assert answers.mean() == pytest.approx(60 * np.pi * 12**2 / 57**2, rel=0.15)


@pytest.mark.parametrize(("name", "thousands"), [("dilated", 4.2), ("strided", 44), ("deconvs", 27), ("laterals", 28)])
def test_every_network_sees_31_pixels_and_has_the_weights_of_the_study(name, thousands):
    net = detail.NETS[name]()
    layers = net.body if name == "dilated" else nn.Sequential(*net.down)
    field = analysis.receptive_field(layers, input_size=(64, 64))
    assert (field.height, field.width) == (31, 31)
    weights = sum(p.numel() for p in net.parameters()) / 1000
    assert round(weights, 1 if thousands < 10 else 0) == thousands


def test_reading_a_perfect_map_is_bounded_by_its_cells():
    """The highest cell of a perfect map errs as the closed form says; the centroid of its softmax hardly errs."""
    blobs = detail.make_isolated(2000, rng=np.random.default_rng(0))
    for stride, sigma in ((8, detail.COARSE_SIGMA), (1, detail.TARGET_SIGMA)):
        maps = detail.gaussians(blobs.blobs, blobs.answer, sigma, stride)
        coarse, fine = detail.read(np.log(np.maximum(maps, 1e-30)), stride=stride)
        plain = np.linalg.norm(coarse - blobs.target, axis=-1)
        assert plain.mean() == pytest.approx(analysis.quantization_bound(stride), rel=0.04)
        assert np.median(np.linalg.norm(fine - blobs.target, axis=-1)) < 0.35 * np.median(plain)


def test_answers_are_met_once_and_within_a_pixel():
    answers = np.array([[10.0, 10.0], [12.0, 10.0]])
    count = detail.match_count
    assert count(np.array([[10, 10], [10, 11]]), answers) == 1
    assert count(np.array([[11, 10], [11, 10]]), answers) == 2
    assert count(np.array([[10, 12], [13.1, 10]]), answers) == 0
    assert count(np.zeros((0, 2)), answers) == count(answers, np.zeros((0, 2))) == 0


@pytest.mark.parametrize("crowd", [6, 60])
def test_heads_begin_at_the_share_of_the_answers(crowd):
    pictures = detail.make_crowd(400, crowd, rng=np.random.default_rng(0))
    share = detail.gaussians(pictures.blobs, pictures.answer, detail.CROWD_SIGMA).mean()
    assert share == pytest.approx(detail.answer_share(crowd), rel=0.15)
    net = detail.train("dilated", seed=0, steps=1, crowd=crowd)
    assert net.head.bias.sigmoid().item() == pytest.approx(detail.answer_share(crowd), rel=0.01)


def test_what_is_told_is_scored_over_all_pictures_together():
    told = detail.Told(np.array([2, 0, 4]), np.array([2, 0, 1]), np.array([2, 3, 1]), 0.5)
    assert told.f1 == pytest.approx(2 * 3 / (6 + 6))
    assert told.f1_of(np.array([[0, 0, 0], [1, 1, 1]])).tolist() == [1, 0]


def test_unknown_network_is_refused():
    with pytest.raises(ValueError, match="dilated, strided"):
        detail.train("pooled", seed=0)


# The control of the distant cue -------------------------------------------------------------------------------------


def test_cue_covers_the_joints_of_the_control():
    pictures = distant_cue.make_pictures(200, rng=np.random.default_rng(0), joints=24, control=True)
    images, side = pictures.images.numpy(), pictures.side.numpy()
    assert np.abs(pictures.offsets).max() == 4
    x, y = pictures.joints.numpy().transpose(2, 0, 1)
    rows = np.arange(200)[:, None]
    assert (images[rows, 2 * side[:, None], y, x] > 1.5).all()
    assert (images[rows, 2 - 2 * side[:, None], y, x] < 1).all()
    inner = ((pictures.cue >= 4) & (pictures.cue < 44)).all(-1).numpy()
    assert ((images > 1).sum((1, 2, 3))[inner] == 81).all()


def test_a_network_without_a_far_tap_solves_the_control():
    learned = distant_cue.train((8, 8, 8, 8), seed=0, steps=60, channels=16, control=True)
    accuracy = distant_cue.measure(learned.net, pictures=300, seed=0, joints=24, control=True)
    assert accuracy.right.sum() / accuracy.seen.sum() > 0.9


# Judges -------------------------------------------------------------------------------------------------------------


def isolated(name: str, plain: float, refined: float, right: float) -> tuple[dict, dict]:
    """Numbers of a test in which ``name``'s errors exceed dilation's by ``plain`` and ``refined``."""
    others = ("strided", "bilinear") if name == "detail_read_out" else ("deconvs",)
    metrics = {"median error, dilated, px": 0.6, "median error refined, dilated, px": 0.3, "right blob, dilated": 1.0}
    intervals = {}
    for other in others:
        metrics |= {
            f"median error, {other}, px": 0.6 + plain,
            f"median error refined, {other}, px": 0.3 + refined,
            f"right blob, {other}": right,
            f"plain error, {other} minus dilated, px": plain,
            f"refined error, {other} minus dilated, px": refined,
        }
        intervals |= {
            f"{kind} error, {other} minus dilated, px": (value - 0.1, value + 0.1)
            for kind, value in (("plain", plain), ("refined", refined))
        }
    return metrics, intervals


@pytest.mark.parametrize("name", ["detail_read_out", "detail_recovered"])
@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((2.7, 0.5, 1.0), SHOWN),
        ((-0.1, 0.0, 1.0), NOT_SHOWN),
        ((2.7, 0.0, 1.0), NOT_SHOWN),
        ((2.7, 0.5, 0.9), "undecided"),
    ],
)
def test_detail_is_lost_only_where_every_reading_is_worse_and_the_blob_is_found_alike(name, numbers, verdict):
    assert judge(name, *isolated(name, *numbers)).verdict == verdict


def test_laterals_are_shown_beside_deconvs_and_decide_nothing():
    metrics, intervals = isolated("detail_recovered", -0.1, 0.0, 1.0)
    for table in (metrics, intervals):
        table |= {name.replace("deconvs", "laterals"): value for name, value in table.items() if "deconvs" in name}
    metrics |= {"plain error, laterals minus dilated, px": 3.0, "right blob, laterals": 0.5}
    test = EXPERIMENTS["detail_recovered"]
    own, beside = (ask(Measurement(metrics, intervals)) for ask in (test.judge, test.by_claim["D10"]))
    assert (beside.verdict, beside.reason, beside.cells[:3]) == (own.verdict, own.reason, own.cells)
    assert [cell.name.split(", ")[1] for cell in beside.cells[3:]] == ["laterals minus dilated"] * 2


def crowded(few: tuple[float, float, float], many: tuple[float, float, float], half: float = 0.02):
    """The judgement of F1 of (dilated, deconvs, laterals) with few and many blobs, known to ``half``."""
    f1 = {k: dict(zip(("dilated", "deconvs", "laterals"), shares)) for k, shares in ((6, few), (60, many))}
    apart = {
        f"F1, {k} blobs, {more} minus {less}": one[more] - one[less]
        for k, one in f1.items()
        for more, less in (("dilated", "deconvs"), ("laterals", "dilated"))
    }
    apart["growth with the crowd of F1, dilated minus deconvs"] = (
        apart["F1, 60 blobs, dilated minus deconvs"] - apart["F1, 6 blobs, dilated minus deconvs"]
    )
    metrics = {f"F1, {k} blobs, {name}": share for k, one in f1.items() for name, share in one.items()}
    return judge("detail_crowded", metrics | apart, {k: (v - half, v + half) for k, v in apart.items()})


STUDY = (0.96, 0.80, 0.96)  # what the study found with 6 blobs


@pytest.mark.parametrize(
    ("few", "many", "half", "verdict"),
    [
        (STUDY, (0.97, 0.6, 0.97), 0.02, SHOWN),  # and with 60
        (STUDY, (0.97, 0.95, 0.97), 0.02, NOT_SHOWN),
        (STUDY, (0.97, 0.81, 0.97), 0.02, NOT_SHOWN),  # behind by as much as with few blobs
        (STUDY, (0.97, 0.6, 0.97), 0.3, NOT_SHOWN),  # within the noise
        (STUDY, (0.5, 0.1, 0.5), 0.02, NOT_SHOWN),  # dilation does not keep it either
        ((0.96, 0.5, 0.96), (0.97, 0.1, 0.97), 0.02, "undecided"),  # deconvs have not learned the task
        ((0.0, 0.8, 0.96), (0.97, 0.6, 0.97), 0.02, "undecided"),  # dilation has not
        ((0.96, 0.8, 0.0), (0.97, 0.6, 0.97), 0.02, "undecided"),  # laterals have not
        ((0.96, 0.0, 0.96), (0.97, 0.0, 0.97), 0.02, "undecided"),  # deconvs have learned nothing at all
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.02, "undecided"),
        ((0.0, 0.0, 0.0), (0.97, 0.0, 0.97), 0.02, "undecided"),
    ],
)
def test_crowded_detail_is_lost_only_by_the_crowd_and_by_networks_that_work(few, many, half, verdict):
    assert crowded(few, many, half).verdict == verdict


@pytest.mark.parametrize(("laterals", "word"), [(0.97, SHOWN), (0.8, NOT_SHOWN)])
def test_a_way_around_the_bottleneck_is_shown_beside_the_verdict(laterals, word):
    judged = crowded(STUDY, (0.97, 0.6, laterals))
    (beside,) = (cell for cell in judged.cells if cell.name.startswith("F1, 60 blobs, laterals"))
    assert (judged.verdict, beside.verdict) == (SHOWN, word)
    assert [cell.name for cell in judged.cells if cell.name.startswith("control: ")] == [
        "control: F1, 6 blobs, best network minus worst, %"
    ]


@pytest.mark.parametrize(
    ("heatmap", "regression", "alone", "verdict"),
    [(1.0, 0.02, 0.99, SHOWN), (1.0, 0.9, 0.99, NOT_SHOWN), (0.6, 0.0, 0.99, NOT_SHOWN), (1.0, 0.02, 0.7, "undecided")],
)
def test_modes_need_heatmaps_ahead_and_every_head_right_about_one_blob(heatmap, regression, alone, verdict):
    names = ("on_blob", "midpoint", "rms_error")
    metrics = {f"{name}, {head}": 0.0 for name in names for head in two_modes.HEADS}
    metrics |= {f"control: hits the label, {head}": 0.99 for head in two_modes.HEADS}
    metrics |= {f"on_blob, {head}": heatmap for head in ("heatmap_mse", "heatmap_ce")}
    metrics |= {"on_blob, regression_l1": regression, "control: hits the label, regression_l2": alone}
    assert judge("two_modes", metrics).verdict == verdict


def test_control_of_the_cue_needs_every_scheme_to_know():
    def control(**worst: float) -> str:
        shares = {f"accuracy, {name}": 1.0 for name in distant_cue.SCHEMES} | {"accuracy, D=8": worst["d8"]}
        return judge("distant_cue_control", shares).verdict

    assert control(d8=0.99) == "seen" and control(d8=0.95) == "not seen"
    assert (
        judge("distant_cue_control", {f"accuracy, {name}": 0.5 for name in distant_cue.SCHEMES}).verdict == "not seen"
    )


@pytest.mark.parametrize(
    ("beyond", "within", "verdict"),
    [((0.2, 0.3), (0.0, 0.01), SHOWN), ((-0.01, 0.01), (0.0, 0.01), NOT_SHOWN), ((0.2, 0.3), (0.1, 0.15), "undecided")],
)
@pytest.mark.parametrize(
    "name", [f"left_right_{s}{test}" for s in ("", "bib_") for test in ("reach", "constant", "order")]
)
def test_sides_need_an_effect_beyond_the_field_and_a_tie_within(name, beyond, within, verdict):
    pairs = EXPERIMENTS[name].profiles["quick"].get("pairs", [["D=1", "DPM"]])
    arms = {arm for pair in pairs for arm in pair}
    metrics = {f"{place} the field, {arm}": 0.1 for place in ("within", "beyond") for arm in arms}
    metrics["receptive field px, D=1"] = 67.0
    intervals = {}
    for first, second in pairs:
        for place, ends in (("beyond", beyond), ("within", within)):
            metrics[f"{place} the field, {first} minus {second}"] = sum(ends) / 2
            intervals[f"{place} the field, {first} minus {second}"] = ends
    assert judge(name, metrics, intervals).verdict == verdict


# Runs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_smoke(name):
    """Too short to learn anything: the test runs, is judged and says so."""
    (row,) = run(name, profile="smoke", seeds=(1,))
    assert row.verdict in (NOT_SHOWN, "not seen", "undecided") and row.cells
    assert np.isfinite(list(row.metrics.values())).all()


@pytest.mark.parametrize("name", [name for name, test in EXPERIMENTS.items() if test.kind == "controlled"])
def test_recorded_numbers_give_the_recorded_verdict(name):
    rows = ledger.read_file(DATA / "ledger" / f"{name}.jsonl")
    profiles = EXPERIMENTS[name].profiles
    # Runs of an earlier definition are history; the judge speaks of numbers that they do not have.
    rows = [row for row in rows if row.config == profiles[row.scope.profile]]
    if not rows:
        pytest.skip(f"no run of {name} as it is defined today is recorded yet")
    for row in rows:
        assert judge(name, dict(row.metrics), dict(row.intervals)).verdict == row.verdict
        for pair in row.config.get("pairs", []):
            for place in ("within", "beyond"):
                ours, theirs = (row.metrics[f"{place} the field, {arm}"] for arm in pair)
                found = row.metrics[f"{place} the field, {pair[0]} minus {pair[1]}"]
                assert found == pytest.approx(ours - theirs, abs=1e-9)


@pytest.mark.parametrize("name", ["left_right_reach", "left_right_bib_reach"])
def test_recorded_sides_show_what_reach_does(name):
    """The robust fact, in every seed: beyond its field D=1 confuses far more joints than the pyramid does."""
    config = EXPERIMENTS[name].profiles["quick"]
    rows = [row for row in ledger.read_file(DATA / "ledger" / f"{name}.jsonl") if row.config == config]
    assert len({row.seed for row in rows}) >= 5
    for row in rows:
        low, _ = row.intervals["beyond the field, D=1 minus DPM"]
        near = row.metrics["within the field, D=1 minus DPM"]
        assert low > 0.1 and abs(near) < 0.05, (row.seed, low, near)


def test_recorded_modes_are_what_statistics_says():
    """The robust facts, in every recorded seed: squared error answers the midpoint, heatmaps one of the blobs."""
    rows = ledger.read_file(DATA / "ledger" / "two_modes.jsonl")
    assert rows
    for row in rows:
        assert row.metrics["midpoint, regression_l2"] > 0.8
        assert min(row.metrics["on_blob, heatmap_mse"], row.metrics["on_blob, heatmap_ce"]) > 0.95
