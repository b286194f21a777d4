"""Exercises of notebook 00: parameters, the origin of a pixel, and rounding."""

from __future__ import annotations

import numpy as np

from posekit.course.exercises.framework import Exercise
from posekit.course.exercises.judges import array, function, numbers


def _dice(seed: int) -> list[int]:
    from posekit.course.parameters import Setup

    setup = Setup(profile="smoke", seed=seed, device="cpu", out_dir=None)  # type: ignore[arg-type]
    return setup.rng("dice").integers(1, 7, size=5).tolist()


def _downscale(points: np.ndarray, factor: float) -> np.ndarray:
    return (np.asarray(points, dtype=float) + 0.5) / factor - 0.5


_POINTS = np.array([[0.0, 0.0], [95.5, 127.5], [191.0, 255.0]])

EXERCISES = (
    Exercise(
        id="nb00-seed",
        task="run the dice cell with seed 7 and give its five numbers",
        judge=array(
            _dice(7),
            what="throw",
            slips={"those are the numbers of seed 0: change the seed, start again, throw again": _dice(0)},
        ),
        solution="""Change the parameter, start again, throw again:

```python
setup = course.start(profile=profile, seed=7, device=device, out_dir=out_dir)
answer = setup.rng("dice").integers(1, 7, size=5).tolist()
```

The numbers are the same on every run and on every machine: a seed names a stream of random numbers.""",
        answer=_dice(7),
        wrong=((_dice(0), "seed 0"), (_dice(8), "wrong"), (_dice(7)[:4], "shape"), ("seven", "array")),
        praise="the same seed gives the same numbers; every experiment of the course relies on it",
    ),
    Exercise(
        id="nb00-half",
        task="mend `downscale` so that the middle of the picture stays the middle",
        judge=function(
            _downscale,
            [
                ("stride 4, from a picture of 192x256 to cells", (_POINTS, 4.0)),
                ("halving a picture 192 wide", (_POINTS, 2.0)),
                ("enlarging, factor 1/2", (_POINTS, 0.5)),
            ],
            slips=[
                (
                    "that is the function as it was: it keeps the corner pixel's centre in place, not the picture's",
                    lambda points, factor: np.asarray(points) / factor,
                ),
                (
                    "you add half a pixel and never take it back: the result must count from a pixel's centre again",
                    lambda points, factor: (np.asarray(points) + 0.5) / factor,
                ),
                (
                    "you subtract half a pixel first; a pixel's centre lies half a pixel right of its edge, so add",
                    lambda points, factor: (np.asarray(points) - 0.5) / factor + 0.5,
                ),
            ],
        ),
        solution="""Move the origin from the first pixel's centre to its edge, scale, move it back:

```python
def downscale(points, factor):
    return (points + 0.5) / factor - 0.5
```

The offset between the two versions is $(1 - 1/f)/2$: a quarter of a pixel at factor 2, three eighths of a cell at
stride 4. Notebook 05 shows what that costs in AP.""",
        answer=_downscale,
        wrong=(
            (lambda points, factor: np.asarray(points) / factor, "as it was"),
            (lambda points, factor: (np.asarray(points) + 0.5) / factor, "never take it back"),
            (lambda points, factor: (np.asarray(points) - 0.5) / factor + 0.5, "subtract half"),
            (lambda points, factor: np.asarray(points) * factor, "wrong"),
            (95.5, "function"),
        ),
        praise="a grid of edges has its origin half a pixel left of a grid of centres",
    ),
    Exercise(
        id="nb00-rounding",
        task="predict the cell of x = 10 at stride 4 under the three roundings",
        judge=numbers({"int": 3, "round": 2, "floor": 2}),
        solution="""10 / 4 = 2.5 lies exactly between two cells, and the three disagree:

- `int(2.5 + 0.5)` is 3: add a half, cut off the fraction. HRNet's encoder does this.
- `round(2.5)` is 2: Python and NumPy round a half to the *even* neighbour.
- `floor(2.5)` is 2: it never goes up.

On negative positions they part again: `int(-1.2 + 0.5)` cuts toward zero and gives 0, while
`floor(-1.2 + 0.5)` gives -1. A joint just outside the picture is therefore placed by the choice of rounding.""",
        answer={"int": 3, "round": 2, "floor": 2},
        wrong=(
            ({"int": 3, "round": 3, "floor": 2}, "round"),
            ({"int": 2, "round": 2, "floor": 2}, "int"),
            ({"int": 3, "round": 2}, "floor"),
            (3, "dict"),
        ),
        praise="a half rounds up, to even or down, depending on who wrote the line",
    ),
)
