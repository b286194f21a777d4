"""Exercises of notebook 03: OKS by hand, a sigma from repeated labels, and why an AP is 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from posekit.course.exercises.framework import Exercise
from posekit.course.exercises.judges import function, number
from posekit.course.lessons.nb03 import CAUSES, DIAGNOSES, repeated_labels
from posekit.metrics import oks
from posekit.skeletons import COCO17

_SIGMAS = np.array(COCO17.sigmas)


def _case(seed: int, labelled: float) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 200, (17, 2))
    visibility = np.where(rng.random(17) < labelled, rng.integers(1, 3, 17), 0)
    visibility[0] = 2
    predicted = truth + rng.normal(0, 6, (17, 2))
    # What COCO stores for a keypoint that nobody labelled.
    truth[visibility == 0] = 0
    return predicted, truth, float(rng.uniform(2000, 20000)), visibility, _SIGMAS


def _reference(pred: Any, truth: Any, area: float, visibility: Any, sigmas: Any) -> np.ndarray:
    return np.asarray(oks(np.asarray(pred), np.asarray(truth), area=area, visibility=visibility, sigmas=sigmas))


def _variant(*, double: float = 2.0, squared: bool = True, half: float = 2.0, every: bool = False) -> Any:
    def wrong(pred: Any, truth: Any, area: float, visibility: Any, sigmas: Any) -> np.ndarray:
        d2 = ((pred - truth) ** 2).sum(-1)
        d2 = d2 if squared else np.sqrt(d2)
        similarity = np.exp(-d2 / (half * area * (double * sigmas) ** 2))
        return similarity.mean() if every else similarity[visibility > 0].mean()

    return wrong


def _visible_only(pred: Any, truth: Any, area: float, visibility: Any, sigmas: Any) -> np.ndarray:
    similarity = np.exp(-((pred - truth) ** 2).sum(-1) / (2 * area * (2 * sigmas) ** 2))
    return similarity[visibility == 2].mean()


_CLICKS, _AREAS, _ = repeated_labels(np.random.default_rng(0))
_RATIO = (_CLICKS**2).sum(-1) / _AREAS
_SIGMA = float(np.sqrt(_RATIO.mean()))


def _judge_diagnoses(answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return f"give a dict from the letters to the causes, not {type(answer).__name__}"
    missing = [letter for letter in DIAGNOSES if letter not in answer]
    if missing:
        return f"file {missing[0]} has no diagnosis yet"
    unknown = [cause for cause in answer.values() if cause not in CAUSES]
    if unknown:
        return f"'{unknown[0]}' is no cause; choose from {', '.join(CAUSES)}"
    wrong = [letter for letter, cause in DIAGNOSES.items() if answer[letter] != cause]
    if wrong:
        return f"{6 - len(wrong)} of 6 right; look again at file {wrong[0]}: {_HINTS[DIAGNOSES[wrong[0]]]}"
    return None


_HINTS = {
    "fractions": "where on the picture are its points, and how large are its numbers?",
    "swapped": "turn your head by 90 degrees",
    "ids": "the skeletons look well shaped; do they belong to these people?",
    "crop": "do all its people have the same size and place?",
    "unlabelled": "an AP of -1 is not an AP of 0: what is there to divide by?",
    "mirrored": "shoulders and hips lie in the right places; which colour should be where?",
}


def _two_exchanged() -> dict[str, str]:
    return {**DIAGNOSES, "A": DIAGNOSES["B"], "B": DIAGNOSES["A"]}


EXERCISES = (
    Exercise(
        id="nb03-oks",
        task="write `my_oks` so that it agrees with the reference evaluator to nine digits",
        judge=function(
            _reference,
            [
                ("a person with all keypoints labelled", _case(0, 1.0)),
                ("a person with some keypoints not labelled", _case(1, 0.6)),
                ("a person with a single labelled keypoint", _case(2, 0.0)),
            ],
            judged_by=lambda expected: number(float(expected), rel=1e-9),
            slips=[
                ("you divide by sigma where the evaluator divides by 2 sigma", _variant(double=1.0)),
                ("you take the distance where its square belongs", _variant(squared=False)),
                ("the exponent lacks its 2: it is d² / (2 s² k²)", _variant(half=1.0)),
                ("keypoints that nobody labelled (v = 0) take part; they must not", _variant(every=True)),
                ("hidden keypoints (v = 1) count too; only v = 0 is left out", _visible_only),
            ],
        ),
        solution="""```python
def my_oks(pred, truth, area, visibility, sigmas):
    squared = ((pred - truth) ** 2).sum(-1)
    similarity = np.exp(-squared / (2 * area * (2 * sigmas) ** 2))
    return similarity[visibility > 0].mean()
```""",
        answer=_reference,
        wrong=(
            (_variant(double=1.0), "2 sigma"),
            (_variant(squared=False), "square"),
            (_variant(half=1.0), "lacks its 2"),
            (_variant(every=True), "nobody labelled"),
            (_visible_only, "hidden"),
            (lambda *_: 0.5, "a person"),
        ),
        praise="this is the ruler of the whole field",
    ),
    Exercise(
        id="nb03-sigma",
        task="compute the sigma of a keypoint from 400 repeated clicks and the areas of the people",
        judge=number(
            _SIGMA,
            rel=1e-3,
            slips={
                "that is sigma squared; take the root": float(_RATIO.mean()),
                "that is k = 2 sigma, which the evaluator makes of sigma itself": 2 * _SIGMA,
                "that is the spread in pixels; divide each squared distance by its person's area first": float(
                    np.sqrt((_CLICKS**2).sum(-1).mean())
                ),
                "that is the spread of one coordinate; d is the distance, so add both squares": float(
                    np.sqrt(((_CLICKS**2) / _AREAS[:, None]).mean())
                ),
                "take the root of the mean square, not the mean of the roots": float(np.sqrt(_RATIO).mean()),
                "divide by the area, which is the scale squared, not by the square of the area": float(
                    np.sqrt(((_CLICKS**2).sum(-1) / _AREAS**2).mean())
                ),
            },
        ),
        solution="""$\\sigma^2 = E[d^2 / s^2]$ with $s^2$ the person's area:

```python
sigma = np.sqrt(((clicks**2).sum(axis=1) / areas).mean())
```

For keypoints of your own, let several people label the same hundred pictures and do exactly this.""",
        answer=_SIGMA,
        wrong=(
            (_SIGMA**2, "take the root"),
            (2 * _SIGMA, "k = 2 sigma"),
            (float(np.sqrt((_CLICKS**2).sum(-1).mean())), "in pixels"),
            (float(np.sqrt(((_CLICKS**2) / _AREAS[:, None]).mean())), "one coordinate"),
            (float(np.sqrt(_RATIO).mean()), "mean square"),
            (0.05, "small"),
        ),
        praise="sigma is nothing but how far apart careful annotators are",
    ),
    Exercise(
        id="nb03-clinic",
        task="give a dict from the six letters to their causes",
        judge=_judge_diagnoses,
        solution="Look at the picture first, then at the numbers, then ask the checker:\n\n"
        + "\n".join(f"- `{cause}`: {words}." for cause, words in CAUSES.items())
        + "\n\n`nb03.DIAGNOSES` has the letters. `posekit data check GT --detections DT` names most of them.",
        answer=DIAGNOSES,
        wrong=(
            (_two_exchanged(), "4 of 6 right"),
            (dict.fromkeys("ABCDEF", "mirrored"), "1 of 6"),
            ({"A": "ids"}, "file B has no diagnosis"),
            (dict.fromkeys("ABCDEF", "bad luck"), "no cause"),
        ),
        praise="that is the most asked question of the field, answered six times",
    ),
)
