"""Exercises: checks that say what is off, hidden solutions, and predictions that are scored.

A notebook's exercises live in ``posekit/course/exercises/nbNN.py``, one :class:`Exercise` each, found by the first
part of their id: ``check("nb05-bound", answer)`` looks in ``nb05.py``. An answer of ``...`` or None means "not tried
yet", which is no error, so a notebook runs through before anybody has answered.
"""

from posekit.course.exercises.framework import Exercise, Verdict, check, find, solution
from posekit.course.exercises.judges import array, choice, function, number, numbers
from posekit.course.exercises.predictions import Prediction, predict

__all__ = [
    "Exercise",
    "Prediction",
    "Verdict",
    "array",
    "check",
    "choice",
    "find",
    "function",
    "number",
    "numbers",
    "predict",
    "solution",
]
