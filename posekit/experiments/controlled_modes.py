"""Controlled test of heads: two right answers, of which a regression gives neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from posekit.experiments.controlled import cell, control, verdict
from posekit.experiments.runner import Experiment, Judgement, Measurement
from posekit.experiments.tasks import two_modes

REGRESSIONS = ("regression_l2", "regression_l1", "soft_argmax")
HEATMAPS = ("heatmap_mse", "heatmap_ce")
SURE, LEAST = 0.9, 0.5  # share of pictures: answered well; ahead of every regression
TIE = 0.05  # share of pictures by which the heads may differ where one blob is shown


def _measure_modes(config: Mapping[str, Any], seed: int) -> Measurement:
    metrics: dict[str, float] = {}
    pictures = config["pictures"]
    for head in config["heads"]:
        with torch.enable_grad():
            outcome, _ = two_modes.run(
                head, seed=seed, upper=config["upper"], steps=config["steps"], test_pictures=pictures
            )
            alone, _ = two_modes.run(
                head, seed=seed, distance=0.0, steps=config["control_steps"], test_pictures=pictures
            )
        metrics |= {f"{name}, {head}": value for name, value in outcome.to_dict().items()}
        metrics |= {
            f"control: hits the label, {head}": alone.hits_label,
            f"control: mean_error, {head}": alone.mean_error,
        }
    return Measurement(metrics)


def _judge_modes(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    regressions, heatmaps = ([h for h in heads if f"on_blob, {h}" in m] for heads in (REGRESSIONS, HEATMAPS))
    sure, best = min(m[f"on_blob, {h}"] for h in heatmaps), max(m[f"on_blob, {h}"] for h in regressions)
    hits = {name.rsplit(", ", 1)[1]: value for name, value in m.items() if name.startswith("control: hits")}
    spread = max(hits.values()) - min(hits.values())
    effect, tie = sure > SURE and sure - best > LEAST, spread < TIE and min(hits.values()) > SURE
    cheaper = m["rms_error, heatmap_mse"] - m["rms_error, regression_l2"]
    return Judgement(
        verdict(effect, tie=tie),
        "Of two equally right places heatmaps give one in "
        + " and ".join(f"{100 * m[f'on_blob, {h}']:.0f} %" for h in heatmaps)
        + " of the pictures, L2, L1 and soft-argmax regression in "
        + ", ".join(f"{100 * m[f'on_blob, {h}']:.0f} %" for h in regressions)
        + f" (L2 answers the midpoint in {100 * m['midpoint, regression_l2']:.0f} %). By RMS error the regression is "
        f"{'ahead' if cheaper > 0 else 'behind'}, {m['rms_error, regression_l2']:.1f} against "
        f"{m['rms_error, heatmap_mse']:.1f} px. Shown one blob, the heads are right in {100 * min(hits.values()):.1f} "
        f"to {100 * max(hits.values()):.1f} %.",
        (
            cell("on a blob, heatmaps minus the best regression, %", 100 * (sure - best), effect),
            cell("RMS error, L2 regression minus heatmap, px", -cheaper, cheaper < 0),
            control("one blob, best head minus worst, %", 100 * spread, tie),
        ),
    )


TWO_MODES = Experiment(
    name="two_modes",
    claims=("H01",),
    kind="controlled",
    question="What does each head answer where two places are equally right?",
    dataset="two modes",
    profiles={
        profile: {
            "heads": list(two_modes.HEADS),
            "upper": 0.5,
            "steps": steps,
            "control_steps": control_steps,
            "pictures": pictures,
        }
        for profile, steps, control_steps, pictures in (("smoke", 3, 3, 30), ("quick", 400, 200, 2000))
    },
    measure=_measure_modes,
    judge=_judge_modes,
    tolerance=0.5,
    network="seven convolutions, six heads",
)
