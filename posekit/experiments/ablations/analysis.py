"""Paired comparison over seeds: the mean difference, its interval, and how small an effect would have been seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from posekit.experiments.ablations.definition import Ablation, Contrast
from posekit.experiments.ledger import Cell, words_of
from posekit.experiments.runner import Judgement, Measurement

POWER = 0.8
Runs = Mapping[str, Mapping[int, Mapping[str, float]]]
Draws = Mapping[str, Mapping[int, Mapping[str, np.ndarray]]]


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


def contrast_values(contrast: Contrast, runs: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[Any]:
    """The contrast under every seed that all of its arms have, in the order of the seeds.

    Args:
        runs: metrics, or arrays of them, by arm and seed.
    """
    arms = {arm for _, arm, _ in contrast.terms}
    seeds = sorted(set.intersection(*(set(runs[arm]) for arm in arms)))
    return [sum(weight * runs[arm][seed][metric] for weight, arm, metric in contrast.terms) for seed in seeds]


@dataclass(frozen=True)
class Judged:
    """An ablation's outcome: verdict, its sentence, the contrasts one by one, and their numbers.

    ``intervals`` hold, by contrast, the 95 % interval over seeds, on which the verdict rests, and as "X, over pictures"
    that over test pictures.
    """

    verdict: str
    reason: str
    cells: tuple[Cell, ...]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def judge(ablation: Ablation, runs: Runs, profile: str, *, draws: Draws | None = None) -> Judged:
    """Every contrast positive, negative or open by its interval over seeds; all alike make the verdict.

    Args:
        runs: metrics by arm and seed.
        draws: resampled scores by arm, seed and metric, for the intervals over pictures; contrasts of which some are
            missing have none.
    """
    sentences: list[str] = []
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for contrast in ablation.contrasts_of(profile):
        found = paired(contrast_values(contrast, runs))
        intervals[contrast.name] = (found.low, found.high)
        over_pictures = pictures(contrast, draws or {})
        if over_pictures is not None:
            intervals[f"{contrast.name}, over pictures"] = over_pictures
        metrics |= {contrast.name: found.mean, f"detectable, {contrast.name}": found.detectable}
        metrics |= _beside(contrast, runs)
        sentences.append(_sentence(contrast, found, over_pictures, runs))
    judgement = judge_numbers(ablation, profile, Measurement(metrics, intervals))
    reason = judgement.reason + "; ".join(sentences) + "."
    return Judged(judgement.verdict, reason, judgement.cells, metrics, intervals)


def judge_numbers(ablation: Ablation, profile: str, measurement: Measurement) -> Judgement:
    """The verdict and cells that follow from means and intervals alone; its reason is the count of cells."""
    yes, no, open_ = words_of("trained", profile)
    cells: list[Cell] = []
    for contrast in ablation.contrasts_of(profile):
        low, high = measurement.intervals[contrast.name]
        word = yes if low + contrast.margin > 0 else no if high + contrast.margin < 0 else open_
        cells.append(Cell(contrast.name, measurement.metrics[contrast.name], word, contrast.published, (low, high)))
    words = [cell.verdict for cell in cells]
    verdict = yes if all(w == yes for w in words) else no if all(w == no for w in words) else open_
    count = f"{words.count(yes)} of {len(words)} {yes}, {words.count(no)} {no}. " if len(words) > 1 else ""
    return Judgement(verdict, count, tuple(cells))


def pictures(contrast: Contrast, draws: Draws) -> tuple[float, float] | None:
    """95 % interval of a contrast's mean over seeds, had the test pictures been drawn again; networks as they are.

    The resamples of all networks are of the same pictures, so the contrast is taken draw by draw.

    Args:
        draws: (300,) by arm, seed and metric.

    Returns:
        None where an arm left no draws of its metric.
    """
    if any(metric not in one for _, arm, metric in contrast.terms for one in draws.get(arm, {0: {}}).values()):
        return None
    drawn = np.mean(contrast_values(contrast, draws), axis=0)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _sentence(contrast: Contrast, found: Paired, over_pictures: tuple[float, float] | None, runs: Runs) -> str:
    text = f"{contrast.name}: {found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"
    if over_pictures is not None:
        text += " over seeds, [{:+.1f}, {:+.1f}] over pictures".format(*over_pictures)
    if contrast.margin:
        text += f", within a margin of {contrast.margin:g}{_economy(contrast, runs)}"
    open_ = found.low + contrast.margin <= 0 <= found.high + contrast.margin
    return text + (f" ({found.detectable:.1f} would have been seen)" if open_ and found.detectable > 0 else "")


def _economy(contrast: Contrast, runs: Runs) -> str:
    """A claim of level accuracy is one of fewer parameters: how many fewer the arms had here."""
    (_, ours, _), (_, theirs, _) = contrast.terms
    sizes = [next(iter(runs[arm].values())).get("parameters") for arm in (ours, theirs)]
    return f", with {sizes[0] / sizes[1]:.0%} of its parameters" if sizes[0] and sizes[1] else ""


def _beside(contrast: Contrast, runs: Runs) -> dict[str, float]:
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
