"""Controlled tests of detail: what subsampling loses at equal receptive field, and where a way back regains it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from posekit.experiments.controlled import cell, control, verdict
from posekit.experiments.runner import Experiment, Judgement, Measurement
from posekit.experiments.tasks import detail

LOST = 0.5  # px of median error: less is no loss that a keypoint would show
SURE, SAME = 0.9, 0.02  # share of pictures with the right blob: at least, and apart by at most
AHEAD, TIE, GOOD = 0.1, 0.05, 0.8  # F1: a loss, a tie, and what a network must reach for it to mean something


@lru_cache(maxsize=8)
def _placed(name: str, seed: int, steps: int, pictures: int) -> detail.Placed:
    """One trained network, asked; two tests share the arms that both compare."""
    return detail.place(detail.train(name, seed=seed, steps=steps), pictures=pictures, seed=seed)


def _measure_isolated(config: Mapping[str, Any], seed: int) -> Measurement:
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    placed = {name: _placed(name, seed, config["steps"], config["pictures"]) for name in config["nets"]}
    chosen = np.random.default_rng([seed, 2]).integers(0, config["pictures"], (1000, config["pictures"]))
    for name, one in placed.items():
        metrics |= {
            f"median error, {name}, px": float(np.median(one.plain)),
            f"median error refined, {name}, px": float(np.median(one.refined)),
            f"right blob, {name}": one.right,
        }
        for kind in ("plain", "refined"):
            # The same pictures are asked of both, so they are drawn together.
            own, dilated = (np.median(getattr(p, kind)[chosen], axis=1) for p in (one, placed["dilated"]))
            if name != "dilated":
                low, high = np.quantile(own - dilated, [0.025, 0.975])
                difference = np.median(getattr(one, kind)) - np.median(getattr(placed["dilated"], kind))
                metrics[f"{kind} error, {name} minus dilated, px"] = float(difference)
                intervals[f"{kind} error, {name} minus dilated, px"] = (float(low), float(high))
    return Measurement(metrics, intervals)


def _judge_isolated(measurement: Measurement, *, others: tuple[str, ...], read_at: str) -> Judgement:
    """Detail is lost when the better of the two readings of every one of ``others`` is worse than dilation's."""
    m, cells, lost = measurement.metrics, [], []
    for name in others:
        for kind in ("plain", "refined"):
            key = f"{kind} error, {name} minus dilated, px"
            lost.append(measurement.intervals[key][0] > (LOST if kind == "plain" else LOST / 2))
            cells.append(cell(key, m[key], lost[-1], interval=measurement.intervals[key]))
    right = {name: m[f"right blob, {name}"] for name in ("dilated", *others)}
    spread = max(right.values()) - min(right.values())
    tie = spread < SAME and min(right.values()) > SURE
    return Judgement(
        verdict(all(lost), tie=tie),
        f"Median error of the highest cell (refined) with dilation {_errors(m, 'dilated')}; {read_at} "
        + ", ".join(f"{name} {_errors(m, name)}" for name in others)
        + f". They find the right blob in {100 * min(right.values()):.1f} to {100 * max(right.values()):.1f} % of the "
        f"pictures, so {'nothing but detail differs' if tie else 'more than detail differs'}.",
        (*cells, control("right blob, best network minus worst, %", 100 * spread, tie)),
    )


def _errors(m: Mapping[str, float], name: str) -> str:
    return f"{m[f'median error, {name}, px']:.2f} px ({m[f'median error refined, {name}, px']:.2f})"


def _judge_readout(measurement: Measurement) -> Judgement:
    return _judge_isolated(measurement, others=("strided", "bilinear"), read_at="subsampled and read at stride 8")


def _judge_recovered(measurement: Measurement) -> Judgement:
    return _judge_isolated(measurement, others=("deconvs",), read_at="subsampled and brought back by")


def _measure_crowded(config: Mapping[str, Any], seed: int) -> Measurement:
    metrics: dict[str, float] = {}
    for crowd in config["crowds"]:
        for name in config["nets"]:
            net = detail.train(name, seed=seed, steps=config["steps"], crowd=crowd)
            metrics[f"F1, {crowd} blobs, {name}"] = detail.crowd_score(
                net, crowd, pictures=config["pictures"], seed=seed
            )
    return Measurement(metrics)


def _judge_crowded(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    few, many = sorted({int(name.split(", ")[1].split()[0]) for name in m})
    lost = {crowd: 100 * (m[f"F1, {crowd} blobs, dilated"] - m[f"F1, {crowd} blobs, deconvs"]) for crowd in (few, many)}
    apart = 100 * (m[f"F1, {many} blobs, laterals"] - m[f"F1, {many} blobs, dilated"])
    effect, tie = lost[many] > 100 * AHEAD, abs(apart) < 100 * TIE and m[f"F1, {many} blobs, dilated"] > GOOD
    listed = "; ".join(
        f"{crowd} blobs: "
        + ", ".join(
            f"{name} {100 * m[f'F1, {crowd} blobs, {name}']:.0f} %" for name in ("dilated", "deconvs", "laterals")
        )
        for crowd in (many, few)
    )
    return Judgement(
        verdict(effect, tie=tie),
        f"F1 of the places told within {detail.MATCH:g} px, {listed}: the narrow bottleneck "
        f"{'loses' if effect else 'does not lose'} crowded detail, and a parallel path at full resolution "
        f"{'keeps it as dilation does' if tie else 'does not tie with dilation'}.",
        (
            cell(f"F1, {many} blobs, dilated minus deconvs, %", lost[many], effect),
            cell(
                f"F1 lost by the bottleneck, {many} blobs minus {few}, %",
                lost[many] - lost[few],
                lost[many] - lost[few] > 100 * AHEAD,
            ),
            control(f"F1, {many} blobs, laterals minus dilated, %", apart, tie),
        ),
    )


def _profiles(**config: Any) -> dict[str, dict[str, Any]]:
    sizes = {"smoke": (3, 12), "quick": (500, config.pop("pictures"))}
    return {profile: {"steps": steps, "pictures": pictures, **config} for profile, (steps, pictures) in sizes.items()}


READ_OUT = Experiment(
    name="detail_read_out",
    claims=("D10",),
    kind="controlled",
    question="At equal receptive field, is a place told less exactly from a subsampled map?",
    dataset="detail kept",
    profiles=_profiles(nets=["dilated", "strided", "bilinear"], pictures=1000),
    measure=_measure_isolated,
    judge=_judge_readout,
    tolerance=0.3,
    network="four 3x3 layers, field 31 px",
)

RECOVERED = Experiment(
    name="detail_recovered",
    claims=("D10",),
    kind="controlled",
    question="Is the detail gone from subsampled features, or do transposed convolutions bring it back?",
    dataset="detail kept",
    profiles=_profiles(nets=["dilated", "deconvs", "laterals"], pictures=1000),
    measure=_measure_isolated,
    judge=_judge_recovered,
    tolerance=0.3,
    network="four 3x3 layers, field 31 px",
)

CROWDED = Experiment(
    name="detail_crowded",
    claims=("D10",),
    kind="controlled",
    question="Is detail gone from subsampled features when a narrow bottleneck has to carry many places?",
    dataset="crowded detail",
    profiles=_profiles(nets=["dilated", "deconvs", "laterals"], crowds=[6, 60], pictures=300),
    measure=_measure_crowded,
    judge=_judge_crowded,
    tolerance=0.3,
    network="four 3x3 layers, field 31 px",
)
