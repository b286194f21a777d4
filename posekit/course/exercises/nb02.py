"""Exercises of notebook 02: writing a record, finding planted faults, and the units of published code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from posekit.course.exercises.framework import Exercise, Judge
from posekit.course.exercises.judges import array, choice, function, number
from posekit.course.lessons.nb02 import FAULTS
from posekit.skeletons import COCO17

_PERSON = {
    "nose": (101.5, 40.0, True),
    "left_eye": (104.0, 37.5, True),
    "right_eye": (99.0, 37.5, False),
    "left_wrist": (130.0, 95.0, True),
    "right_ankle": (92.25, 210.0, False),
}
_ONE = {"right_wrist": (5.0, 6.0, True)}


def _record(points: Mapping[str, tuple[float, float, bool]]) -> dict[str, Any]:
    triples = np.zeros((17, 3))
    for name, (x, y, visible) in points.items():
        triples[COCO17.index(name)] = x, y, 2 if visible else 1
    return {"keypoints": triples.ravel().tolist(), "num_keypoints": len(points)}


def _zero_one(points: Mapping[str, tuple[float, float, bool]]) -> dict[str, Any]:
    triples = np.zeros((17, 3))
    for name, (x, y, visible) in points.items():
        triples[COCO17.index(name)] = x, y, int(visible)
    return {"keypoints": triples.ravel().tolist(), "num_keypoints": len(points)}


def _in_order_given(points: Mapping[str, tuple[float, float, bool]]) -> dict[str, Any]:
    triples = [[x, y, 2 if visible else 1] for x, y, visible in points.values()]
    triples += [[0, 0, 0]] * (17 - len(triples))
    return {"keypoints": np.ravel(triples).tolist(), "num_keypoints": len(points)}


def _judge_record(expected: dict[str, Any]) -> Judge:
    def judge(answer: Any) -> str | None:
        if not isinstance(answer, Mapping) or not {"keypoints", "num_keypoints"} <= set(answer):
            return "return a dict with 'keypoints' and 'num_keypoints'"
        given = np.asarray(answer["keypoints"], dtype=float)
        if given.shape == (17, 3):
            return "COCO keeps the 51 numbers in one flat list x1, y1, v1, x2, ...; yours is nested"
        off = array(expected["keypoints"], what="keypoints")(given)
        columns = np.reshape(expected["keypoints"], (17, 3)).T
        if off and given.shape == (17 * 3,) and np.array_equal(given, columns.ravel()):
            return "you list all x, then all y, then all v; COCO interleaves them: x1, y1, v1, x2, ..."
        if off:
            return off
        if answer["num_keypoints"] == 17:
            return "num_keypoints counts the labelled keypoints (v > 0), not all 17"
        return number(expected["num_keypoints"])(answer["num_keypoints"])

    return judge


def _scale(width: float, height: float, *, aspect: bool = True, padding: float = 1.25, unit: float = 200.0) -> list:
    if aspect:
        width, height = max(width, height * 0.75), max(height, width / 0.75)
    return [width * padding / unit, height * padding / unit]


_NOT_A_FAULT = {
    1: "record 1 is sound; its hidden keypoints are allowed",
    2: "record 2 is sound",
    4: "record 4 is sound",
    7: "record 7 is sound",
    8: "record 8 is sound; several people may share a picture",
    10: "record 10 is sound",
    12: "record 12 is sound",
}

EXERCISES = (
    Exercise(
        id="nb02-record",
        task="write `to_coco`: named points of your own to the keypoints of a COCO record",
        judge=function(
            _record,
            [("five points, two of them hidden", (_PERSON,)), ("a single point", (_ONE,)), ("nobody", ({},))],
            judged_by=_judge_record,
            slips=[
                (
                    "the flag of a visible keypoint is 2, of a hidden one 1; you use 1 and 0, and 0 means not labelled",
                    _zero_one,
                ),
                (
                    "keypoints go by their place in the skeleton, not in the order in which you were given them",
                    _in_order_given,
                ),
            ],
        ),
        solution="""```python
def to_coco(points):
    triples = np.zeros((COCO17.num_keypoints, 3))
    for name, (x, y, visible) in points.items():
        triples[COCO17.index(name)] = x, y, 2 if visible else 1
    return {"keypoints": triples.ravel().tolist(), "num_keypoints": len(points)}
```

