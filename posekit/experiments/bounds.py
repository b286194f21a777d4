"""Tests that need labels but no network: ground truth encoded, decoded and scored is the best a network can do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posekit.analysis import quantization_bound, quantization_error
from posekit.annotations import People
from posekit.codecs import GaussianHeatmap
from posekit.experiments.ground_truth import decode_ground_truth, score
from posekit.experiments.ledger import Cell
from posekit.experiments.runner import Experiment, Judgement, Measurement
from posekit.metrics import KeypointResult

DATASET = "mannequin test, face"


def labels(config: Mapping[str, Any]) -> People:
    """The people whom a configuration names: the first scenes of Mannequin's test split."""
    from posekit.data import Mannequin

    return Mannequin("test", level=config["level"], scenes=config["scenes"]).people


def _codec(size: Sequence[int], stride: int, decoder: Any, centre: Any = "subpixel") -> GaussianHeatmap:
    return GaussianHeatmap((size[0], size[1]), stride=stride, centre=centre, decoder=decoder)


def _interval(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def _score_all(people: People, codecs: Mapping[str, GaussianHeatmap], config: Mapping[str, Any], seed: int):
    """AP in points per named codec, as (value, bootstrap samples); all codecs see the same resampled images."""
    scores = {}
    for name, codec in codecs.items():
        result = score(people, codec)
        scores[name] = 100 * result.ap, 100 * _samples(result, config["bootstrap"], seed)
    return scores


def _samples(result: KeypointResult, samples: int, seed: int) -> np.ndarray:
    from posekit.metrics import bootstrap_ap

    return np.asarray(bootstrap_ap(result, samples=samples, seed=seed).samples)


def _with_differences(scores, differences: Mapping[str, tuple[str, str]]) -> Measurement:
    """AP of each codec in points, and paired differences with their intervals: name -> (better, worse)."""
    metrics = {f"AP, {name}": value for name, (value, _) in scores.items()}
    intervals = {f"AP, {name}": _interval(samples) for name, (_, samples) in scores.items()}
    for name, (better, worse) in differences.items():
        metrics[name] = scores[better][0] - scores[worse][0]
        intervals[name] = _interval(scores[better][1] - scores[worse][1])
    return Measurement(metrics, intervals)


def _sign(measurement: Measurement, name: str) -> str:
    """Whether a difference that the claim says is positive is so: its interval lies above, below or across zero."""
    low, high = measurement.intervals[name]
    return "reproduced" if low > 0 else "contradicted" if high < 0 else "undecided"


def _cell(measurement: Measurement, name: str, published: str = "") -> Cell:
    return Cell(name, measurement.metrics[name], _sign(measurement, name), published, measurement.intervals[name])


def _together(cells: tuple[Cell, ...]) -> str:
    """A claim holds where all its cells hold; one contradiction contradicts it."""
    words = {cell.verdict for cell in cells}
    return "contradicted" if "contradicted" in words else "undecided" if "undecided" in words else "reproduced"


def _tally(cells: tuple[Cell, ...]) -> str:
    held = sum(cell.verdict == "reproduced" for cell in cells)
    return f"{held} of {len(cells)} cells hold"


# S10 ----------------------------------------------------------------------------------------------------------------


def _measure_quantization(config: Mapping[str, Any], seed: int) -> Measurement:
    people = labels(config)
    metrics, intervals = {}, {}
    rng = np.random.default_rng(seed)
    for stride in config["strides"]:
        simulated = quantization_error(stride, samples=config["samples"], seed=seed)
        decoded = decode_ground_truth(people, _codec(config["size"], stride, "argmax"))
        distance = np.linalg.norm(decoded.errors, axis=1)
        metrics[f"closed form, stride {stride}, px"] = quantization_bound(stride)
        metrics[f"simulation, stride {stride}, px"] = simulated.mean
        metrics[f"dataset, stride {stride}, px"] = float(distance.mean())
        intervals[f"simulation, stride {stride}, px"] = simulated.interval
        intervals[f"dataset, stride {stride}, px"] = _mean_interval(
            distance, decoded.image_index, config["bootstrap"], rng
        )
    return Measurement(metrics, intervals)


def _mean_interval(values: np.ndarray, group: np.ndarray, samples: int, rng: np.random.Generator):
    """95 % interval of a mean by resampling groups (images)."""
    _, group = np.unique(group, return_inverse=True)
    count = np.bincount(group)
    total = np.bincount(group, values)
    chosen = rng.integers(0, len(count), (samples, len(count)))
    return _interval(total[chosen].sum(1) / count[chosen].sum(1))


def _judge_quantization(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    strides = sorted(int(name.split()[3].rstrip(",")) for name in m if name.startswith("closed form"))
    cells = []
    for stride in strides:
        bound = m[f"closed form, stride {stride}, px"]
        for source in ("simulation", "dataset"):
            name = f"{source}, stride {stride}, px"
            agrees = abs(m[name] / bound - 1) < 0.02
            word = "reproduced" if agrees else "undecided"
            cells.append(Cell(f"{name}, closed form {bound:.3f}", m[name], word, interval=measurement.intervals[name]))
    falls = all(
        measurement.intervals[f"dataset, stride {a}, px"][1] < measurement.intervals[f"dataset, stride {b}, px"][0]
        for a, b in itertools.pairwise(strides)
    )
    verdict = _together(tuple(cells)) if falls else "contradicted"
    worst = max(abs(cell.measured / m[f"closed form, {cell.name.split(', ')[1]}, px"] - 1) for cell in cells)
    return Judgement(
        verdict,
        "Mean error on the dataset "
        + ", ".join(f"{m[f'dataset, stride {s}, px']:.2f}" for s in strides)
        + f" px at stride {', '.join(map(str, strides))}: it {'falls' if falls else 'does not fall'} with each "
        f"halving, and simulation and dataset lie within {100 * worst:.1f} % of 0.3826 strides.",
        tuple(cells),
    )


# H03 ----------------------------------------------------------------------------------------------------------------


def _measure_resolution(config: Mapping[str, Any], seed: int) -> Measurement:
    strides, size = config["strides"], config["size"]
    codecs = {f"stride {s}, {d}": _codec(size, s, d) for s in strides for d in ("argmax", "quarter")}
    differences = {
        f"stride {a} over stride {b}, {d}": (f"stride {a}, {d}", f"stride {b}, {d}")
        for a, b in itertools.pairwise(strides)
        for d in ("argmax", "quarter")
    }
    return _with_differences(_score_all(labels(config), codecs, config, seed), differences)


def _judge_resolution(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    order = tuple(_cell(measurement, name, "better (Fig. 5)") for name in m if " over " in name and "argmax" in name)
    strides = sorted(int(name.split()[2].rstrip(",")) for name in m if name.startswith("AP") and "argmax" in name)
    lowest = f"AP, stride {strides[-1]}, argmax"
    # A bound above 10 leaves a network free to fall below it, so it cannot contradict the published figure.
    under = "reproduced" if measurement.intervals[lowest][1] < 10 else "undecided"
    cells = (*order, Cell(lowest, m[lowest], under, "under 10 AP", measurement.intervals[lowest]))
    listed = ", ".join(f"{m[f'AP, stride {s}, argmax']:.1f}" for s in strides)
    shifted = ", ".join(f"{m[f'AP, stride {s}, quarter']:.1f}" for s in strides)
    return Judgement(
        _together(cells),
        f"A perfect network scores {listed} AP at stride {', '.join(map(str, strides))} with the plain maximum (and "
        f"with rounded targets), {shifted} with the quarter offset on sub-pixel targets; {_tally(cells)}.",
        cells,
    )


# S02 ----------------------------------------------------------------------------------------------------------------


def _measure_post_processing(config: Mapping[str, Any], seed: int) -> Measurement:
    people = labels(config)
    codecs, differences, gaps = {}, {}, {}
    for size in config["sizes"]:
        text = f"{size[0]}x{size[1]}"
        for head, stride in config["heads"].items():
            for decoder in ("argmax", "quarter"):
                codecs[f"{text}, {head}, {decoder}"] = _codec(size, stride, decoder)
            differences[f"gain, {text}, {head}"] = f"{text}, {head}, quarter", f"{text}, {head}, argmax"
        gaps[f"gain lost by resolution, {text}"] = tuple(f"gain, {text}, {head}" for head in config["heads"])
    scores = _score_all(people, codecs, config, seed)
    measured = _with_differences(scores, differences)
    metrics, intervals = dict(measured.metrics), dict(measured.intervals)
    for name, (low_resolution, high_resolution) in gaps.items():
        metrics[name] = metrics[low_resolution] - metrics[high_resolution]
        samples = [scores[a][1] - scores[b][1] for a, b in (differences[low_resolution], differences[high_resolution])]
        intervals[name] = _interval(samples[0] - samples[1])
    return Measurement(metrics, intervals)


def _judge_post_processing(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    published = "1.9 to 2.2 AP"
    gains = [name for name in m if name.startswith("gain, ")]
    cells = tuple(
        [_cell(measurement, name, published) for name in gains if name.endswith("simple")]
        + [_cell(measurement, name, "about 1.9 AP") for name in m if name.startswith("gain lost")]
    )
    # The published size is a network's. A perfect one sits at the top of the scale, so missing it contradicts nothing.
    low, high = measurement.intervals["gain, 256x192, simple"]
    size = "reproduced" if high >= 1.9 and low <= 2.2 else "undecided"
    name = "gain, 256x192, simple"
    cells = (*cells, Cell(f"size of the {name}", m[name], size, published, (low, high)))
    listed = "; ".join(f"{name.removeprefix('gain, ')}: {m[name]:+.2f}" for name in gains)
    return Judgement(
        _together(cells),
        f"What post-processing adds to a perfect network, AP: {listed} (simple: stride 4, SR: stride 1; sub-pixel "
        f"targets), published about 2 against 0.1 to 0.2: {_tally(cells)}.",
        cells,
    )


# H12 ----------------------------------------------------------------------------------------------------------------


def _measure_dark(config: Mapping[str, Any], seed: int) -> Measurement:
    codecs, differences = {}, {}
    for size in config["sizes"]:
        for stride in config["strides"]:
            text = f"{size[0]}x{size[1]}, stride {stride}"
            for decoder in ("quarter", "dark"):
                codecs[f"{text}, {decoder}"] = _codec(size, stride, decoder)
            differences[f"dark over quarter, {text}"] = f"{text}, dark", f"{text}, quarter"
    return _with_differences(_score_all(labels(config), codecs, config, seed), differences)


def _judge_dark(measurement: Measurement) -> Judgement:
    cells = tuple(_cell(measurement, name, "+0.4 AP") for name in measurement.metrics if name.startswith("dark over"))
    listed = "; ".join(f"{cell.name.removeprefix('dark over quarter, ')}: {cell.measured:+.2f}" for cell in cells)
    return Judgement(
        _together(cells),
        f"DARK over the quarter offset for a perfect network with sub-pixel targets, AP: {listed}; {_tally(cells)}.",
        cells,
    )


# U03 ----------------------------------------------------------------------------------------------------------------


def _measure_rounded(config: Mapping[str, Any], seed: int) -> Measurement:
    people, size = labels(config), config["size"]
    codecs, differences, moved = {}, {}, {}
    for stride in config["strides"]:
        for centre in ("rounded", "subpixel"):
            text = f"{centre}, stride {stride}"
            for decoder in ("argmax", "quarter"):
                codecs[f"{text}, {decoder}"] = _codec(size, stride, decoder, centre)
            differences[f"gain, {text}"] = f"{text}, quarter", f"{text}, argmax"
        plain, shifted = (
            decode_ground_truth(people, _codec(size, stride, decoder, "rounded")) for decoder in ("argmax", "quarter")
        )
        moved[f"largest move by the offset, rounded, stride {stride}, px"] = float(
            np.abs(plain.errors - shifted.errors).max()
        )
    measured = _with_differences(_score_all(people, codecs, config, seed), differences)
    return Measurement({**measured.metrics, **moved}, measured.intervals)


def _judge_rounded(measurement: Measurement) -> Judgement:
    m = measurement.metrics
    cells = []
    for name in [name for name in m if name.startswith("gain, ")]:
        if "rounded" in name:
            word = "reproduced" if m[name] == 0 else "contradicted"
            cells.append(Cell(name, m[name], word, "no effect", measurement.intervals[name]))
        else:
            cells.append(_cell(measurement, name, "helps"))
    moved = max(value for name, value in m.items() if name.startswith("largest move"))
    listed = "; ".join(f"{cell.name.removeprefix('gain, ')}: {cell.measured:+.2f}" for cell in cells)
    return Judgement(
        _together(tuple(cells)),
        f"What the quarter offset adds to a perfect network, AP: {listed}; with rounded targets no joint moves by more "
        f"than {moved:.2g} px, so what it gains in practice comes from outputs that are not their target.",
        tuple(cells),
    )


# Experiments --------------------------------------------------------------------------------------------------------


def _profiles(**config: Any) -> dict[str, dict[str, Any]]:
    """The same test on more scenes and with more resampling."""
    sizes = {"smoke": (24, 50), "quick": (500, 1000), "full": (2000, 2000)}
    return {
        profile: {"level": "face", "scenes": scenes, "bootstrap": bootstrap, **config}
        for profile, (scenes, bootstrap) in sizes.items()
    }


QUANTIZATION = Experiment(
    name="quantization",
    claims=("S10",),
    kind="bound",
    question="Do closed form, simulation and dataset agree on the quantization error, and does it fall with stride?",
    dataset=DATASET,
    profiles=_profiles(size=[256, 192], strides=[1, 2, 4, 8], samples=8192),
    measure=_measure_quantization,
    judge=_judge_quantization,
    tolerance=1e-3,
)

RESOLUTION = Experiment(
    name="resolution_bound",
    claims=("H03",),
    kind="bound",
    question="How much average precision can a perfect network reach from maps of each branch's resolution?",
    dataset=DATASET,
    profiles=_profiles(size=[256, 192], strides=[4, 8, 16, 32]),
    measure=_measure_resolution,
    judge=_judge_resolution,
    tolerance=0.1,
)

POST_PROCESSING = Experiment(
    name="post_processing_bound",
    claims=("S02",),
    kind="bound",
    question="How much does a perfect network lose without the quarter offset, at stride 4 and at full resolution?",
    dataset=DATASET,
    profiles=_profiles(sizes=[[256, 192], [128, 96]], heads={"simple": 4, "SR": 1}),
    measure=_measure_post_processing,
    judge=_judge_post_processing,
    tolerance=0.1,
)

DARK = Experiment(
    name="dark_bound",
    claims=("H12",),
    kind="bound",
    question="How much does DARK add to the quarter offset for a perfect network?",
    dataset=DATASET,
    profiles=_profiles(sizes=[[256, 192], [128, 96]], strides=[4, 8]),
    measure=_measure_dark,
    judge=_judge_dark,
    tolerance=0.1,
)

ROUNDED = Experiment(
    name="rounded_targets",
    claims=("U03",),
    kind="bound",
    question="Does the quarter offset do anything for a network that outputs its target?",
    dataset=DATASET,
    profiles=_profiles(size=[256, 192], strides=[4, 8]),
    measure=_measure_rounded,
    judge=_judge_rounded,
    tolerance=0.1,
)
