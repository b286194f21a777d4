"""Exercises of notebook 01: both losses with a mask, the answers to a mix of labels, and which head for whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from posekit.course.exercises.framework import Exercise, Judge
from posekit.course.exercises.judges import choice, function, number


def _case(seed: int, labelled: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    visibility = np.where(rng.random((3, 5)) < labelled, rng.integers(1, 3, (3, 5)), 0)
    # COCO stores (0, 0) for a joint that nobody labelled; its map is empty.
    true_points = rng.uniform(0, 1, (3, 5, 2)) * (visibility > 0)[..., None]
    true_maps = rng.uniform(0, 1, (3, 5, 6, 4)) * (visibility > 0)[..., None, None]
    return rng.uniform(0, 1, (3, 5, 2)), rng.uniform(0, 1, (3, 5, 6, 4)), true_points, true_maps, visibility


def _losses(points: Any, maps: Any, true_points: Any, true_maps: Any, visibility: Any) -> np.ndarray:
    mask = visibility > 0
    coordinates = (((points - true_points) ** 2).sum(-1) * mask).sum()
    heatmaps = (((maps - true_maps) ** 2).mean((-2, -1)) * mask).sum()
    return np.array([coordinates, heatmaps]) / max(mask.sum(), 1)


def _variant(*, mask: str = "labelled", divide: str = "labelled", cells: str = "mean", xy: str = "sum") -> Any:
    masks = {
        "labelled": lambda v: v > 0,
        "visible": lambda v: v == 2,
        "none": lambda v: np.ones(v.shape, bool),
        "flag": lambda v: v,
    }

    def wrong(points: Any, maps: Any, true_points: Any, true_maps: Any, visibility: Any) -> np.ndarray:
        weight = masks[mask](visibility)
        per_joint = getattr((points - true_points) ** 2, xy)(-1), getattr((maps - true_maps) ** 2, cells)((-2, -1))
        count = visibility.size if divide == "all" else max(weight.sum(), 1)
        return np.array([(loss * weight).sum() for loss in per_joint]) / count

    return wrong


def _no_labels(*arguments: Any) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return _losses(*arguments) if (arguments[-1] > 0).any() else np.array([np.nan, np.nan])


_PLACES, _SHARES = np.array([8.0, 10.0, 12.0, 30.0]), np.array([0.10, 0.20, 0.25, 0.45])
_MEAN = float(_PLACES @ _SHARES)
_ANSWERS = {"l2": _MEAN, "l1": 12.0, "heatmap": 30.0}
_SLIPS: dict[str, Mapping[str, float]] = {
    "l2": {
        "weigh each place by its share of the labels": float(_PLACES.mean()),
        "that is the median; squared error asks for the mean": 12.0,
    },
    "l1": {
        "that is the middle of the places; half of the *labels* must lie on either side": float(np.median(_PLACES)),
        "that is the mean; absolute error does not care how far away the far labels are": _MEAN,
        "that is the most frequent place, but fewer than half of the labels lie there": 30.0,
    },
    "heatmap": {
        "that is the mean of the map, as soft-argmax would read it; the highest cell counts here": _MEAN,
        "that is the median; a heatmap's highest cell is where most labels lie": 12.0,
    },
}


def _judge_answers(answer: Any) -> str | None:
    if not isinstance(answer, Mapping):
        return f"give a dict with the keys {', '.join(_ANSWERS)}, not {type(answer).__name__}"
    for key, expected in _ANSWERS.items():
        if key not in answer:
            return f"'{key}' is missing; give {', '.join(_ANSWERS)}"
        off = number(expected, rel=1e-3, unit="px", slips=_SLIPS[key])(answer[key])
        if off:
            return f"'{key}': {off}"
    return None


_RIGHT = {"crane": "l2", "taxi": "l1", "benchmark": "heatmap", "talk": "systems"}
_HEADS = {
    "l2": "its answer is the mean; ask what this client loses by one very large error, and by many small ones",
    "l1": "its answer is the median on each axis; is it |dx| + |dy| that this client pays?",
    "heatmap": "its answer is a mode: right or far off. Does this client pay more for an error that is twice as large?",
}
_QUESTIONS: dict[str, Judge] = {
    "crane": choice("l2", because=_HEADS),
    "taxi": choice("l1", because=_HEADS),
    "benchmark": choice("heatmap", because=_HEADS),
    "talk": choice(
        "systems",
        because={
            "heads": "between 2013 and 2015 backbone, input, training and data handling changed with the head",
            "nothing": "it is a fair comparison of two systems; it only cannot say which of their parts did it",
        },
    ),
}


def _judge_clients(answer: Any) -> str | None:
    if not isinstance(answer, Mapping):
        return f"give a dict with the keys {', '.join(_QUESTIONS)}, not {type(answer).__name__}"
    for key, question in _QUESTIONS.items():
        if key not in answer:
            return f"'{key}' has no answer yet"
        off = question(answer[key])
        if off:
            return f"'{key}': {off}"
    return None


EXERCISES = (
    Exercise(
        id="nb01-losses",
        task="write `losses` so that it returns the masked loss of coordinates and the masked loss of heatmaps",
        judge=function(
            _losses,
            [
                ("a batch in which every joint is labelled", _case(0, 1.0)),
                ("a batch in which some joints are not labelled", _case(1, 0.6)),
                ("a batch in which nobody is labelled must cost 0", _case(2, 0.0)),
            ],
            slips=[
                (
                    "joints that nobody labelled (v = 0) take part; they pull towards the corner (0, 0)",
                    _variant(mask="none"),
                ),
                ("you divide by all joints; divide by the labelled ones", _variant(divide="all")),
                ("hidden joints (v = 1) are labelled and count too; only v = 0 is left out", _variant(mask="visible")),
                ("the flag is no weight: v = 2 must not count double", _variant(mask="flag")),
                ("a joint's squared distance is the sum over x and y, not their mean", _variant(xy="mean")),
                ("a map's loss is the mean over its cells, not their sum", _variant(cells="sum")),
            ],
        ),
        solution="""```python
def losses(points, maps, true_points, true_maps, visibility):
    labelled = visibility > 0
    count = max(labelled.sum(), 1)
    distance = ((points - true_points) ** 2).sum(-1)     # (B, K)
    difference = ((maps - true_maps) ** 2).mean((-2, -1))  # (B, K)
    return (distance * labelled).sum() / count, (difference * labelled).sum() / count
```

