"""Controlled tests over several seeds: the test's own judge is asked about every seed and about their mean.

The ledger keeps what each seed measured. What stands for a claim is made from that here, and a control that is a test
of its own takes part: without its tie an effect decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posekit.experiments.ablations.analysis import paired
from posekit.experiments.catalogue import EXPERIMENTS
from posekit.experiments.ledger import Cell, Row
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
        judged by those over seeds. One that judges by fixed bounds is judged under every seed, and where seeds
        disagree, it is undecided, as is an effect beside a control that does not tie.
    """
    experiment = EXPERIMENTS[rows[0].test]
    found = _over_seeds(experiment, rows, claim)
    if not controls:
        return found
    control = _over_seeds(EXPERIMENTS[controls[0].test], controls, claim)
    effect = found.verdict == "mechanism shown"
    verdict = UNDECIDED if effect and control.verdict != "seen" else found.verdict
    return Judgement(verdict, f"{found.reason} Control: {control.reason}", (*found.cells, *control.cells))


def _over_seeds(experiment: Experiment, rows: Sequence[Row], claim: str) -> Judgement:
    judge = experiment.by_claim.get(claim, experiment.judge)
    each = [judge(Measurement(row.metrics, row.intervals)) for row in rows]
    if len(rows) == 1:
        return each[0]
    mean = _mean(rows)
    together = judge(mean)
    words = [one.verdict for one in each]
    reason = f"Means over {len(rows)} seeds. {together.reason}"
    if mean.intervals:
        return Judgement(together.verdict, reason, tuple(_cell(cell, each, cell.verdict) for cell in together.cells))
    if len(set(words)) > 1:
        reason += " " + ", ".join(f"{word} under seed {row.seed}" for word, row in zip(words, rows)) + "."
    return Judgement(_agreed(words), reason, tuple(_cell(cell, each) for cell in together.cells))


def _cell(cell: Cell, each: Sequence[Judgement], verdict: str = "") -> Cell:
    same = [next(c for c in one.cells if c.name == cell.name) for one in each]
    over_seeds = paired([c.measured for c in same])
    ends = (over_seeds.low, over_seeds.high)
    return Cell(cell.name, over_seeds.mean, verdict or _agreed([c.verdict for c in same]), cell.published, ends)


def _agreed(words: Sequence[str]) -> str:
    return words[0] if len(set(words)) == 1 else UNDECIDED


def _mean(rows: Sequence[Row]) -> Measurement:
    """Means of what all seeds measured; intervals over seeds for the metrics that had one of their own."""
    metrics = {name: paired([row.metrics[name] for row in rows]) for name in _common([row.metrics for row in rows])}
    return Measurement(
        {name: one.mean for name, one in metrics.items()},
        {name: (metrics[name].low, metrics[name].high) for name in _common([row.intervals for row in rows])},
    )


def _common(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in tables[0] if all(name in table for table in tables)]
