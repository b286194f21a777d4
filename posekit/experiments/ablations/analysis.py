"""Paired comparison over seeds: the mean difference, its interval, and how small an effect would have been seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posekit.experiments.ablations.definition import Ablation, Contrast
from posekit.experiments.ledger import Cell

POWER = 0.8


@dataclass(frozen=True)
class Paired:
    """A contrast over n seeds.

    Attributes:
        values: (n,) the contrast under each seed.
        mean: of them.
        low, high: 95 % interval of the mean by Student's t; infinite with fewer than two seeds.
        detectable: smallest true effect that this many seeds with this spread find with a probability of 80 %.
    """

    values: np.ndarray
    mean: float
    low: float
    high: float
    detectable: float


def paired(values: Sequence[float]) -> Paired:
    """The interval of a mean over seeds.

    The smallest detectable effect is (t(0.975) + t(0.8)) s / sqrt(n), the usual approximation to the power of a
    two-sided paired t-test.
    """
    from scipy.stats import t

    x = np.asarray(values, np.float64)
    n = len(x)
    if n < 2:
        return Paired(x, float(x.mean()), -math.inf, math.inf, math.inf)
    error = float(x.std(ddof=1)) / math.sqrt(n)
    half = float(t.ppf(0.975, n - 1)) * error
    mean = float(x.mean())
    return Paired(x, mean, mean - half, mean + half, float(t.ppf(0.975, n - 1) + t.ppf(POWER, n - 1)) * error)


def contrast_values(contrast: Contrast, runs: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[float]:
    """The contrast under every seed that all of its arms have, in the order of the seeds.

    Args:
        runs: metrics by arm and seed.
    """
    arms = {arm for _, arm, _ in contrast.terms}
    seeds = sorted(set.intersection(*(set(runs[arm]) for arm in arms)))
    return [sum(weight * runs[arm][seed][metric] for weight, arm, metric in contrast.terms) for seed in seeds]


def judge(ablation: Ablation, runs: Mapping[str, Mapping[int, Mapping[str, float]]], *, reduced: bool) -> tuple:
    """Verdict, sentence, cells, metrics and intervals of an ablation."""
    yes, no, open_ = WORDS[reduced]
    cells: list[Cell] = []
    sentences: list[str] = []
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for contrast in ablation.contrasts:
        found = paired(contrast_values(contrast, runs))
        word = yes if found.low + contrast.margin > 0 else no if found.high + contrast.margin < 0 else open_
        interval = (found.low, found.high)
        cells.append(Cell(contrast.name, found.mean, word, contrast.published, interval))
        metrics |= {contrast.name: found.mean, f"detectable, {contrast.name}": found.detectable}
        intervals[contrast.name] = interval
        metrics |= _beside(contrast, runs)
        text = f"{contrast.name}: {found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"
        if contrast.margin:
            text += f" within a margin of {contrast.margin:g}"
        sentences.append(text + (f" ({found.detectable:.1f} would have been seen)" if word == open_ else ""))
    words = [cell.verdict for cell in cells]
    verdict = yes if all(w == yes for w in words) else no if all(w == no for w in words) else open_
    count = f"{words.count(yes)} of {len(words)} {yes}, {words.count(no)} {no}. " if len(words) > 1 else ""
    return verdict, count + "; ".join(sentences) + ".", tuple(cells), metrics, intervals


def _beside(contrast: Contrast, runs: Mapping[str, Mapping[int, Mapping[str, float]]]) -> dict[str, float]:
    """The same contrast of other metrics, where the arms have them: AP alone hides what kind of error went away."""
    found = {}
    for other in BESIDE:
        terms = tuple((w, arm, metric.replace("AP", other, 1)) for w, arm, metric in contrast.terms)
        if all(metric.startswith("AP") for _, _, metric in contrast.terms) and all(
            metric in numbers for _, arm, metric in terms for numbers in runs[arm].values()
        ):
            found[f"{other}, {contrast.name}"] = paired(contrast_values(replace(contrast, terms=terms), runs)).mean
    return found


BESIDE = ("mean OKS", "PCK", "confusion", "jitter share", "inversion share", "swap share", "miss share")
WORDS = {
    True: ("seen", "not seen", "undecided in reduced form"),
    False: ("reproduced", "contradicted", "undecided"),
}
