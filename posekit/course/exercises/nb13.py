"""Exercises of notebook 13: slips in the sources, how many pictures an effect needs, what a result lets one say."""

from __future__ import annotations

import csv
from functools import partial
from typing import Any

from posekit.course.exercises.framework import Exercise, Judge
from posekit.course.exercises.judges import choice, function, number
from posekit.course.parameters import project_root

# letter, table, column (or the difference of two), row, row to subtract, gain as printed
_GAINS: tuple[tuple[str, str, str, dict[str, str], dict[str, str], float], ...] = (
    ("a", "hrnet_table1_coco_val", "ap", {"method": "HRNet-W32", "pretrain": "N"}, {"method": "CPN"}, 4.6),
    ("b", "hrnet_table1_coco_val", "ap", {"method": "HRNet-W32", "pretrain": "N"}, {"method": "CPN + OHKM"}, 4.0),
    ("c", "dpn_table5_reversed", "dpm_ap-rdpm_ap", {"model": "DPN2_32"}, {}, 0.4),
    ("d", "dpn_table2_dpm_vs_normal", "dpm_ap-normal_ap", {"model": "DPN3_64"}, {}, 4.9),
)


def _find(table: str, wanted: dict[str, str]) -> dict[str, str]:
    with open(project_root() / "data" / "papers" / f"{table}.csv", newline="", encoding="utf-8") as file:
        return next(row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items()))


def _true_gain(table: str, column: str, row: dict[str, str], other: dict[str, str]) -> float:
    """The difference that the table itself gives."""
    if other:
        return float(_find(table, row)[column]) - float(_find(table, other)[column])
    first, second = column.split("-")
    found = _find(table, row)
    return float(found[first]) - float(found[second])


def slips() -> set[str]:
    """Letters of the printed gains that their tables do not give, and of the sentence that the leaderboard denies."""
    wrong = {
        letter for letter, table, column, row, other, printed in _GAINS
        if abs(_true_gain(table, column, row, other) - printed) > 0.05
    }  # fmt: skip
    rsn = _find("leaderboard_coco_testdev", {"method": "4xRSN-50"})
    hrnet = _find("leaderboard_coco_testdev", {"method": "HRNet-W48+DARK"})
    lasted = int(rsn["year"]) - int(hrnet["year"]) if float(rsn["ap"]) > float(hrnet["ap"]) else 2
    return wrong | ({"e"} if lasted < 2 else set())


def _needed(n: float, half_width: float, effect: float, *, power: float = 0.84, root: bool = False) -> float:
    """Pictures for 80 % power: the standard error is half the interval over 1.96, and falls with the root of n."""
    error = half_width / 1.96
    ratio = (1.96 + power) * error / effect
    return n * (ratio if root else ratio**2)


def _half_width_for_error(n: float, half_width: float, effect: float) -> float:
    return n * (2.8 * half_width / effect) ** 2


def _to_one_percent(expected: Any) -> Judge:
    return number(float(expected), rel=0.01, unit="pictures")


_CASES = (
    ("500 pictures, half an interval of 0.9, an effect of 0.3", (500, 0.9, 0.3)),
    ("an effect of 3.0 needs fewer pictures than there are", (500, 0.9, 3.0)),
    ("5000 pictures, half an interval of 0.25", (5000, 0.25, 0.1)),
)
_SLIPS = (
    ("that is what makes the interval just touch zero: half of all such studies would miss the effect; leave room for "
     "power, 2.8 standard errors", partial(_needed, power=0.0)),
    ("half the interval is 1.96 standard errors, not one", _half_width_for_error),
    ("the error falls with the square root of the number of pictures, so the ratio enters squared",
     partial(_needed, root=True)),
    ("the effect must be 2.8 standard errors; you asked for 1.96 + 1.96", partial(_needed, power=1.96)),
)  # fmt: skip

