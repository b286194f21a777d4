"""Controlled tests on figures: left and right where the cue that tells them apart lies far from the joint.

Every test compares tiny DPNs that differ in their dilations alone. The control needs no other data: joints near the cue
lie in the field of every network, and there the arms must tie.

It differs from the study in the samples, 48,000 at both levels, where the study had 36,000 at "bib"; for the network
and the people see :mod:`posekit.experiments.tasks.left_right`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from posekit.experiments.controlled import cell, control, verdict
from posekit.experiments.runner import Experiment, Judgement, Measurement, shared
from posekit.experiments.tasks import left_right
from posekit.experiments.tasks.left_right import Sides

ARMS: dict[str, Any] = {"D=1": "ones", "D=2": 2, "DPM": "decreasing", "reversed": "reversed"}
CUE_NAMES = {"face": "nose", "bib": "nearest shoulder or hip"}
TIE = 0.05  # confused share by which the arms may differ near the cue


@shared
def _arm(level: str, dilations: Any, train_scenes: int, val_scenes: int, samples: int, seed: int) -> Sides:
    """One trained network, asked; tests of one level share the arms that they have in common."""
    train = left_right.people("train", scenes=train_scenes, level=level)
    val = left_right.people("val", scenes=val_scenes, level=level)
    net = left_right.train(dilations, train, samples=samples, seed=seed)
    return left_right.judge(net, val, cue=left_right.CUES[level])


def measure_sides(config: Mapping[str, Any], seed: int) -> Measurement:
    """Confused sides of each arm, and differences of ``pairs`` of arms nearer and further than D=1's half field.

    ``near`` is the share of that half field within which joints count as near; 1 unless given.
    """
    from posekit import create_model
    from posekit.analysis import receptive_field

    fields = {
        name: receptive_field(create_model("tiny_dpn", dilations=dilations), input_size=(320, 320)).height
        for name, dilations in {**config["arms"], "D=1": "ones"}.items()
    }
    sizes = config["train_scenes"], config["val_scenes"], config["samples"]
    sides = {name: _arm(config["level"], dilations, *sizes, seed) for name, dilations in config["arms"].items()}
    half = fields["D=1"] // 2
    near = int(half * config.get("near", 1))
    metrics = left_right.summary(sides, half_field=half, near=near)
    metrics |= {f"receptive field px, {name}": float(field) for name, field in fields.items()}
    intervals: dict[str, tuple[float, float]] = {}
    for place, edges in (("within", (0, near)), ("beyond", (half, 1000))):
        for pair in config.get("pairs", [("D=1", "DPM")]):
            first, second = (sides[name].counts(np.array(edges)) for name in pair)
            key = f"{place} the field, {pair[0]} minus {pair[1]}"
            metrics[key], low, high = left_right.difference(first, second, seed=seed)
            intervals[key] = (low, high)
    arrays = {"edges": left_right.EDGES}
    for name, seen in sides.items():
        confused, judged = seen.counts()
        arrays |= {f"confused, {name}": confused.sum(0), f"judged, {name}": judged.sum(0)}
    return Measurement(metrics, intervals, arrays)


def _judge(
    measurement: Measurement,
    *,
    pairs: Sequence[tuple[str, str]],
    decisive: int,
    least: float,
    cue: str,
    near: float,
    published: str,
) -> Judgement:
    """Judge ``pairs`` (more confused, less confused) beyond the field; the first ``decisive`` of them make the verdict.

    A pair counts when its whole interval lies above ``least`` and above the interval of the same pair near the cue: a
    network that is better everywhere does not see further.
    """
    m = measurement.metrics
    effects, ties, cells = [], [], []
    for first, second in pairs:
        name = f"{first} minus {second}"
        (low, high), (near_low, near_high) = (
            measurement.intervals[f"{place} the field, {name}"] for place in ("beyond", "within")
        )
        effects.append(low > max(near_high, least))
        ties.append(near_low > -TIE and near_high < TIE)
        beyond, within = (100 * m[f"{place} the field, {name}"] for place in ("beyond", "within"))
        cells += [
            cell(f"confused beyond the field, {name}, %", beyond, effects[-1], published, (100 * low, 100 * high)),
            control(f"confused near the cue, {name}, %", within, ties[-1], (100 * near_low, 100 * near_high)),
        ]
    arms = list(dict.fromkeys(name for pair in pairs for name in pair))
    far, close = (
        ", ".join(f"{name} {100 * m[f'{place} the field, {name}']:.1f} %" for name in arms)
        for place in ("beyond", "within")
    )
    inner = "nearer" if near == 1 else f"within {near:g} of that distance"
    return Judgement(
        verdict(all(effects[:decisive]), tie=all(ties[:decisive])),
        f"Further from the {cue} than half of D=1's field of {m['receptive field px, D=1']:.0f} px, left and right are "
        f"confused at so many of the joints: {far}; {inner}: {close}.",
        tuple(cells),
    )


def _sides_test(
    name: str,
    claim: str,
    question: str,
    *,
    level: str,
    arms: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    published: str,
    decisive: int = 1,
    least: float = 0.0,
    near: float = 1,
) -> Experiment:
    config: dict[str, Any] = {"level": level, "arms": {arm: ARMS[arm] for arm in arms}}
    # The first of these tests was recorded without the two settings, and its rows are to be rerun as they stand.
    if list(pairs) != [("D=1", "DPM")]:
        config["pairs"] = [list(pair) for pair in pairs]
    if near != 1:
        config["near"] = near
    sizes = (("smoke", 24, 16, 240), ("quick", 3000, 500, 48_000))
    return Experiment(
        name=name,
        claims=(claim,),
        kind="controlled",
        question=question,
        dataset=f"Mannequin, {level}",
        profiles={
            profile: {**config, "train_scenes": train, "val_scenes": val, "samples": samples}
            for profile, train, val, samples in sizes
        },
        measure=measure_sides,
        judge=partial(
            _judge,
            pairs=pairs,
            decisive=decisive,
            least=least,
            cue=CUE_NAMES[level],
            near=near,
            published=published,
        ),
        tolerance=0.15,
        packages=("opencv-python-headless",),
        network="tiny_dpn",
    )


def _tests_of(level: str, suffix: str, near: float) -> tuple[Experiment, ...]:
    """Reach (D02), constant dilations (D04) and order (D06) at one level of the cue."""
    cue = {"face": "the face", "bib": "the torso"}[level]
    return (
        _sides_test(
            f"left_right_{suffix}reach",
            "D02",
            f"Are left and right confused where {cue} lies outside the receptive field?",
            level=level,
            arms=("D=1", "DPM"),
            pairs=[("D=1", "DPM")],
            published="+4.0 to +5.3 AP",
            least=0.05,
            near=near,
        ),
        _sides_test(
            f"left_right_{suffix}constant",
            "D04",
            f"Does the pyramid tell left from right further from {cue} than constant dilations do?",
            level=level,
            arms=("D=1", "D=2", "DPM"),
            pairs=[("D=1", "DPM"), ("D=2", "DPM"), ("D=1", "D=2")],
            published="better",
            decisive=2,
            near=near,
        ),
        _sides_test(
            f"left_right_{suffix}order",
            "D06",
            f"Do decreasing dilations tell left from right further from {cue} than increasing ones?",
            level=level,
            arms=("DPM", "reversed"),
            pairs=[("reversed", "DPM")],
            published="+0.3 to +1.6 AP",
            near=near,
        ),
    )


SIDES_TESTS = (*_tests_of("face", "", 1), *_tests_of("bib", "bib_", 0.5))
