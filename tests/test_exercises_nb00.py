"""Notebook 00's graders: the right answers pass, plausible wrong ones are told what is off."""

from __future__ import annotations

import pytest

from posekit.course.exercises import framework
from posekit.course.exercises.nb00 import EXERCISES
from posekit.course.lessons import nb00
from posekit.course.parameters import project_root

CASES = [(e, wrong, word) for e in EXERCISES for wrong, word in e.wrong]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
def test_right_answer_passes(exercise):
    assert framework.judge(exercise, exercise.answer).state == "right"


@pytest.mark.parametrize(("exercise", "answer", "word"), CASES, ids=[f"{e.id}-{w}" for e, _, w in CASES])
def test_wrong_answer_is_told_what_is_off(exercise, answer, word):
    verdict = framework.judge(exercise, answer)
    assert verdict.state == "off"
    assert word in verdict.message


def test_resizing_a_picture_keeps_its_middle_and_the_others_do_not():
    middle = (192 - 1) / 2
    assert nb00.resized(middle, 192, 48, "centre") == (48 - 1) / 2
    assert nb00.resized(middle, 192, 48, "interval") == (48 - 1) / 2
    assert nb00.resized(middle, 192, 48, "size") == pytest.approx((48 - 1) / 2 + 0.375)  # (1 - 48/192) / 2


def test_every_lesson_is_a_notebook_and_every_notebook_a_lesson():
    stems = {lesson.stem for lesson in nb00.LESSONS}
    assert {path.stem for path in (project_root() / "notebooks").glob("[0-9]*.ipynb")} <= stems


def test_every_model_that_the_history_names_is_built():
    for milestone in nb00.HISTORY:
        if milestone.module:
            assert (project_root() / "posekit" / "models" / f"{milestone.module}.py").is_file(), milestone.name
