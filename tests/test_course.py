"""The course's machinery: parameters, widgets with nobody looking, figures, exercises, the runner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from posekit import course
from posekit.course import exercises, explorer, figures, runner
from posekit.course.exercises import framework
from posekit.course.report import find_failure, report

NOTEBOOKS = Path(__file__).parent / "notebooks"
PROJECT = Path(__file__).parents[1]


@pytest.fixture
def setup(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEKIT_HEADLESS", "1")
    return course.start(profile="quick", seed=3, out_dir=tmp_path)


def changed(name: str, folder: Path, old: str, new: str) -> Path:
    """A fixture notebook with one piece of its source replaced."""
    text = (NOTEBOOKS / name).read_text()
    assert old in text
    path = folder / name
    path.write_text(text.replace(old, new))
    return path


# Parameters


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"profile": "paper"}, "use 'smoke'"),  # a profile that comes later says so
        ({"profile": "fast"}, "choose one of smoke, quick"),
        ({"seed": 1.5}, "whole number"),
        ({"seed": True}, "whole number"),
        ({"device": "cuda:77"}, "is not there"),
    ],
)
def test_start_refuses_in_a_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        course.start(**wrong)


def test_setup_draws_from_seed_and_purpose(setup):
    assert setup.rng("noise").random() == setup.rng("noise").random()
    assert setup.rng("noise").random() != setup.rng("pose").random()
    assert setup.generator("a").initial_seed() != setup.generator("b").initial_seed()
    assert setup.pick(smoke=1, quick=2) == 2
    with pytest.raises(AttributeError):
        setup.profile = "smoke"


# Widgets with nobody looking

CONTROLS = {
    "size": explorer.Slider(8, 256, 64, label="Size", unit="cells"),
    "decoder": explorer.Choice(("argmax", "quarter", "dark"), "argmax", label="Decoder"),
    "flip": explorer.Toggle(False, label="Flip"),
}


def ramp(size, decoder, flip):
    return np.full((20, 30, 3), size // 2 + 10 * flip, dtype=np.uint8)


def test_sweep_visits_every_end_of_every_control():
    states = explorer.sweep(CONTROLS, pairs=False)
    assert states[0] == {"size": 64, "decoder": "argmax", "flip": False}
    assert {s["size"] for s in states} == {8, 64, 256}
    assert {s["decoder"] for s in states} == {"argmax", "quarter", "dark"}
    assert {s["flip"] for s in states} == {True, False}
    both = explorer.sweep(CONTROLS, pairs=True)
    assert {"size": 256, "decoder": "argmax", "flip": False} in both
    assert {"size": 8, "decoder": "dark", "flip": False} in both


def test_explore_writes_the_picture_and_its_sheet(setup, tmp_path):
    course.explore(ramp, name="90-ramp", alt="A grey field of one level.", **CONTROLS)
    from PIL import Image

    assert Image.open(tmp_path / "90-ramp.png").size == (30, 20)
    assert Image.open(tmp_path / "90-ramp-sheet.png").size[0] > 1000


def test_the_sheet_shows_what_also_names_and_no_picture_twice(setup, monkeypatch):
    written = []
    monkeypatch.setattr(
        explorer, "contact_sheet", lambda pictures, captions, **_: written.extend(captions) or pictures[0]
    )
    controls = {
        "kind": explorer.Choice(("fixed", "given"), "fixed", label="Kind"),
        "level": explorer.Choice((10, 20, 30, 40), 20, label="Level", slide=True),
    }
    states = [{"kind": "given", "level": level} for level in (20, 30)]

    def draw(kind, level):
        return ramp(2 * level if kind == "given" else 0, "argmax", False)

    course.explore(draw, name="90-also", alt="A field of one level.", also=states, **controls)
    assert written[:3] == ["defaults", "Kind given", "Kind given, Level 30"]
    assert not [text for text in written if text.startswith("Level")], "a level without its kind changes nothing"


def test_the_sheet_leaves_out_pairs_before_what_a_control_does_alone(setup, monkeypatch):
    written = []
    monkeypatch.setattr(
        explorer, "contact_sheet", lambda pictures, captions, **_: written.extend(captions) or pictures[0]
    )
    controls = {
        "level": explorer.Choice(tuple(range(12)), 0, label="Level"),
        "shade": explorer.Slider(0, 200, 100, label="Shade"),
    }
    course.explore(
        lambda level, shade: ramp(2 * level + shade, "", False), name="90-many", alt="One grey field.", **controls
    )
    assert written == ["defaults", *(f"Level {level}" for level in range(1, 12)), "Shade 0", "Shade 200"]


@pytest.mark.parametrize("where", [{"size": 8}, {"size": 256}, {"decoder": "dark"}, {"flip": True}])
def test_explore_raises_what_any_end_raises(setup, where):
    def draw(**state):
        if all(state[key] == value for key, value in where.items()):
            raise ZeroDivisionError("no cells left")
        return ramp(**state)

    with pytest.raises(ZeroDivisionError) as caught:
        course.explore(draw, name="90-broken", alt="A field that breaks.", **CONTROLS)
    assert f"{next(iter(where))}=" in caught.value.__notes__[0]


def test_controls_are_labelled_for_screen_readers():
    for control in CONTROLS.values():
        widget = control.widget(control.label, continuous=True)
        assert widget.description == control.label == widget.tooltip


def test_explore_refuses_what_is_no_picture(setup):
    with pytest.raises(TypeError, match="return a Figure or an RGB array"):
        course.explore(lambda level: level, name="90-none", alt="There is no picture.", level=explorer.Slider(0, 1, 0))


def test_plain_papermill_fails_when_a_state_of_a_widget_fails(tmp_path):
    """From another folder, no variable set, papermill's own command: the pattern's whole point."""
    environment = {k: v for k, v in os.environ.items() if k != "POSEKIT_HEADLESS"} | {"JPY_SESSION_NAME": "inherited"}
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "-p", "profile", "quick", "-p", "out_dir"]
    broken = changed("91_widget.ipynb", tmp_path, "BROKEN = False", "BROKEN = True")
    for path, expected in ((broken, 1), (NOTEBOOKS / "91_widget.ipynb", 0)):
        run = subprocess.run(
            [*command, str(tmp_path / "figures"), str(path), "out.ipynb"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == expected, run.stderr
    assert (tmp_path / "figures" / "91-ramp-sheet.png").is_file()


@pytest.mark.parametrize("cells", [8, 64, 256])
@pytest.mark.parametrize(
    ("decoder", "rounded", "factor"),
    [("argmax", False, 1.0), ("quarter", False, 0.5), ("quarter", True, 1.0), ("dark", False, 0.0)],
)
def test_the_resolution_slider_meets_the_closed_form(cells, decoder, rounded, factor):
    """Mean distance from the centre of a unit square: 0.3826 cells; the quarter offset halves the square's side."""
    from posekit.course.widgets.heatmaps import error_cloud

    mean = np.hypot(*error_cloud(cells, decoder, 0.0, rounded=rounded, samples=2000).T).mean()
    assert mean == pytest.approx(0.3826 * factor * 256 / cells, rel=0.03, abs=0.01 * 256 / cells)


