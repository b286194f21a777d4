"""Controlled tests of dilation: does a network use a cue as far as its receptive field reaches, and no further?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from posekit.experiments.ledger import Cell
from posekit.experiments.runner import Experiment, Judgement, Measurement
from posekit.experiments.tasks import distant_cue, left_right

LEARNED = 0.4  # mean loss of 25 steps; a network that sees nothing stays at log 2 = 0.69
CHANCE, SURE = 0.55, 0.9  # accuracies that count as guessing and as knowing


@lru_cache(maxsize=8)
def _arm(dilations: tuple[int, ...], seed: int, steps: int, pictures: int):
    """One trained scheme; two tests share the arms that both compare."""
    learned = distant_cue.train(dilations, seed=seed, steps=steps)
    return learned, distant_cue.measure(learned.net, pictures=pictures, seed=seed)


def _measure_cue(config: Mapping[str, Any], seed: int) -> Measurement:
    metrics: dict[str, float] = {}
    arrays: dict[str, np.ndarray] = {}
    schemes = {name: tuple(dilations) for name, dilations in config["schemes"].items()}
    asked = np.ones((2 * distant_cue.REACH + 1,) * 2, bool)
    asked[distant_cue.REACH, distant_cue.REACH] = False
    for name, dilations in schemes.items():
        learned, accuracy = _arm(dilations, seed, config["steps"], config["pictures"])
        inside = distant_cue.reachable(dilations)
        metrics |= {
            f"offsets in the set, {name}": float(inside[asked].mean()),
            f"accuracy inside, {name}": accuracy.over(inside),
            f"accuracy outside, {name}": accuracy.over(asked & ~inside),
            f"offsets answered, {name}": float((accuracy.map[asked] > 0.75).mean()),
            f"training until learned, {name}": learned.steps_until(LEARNED) / config["steps"],
        }
        arrays |= {f"right, {name}": accuracy.right.astype(np.uint16), f"seen, {name}": accuracy.seen.astype(np.uint16)}
    return Measurement(metrics, arrays=arrays)


def _judge_reach(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    names = [name.removeprefix("accuracy inside, ") for name in m if name.startswith("accuracy inside")]
    answered = {name: 100 * m[f"offsets answered, {name}"] for name in names}
    blind = max(m[f"accuracy outside, {name}"] for name in names)
    constant = {name: share for name, share in answered.items() if name != "DPM"}
    ahead = answered["DPM"] - max(constant.values())
    shown = "mechanism shown" if ahead > 10 and blind < CHANCE else "mechanism not shown"
    rest = max(share for name, share in constant.items() if name != "D=2")
    second = "mechanism shown" if answered["D=2"] - rest > 1 else "mechanism not shown"
    return Judgement(
        shown,
        "Of the 1,680 offsets the networks answer "
        + ", ".join(f"{name} {share:.1f} %" for name, share in answered.items())
        + f"; beyond its own taps every one of them guesses (at most {100 * blind:.0f} % right). "
        f"D=2 {'leads' if second == 'mechanism shown' else 'does not lead'} the other constants.",
        (
            Cell("offsets answered, DPM minus the best constant, %", ahead, shown),
            Cell("offsets answered, D=2 minus the next constant, %", answered["D=2"] - rest, second),
        ),
    )


def _judge_order(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    ahead = 100 * (m["accuracy inside, DPM"] - m["accuracy inside, reversed"])
    late = 100 * (m["training until learned, DPM"] - m["training until learned, reversed"])
    word = "mechanism shown" if ahead > 2 else "mechanism not shown"
    return Judgement(
        word,
        f"Both orders reach the same offsets; inside, DPM is right {100 * m['accuracy inside, DPM']:.1f} % of the "
        f"time and reversed {100 * m['accuracy inside, reversed']:.1f} %. DPM needs "
        f"{100 * m['training until learned, DPM']:.0f} % of the training to learn it, reversed "
        f"{100 * m['training until learned, reversed']:.0f} %.",
        (
            Cell("accuracy inside, DPM minus reversed, %", ahead, word, "+0.3 to +1.6 AP"),
            Cell(
                "training until learned, DPM minus reversed, %",
                late,
                "mechanism shown" if late < 0 else "mechanism not shown",
            ),
        ),
    )


def _measure_sides(config: Mapping[str, Any], seed: int) -> Measurement:
    from posekit import create_model
    from posekit.analysis import receptive_field

    train = left_right.people("train", scenes=config["train_scenes"], level=config["level"])
    val = left_right.people("val", scenes=config["val_scenes"], level=config["level"])
    fields = {
        name: receptive_field(create_model("tiny_dpn", dilations=dilations), input_size=(320, 320)).height
        for name, dilations in config["arms"].items()
    }
    sides = {
        name: left_right.judge(left_right.train(dilations, train, samples=config["samples"], seed=seed), val)
        for name, dilations in config["arms"].items()
    }
    half = fields["D=1"] // 2
    metrics = left_right.summary(sides, half_field=half)
    metrics |= {f"receptive field px, {name}": float(field) for name, field in fields.items()}
    intervals: dict[str, tuple[float, float]] = {}
    arrays = {"edges": left_right.EDGES}
    for place, edges in (("within", (0, half)), ("beyond", (half, 1000))):
        narrow, wide = (sides[name].counts(np.array(edges)) for name in ("D=1", "DPM"))
        key = f"{place} the field, D=1 minus DPM"
        metrics[key], low, high = left_right.difference(narrow, wide, seed=seed)
        intervals[key] = (low, high)
    for name, seen in sides.items():
        confused, judged = seen.counts()
        arrays |= {f"confused, {name}": confused.sum(0), f"judged, {name}": judged.sum(0)}
    return Measurement(metrics, intervals, arrays)


def _judge_sides(measurement: Measurement) -> Judgement:
    m, (low, high) = measurement.metrics, measurement.intervals["beyond the field, D=1 minus DPM"]
    near = measurement.intervals["within the field, D=1 minus DPM"]
    shown = low > max(near[1], 0.05)
    word = "mechanism shown" if shown else "mechanism not shown"
    shares = {key: 100 * value for key, value in m.items()}
    return Judgement(
        word,
        f"Further from the nose than half of D=1's field of {m['receptive field px, D=1']:.0f} px, D=1 confuses left "
        f"and right at {shares['beyond the field, D=1']:.0f} % of the joints and DPM at "
        f"{shares['beyond the field, DPM']:.0f} %; nearer, at {shares['within the field, D=1']:.0f} % and "
        f"{shares['within the field, DPM']:.0f} %.",
        (
            Cell(
                "confused beyond the field, D=1 minus DPM, %",
                shares["beyond the field, D=1 minus DPM"],
                word,
                "+4.0 to +5.3 AP",
                (100 * low, 100 * high),
            ),
        ),
    )


def _cue_profiles(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    schemes = {name: list(distant_cue.SCHEMES[name]) for name in names}
    return {
        profile: {"schemes": schemes, "steps": steps, "pictures": pictures}
        for profile, steps, pictures in (("smoke", 25, 50), ("quick", 500, 3000))
    }


DISTANT_CUE = Experiment(
    name="distant_cue",
    claims=("D02", "D04"),
    kind="controlled",
    question="Over which offsets can four dilated layers use a cue?",
    dataset="distant cue",
    profiles=_cue_profiles(("D=1", "D=2", "D=4", "D=8", "DPM")),
    measure=_measure_cue,
    judge=_judge_reach,
    tolerance=0.3,
    network="four dilated layers, 37 k",
)

DISTANT_CUE_ORDER = Experiment(
    name="distant_cue_order",
    claims=("D06",),
    kind="controlled",
    question="Does a cue get through decreasing dilations better than through increasing ones?",
    dataset="distant cue",
    profiles=_cue_profiles(("DPM", "reversed")),
    measure=_measure_cue,
    judge=_judge_order,
    tolerance=0.5,
    network="four dilated layers, 37 k",
)

LEFT_RIGHT = Experiment(
    name="left_right_reach",
    claims=("D02",),
    kind="controlled",
    question="Are left and right confused where the face lies outside the receptive field?",
    dataset="Mannequin, face",
    profiles={
        profile: {
            "level": "face",
            "arms": {"D=1": "ones", "DPM": "decreasing"},
            "train_scenes": train,
            "val_scenes": val,
            "samples": samples,
        }
        for profile, train, val, samples in (("smoke", 24, 16, 240), ("quick", 3000, 500, 48_000))
    },
    measure=_measure_sides,
    judge=_judge_sides,
    tolerance=0.15,
    packages=("opencv-python-headless",),
    network="tiny_dpn",
)
