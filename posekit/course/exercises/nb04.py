"""Exercises of notebook 04: an encoder without loops, a rounded centre, and why blank maps are cheap."""

from __future__ import annotations

import numpy as np

from posekit.course.exercises.framework import Exercise
from posekit.course.exercises.judges import array, choice, function, numbers


def loop_encode(points: np.ndarray, size: tuple[int, int], sigma: float) -> np.ndarray:
    """The slow encoder of the exercise: points (K, 2) in cells, x then y -> maps (K, h, w)."""
    h, w = size
    maps = np.zeros((len(points), h, w))
    for k, (x, y) in enumerate(points):
        for row in range(h):
            for column in range(w):
                maps[k, row, column] = np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2))
    return maps


def _encode(points: np.ndarray, size: tuple[int, int], sigma: float) -> np.ndarray:
    h, w = size
    x = np.exp(-((np.arange(w) - points[:, :1]) ** 2) / (2 * sigma**2))
    y = np.exp(-((np.arange(h) - points[:, 1:]) ** 2) / (2 * sigma**2))
    return y[:, :, None] * x[:, None, :]


def _sum_of_rows(points, size, sigma):
    h, w = size
    x = np.exp(-((np.arange(w) - points[:, :1]) ** 2) / (2 * sigma**2))
    y = np.exp(-((np.arange(h) - points[:, 1:]) ** 2) / (2 * sigma**2))
    return y[:, :, None] + x[:, None, :]


def _density(points, size, sigma):
    return _encode(points, size, sigma) / (2 * np.pi * sigma**2)


_CASES = [
    ("one joint in the middle of a cell", (np.array([[5.0, 4.0]]), (9, 12), 2.5)),
    ("joints between cells", (np.array([[3.3, 6.8], [10.5, 0.2]]), (9, 12), 1.5)),
    ("a joint outside the map", (np.array([[-2.0, 4.0], [20.0, 3.0]]), (8, 6), 3.0)),
]

EXERCISES = (
    Exercise(
        id="nb04-encoder",
        task="write `encode` without a loop over joints, rows or columns; it must give what the loop gives",
        judge=function(
            loop_encode,
            _CASES,
            judged_by=lambda expected: array(expected, what="stack of maps"),
            slips=[
                ("x and y are exchanged: x counts columns, the last axis", lambda p, s, g: _encode(p[:, ::-1], s, g)),
                ("the exponent lacks its half: divide by 2 sigma^2", lambda p, s, g: _encode(p, s, g / 2**0.5)),
                ("you divide by sigma where its square belongs", lambda p, s, g: _encode(p, s, g**0.5)),
                ("you add the two profiles; a Gaussian in two dimensions is their product", _sum_of_rows),
                ("the peak should be 1: a target is no probability density, leave out the factor", _density),
                (
                    "you round the joints first; this encoder keeps the fraction",
                    lambda p, s, g: _encode(p.round(), s, g),
                ),
            ],
        ),
        solution="""The exponential of a sum is a product, so a map is a column of numbers times a row of numbers:

```python
def encode(points, size, sigma):
    h, w = size
    x = np.exp(-((np.arange(w) - points[:, :1]) ** 2) / (2 * sigma**2))  # (K, w)
    y = np.exp(-((np.arange(h) - points[:, 1:]) ** 2) / (2 * sigma**2))  # (K, h)
    return y[:, :, None] * x[:, None, :]  # (K, h, w)
```

That takes h + w exponentials for each joint instead of h times w. The package's encoder does the same, for a batch.""",
        answer=_encode,
        wrong=(
            (lambda p, s, g: _encode(p[:, ::-1], s, g), "exchanged"),
            (lambda p, s, g: _encode(p, s, g).transpose(0, 2, 1), "shape"),
            (lambda p, s, g: _encode(p, s, g / 2**0.5), "half"),
            (lambda p, s, g: _encode(p, s, g**0.5), "square belongs"),
            (_sum_of_rows, "product"),
            (_density, "peak should be 1"),
            (lambda p, s, g: _encode(p.round(), s, g), "fraction"),
            (lambda p, s, g: _encode(p, s, g).sum(0), "shape"),
            (np.zeros((1, 9, 12)), "function"),
        ),
        praise="two short profiles and one product; that is also how the package encodes a batch",
    ),
    Exercise(
        id="nb04-centre",
        task="give the column and row of the rounded centre, and the peak's distance from the joint in pixels",
        judge=numbers({"column": 25, "row": 16, "distance": 5**0.5}, rel=2e-3),
        solution="""101 / 4 = 25.25 and int(25.75) = 25: the centre of cell 25 is pixel 100, one pixel left of the
joint. 62 / 4 = 15.5 and int(16.0) = 16: the centre of cell 16 is pixel 64, two pixels below it.
The distance is sqrt(1 + 4) = 2.236 px. The target itself is wrong by that much, and a network that learns it
perfectly is too.""",
        answer={"column": 25, "row": 16, "distance": 2.2361},
        wrong=(
            ({"column": 25, "row": 15, "distance": 2.2361}, "'row'"),
            ({"column": 26, "row": 16, "distance": 2.2361}, "'column'"),
            ({"column": 25.25, "row": 15.5, "distance": 0.0}, "'column'"),
            ({"column": 25, "row": 16, "distance": 0.559}, "'distance': 0.559 is too small by a factor of 4"),
            ({"column": 25, "row": 16, "distance": 3.0}, "'distance'"),
            ({"column": 16, "row": 25, "distance": 2.2361}, "'column'"),
            ((25, 16), "dict"),
        ),
        praise="the label was exact; the target no longer is",
    ),
    Exercise(
        id="nb04-blank",
        task="choose the explanation: a, b, c or d",
        judge=choice(
            "b",
            because={
                "a": "a small loss says nothing until you know what a blank map scores: about 0.002 here, which is "
                "where it started",
                "c": "if the weights were zero the loss would be exactly 0; it stands at the blank map's value",
                "d": "then the loss would lie near that of a misplaced Gaussian, twice the blank map's",
            },
        ),
        solution="""**b.** With sigma 2 on 64x48 cells the blank map's loss is half of pi sigma^2 / (h w) = 0.002: the
target is zero nearly everywhere, so zero is right nearly everywhere. A guess in the wrong place pays for the missing
peak and for its own, twice as much. Until the network knows where to look with some confidence, flat is best.

Compare with the blank map's loss before you trust a small number; look at the height of the predicted peaks; check
the learning rate, the normalisation of the pictures and that crops and keypoints belong together.""",
        answer="b",
        wrong=(("a", "blank map scores"), ("c", "exactly 0"), ("d", "twice"), ("x", "not among"), (0.002, "not among")),
        praise="judge a loss by what the laziest answer would have paid",
    ),
)