def test_static_twin_of_the_dragger_moves_the_joint_to_each_ring(setup, tmp_path):
    from posekit.course.widgets.joints import tolerance
    from posekit.metrics import oks
    from posekit.skeletons import COCO17

    truth = np.random.default_rng(0).uniform(10, 90, (17, 2))
    shown = course.joint_dragger(
        np.zeros((100, 100, 3), np.uint8), truth, area=4000.0, name="90-drag", alt="A person made of points."
    )
    assert shown is None
    assert (tmp_path / "90-drag.png").is_file() and (tmp_path / "90-drag-sheet.png").is_file()
    moved, k = truth.copy(), COCO17.index("left_wrist")
    moved[k, 1] -= tolerance(0.5, COCO17.sigmas[k], 4000.0)
    score = oks(moved, truth, area=4000.0, visibility=np.ones(17), sigmas=COCO17.sigmas)
    assert float(score) == pytest.approx((16 + 0.5) / 17)
    with pytest.raises(ValueError, match="area"):
        course.joint_dragger(np.zeros((9, 9, 3), np.uint8), truth, area=0.0, name="90-drag", alt="No person at all.")


# Figures


def test_figures_are_the_same_bytes_twice(setup, tmp_path):
    import matplotlib.pyplot as plt

    made = []
    for _ in range(2):
        figure, axis = plt.subplots()
        axis.plot([0, 1], [0, 1])
        setup.figure(figure, "90-line", alt="A line that rises from zero.")
        made.append((tmp_path / "90-line.png").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(("name", "alt"), [("05 bound", "A curve that rises."), ("05-bound", "curve")])
def test_figures_need_a_name_and_an_alternative_text(setup, name, alt):
    with pytest.raises(ValueError, match=r"figure (name )?'05"):
        setup.figure(np.zeros((4, 4, 3), np.uint8), name, alt=alt)


def test_compare_finds_missing_changed_and_new_figures(tmp_path):
    made, committed = tmp_path / "made", tmp_path / "committed"
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8), 8, 0), 8, 1)
    noisy = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    shifted = np.roll(picture, 40, axis=1)
    for folder, name, what in (
        (made, "same", noisy),
        (committed, "same", picture),
        (made, "moved", shifted),
        (committed, "moved", picture),
        (made, "new", picture),
        (committed, "gone", picture),
    ):
        figures.write_bytes(folder / f"{name}.png", figures.as_png(what))
    records = [{"figure": name} for name in ("same", "moved", "gone")]
    figures.write_bytes(committed / "manifest.json", json.dumps({"figures": records}).encode())
    problems = figures.compare(made, committed)
    assert [p.split()[0] for p in problems] == ["gone.png", "new.png", "moved.png"]


