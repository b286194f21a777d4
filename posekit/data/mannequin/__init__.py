"""Mannequin: the embedded dataset of rendered figures. `Mannequin(split, level=...)` makes it on first use."""

from posekit.data.mannequin.dataset import Mannequin
from posekit.data.mannequin.difficulty import LEVELS, Difficulty

__all__ = ["LEVELS", "Difficulty", "Mannequin"]
