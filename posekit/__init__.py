"""posekit: 2D human pose estimation, exact enough to check papers with and small enough to read.

``import posekit`` is light: every public name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_SUBPACKAGES = (
    "analysis",
    "annotations",
    "codecs",
    "course",
    "data",
    "experiments",
    "geometry",
    "inference",
    "metrics",
    "models",
    "skeletons",
    "training",
    "viz",
)
_MODEL_FUNCTIONS = ("create_model", "list_models", "load_weights")

__all__ = [*_MODEL_FUNCTIONS, *_SUBPACKAGES, "__version__"]

if TYPE_CHECKING:
    from posekit.models import create_model as create_model
    from posekit.models import list_models as list_models
    from posekit.models import load_weights as load_weights


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"posekit.{name}")
    if name in _MODEL_FUNCTIONS:
        return getattr(importlib.import_module("posekit.models"), name)
    raise AttributeError(f"module 'posekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