# Exercises


@pytest.mark.parametrize(
    ("judge", "answer", "says"),
    [
        (exercises.number(1.53, unit="px"), 3.06, "too large by a factor of 2"),
        (exercises.number(1.53, unit="px"), 1.4, "a little too small"),
        (exercises.number(1.5, slips={"that is in cells": 0.375}), 0.375, "in cells"),
        (exercises.number(10.0), 10.5, "off by exactly one half"),
        (exercises.number(10.0), 9, "off by exactly one"),
        (exercises.number(-1.5), 1.5, "wrong sign"),
        (exercises.number(1.0), float("nan"), "no finite number"),
        (exercises.number(1.0), "one", "give one number"),
        (exercises.array([[1.0, 2.0], [3.0, 4.0]]), [[2, 1], [4, 3]], "x and y swapped"),
        (exercises.array([[1.0, 2.0], [3.0, 4.0]]), [[1.5, 2.5], [3.5, 4.5]], "off by exactly half"),
        (exercises.array([1.0, 2.0]), [[1.0, 2.0]], "has shape (1, 2); it should have (2,)"),
        (exercises.array([1.0, 2.0, 4.0]), [1.0, 2.0, 9.0], "1 of 3 entries of your array are wrong; the first is [2]"),
        (exercises.numbers({"a": 1.0, "b": 2.0}), {"a": 1.0}, "'b' is missing"),
        (exercises.numbers({"a": 1.0, "b": 2.0}), {"a": 1.0, "b": 4.0}, "'b': 4 is too large by a factor of 2"),
        (exercises.choice("b", because={"a": "a is the mean"}), "A ", "a is the mean"),
        (exercises.choice({1, 2, 3}, because={}), [1, 2], "2 of 3 found"),
        (exercises.choice({1, 2, 3}, because={}), "all", "give a set"),
        (exercises.choice("b", because={"a": "no"}), ["a", "b"], "choose one"),
        (exercises.function(np.sqrt, [("four", (4.0,))]), lambda x: x / 4, "four: "),
        (exercises.function(np.sqrt, [("four", (9.0,))], slips=[("no root", lambda x: x)]), lambda x: x, "no root"),
        (exercises.function(np.sqrt, [("four", (4.0,))]), 2.0, "give a function"),
    ],
)
def test_judges_say_what_is_off(judge, answer, says):
    assert says in judge(answer)


