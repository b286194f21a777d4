"""Controlled tests of dilation: does a network use a cue as far as its receptive field reaches, and no further?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from posekit.experiments.controlled import NOT_SHOWN, SHOWN, cell, control
from posekit.experiments.runner import Experiment, Judgement, Measurement, shared
from posekit.experiments.tasks import distant_cue

LEARNED = 0.4  # mean loss of 25 steps; a network that sees nothing stays at log 2 = 0.69
CHANCE, SURE = 0.55, 0.9  # accuracies that count as guessing and as knowing
EQUAL_REACH = (
    "Dilations 1, 2 and 4 reach equally many of them by construction, so this task cannot rank the constants: D=2 "
    "against the next counts for nothing."
)
TIE = 0.02  # accuracy by which the schemes may differ in the control


@shared
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
    """The pyramid reaches further than any constant dilation, and no network further than its taps (D02)."""
    return _judge_schemes(measurement, constants=False)


def _judge_constants(measurement: Measurement) -> Judgement:
    """The same (D04). That 2 is the best constant is shown, but cannot be asked of sets of equal size."""
    return _judge_schemes(measurement, constants=True)


def _judge_schemes(measurement: Measurement, *, constants: bool) -> Judgement:
    m = measurement.metrics
    names = [name.removeprefix("accuracy inside, ") for name in m if name.startswith("accuracy inside")]
    answered = {name: 100 * m[f"offsets answered, {name}"] for name in names}
    blind = max(m[f"accuracy outside, {name}"] for name in names)
    constant = {name: share for name, share in answered.items() if name != "DPM"}
    ahead = answered["DPM"] - max(constant.values())
    lead = answered["D=2"] - max(share for name, share in constant.items() if name != "D=2")
    furthest = ahead > 10 and blind < CHANCE
    cells = [cell("offsets answered, DPM minus the best constant, %", ahead, furthest)]
    if constants:
        # Rows were recorded with this cell; it is shown as it was judged and takes no part in the verdict.
        cells.append(cell("offsets answered, D=2 minus the next constant, %", lead, lead > 1))
    return Judgement(
        SHOWN if furthest else NOT_SHOWN,
        "Of the 1,680 offsets the networks answer "
        + ", ".join(f"{name} {share:.1f} %" for name, share in answered.items())
        + f"; beyond its own taps every one of them guesses (at most {100 * blind:.0f} % right)."
        + (f" {EQUAL_REACH}" if constants else ""),
        tuple(cells),
    )


def _judge_order(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    ahead = 100 * (m["accuracy inside, DPM"] - m["accuracy inside, reversed"])
    late = 100 * (m["training until learned, DPM"] - m["training until learned, reversed"])
    return Judgement(
        SHOWN if ahead > 2 else NOT_SHOWN,
        f"Both orders reach the same offsets; inside, DPM is right {100 * m['accuracy inside, DPM']:.1f} % of the "
        f"time and reversed {100 * m['accuracy inside, reversed']:.1f} %. DPM needs "
        f"{100 * m['training until learned, DPM']:.0f} % of the training to learn it, reversed "
        f"{100 * m['training until learned, reversed']:.0f} %.",
        (
            cell("accuracy inside, DPM minus reversed, %", ahead, ahead > 2, "+0.3 to +1.6 AP"),
            cell("training until learned, DPM minus reversed, %", late, late < 0),
        ),
    )


def _measure_control(config: Mapping[str, Any], seed: int) -> Measurement:
    metrics: dict[str, float] = {}
    for name, dilations in config["schemes"].items():
        learned = distant_cue.train(dilations, seed=seed, steps=config["steps"], control=True)
        accuracy = distant_cue.measure(learned.net, pictures=config["pictures"], seed=seed, joints=24, control=True)
        metrics[f"accuracy, {name}"] = float(accuracy.right.sum() / accuracy.seen.sum())
    return Measurement(metrics)


def _judge_control(measurement: Measurement) -> Judgement:
    shares = {name.removeprefix("accuracy, "): 100 * value for name, value in measurement.metrics.items()}
    spread = max(shares.values()) - min(shares.values())
    tie = spread < 100 * TIE and min(shares.values()) > 100 * SURE
    part = control("accuracy, best scheme minus worst, %", spread, tie)
    return Judgement(
        part.verdict,
        "Where the cue covers the joints, "
        + ("no scheme has an advantage" if tie else "the schemes do not tie")
        + ": they are right in "
        + ", ".join(f"{name} {share:.1f} %" for name, share in shares.items())
        + ".",
        (part,),
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
    by_claim={"D04": _judge_constants},
    control="distant_cue_control",
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
    control="distant_cue_control",
    tolerance=0.5,
    network="four dilated layers, 37 k",
)

DISTANT_CUE_CONTROL = Experiment(
    name="distant_cue_control",
    claims=("D02", "D04", "D06"),
    kind="controlled",
    question="Do all schemes tie where the cue covers the joints, so that no chain of taps is needed?",
    dataset="distant cue, control: the cue covers the joints",
    profiles={
        profile: {
            "schemes": {name: list(dilations) for name, dilations in distant_cue.SCHEMES.items()},
            "steps": steps,
            "pictures": pictures,
        }
        for profile, steps, pictures in (("smoke", 2, 20), ("quick", 100, 1000))
    },
    measure=_measure_control,
    judge=_judge_control,
    tolerance=0.1,
    network="four dilated layers, 37 k",
)