HRNet's own code divides the heatmap loss by all joints and halves it. Adam does not notice a constant factor, but this
factor is not constant: pictures with few labels then count for less.""",
        answer=_losses,
        wrong=(
            (_variant(mask="none"), "nobody labelled"),
            (_variant(divide="all"), "divide by all joints"),
            (_variant(mask="visible"), "hidden joints"),
            (_variant(mask="flag"), "no weight"),
            (_variant(xy="mean"), "sum over x and y"),
            (_variant(cells="sum"), "mean over its cells"),
            (_no_labels, "NaN"),
            (lambda *_: (0.0, 0.0), "every joint is labelled"),
        ),
        praise="a missing label must cost nothing, in either loss",
    ),
    Exercise(
        id="nb01-answers",
        task='give a dict {"l2": ..., "l1": ..., "heatmap": ...} of the x that each head answers',
        judge=_judge_answers,
        solution="""The mean is 0.10 · 8 + 0.20 · 10 + 0.25 · 12 + 0.45 · 30 = 19.3 px, where no label lies.
From the left, the labels add up to 0.10, 0.30 and, at 12 px, 0.55: half is passed there, so the median is 12 px.
The most frequent place is 30 px: the heatmap's highest cell.""",
        answer=_ANSWERS,
        wrong=(
            ({**_ANSWERS, "l2": 15.0}, "share of the labels"),
            ({**_ANSWERS, "l1": 11.0}, "middle of the places"),
            ({**_ANSWERS, "l1": 30.0}, "fewer than half"),
            ({**_ANSWERS, "heatmap": _MEAN}, "soft-argmax"),
            ({**_ANSWERS, "l2": 40.0}, "too large"),
            ({"l2": _MEAN}, "'l1' is missing"),
            (19.3, "give a dict"),
        ),
        praise="three heads, one set of labels, three answers: and none of them has made a mistake",
    ),
    Exercise(
        id="nb01-clients",
        task='give a dict {"crane": ..., "taxi": ..., "benchmark": ..., "talk": ...}',
        judge=_judge_clients,
        solution="""- `crane`: damage grows with the square, so the mean costs least: "l2".
- `taxi`: |dx| + |dy| is least at the median of each axis: "l1".
- `benchmark`: only hits count, and nothing is hit between the modes: "heatmap".
- `talk`: "systems". To speak about heads, everything else must stay the same, as in section 4.""",
        answer=_RIGHT,
        wrong=(
            ({**_RIGHT, "crane": "heatmap"}, "right or far off"),
            ({**_RIGHT, "benchmark": "l2"}, "mean"),
            ({**_RIGHT, "taxi": "l2"}, "'taxi'"),
            ({**_RIGHT, "talk": "heads"}, "changed with the head"),
            ({**_RIGHT, "talk": "nothing"}, "fair comparison"),
            ({"crane": "l2"}, "'taxi' has no answer"),
            ({**_RIGHT, "crane": "bigger"}, "not among the options"),
            ("l2", "give a dict"),
        ),
        praise="first ask what an error costs, then choose the head",
    ),
)
