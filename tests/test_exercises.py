"""Every grader of the course: the right answer passes, plausible wrong ones are told what is off."""

from __future__ import annotations

import importlib

import pytest

from posekit.course.exercises import framework
from posekit.course.parameters import project_root

MODULES = sorted(path.stem for path in (project_root() / "posekit" / "course" / "exercises").glob("nb[0-9][0-9].py"))
EXERCISES = [e for name in MODULES for e in importlib.import_module(f"posekit.course.exercises.{name}").EXERCISES]
WRONG = [(exercise, answer, word) for exercise in EXERCISES for answer, word in exercise.wrong]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_right_answer_passes(exercise):
    verdict = framework.judge(exercise, exercise.answer)
    assert verdict.state == "right", verdict.message


@pytest.mark.parametrize(("exercise", "answer", "word"), WRONG, ids=[f"{e.id}-{word}" for e, _, word in WRONG])
def test_wrong_answer_is_told_what_is_off(exercise, answer, word):
    verdict = framework.judge(exercise, answer)
    assert verdict.state == "off"
    assert word in verdict.message


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_an_untouched_answer_is_open_and_three_wrong_ones_are_known(exercise):
    assert framework.judge(exercise, ...).state == "open"
    assert len(exercise.wrong) >= 3


def test_every_notebook_has_three_exercises():
    for name in MODULES:
        assert sum(e.id.startswith(f"{name}-") for e in EXERCISES) == 3, name
