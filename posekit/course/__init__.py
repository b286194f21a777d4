"""The course: parameters, widgets, figures and exercises for its notebooks, and the runner that executes them.

A notebook's first code cell holds its parameters, the next one starts it::

    setup = course.start(profile=profile, seed=seed, device=device, out_dir=out_dir)

From then on ``setup.figure`` keeps a figure, ``explore`` makes a widget of a drawing function, ``check`` judges an
answer and ``solution`` shows one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posekit.course.exercises import Prediction, check, predict, solution
    from posekit.course.explorer import Choice, Slider, Toggle, explore
    from posekit.course.parameters import PROFILES, Setup, start
    from posekit.course.presence import person_present, progress
    from posekit.course.widgets import heatmap_explorer, joint_dragger

_HOME = {
    "Choice": "explorer",
    "PROFILES": "parameters",
    "Prediction": "exercises",
    "Setup": "parameters",
    "Slider": "explorer",
    "Toggle": "explorer",
    "check": "exercises",
    "explore": "explorer",
    "heatmap_explorer": "widgets",
    "joint_dragger": "widgets",
    "person_present": "presence",
    "predict": "exercises",
    "progress": "presence",
    "solution": "exercises",
    "start": "parameters",
}

__all__ = [
    "PROFILES",
    "Choice",
    "Prediction",
    "Setup",
    "Slider",
    "Toggle",
    "check",
    "explore",
    "heatmap_explorer",
    "joint_dragger",
    "person_present",
    "predict",
    "progress",
    "solution",
    "start",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"posekit.course.{_HOME[name]}"), name)
    raise AttributeError(f"module 'posekit.course' has no attribute {name!r}")
