"""Exercises of notebook 06: a receptive field calculator, a schedule with few dead taps, one field in two orders."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

from posekit.analysis import Layer
from posekit.course.exercises.framework import Exercise
from posekit.course.exercises.judges import choice, function, number

NEEDED, LAYERS = 24, 4


def _field(layers: list[tuple[int, int, int]]) -> int:
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        size += (kernel - 1) * dilation * jump
        jump *= stride
    return size


@lru_cache
def _probe(layers: tuple[tuple[int, int, int], ...]) -> int:
    from posekit.course.lessons.nb06 import probe

    return probe([Layer(*layer) for layer in layers]).height


def _measured(layers: list[tuple[int, int, int]]) -> int:
    """The reference is no formula: the support of a real network's gradient."""
    return _probe(tuple(map(tuple, layers)))  # type: ignore[arg-type]


def _no_jump(layers):
    return 1 + sum((kernel - 1) * dilation for kernel, _, dilation in layers)


def _own_stride_first(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        jump *= stride
        size += (kernel - 1) * dilation * jump
    return size


def _no_dilation(layers):
    return _field([(kernel, stride, 1) for kernel, stride, _ in layers])


def _whole_kernel(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        size += kernel * dilation * jump
        jump *= stride
    return size


def _from_zero(layers):
    return _field(layers) - 1


_CASES = [
    ("one 3x3 layer", ([(3, 1, 1)],)),
    ("a 3x3 after a 5x5", ([(5, 1, 1), (3, 1, 1)],)),
    ("a dilated layer", ([(3, 1, 4), (3, 1, 1)],)),
    ("a stride before a 3x3", ([(3, 2, 1), (3, 1, 1)],)),
    ("a stem with two strides, then dilations", ([(7, 2, 1), (3, 2, 1), (3, 1, 4), (3, 1, 2)],)),
    ("a stride at the very end", ([(3, 1, 2), (3, 2, 1)],)),
]


@lru_cache
def _best() -> tuple[float, tuple[int, ...]]:
    from posekit.course.lessons.nb06 import dead_taps, holes

    return min(
        (dead_taps(d), d)
        for d in itertools.combinations_with_replacement(range(1, 13), LAYERS)
        if _field([(3, 1, one) for one in d]) >= NEEDED and not holes(d)
    )


def _judge_schedule(answer: Any) -> str | None:
    from posekit.course.lessons.nb06 import dead_taps, holes

    try:
        dilations = [int(d) for d in answer]
    except (TypeError, ValueError):
        return f"give a list of {LAYERS} dilations, like [8, 4, 2, 1], not {type(answer).__name__}"
    if len(dilations) != LAYERS:
        return f"you gave {len(dilations)} dilations; the module has {LAYERS} layers"
    if min(dilations) < 1 or any(d != one for d, one in zip(dilations, answer)):
        return "dilations are whole numbers from 1 up"
    field = _field([(3, 1, d) for d in dilations])
    if field < NEEDED:
        return f"the field is {field} cells; {NEEDED} are needed, so the dilations must add up to more"
    gaps = holes(dilations)
    if gaps:
        return f"the field is {field} cells, but it has holes: no chain of taps bridges an offset of {gaps[0]}"
    dead, best = dead_taps(dilations), _best()[0]
    if dead > best + 1e-9:
        return (
            f"a good field of {field} cells without holes; {100 * dead:.2f} % of its taps are dead, and "
            f"{100 * best:.2f} % is possible"
        )
    return None


EXERCISES = (
    Exercise(
        id="nb06-field",
        task="write `field`: layers (kernel, stride, dilation) in, the receptive field in input pixels out",
        judge=function(
            _measured,
            _CASES,
            judged_by=lambda expected: number(float(expected), rel=0, tol=1e-9, unit="px"),
            slips=[
                ("strides before a layer multiply its steps: keep a jump, and let every stride enlarge it", _no_jump),
                ("a layer's own stride counts for the layers after it, not for itself: add first", _own_stride_first),
                ("a dilated kernel reaches (k - 1) d, not k - 1", _no_dilation),
                ("k taps have k - 1 steps between them", _whole_kernel),
                ("that is the reach without the pixel you stand on: start with a field of 1", _from_zero),
            ],
        ),
        solution="""```python
def field(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        size += (kernel - 1) * dilation * jump
        jump *= stride
    return size
```

The check compares with no formula. It builds every network of the list and asks its gradient which pixels arrive.""",
        answer=_field,
        wrong=(
            (_no_jump, "keep a jump"),
            (_own_stride_first, "add first"),
            (_no_dilation, "dilated kernel"),
            (_whole_kernel, "k - 1 steps"),
            (_from_zero, "field of 1"),
            (lambda layers: 3, "5x5"),
        ),
        praise="and a network's gradient agrees with it to the pixel",
    ),
    Exercise(
        id="nb06-schedule",
        task="give four dilations with a field of at least 24 cells, no holes, and the fewest dead taps on a 32x24 map",
        judge=_judge_schedule,
        solution="""The dilations must add up to 12 or more, since the field is 1 + 2 x their sum. No holes: sort
them; each may be at most one more than twice the sum of the smaller ones. Dead taps: on each axis a layer loses in
proportion to its dilation, and what it has lost on one axis it cannot lose again on the other, so one large dilation is
cheaper than two middling ones. One large and three small: 8 needs 4 from the other three, and without holes these are
1, 1 and 2.

`[8, 2, 1, 1]`, in any order: field 25. The pyramid `[8, 4, 2, 1]` has 31 and pays for it. A search over all schedules:

```python
from itertools import combinations_with_replacement
fit = [d for d in combinations_with_replacement(range(1, 13), 4) if sum(d) >= 12 and not nb06.holes(d)]
min(fit, key=nb06.dead_taps)
```""",
        answer=[8, 2, 1, 1],
        wrong=(
            ([8, 4, 2, 1], "is possible"),
            ([3, 3, 3, 3], "holes"),
            ([9, 1, 1, 1], "offset of 4"),
            ([2, 2, 2, 2], "field is 17"),
            ([4, 4, 2, 1, 1], "5 dilations"),
            ([8, 2.5, 1, 1], "whole numbers"),
            (24, "list of 4"),
        ),
        praise="the map's width seen whole, for the least padding",
    ),
    Exercise(
        id="nb06-order",
        task='choose "a", "b", "c" or "d"',
        judge=choice(
            "b",
            because={
                "a": "compute it: 1 + 2 (8 + 4 + 2 + 1) does not ask for the order",
                "c": "both orders leave no holes and join the same pairs; that fine taps come last "
                "changes how features mix, not what can be seen",
                "d": "the chains of the one order are those of the other, walked backwards: the grid is equally full",
            },
        ),
        solution="""b. The field depends on the sum of the dilations. A layer's tap matrix is symmetric, so reversing
the order transposes the product: the same pairs are joined, by equally many chains. What may differ is where on the map
the chains end, how features mix on the way, and how easily the network is trained; Table V cannot tell these apart, and
it has no intervals. In our task the reversed order is the one that learns sooner.""",
        answer="b",
        wrong=(
            ("a", "does not ask"),
            ("c", "fine taps"),
            ("d", "walked backwards"),
            ("e", "not among the options"),
        ),
        praise="a difference without a mechanism is a question, not an answer",
    ),
)