@pytest.mark.parametrize(
    ("judge", "answer"),
    [
        (exercises.number(1.53), 1.5305),
        (exercises.array([1.0, 2.0]), [1.0, 2.0]),
        (exercises.numbers({"a": 1.0}), {"a": 1.0}),
        (exercises.choice("b", because={}), " B"),
        (exercises.choice({1, 2}, because={}), (2, 1)),
        (exercises.choice({1, 2}, because={}), np.array([2, 1, 1])),
        (exercises.choice("b", because={}), "'b')"),
        (exercises.choice("b", because={}), {"b"}),
        (exercises.function(np.sqrt, [("four", (4.0,))]), lambda x: x**0.5),
    ],
)
def test_judges_accept_right_answers(judge, answer):
    assert judge(answer) is None


def test_verdicts():
    exercise = exercises.Exercise("nb90-x", "Give two.", exercises.number(2.0), "two", 2.0, (), "indeed")
    assert framework.judge(exercise, 2)
    assert framework.judge(exercise, ...).state == "open"
    assert "raised" in str(framework.judge(exercise, {"a": object()})) or not framework.judge(exercise, {})
    assert "&lt;" in framework.Verdict("a", "off", "<b>")._repr_html_()
    with pytest.raises(KeyError, match="there are no exercises 'nb90'"):
        course.check("nb90-x", 2)


@pytest.mark.parametrize(
    ("guess", "actual", "points", "words"),
    [
        (2.0, 2.0, 1.0, "exactly"),
        (4.0, 2.0, 0.0, "too high by a factor of 2.0"),
        (2.2, 2.0, 0.8625, "within 10 %"),
        (-1.0, 2.0, 0.0, "the other side of zero"),
        ("up", "down", 0.0, "not what you said"),
        (["a", "b", "c"], ["b", "a", "c"], 2 / 3, "2 of 3 pairs"),
        (None, 3.0, None, "no guess"),
    ],
)
def test_predictions_are_scored(guess, actual, points, words):
    score = course.predict("How much?", guess, unit="px").score(actual)
    assert words in score.words
    assert score.points == pytest.approx(points, abs=1e-3) if points is not None else score.points is None


# Runner


def test_runner_reports_failures_by_cell_and_lists_figures(tmp_path):
    names = [NOTEBOOKS / f"{stem}.ipynb" for stem in ("91_widget", "92_plot", "93_error")]
    results = runner.run_course(names, profile="smoke", out=tmp_path / "nb", figures=tmp_path / "fig")
    assert [r.ok for r in results] == [True, True, False]
    failure = results[2].failure
    assert (failure.cell, failure.error) == ("error-wrong", "ZeroDivisionError: division by zero")
    assert len(failure.context) == 5
    assert failure.context[2].startswith(">   5 e = d /")
    assert "3 notebooks, 1 failed" in report(results)
    left = {p.name for p in (tmp_path / "nb").iterdir()}
    assert left == {"91_widget.ipynb", "92_plot.ipynb", "93_error.failed.ipynb", "times.json"}
    times = json.loads((tmp_path / "nb" / "times.json").read_text())["notebooks"]
    assert all(entry["seconds"] > 0 for entry in times)
    records = figures.manifest([results[0].output, results[1].output])
    assert [(r["figure"], r["notebook"], r["cell"]) for r in records] == [
        ("91-ramp", "91_widget.ipynb", "widget-explore"),
        ("91-ramp-sheet", "91_widget.ipynb", "widget-explore"),
        ("92-square", "92_plot.ipynb", "plot-figure"),
    ]
    # Run again with --resume: what passed is skipped, what failed runs.
    again = runner.run_course(names, profile="smoke", out=tmp_path / "nb", figures=tmp_path / "fig", resume=True)
    assert [(r.skipped, r.ok) for r in again] == [(True, True), (True, True), (False, False)]


