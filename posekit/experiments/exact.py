"""Tests that are arithmetic: the OKS scale, the flip test's alignment, the receptive field of dilated pyramids."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from posekit.analysis import (
    dpm_layers,
    dpm_receptive_field,
    flip_bias,
    oks_scale_ratio,
    receptive_field,
    simulated_flip_bias,
)
from posekit.experiments.ledger import Cell
from posekit.experiments.runner import Experiment, Judgement, Measurement
from posekit.metrics import oks
from posekit.skeletons import COCO17


def _measure_oks_scale(config: Mapping[str, Any], seed: int) -> Measurement:
    rng = np.random.default_rng(seed)
    people = config["people"]
    box = np.concatenate([rng.uniform(0, 300, (people, 2)), rng.uniform(40, 300, (people, 2))], 1)
    area = box[:, 2] * box[:, 3] * rng.uniform(0.3, 0.8, people)
    truth = box[:, None, :2] + rng.random((people, COCO17.num_keypoints, 2)) * box[:, None, 2:]
    visibility = rng.integers(0, 3, (people, COCO17.num_keypoints))
    visibility[:, 0] = 2
    guess = truth + rng.normal(0, 0.05, truth.shape) * np.sqrt(area)[:, None, None]
    reference = _reference_oks(guess, truth, visibility, area, box)
    diagonal = box[:, 2] ** 2 + box[:, 3] ** 2
    sigmas = COCO17.sigmas
    by_area = oks(guess, truth, area=area, visibility=visibility, sigmas=sigmas)
    by_diagonal = oks(guess, truth, area=diagonal, visibility=visibility, sigmas=sigmas)
    ratio = oks_scale_ratio(box[:, 2], box[:, 3], area)
    return Measurement(
        {
            "largest difference, s^2 = area": float(np.abs(by_area - reference).max()),
            "largest difference, s = box diagonal": float(np.abs(by_diagonal - reference).max()),
            "mean OKS, reference": float(reference.mean()),
            "mean OKS, s = box diagonal": float(by_diagonal.mean()),
            "mean ratio of s^2": float(ratio.mean()),
        }
    )


def _reference_oks(guess, truth, visibility, area, box) -> np.ndarray:
    """OKS of each person by pycocotools, (N,): one image a person, so that every pair is its own matrix."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def flat(points, third):
        return np.concatenate([points, third[..., None]], -1).reshape(-1).tolist()

    count = len(truth)
    images = [{"id": i + 1, "width": 640, "height": 640} for i in range(count)]
    category = [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}]
    labels = [
        {
            "id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "area": float(area[i]),
            "bbox": box[i].tolist(), "num_keypoints": int((visibility[i] > 0).sum()),
            "keypoints": flat(truth[i], visibility[i]),
        }
        for i in range(count)
    ]  # fmt: skip
    results = [
        {"image_id": i + 1, "category_id": 1, "score": 1.0, "keypoints": flat(guess[i], np.ones(len(guess[i])))}
        for i in range(count)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {"info": {}, "images": images, "annotations": labels, "categories": category}
        ground.createIndex()
        evaluator = COCOeval(ground, ground.loadRes(results), "keypoints")
        evaluator._prepare()
        return np.array([evaluator.computeOks(i + 1, 1)[0, 0] for i in range(count)])


def _judge_oks_scale(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    area, diagonal = m["largest difference, s^2 = area"], m["largest difference, s = box diagonal"]
    if area < 1e-9 < diagonal:
        verdict = "contradicted"
    elif diagonal < 1e-9 < area:
        verdict = "reproduced"
    else:
        verdict = "undecided"
    return Judgement(
        verdict,
        f"The reference evaluator agrees with s^2 = segment area to {area:.0e} and differs from the box diagonal by up "
        f"to {diagonal:.2f}: the diagonal makes s^2 {m['mean ratio of s^2']:.1f} times larger and reads a mean OKS of "
        f"{m['mean OKS, s = box diagonal']:.2f} where {m['mean OKS, reference']:.2f} is true.",
    )


def _measure_flip(config: Mapping[str, Any], seed: int) -> Measurement:
    metrics = {}
    for shift in config["shifts"]:
        derived = flip_bias(config["stride"], shift)
        measured = simulated_flip_bias(config["stride"], shift, samples=config["samples"], seed=seed)
        metrics[f"derived bias, shift {shift}, px"] = derived
        metrics[f"simulated bias, shift {shift}, px"] = measured
    return Measurement(metrics)


def _biases(measurement: Measurement) -> tuple[dict[int, float], bool]:
    """Simulated bias by shift, and whether every one agrees with the derivation to a hundredth of a pixel."""
    m = measurement.metrics
    shifts = [int(name.split()[3].rstrip(",")) for name in m if name.startswith("derived")]
    simulated = {k: m[f"simulated bias, shift {k}, px"] for k in shifts}
    return simulated, all(abs(simulated[k] - m[f"derived bias, shift {k}, px"]) < 0.01 for k in shifts)


def _judge_flip_order(measurement: Measurement) -> Judgement:
    bias, agrees = _biases(measurement)
    order = sorted(bias, key=lambda k: abs(bias[k]))
    verdict = "undecided" if not agrees else "reproduced" if order == [1, 0, 2] else "contradicted"
    published = {0: "0.720 AP", 1: "0.740 AP", 2: "0.674 AP"}
    return Judgement(
        verdict,
        "At stride 4 the averaged peak misses by "
        + ", ".join(f"{bias[k]:+.2f} px with shift {k}" for k in bias)
        + f"; from best to worst that is {', '.join(map(str, order))}, and the published AP has 1, 0, 2.",
        tuple(Cell(f"bias with shift {k}, px", bias[k], verdict, published[k]) for k in bias),
    )


def _judge_flip_stride1(measurement: Measurement) -> Judgement:
    bias, agrees = _biases(measurement)
    costs = abs(bias[1]) > abs(bias[0]) + 0.01
    verdict = "undecided" if not agrees else "reproduced" if costs else "contradicted"
    return Judgement(
        verdict,
        f"At stride 1 the plain average misses by {bias[0]:+.2f} px and the one-cell shift by {bias[1]:+.2f} px.",
    )


def _measure_dpm_field(config: Mapping[str, Any], seed: int) -> Measurement:
    metrics = {}
    for kernel in config["kernels"]:
        for modules in range(1, config["modules"] + 1):
            layers = dpm_layers(modules, kernel)
            formula = dpm_receptive_field(modules, kernel)
            channels = [3, *[1] * modules]
            net = nn.Sequential(
                *(
                    nn.Conv2d(a, b, kernel, padding=layer.dilation * (kernel // 2), dilation=layer.dilation)
                    for (a, b), layer in zip(itertools.pairwise(channels), layers)
                )
            )
            field = receptive_field(net, input_size=(formula + 2, formula + 2))
            name = f"N = {modules}, k = {kernel}"
            metrics[f"formula, {name}"] = formula
            metrics[f"calculator, {name}"] = receptive_field(layers).size
            metrics[f"gradient, {name}"] = field.height
    return Measurement(metrics)


def _judge_dpm_field(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    cells = []
    for name in [name.removeprefix("formula, ") for name in m if name.startswith("formula")]:
        formula, calculator, gradient = (m[f"{source}, {name}"] for source in ("formula", "calculator", "gradient"))
        word = "reproduced" if formula == calculator == gradient else "contradicted"
        cells.append(Cell(f"receptive field, {name}, cells", gradient, word, f"{formula:.0f}"))
    held = sum(cell.verdict == "reproduced" for cell in cells)
    return Judgement(
        "reproduced" if held == len(cells) else "contradicted",
        f"Formula, layer arithmetic and the gradient of a network with positive weights agree in {held} of "
        f"{len(cells)} pairs of N and k.",
        tuple(cells),
    )


OKS_SCALE = Experiment(
    name="oks_scale",
    claims=("H13",),
    kind="exact",
    question="Is the scale in OKS the box diagonal or the square root of the segment area?",
    dataset="random people",
    profiles={"smoke": {"people": 20}, "quick": {"people": 500}, "full": {"people": 5000}},
    measure=_measure_oks_scale,
    judge=_judge_oks_scale,
    tolerance=1e-9,
    packages=("pycocotools",),
)

FLIP_ORDER = Experiment(
    name="flip_shift_stride4",
    claims=("U01",),
    kind="exact",
    question="By how much does the flip test move the peak at stride 4 with a shift of 0, 1 and 2 cells?",
    dataset="ideal heatmaps",
    profiles={p: {"stride": 4, "shifts": [0, 1, 2], "samples": n} for p, n in (("smoke", 32), ("quick", 256))},
    measure=_measure_flip,
    judge=_judge_flip_order,
    tolerance=1e-3,
)

FLIP_STRIDE1 = Experiment(
    name="flip_shift_stride1",
    claims=("U02",),
    kind="exact",
    question="Does the one-cell shift that helps at stride 4 cost accuracy at stride 1?",
    dataset="ideal heatmaps",
    profiles={p: {"stride": 1, "shifts": [0, 1], "samples": n} for p, n in (("smoke", 32), ("quick", 256))},
    measure=_measure_flip,
    judge=_judge_flip_stride1,
    tolerance=1e-3,
)

DPM_FIELD = Experiment(
    name="dpm_receptive_field",
    claims=("D01",),
    kind="exact",
    question="Is the receptive field of a dilated pyramid module (k - 1)(2^N - 1) + 1 for all N and k?",
    dataset="none",
    profiles={
        "smoke": {"modules": 3, "kernels": [3, 5]},
        "quick": {"modules": 6, "kernels": [3, 5, 7]},
        "full": {"modules": 7, "kernels": [3, 5, 7, 9]},
    },
    measure=_measure_dpm_field,
    judge=_judge_dpm_field,
    tolerance=0.0,
)
