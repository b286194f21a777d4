"""How sure is an AP: resample the images, keep the matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.metrics.coco_eval import STATS, KeypointResult, accumulate, summarise


@dataclass(frozen=True)
class Interval:
    """A bootstrap distribution: its mean, its central 95 percent, and all samples."""

    mean: float
    low: float
    high: float
    samples: np.ndarray

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap_ap(result: KeypointResult, *, samples: int = 1000, seed: int, statistic: str = "AP") -> Interval:
    """Resample the images of a result with replacement and score each resample, without matching again.

    Matching never crosses images, so a resample is a weight on each image. The images of resample n depend on the
    seed and their number alone: two results on the same images and seed are paired, and the interval of a difference
    is that of ``a.samples - b.samples``.

    Args:
        result: from :func:`posekit.metrics.evaluate_coco`.
        samples: number of resamples.
        seed: of the resampling.
        statistic: one of ``STATS``.

    Returns:
        :class:`Interval` with (samples,) float64; a resample in which nobody counts gives NaN and is left out of the
        mean and the interval.

    Raises:
        ValueError: unknown statistic, or no samples.
    """
    if statistic not in STATS:
        raise ValueError(f"unknown statistic {statistic!r}; use one of {', '.join(STATS)}")
    if samples < 1:
        raise ValueError(f"{samples} samples cannot be drawn; ask for at least 1")
    which = STATS.index(statistic)
    size = {"medium": 1, "large": 2}.get(statistic.partition("_")[2], 0)
    rng = np.random.default_rng(seed)
    images = len(result.matches.image_ids)
    values = np.empty(samples)
    for n in range(samples):
        weights = np.bincount(rng.integers(0, images, images), minlength=images)
        values[n] = summarise(*accumulate(result.matches, weights, sizes=(size,)))[which]
    values[values == -1] = np.nan
    there = values[~np.isnan(values)]
    if not len(there):
        return Interval(float("nan"), float("nan"), float("nan"), values)
    low, high = np.quantile(there, [0.025, 0.975])
    return Interval(float(there.mean()), float(low), float(high), values)
