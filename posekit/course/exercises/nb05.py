"""Exercises of notebook 05: the quarter offset, averages over a cell, and advice on the flip test."""

from __future__ import annotations

import numpy as np

from posekit.course.exercises.framework import Exercise
from posekit.course.exercises.judges import choice, function, numbers


def _read_row(row: np.ndarray) -> float:
    peak = int(np.argmax(row))
    if peak in (0, len(row) - 1):
        return float(peak)
    return peak + 0.25 * float(np.sign(row[peak + 1] - row[peak - 1]))


def _step_by(size: float):
    def read(row):
        peak = int(np.argmax(row))
        return peak + 4 * size * (_read_row(row) - peak)

    return read


def _second_maximum(row):
    peak = int(np.argmax(row))
    second = int(np.argsort(row)[-2])
    return peak + 0.25 * np.sign(second - peak)


def _always_steps(row):
    peak = int(np.argmax(row))
    if peak in (0, len(row) - 1):
        return float(peak)
    return peak + (0.25 if row[peak + 1] > row[peak - 1] else -0.25)


def _over_the_edge(row):
    peak = int(np.argmax(row))
    padded = np.concatenate([[0.0], row, [0.0]])
    return peak + 0.25 * float(np.sign(padded[peak + 2] - padded[peak]))


_BUMP = np.exp(-((np.arange(10) - 4.3) ** 2) / 8)
_CASES = [
    ("a Gaussian at 4.3 cells", (_BUMP,)),
    ("the same, mirrored", (_BUMP[::-1].copy(),)),
    ("a second maximum on the other side", (np.array([0.0, 0.9, 0.0, 0.2, 1.0, 0.3, 0.0]),)),
    ("neighbours of equal height", (np.array([0.0, 0.1, 0.5, 1.0, 0.5, 0.1, 0.0]),)),
    ("a peak in the first cell", (np.array([1.0, 0.5, 0.1, 0.0]),)),
    ("a peak in the last cell", (np.array([0.0, 0.1, 0.5, 1.0]),)),
]

EXERCISES = (
    Exercise(
        id="nb05-quarter",
        task="write `read_row`: the highest cell, and a quarter of a cell towards its higher neighbour",
        judge=function(
            _read_row,
            _CASES,
            slips=[
                ("that is the plain argmax: it takes no step yet", lambda row: float(np.argmax(row))),
                (
                    "neighbours of equal height: nothing tells left from right, so take no step (the sign of 0 is 0)",
                    _always_steps,
                ),
                ("a peak in the first or last cell has only one neighbour: it stays", _over_the_edge),
                (
                    "you step towards the second highest cell of the row, which may be anywhere; compare the two "
                    "direct neighbours",
                    _second_maximum,
                ),
                ("you step away from the higher neighbour; the joint lies on its side", _step_by(-0.25)),
                ("you step half a cell; a quarter lands in the middle of the half that is left", _step_by(0.5)),
            ],
        ),
        solution="""The sign of the difference of the two neighbours, times a quarter:

```python
def read_row(row):
    peak = int(np.argmax(row))
    if peak in (0, len(row) - 1):
        return float(peak)
    return peak + 0.25 * np.sign(row[peak + 1] - row[peak - 1])
```

Published code is a little stricter and also leaves a peak in the second cell alone; the package does the same, so
that results agree.""",
        answer=_read_row,
        wrong=(
            (lambda row: int(np.argmax(row)), "plain argmax"),
            (_step_by(-0.25), "away"),
            (_step_by(0.5), "half a cell"),
            (_second_maximum, "second highest"),
            (_always_steps, "equal height"),
            (_over_the_edge, "only one neighbour"),
            (lambda row: row[99], "raised IndexError"),
            (4.25, "function"),
        ),
        praise="on a sub-pixel target this halves the error; on a rounded one, your sign is always 0",
    ),
    Exercise(
        id="nb05-bound",
        task="give the mean error in x, the root mean square distance and the mean with the quarter offset, stride 8",
        judge=numbers({"mean x": 2.0, "rms": 8 / 6**0.5, "quarter": 0.3826 * 4}, rel=2e-3),
        solution="""In one axis the error is uniform between -s/2 and s/2, with s = 8:

- its mean absolute value is s/4 = 2 px;
- its mean square is s^2/12, and the two axes add: sqrt(s^2/12 + s^2/12) = s / sqrt(6) = 3.266 px;
- the quarter offset leaves a square of side s/2, so 0.3826 * 4 = 1.530 px.

The root mean square is larger than the mean distance (3.061 px), as it always is: large errors count more.""",
        answer={"mean x": 2.0, "rms": 3.266, "quarter": 1.5304},
        wrong=(
            ({"mean x": 4.0, "rms": 3.266, "quarter": 1.5304}, "'mean x': 4 is too large by a factor of 2"),
            ({"mean x": 0.0, "rms": 3.266, "quarter": 1.5304}, "'mean x'"),
            ({"mean x": 2.0, "rms": 2.3094, "quarter": 1.5304}, "'rms': 2.3094 is too small by a factor of √2"),
            ({"mean x": 2.0, "rms": 3.0608, "quarter": 1.5304}, "'rms'"),
            ({"mean x": 2.0, "rms": 3.266, "quarter": 3.0608}, "'quarter': 3.0608 is too large by a factor of 2"),
            ({"mean x": 2.0, "rms": 3.266, "quarter": 0.1913}, "'quarter'"),
            ({"mean x": 2.0}, "'rms' is missing"),
            (3.06, "dict"),
        ),
        praise="three averages of one uniform square; papers rarely say which of them they print",
    ),
    Exercise(
        id="nb05-flip",
        task="choose the advice: a, b, c or d",
        judge=choice(
            "b",
            because={
                "a": "put s = 1 and k = 1 into the formula for b; a switch that is right at stride 4 was copied along",
                "c": "it is not an error like the others: it has the same sign for every joint of every person, so "
                "nothing averages it out, and strict thresholds notice half a pixel of a small crop",
                "d": "the shift is counted in cells and each adds s/2 pixels; at stride 1 two cells leave a whole "
                "pixel where no shift leaves none",
            },
        ),
        solution="""**b.** The bias is (s - 1)/2 - k s/2 pixels. At s = 1 that is 0 without a shift and -1/2 with one:
the shift repairs a fault that maps at stride 1 do not have.

Whether half a pixel can be seen in AP depends on the size of the crop; the ledger's row U02 asks just that.""",
        answer="b",
        wrong=(("a", "s = 1"), ("c", "same sign"), ("d", "counted in cells"), ("e", "not among"), (2, "not among")),
        praise="a bias of half a pixel is small, and it is the same for everybody",
    ),
)