def test_resume_notices_other_parameters(tmp_path):
    path = NOTEBOOKS / "90_empty.ipynb"
    mark = runner.fingerprint(path, {"profile": "quick"})
    assert mark == runner.fingerprint(path, {"profile": "quick"})
    assert mark != runner.fingerprint(path, {"profile": "smoke"})
    assert mark != runner.fingerprint(changed(path.name, tmp_path, "# empty", "# full"), {"profile": "quick"})


def test_errors_inside_widget_state_are_failures():
    """papermill passes a notebook whose interact callback raised; the error is only in the widget's state."""
    error = {"output_type": "error", "ename": "ValueError", "evalue": "bad level\nmore", "traceback": []}
    view = {"data": {"application/vnd.jupyter.widget-view+json": {"model_id": "m1"}}, "output_type": "display_data"}
    notebook = {
        "cells": [{"id": "nb-widget", "cell_type": "code", "metadata": {}, "outputs": [view], "source": []}],
        "metadata": {
            "widgets": {
                "application/vnd.jupyter.widget-state+json": {
                    "state": {"m1": {"state": {}}, "m2": {"state": {"outputs": [error]}}}
                }
            }
        },
    }
    failure = find_failure(notebook, None)
    assert (failure.cell, failure.error) == ("nb-widget", "inside a widget: ValueError: bad level")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"profile": "paper"}, "use 'smoke'"),
        ({"profile": "fast"}, "there is no profile 'fast'"),
        ({"parameters": {"sead": 1}}, "no parameter 'sead'"),
        ({"notebooks": ["77"]}, "names no notebook"),
        ({"notebooks": [NOTEBOOKS / "90_empty.ipynb"] * 2}, "named twice"),
        ({"jobs": 0}, "at least 1"),
    ],
)
def test_runner_refuses_in_a_sentence(options, says, tmp_path):
    with pytest.raises(runner.CourseError, match=says):
        runner.run_course(**{"notebooks": [NOTEBOOKS / "90_empty.ipynb"], "out": tmp_path, **options})


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"parameters"\n', '"parameter"\n', "0 cells tagged"),
        ("seed = 0", "sed = 0", "does not set 'seed'"),
        ('"cells"', '"sells"', "is no notebook"),
    ],
)
def test_runner_refuses_notebooks_without_parameters(old, new, says, tmp_path):
    with pytest.raises(runner.CourseError, match=says):
        runner.run_course([changed("90_empty.ipynb", tmp_path, old, new)], out=tmp_path / "out")


def test_an_interrupted_run_leaves_nothing_half_written(tmp_path):
    begun = tmp_path / "begun"
    cell = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(60)"
    slow = changed("93_error.ipynb", tmp_path, "a = 1", cell)
    code = (
        # What is started in the background of a shell ignores this signal, and so do its children.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import sys; from pathlib import Path; from posekit.course.runner import run_course; "
        "run_course([sys.argv[1]], out=Path(sys.argv[2]), figures=Path(sys.argv[3]))"
    )
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, str(slow), str(out), str(tmp_path)], stderr=subprocess.PIPE)
    limit = time.perf_counter() + 60
    while not begun.exists() and time.perf_counter() < limit:
        time.sleep(0.05)
    assert begun.exists()
    process.send_signal(signal.SIGINT)
    started = time.perf_counter()
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert time.perf_counter() - started < 10
    assert list(out.iterdir()) == []
