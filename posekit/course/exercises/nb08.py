"""Exercises of notebook 08: predict a ceiling, fit the crossover, read an ablation with two knobs."""

from __future__ import annotations

import numpy as np

from posekit.course.exercises.framework import Exercise
from posekit.course.exercises.judges import choice, function, numbers


def _fit(strides, errors):
    slope, own_squared = np.polyfit(np.square(strides, dtype=float), np.square(errors), 1)
    return np.sqrt(own_squared), np.sqrt(own_squared / slope)


def _through_errors(strides, errors):
    """The line through the errors themselves, not their squares."""
    slope, own = np.polyfit(strides, errors, 1)
    return own, own / slope


def _squared_errors_only(strides, errors):
    slope, own_squared = np.polyfit(strides, np.square(errors), 1)
    return np.sqrt(abs(own_squared)), np.sqrt(abs(own_squared / slope))


def _no_root(strides, errors):
    return tuple(value**2 for value in _fit(strides, errors))


def _other_way(strides, errors):
    own, crossover = _fit(strides, errors)
    return crossover, own


def _own_over_slope(strides, errors):
    own, crossover = _fit(strides, errors)
    return own, own * (crossover / own) ** 2


def _one_axis(strides, errors):
    own, crossover = _fit(strides, errors)
    return own, crossover * 2**0.5


_STRIDES = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
_CASES = [
    ("an own error of 3 px and a plain argmax", (_STRIDES, np.sqrt(3.0**2 + _STRIDES**2 / 6))),
    ("a quarter offset, whose ruler is half as coarse", (_STRIDES, np.sqrt(3.0**2 + _STRIDES**2 / 24))),
    ("four strides out of order", (np.array([8.0, 2.0, 16.0, 4.0]), np.array([4.4, 3.15, 7.1, 3.4]))),
]

EXERCISES = (
    Exercise(
        id="nb08-ceiling",
        task="give cells on the person, the stride at 384x288 with the same ceiling, and the mean error in percent",
        judge=numbers({"cells": 25.6, "stride": 12.0, "percent": 100 * 0.382597858 / 25.6}, rel=1e-2),
        solution="""The person is 128 / 1.25 = 102.4 px tall in the crop.

- cells: 102.4 / 4 = 25.6;
- the same number of cells at 384x288: the person is 384 / 1.25 = 307.2 px tall, so the stride is 307.2 / 25.6 = 12,
  three times the old one for three times the pixels. No network has it, but a ceiling does not ask for a network;
- the mean error is 0.3826 cells, so 0.3826 / 25.6 = 1.49 % of the person's height, at either size.

In pixels the two errors differ by a factor of three. OKS does not look at pixels of the crop.""",
        answer={"cells": 25.6, "stride": 12, "percent": 1.4945},
        wrong=(
            ({"cells": 32, "stride": 12, "percent": 1.4945}, "'cells'"),
            ({"cells": 25.6, "stride": 4, "percent": 1.4945}, "'stride'"),
            ({"cells": 25.6, "stride": 12, "percent": 0.014945}, "factor of 100"),
            ({"cells": 25.6, "stride": 12, "percent": 1.1956}, "'percent'"),
            ({"cells": 102.4, "stride": 12, "percent": 1.4945}, "'cells': 102.4 is too large by a factor of 4"),
            ({"cells": 25.6, "stride": 12}, "'percent' is missing"),
            (25.6, "dict"),
        ),
        praise="one number, cells on the person, and the ceiling follows",
    ),
    Exercise(
        id="nb08-crossover",
        task="write `fit`: the network's own error, and the stride at which the ruler adds as much",
        judge=function(
            _fit,
            _CASES,
            slips=[
                ("errors do not add, their squares do: fit a line to errors**2 over strides**2", _through_errors),
                ("the errors are squared and the strides are not; the law has s**2 in it", _squared_errors_only),
                ("those are squares, in square pixels; take the roots", _no_root),
                ("the two come in the other order: first the own error, then the stride", _other_way),
                (
                    "for the crossover, own**2 = slope * stride**2; you left the stride squared",
                    _own_over_slope,
                ),
                (
                    "you set one axis of the ruler against both axes of the own error; the fitted slope has both in it",
                    _one_axis,
                ),
            ],
        ),
        solution="""The law e^2 = a^2 + k s^2 is a straight line in s^2:

```python
def fit(strides, errors):
    slope, own_squared = np.polyfit(np.square(strides), np.square(errors), 1)
    return np.sqrt(own_squared), np.sqrt(own_squared / slope)
```

At the crossover both parts are equal: a^2 = k s^2. For a plain argmax k is close to 1/6, and the crossover is
a * sqrt(6), about two and a half times the own error. For the quarter offset it is twice as far out.""",
        answer=_fit,
        wrong=(
            (_through_errors, "squares do"),
            (_squared_errors_only, "strides are not"),
            (_no_root, "take the roots"),
            (_other_way, "other order"),
            (_own_over_slope, "stride squared"),
            (_one_axis, "one axis"),
            (lambda strides, errors: None, "returns nothing"),
            ((3.0, 7.3), "function"),
        ),
        praise="finer than the crossover, improve the network; coarser, improve the ruler",
    ),
    Exercise(
        id="nb08-confounder",
        task="choose all statements that the table supports, as a set such as {'a', 'b'}",
        judge=choice(
            {"a", "d"},
            because={
                "b": "'b': the two rows differ in epochs as well; 0.3 is what both changes do together",
                "c": "'c': nor does the table show that; with two changes at once neither can be cleared or blamed",
                "e": "'e': a deeper network may gain more from 70 further epochs; the same change of epochs need not "
                "be worth the same in every column",
                "f": "'f': each cell is one training run; without a second seed nobody knows how much 0.3 moves by "
                "chance",
            },
        ),
        solution="""**a and d.** Cost does not depend on how long one trained, so a can be read off directly. d compares
two whole recipes and claims nothing about the cause: with three more modules the coarse network is better by 4.4 AP at
half the operations, although it was trained for less time.

b and c pick one of two changes. e looks clever, and would hold if 70 epochs were worth the same at every depth, which
is just what is not known. f needs seeds.

What would decide b: the same epochs in both rows, and three or more seeds. The ablation `dpn_table4` of this package
is that experiment in small.""",
        answer={"a", "d"},
        wrong=(
            ({"a", "b", "d"}, "epochs"),
            ({"a", "c"}, "neither"),
            ({"a", "d", "e"}, "deeper"),
            ({"f"}, "seed"),
            ({"a"}, "look on"),
            ("d", "look on"),
            ({"g"}, "not among"),
        ),
        praise="costs and whole recipes can be compared; causes need one change at a time",
    ),
)
