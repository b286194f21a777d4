"""Controlled tests over several seeds: the test's own judge is asked about every seed and about their mean.

The ledger keeps what each seed measured. What stands for a claim is made from that here, and a control that is a test
of its own takes part: without its tie an effect decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from posekit.experiments.ablations.analysis import paired
from posekit.experiments.catalogue import EXPERIMENTS
from posekit.experiments.ledger import Cell, LedgerError, Row
from posekit.experiments.runner import Experiment, Judgement, Measurement

UNDECIDED = "undecided"


def pool(rows: Sequence[Row], claim: str, controls: Sequence[Row] = ()) -> Judgement:
    """What runs of one controlled test say about a claim together.

    Args:
        rows: of one test and configuration, one for each seed.
        claim: its id; a test may ask different things for different claims.
        controls: rows of the test's control.

    Returns:
        Numbers are means over seeds; with several, cells have 95 % t-intervals. A test that judges by intervals is
        judged by those over seeds, and by those over its test cases, averaged as if all runs erred on the same cases.
        One that judges by fixed bounds is judged under every seed. Where these disagree, it is undecided, as is a test
        beside a control that does not tie or was not run.
    """
    experiment = EXPERIMENTS[rows[0].test]
    found = _over_seeds(experiment, rows, claim)
    if not experiment.control:
        return found
    control = Judgement(UNDECIDED, f"{experiment.control} is not recorded.")
    if controls:
        control = _over_seeds(EXPERIMENTS[experiment.control], controls, claim)
    verdict = found.verdict if control.verdict == "seen" else UNDECIDED
    return Judgement(verdict, f"{found.reason} Control: {control.reason}", (*found.cells, *control.cells))


def _over_seeds(experiment: Experiment, rows: Sequence[Row], claim: str) -> Judgement:
    judge = experiment.by_claim.get(claim, experiment.judge)
    each = [_judged(row, judge) for row in rows]
    if len(rows) == 1:
        return each[0]
    over_seeds, over_cases = judge(_mean(rows)), judge(_mean(rows, over_cases=True))
    if _common([row.intervals for row in rows]):
        says = {"by the interval over seeds": over_seeds, "over test cases": over_cases}
    else:
        says = {f"under seed {row.seed}": one for one, row in zip(each, rows)}
    words = [one.verdict for one in says.values()]
    reason = f"Means over {len(rows)} seeds. {over_seeds.reason}"
    if len(set(words)) > 1:
        reason += " " + ", ".join(f"{one.verdict} {where}" for where, one in says.items()).capitalize() + "."
    cells = tuple(_cell(cell.name, each, list(says.values())) for cell in over_seeds.cells)
    return Judgement(_agreed(words), reason, cells)


def _judged(row: Row, judge: Callable[[Measurement], Judgement]) -> Judgement:
    try:
        return judge(Measurement(row.metrics, row.intervals))
    except KeyError as missing:
        raise LedgerError(
            f"{row.test}.jsonl, seed {row.seed}: the row has no {missing}, by which the test is judged; record it "
            f"again with posekit claims run {row.test} --record"
        ) from None


def _cell(name: str, each: Sequence[Judgement], says: Sequence[Judgement]) -> Cell:
    def of(judgements: Sequence[Judgement]) -> list[Cell]:
        return [next(cell for cell in one.cells if cell.name == name) for one in judgements]

    mean = paired([cell.measured for cell in of(each)])
    verdict = _agreed([cell.verdict for cell in of(says)])
    return Cell(name, mean.mean, verdict, of(each)[0].published, (mean.low, mean.high))


def _agreed(words: Sequence[str]) -> str:
    return words[0] if len(set(words)) == 1 else UNDECIDED


def _mean(rows: Sequence[Row], *, over_cases: bool = False) -> Measurement:
    """Means of what all seeds measured; where they had intervals, those over seeds, or the mean of their own."""
    metrics = {name: paired([row.metrics[name] for row in rows]) for name in _common([row.metrics for row in rows])}
    intervals = {}
    for name in _common([row.intervals for row in rows]):
        low, high = (sum(row.intervals[name][end] for row in rows) / len(rows) for end in (0, 1))
        intervals[name] = (low, high) if over_cases else (metrics[name].low, metrics[name].high)
    return Measurement({name: one.mean for name, one in metrics.items()}, intervals)


def _common(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in tables[0] if all(name in table for table in tables)]
