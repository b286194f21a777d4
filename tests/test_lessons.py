"""Drawings and arithmetic that only the lessons use."""

from __future__ import annotations

import pytest

from posekit.annotations import AnnotationError, check_annotations, read_people
from posekit.course.lessons import nb00, nb02
from posekit.course.parameters import project_root


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


def test_planted_file_has_exactly_the_five_faults(tmp_path):
    import json

    content = nb02.planted()
    broken = {a["id"] for a in content["annotations"]} & set(nb02.FAULTS)
    assert len(broken) == 5
    path = tmp_path / "planted.json"
    path.write_text(json.dumps(content))
    named = " ".join(problem.record for problem in check_annotations(path))
    for number in nb02.FAULTS:
        assert f"annotation {number}" in named
    with pytest.raises(AnnotationError):
        read_people(path)
    content["annotations"] = [a for a in content["annotations"] if a["id"] not in nb02.FAULTS]
    assert len(read_people(content)) == 7
