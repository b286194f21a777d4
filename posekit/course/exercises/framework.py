"""What an exercise is, and how an answer to it is judged and shown."""

from __future__ import annotations

import html
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# A judge looks at an answer and says in a sentence what is off, or None if it is right.
Judge = Callable[[Any], str | None]


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook.

    Attributes:
        id: ``"nb05-bound"``: the module it lives in, and a word or two.
        task: one sentence.
        judge: says what is off about an answer, or None.
        solution: what :func:`solution` shows: Markdown, code in fences.
        answer: a right answer, which the judge must accept; the tests hold it to that.
        wrong: wrong answers, each with a word that the judge's sentence must contain; tested too. At least three.
        praise: what a right answer is told beyond "right": the point of the exercise.
    """

    id: str
    task: str
    judge: Judge
    solution: str
    answer: Any
    wrong: tuple[tuple[Any, str], ...]
    praise: str = ""


@dataclass(frozen=True)
class Verdict:
    """How an answer was judged; true if it is right. It shows itself as a line with a mark and a sentence."""

    id: str
    state: str  # "right", "off", "open"
    message: str

    def __bool__(self) -> bool:
        return self.state == "right"

    def __str__(self) -> str:
        mark = {"right": "✓ right", "off": "✗ not yet", "open": "○ open"}[self.state]
        return f"{mark} ({self.id}): {self.message}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        # The ground is opaque and the text dark, so that it reads the same on a light and on a dark page.
        ground = {"right": "#dff1e8", "off": "#fbe6da", "open": "#eeece6"}[self.state]
        return (
            f'<div role="status" style="background:{ground};color:#22252b;padding:.5em .8em;border-radius:4px">'
            f"{html.escape(str(self))}</div>"
        )


def find(id: str) -> Exercise:
    """The exercise with this id; ``KeyError`` in a sentence with the ids there are."""
    module = id.split("-")[0]
    try:
        exercises = importlib.import_module(f"posekit.course.exercises.{module}").EXERCISES
    except ModuleNotFoundError as error:
        if error.name != f"posekit.course.exercises.{module}":
            raise
        raise KeyError(f"there are no exercises '{module}'; ids look like 'nb05-bound'") from None
    for exercise in exercises:
        if exercise.id == id:
            return exercise
    raise KeyError(f"there is no exercise '{id}'; {module} has {', '.join(e.id for e in exercises)}")


def judge(exercise: Exercise, answer: Any) -> Verdict:
    """Judge an answer; an answer that raises is judged by its error."""
    if answer is ... or answer is None:
        return Verdict(exercise.id, "open", exercise.task)
    try:
        off = exercise.judge(answer)
    except NotImplementedError:
        return Verdict(exercise.id, "open", exercise.task)
    except Exception as error:
        return Verdict(exercise.id, "off", f"your answer raised {type(error).__name__}: {error}")
    if off is None:
        return Verdict(exercise.id, "right", exercise.praise or "well done")
    return Verdict(exercise.id, "off", off)


def check(id: str, answer: Any = ...) -> Verdict:
    """Judge an answer to an exercise; the verdict shows itself when it ends a cell.

    Args:
        id: of the exercise.
        answer: a number, array or function, as the task says; ``...`` or None means not tried yet.
    """
    return judge(find(id), answer)


def solution(id: str) -> None:
    """Show an exercise's solution, folded away until it is clicked."""
    exercise = find(id)
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        print(exercise.solution)
        return
    from IPython.display import display

    folded = (
        f"<details><summary>Solution of {html.escape(id)}</summary>"
        f'<pre style="white-space:pre-wrap">{html.escape(exercise.solution.strip())}</pre></details>'
    )
    display({"text/html": folded, "text/plain": f"[solution of {id}: open the notebook to see it]"}, raw=True)