EXERCISES = (
    Exercise(
        id="nb13-errata",
        task='give the set of the three statements that the sources\' own tables deny, as in {"a", "b", "c"}',
        judge=choice(
            slips(),
            because={
                "b": "b is right: 73.4 - 69.4 is 4.0",
                "d": "d is right: 69.2 - 64.3 is 4.9",
                "f": "f is right: 74.4 - 73.4 is 1.0",
            },
        ),
        solution="""**a, c and e.**

- a: the slide says 4.6; its table has 73.4 for HRNet-W32 from scratch and 68.6 for CPN, which is 4.8.
- c: Table V has 56.9 and 56.6. That is 0.3, and the arrow says 0.4.
- e: the leaderboard under that sentence lists 4xRSN-50, of 2020, at 78.6 (and 79.2 as an ensemble), ahead of
  HRNet-W48+DARK at 77.4. One year, not two.

b, d and f follow from their tables. None of the slips changes what the papers conclude. They do show that a
difference is worth computing again, which takes a minute.""",
        answer={"a", "c", "e"},
        wrong=(
            ({"a", "c"}, "2 of 3 found"),
            ({"a", "b", "c"}, "73.4 - 69.4"),
            ({"a", "d", "e"}, "69.2 - 64.3"),
            ({"a", "c", "e", "f"}, "74.4 - 73.4"),
            ({"a", "c", "g"}, "not among"),
            ("a", "1 of 3 found"),
        ),
        praise="three slips in six sentences, all found with a subtraction or by reading the next line",
    ),
    Exercise(
        id="nb13-power",
        task="write `pictures_needed(n, half_width, effect)`: how many pictures find the effect with 80 % probability",
        judge=function(_needed, _CASES, judged_by=_to_one_percent, slips=_SLIPS),
        solution="""Half the interval is 1.96 standard errors. An effect is found with 80 % probability when it is
2.8 of them, and the standard error falls with the square root of the number of pictures:

```python
def pictures_needed(n, half_width, effect):
    error = half_width / 1.96
    return n * (2.8 * error / effect) ** 2
```

With 500 pictures and half a width of 0.9, an effect of 0.3 AP needs about 9,200 pictures: nearly twice COCO's val2017.
Many gains in our sources' tables are smaller than 1 AP, and none comes with an interval.""",
        answer=_needed,
        wrong=(
            (partial(_needed, power=0.0), "leave room for power"),
            (_half_width_for_error, "1.96 standard errors, not one"),
            (partial(_needed, root=True), "enters squared"),
            (partial(_needed, power=1.96), "1.96 + 1.96"),
            (lambda n, half_width, effect: n, "pictures is too small"),
            (9184, "function"),
            (lambda n, half_width, effect: None, "returns nothing"),
        ),
        praise="now put in an effect of 0.1 and see why few papers do",
    ),
    Exercise(
        id="nb13-judgement",
        task="choose what may be written: a, b, c or d",
        judge=choice(
            "c",
            because={
                "a": "a tiny network on drawn people cannot contradict a paper, whatever its interval; and this one "
                "holds +0.6",
                "b": "'not seen' needs an interval that lies below zero; this one reaches from -1.6 to +0.8",
                "d": "an interval that holds the published value also holds zero, and an effect of 1.6 would have been "
                "needed to be seen: agreeing with everything shows nothing",
            },
        ),
        solution="""**c.** The interval holds zero, the published +0.6, and a loss. It rules out none of them. The
smallest effect that these five seeds would have found is 1.6 AP, nearly three times the published one: the experiment
was too small for the question, and that is the finding. The honest verdict names it: *undecided in reduced form*, 1.6
would have been seen. More seeds would help (23 in place of 5), or a quantity that varies less.""",
        answer="c",
        wrong=(("a", "cannot contradict"), ("b", "lies below zero"), ("d", "also holds zero"), ("e", "not among")),
        praise="an experiment that could not have seen the effect says nothing about it",
    ),
)
