"""Predict, then run: a guess is written down before the cell that answers it, and scored after."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """A guess on record; :meth:`score` compares it with what came out."""

    question: str
    guess: Any
    unit: str = ""

    def score(self, actual: Any) -> Score:
        """Compare with the outcome: numbers by their ratio, everything else by equality, orders by pairs."""
        if self.guess is None or self.guess is ...:
            return Score(self, actual, None, "no guess on record; make one, then run again")
        if isinstance(actual, (list, tuple)):
            return self._score_order(list(actual))
        if isinstance(actual, (str, bool, np.bool_)):
            hit = self.guess == actual
            return Score(self, actual, float(hit), "as you said" if hit else "not what you said")
        guess, value = float(self.guess), float(actual)
        if guess == value:
            return Score(self, actual, 1.0, "exactly")
        if guess * value <= 0:
            return Score(self, actual, 0.0, "the other side of zero")
        ratio = max(guess / value, value / guess)
        points = float(max(0.0, 1 - np.log2(ratio)))
        side = "high" if guess > value else "low"
        words = f"within {100 * (ratio - 1):.0f} %" if ratio < 1.25 else f"too {side} by a factor of {ratio:.1f}"
        return Score(self, actual, points, words)

    def _score_order(self, actual: list[Any]) -> Score:
        guess = list(self.guess)
        if sorted(map(str, guess)) != sorted(map(str, actual)):
            return Score(self, actual, 0.0, "your order does not hold the same entries")
        place = {entry: i for i, entry in enumerate(guess)}
        pairs = [(a, b) for i, a in enumerate(actual) for b in actual[i + 1 :]]
        good = sum(place[a] < place[b] for a, b in pairs)
        return Score(self, actual, good / len(pairs), f"{good} of {len(pairs)} pairs in the right order")

    def __repr__(self) -> str:
        return f"Prediction on record: {self.guess}{' ' + self.unit if self.unit else ''}. {self.question}"


@dataclass(frozen=True)
class Score:
    """How a prediction came out; ``points`` from 0 to 1, None without a guess."""

    prediction: Prediction
    actual: Any
    points: float | None
    words: str

    def __repr__(self) -> str:
        unit = f" {self.prediction.unit}" if self.prediction.unit else ""
        actual = f"{self.actual:.4g}" if isinstance(self.actual, float) else str(self.actual)
        return f"You said {self.prediction.guess}{unit}; it is {actual}{unit}: {self.words}."

    def _repr_html_(self) -> str:
        return (
            '<div role="status" style="background:#e6eef4;color:#22252b;padding:.5em .8em;border-radius:4px">'
            f"{html.escape(repr(self))}</div>"
        )


def predict(question: str, guess: Any, *, unit: str = "") -> Prediction:
    """Put a guess on record before running the cell that answers the question.

    Args:
        question: what is asked.
        guess: a number, a word, True or False, or a list in the order you expect; None for no guess.
        unit: of the number.
    """
    return Prediction(question, guess, unit)