A keypoint that nobody labelled is `0, 0, 0`. A record also needs `bbox`, `area`, `image_id`, `category_id`, `iscrowd`
and an `id` of its own; `posekit data check FILE` tells you what is missing.""",
        answer=_record,
        wrong=(
            (_zero_one, "not labelled"),
            (_in_order_given, "place in the skeleton"),
            (lambda p: {**_record(p), "num_keypoints": 17}, "not all 17"),
            (lambda p: {**_record(p), "keypoints": np.reshape(_record(p)["keypoints"], (17, 3))}, "nested"),
            (
                lambda p: {**_record(p), "keypoints": np.reshape(_record(p)["keypoints"], (17, 3)).T.ravel()},
                "interleaves",
            ),
            (lambda p: {"keypoints": _record(p)["keypoints"]}, "num_keypoints"),
        ),
        praise="your own labels can now be read by every tool that reads COCO",
    ),
    Exercise(
        id="nb02-faults",
        task="give the set of ids of the five faulty records",
        judge=choice(set(FAULTS), because=_NOT_A_FAULT),
        solution="The five records, and what is wrong with each:\n\n"
        + "\n".join(f"- {number}: {words}" for number, words in FAULTS.items())
        + "\n\nAn evaluator takes all five without an error message. All but the false count cost AP (the "
        "box through the crops that are cut from it), and a file full of them can bring it to 0. "
        "`check_annotations` names all five at once.",
        answer=set(FAULTS),
        wrong=(
            ({3, 5, 6}, "3 of 5 found"),
            ({3, 5, 6, 9, 11, 8}, "share a picture"),
            ({1, 2, 3, 4, 5}, "sound"),
            ("all", "not among the options"),
        ),
        praise="every one of these has cost somebody a day",
    ),
    Exercise(
        id="nb02-scale",
        task="give HRNet's `scale` (width, height) for a box of 80 x 160 px and the crop 256x192",
        judge=array(
            _scale(80, 160),
            tol=1e-3,
            what="scale",
            slips={
                "you left out the padding by 1.25": _scale(80, 160, padding=1.0),
                "the aspect ratio is not fixed yet: widen the box to 3:4 before you divide": _scale(
                    80, 160, aspect=False
                ),
                "those are pixels; HRNet's unit is 200 pixels": _scale(80, 160, unit=1.0),
                "that is height, width; the order is width, height": _scale(80, 160)[::-1],
                "you fixed the aspect by cutting the height; boxes only grow": [
                    80 * 1.25 / 200,
                    80 / 0.75 * 1.25 / 200,
                ],
            },
        ),
        solution="""The crop is 192 wide and 256 high, so width : height is 3 : 4. The box is too narrow:
160 x 3/4 = 120, so it grows to 120 x 160. A quarter more room gives 150 x 200, and in units of 200 pixels (0.75, 1.0).

200 pixels was the height of a person in MPII, for whom `scale` was made; 1.25 leaves some context around hands and
feet. Neither number has another meaning, and both cancel as long as one uses them everywhere or nowhere.""",
        answer=_scale(80, 160),
        wrong=(
            (_scale(80, 160, padding=1.0), "padding"),
            (_scale(80, 160, aspect=False), "aspect"),
            (_scale(80, 160, unit=1.0), "200 pixels"),
            ([1.0, 0.75], "order"),
            ([0.5, 80 / 0.75 * 1.25 / 200], "boxes only grow"),
            (0.75, "shape"),
        ),
        praise="the two most mysterious constants of the field, and one multiplication",
    ),
)
