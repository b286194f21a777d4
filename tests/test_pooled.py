"""Controlled tests: their seeds and controls speak together, and what disagrees decides nothing."""

from __future__ import annotations

import pytest
from ledger_rows import make_row

from posekit.experiments import EXPERIMENTS, Measurement, Row, Scope, claims, claims_json, ledger, lines


def cue_row(test: str, seed: int, **metrics: float) -> Row:
    """A recorded run of the distant cue or its control, with so many of the offsets answered by each scheme."""
    if test.endswith("control"):
        numbers = {f"accuracy, {name}": value for name, value in metrics.items()}
    else:
        numbers = {
            f"{what}, {name}": value
            for name, share in metrics.items()
            for what, value in (("accuracy inside", 1.0), ("accuracy outside", 0.5), ("offsets answered", share))
        }
    experiment = EXPERIMENTS[test]
    judged = experiment.judge(Measurement(numbers))
    return make_row(
        seed, test=test, claims=("D02", "D04"), kind="controlled", scope=Scope(experiment.dataset, "quick"),
        metrics=numbers, intervals={}, verdict=judged.verdict, reason=judged.reason, cells=judged.cells,
    )  # fmt: skip


REACH = {"D=1": 0.05, "D=2": 0.05, "D=4": 0.04}


def controlled(folder, claim: str):
    (found,) = (line for line in lines(claims(folder=folder)) if line.claim.id == claim and line.kind == "controlled")
    return found


def record_control(folder, seeds: int) -> None:
    """Controls that tie, one for each seed."""
    ledger.append(folder, [cue_row("distant_cue_control", seed, **{"D=1": 1.0, "DPM": 0.99}) for seed in range(seeds)])


def test_the_seeds_of_a_controlled_test_speak_together(tmp_path):
    """One line with means and intervals over seeds; each claim is asked its own question of the same runs."""
    ledger.append(tmp_path, [cue_row("distant_cue", seed, **REACH, DPM=0.5 + 0.1 * seed) for seed in range(3)])
    record_control(tmp_path, 3)
    d02, d04 = controlled(tmp_path, "D02"), controlled(tmp_path, "D04")
    assert (d02.verdict, d02.held, d02.seeds) == ("mechanism shown", (1, 1), 3)
    # D=2 cannot lead constants that reach equally many offsets: the cell is shown and decides nothing.
    assert (d04.verdict, d04.held) == ("mechanism shown", (1, 2))
    assert "cannot rank the constants" in d04.judged.reason and "cannot rank" not in d02.judged.reason
    cell = d02.judged.cells[0]
    half = 4.302653 * 10 / 3**0.5  # Student's t with two degrees of freedom
    assert cell.measured == pytest.approx(55) and cell.interval == pytest.approx((55 - half, 55 + half))
    assert "Means over 3 seeds. Of the 1,680 offsets the networks answer D=1 5.0 %" in d02.judged.reason
    assert "DPM 60.0 %" in d02.judged.reason


def test_seeds_of_a_controlled_test_that_disagree_decide_nothing(tmp_path):
    ledger.append(tmp_path, [cue_row("distant_cue", seed, **REACH, DPM=dpm) for seed, dpm in ((1, 0.6), (2, 0.05))])
    record_control(tmp_path, 2)
    found = controlled(tmp_path, "D02")
    assert (found.verdict, found.held) == ("undecided", (0, 1))
    assert "Mechanism shown under seed 1, mechanism not shown under seed 2" in found.judged.reason


def sides_row(seed: int, beyond: tuple[float, float, float]) -> Row:
    """A recorded run of the order of dilations: confusion beyond the field, reversed minus DPM, with its interval."""
    near, far = "within the field, reversed minus DPM", "beyond the field, reversed minus DPM"
    shares = {f"{place} the field, {name}": 0.05 for place in ("within", "beyond") for name in ("DPM", "reversed")}
    numbers = {**shares, near: 0.0, far: beyond[0], "receptive field px, D=1": 67.0}
    intervals = {near: (-0.002, 0.002), far: beyond[1:]}
    judged = EXPERIMENTS["left_right_order"].judge(Measurement(numbers, intervals))
    return make_row(
        seed, test="left_right_order", claims=("D06",), kind="controlled", scope=Scope("Mannequin, face", "quick"),
        metrics=numbers, intervals=intervals, verdict=judged.verdict, reason=judged.reason, cells=judged.cells,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "half", "verdict"),
    [
        ((0.05, 0.06, 0.07), 0.03, "mechanism shown"),
        ((0.05, 0.06, 0.07), 0.15, "undecided"),  # sure over seeds, but all on the same few people
        ((0.01, 0.06, 0.11), 0.03, "undecided"),  # the other way round
        ((0.01, 0.06, 0.11), 0.15, "mechanism not shown"),
    ],
)
def test_a_test_that_judges_by_intervals_needs_those_over_seeds_and_over_cases(tmp_path, values, half, verdict):
    ledger.append(tmp_path, [sides_row(seed, (x, x - half, x + half)) for seed, x in enumerate(values)])
    found = controlled(tmp_path, "D06")
    assert found.verdict == verdict
    assert ("by the interval over seeds" in found.judged.reason) == (verdict == "undecided")


@pytest.mark.parametrize(("worst", "verdict"), [(0.99, "mechanism shown"), (0.6, "undecided")])
def test_an_effect_counts_only_beside_a_control_that_ties(tmp_path, worst, verdict):
    ledger.append(tmp_path, [cue_row("distant_cue", 1, **REACH, DPM=0.6)])
    ledger.append(tmp_path, [cue_row("distant_cue_control", 1, **{"D=1": 1.0, "DPM": worst})])
    found = controlled(tmp_path, "D02")
    assert found.verdict == verdict
    assert found.held == (1, 1)  # the tie itself is no support
    (shown,) = (entry for entry in claims_json([found.claim])[0]["verdicts"] if entry["kind"] == "controlled")
    assert shown["controls"] == [row.digest for row in found.controls] and len(shown["controls"]) == 1
    assert any(cell["name"].startswith("control: ") for cell in shown["cells"])


def test_an_effect_whose_control_was_not_run_decides_nothing(tmp_path):
    ledger.append(tmp_path, [cue_row("distant_cue", 1, **REACH, DPM=0.6)])
    found = controlled(tmp_path, "D02")
    assert found.verdict == "undecided" and "distant_cue_control is not recorded" in found.judged.reason
