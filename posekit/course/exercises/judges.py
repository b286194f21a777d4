"""Judges for the usual kinds of answer. Each looks for the slips people make before it says "wrong"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from posekit.course.exercises.framework import Judge


def number(
    expected: float, *, rel: float = 1e-3, tol: float = 0.0, unit: str = "", slips: Mapping[str, float] | None = None
) -> Judge:
    """A judge of one number.

    Args:
        expected: the right answer.
        rel: relative tolerance.
        tol: absolute tolerance, whichever is larger.
        unit: named in the sentences.
        slips: sentence about a slip to the number it leads to, as in ``{"that is in cells, not pixels": 0.38}``.
    """

    def judge(answer: Any) -> str | None:
        try:
            value = float(answer)
        except (TypeError, ValueError):
            return f"give one number, not {type(answer).__name__}"
        if not np.isfinite(value):
            return f"{value} is no finite number; look for a division by zero"
        if _close(value, expected, rel, tol):
            return None
        for sentence, slip in (slips or {}).items():
            if _close(value, slip, rel, tol):
                return f"{sentence} (you gave {value:.6g})"
        return _size(value, expected, unit)

    return judge


def _close(value: float, expected: float, rel: float, tol: float) -> bool:
    return abs(value - expected) <= max(tol, rel * abs(expected))


def _size(value: float, expected: float, unit: str) -> str:
    """What the size of the error gives away, without giving the answer away."""
    given = f"{value:.6g}{' ' + unit if unit else ''}"
    if expected and np.isclose(value, -expected, rtol=1e-3):
        return f"{given} has the right size and the wrong sign"
    if abs(abs(value - expected) - 0.5) < 1e-6:
        return f"{given} is off by exactly one half: which point of a pixel or cell is its origin?"
    if abs(abs(value - expected) - 1.0) < 1e-6:
        return f"{given} is off by exactly one: do you count points, or steps between them?"
    if expected and value:
        for factor, name in ((2.0, "2"), (4.0, "4"), (100.0, "100"), (1000.0, "1000"), (np.pi, "pi"), (2**0.5, "√2")):
            if np.isclose(value, expected * factor, rtol=1e-3):
                return f"{given} is too large by a factor of {name}"
            if np.isclose(value * factor, expected, rtol=1e-3):
                return f"{given} is too small by a factor of {name}"
    side = "large" if value > expected else "small"
    near = expected and abs(value / expected - 1) < 0.1
    return f"{given} is {'a little ' if near else ''}too {side}"


def array(
    expected: Any, *, rel: float = 1e-6, tol: float = 1e-6, what: str = "array", slips: Mapping[str, Any] | None = None
) -> Judge:
    """A judge of an array: shape, then known slips, then half-pixel shifts and swapped x and y, then entries.

    Args:
        expected: the right answer, any shape; ``(..., 2)`` is taken for points.
        rel, tol: relative and absolute tolerance of an entry.
        what: the answer's name in the sentences.
        slips: sentence about a slip to the array it leads to.
    """
    right = _plain(expected)

    def judge(answer: Any) -> str | None:
        try:
            given = _plain(answer)
        except (TypeError, ValueError):
            return f"give an array, not {type(answer).__name__}"
        if given.shape != right.shape:
            return f"your {what} has shape {given.shape}; it should have {right.shape}"
        if np.allclose(given, right, rtol=rel, atol=tol):
            return None
        if not np.isfinite(given[np.isfinite(right)]).all():
            return f"your {what} holds NaN or infinity where there should be numbers"
        for sentence, slip in (slips or {}).items():
            if np.allclose(given, _plain(slip), rtol=rel, atol=tol):
                return sentence
        shift = given - right
        if np.allclose(np.abs(shift), 0.5, atol=max(tol, 1e-6)):
            return f"every entry of your {what} is off by exactly half: where is the origin of a pixel?"
        if right.ndim and right.shape[-1] == 2 and np.allclose(given[..., ::-1], right, rtol=rel, atol=tol):
            return f"your {what} has x and y swapped"
        wrong = np.argwhere(~np.isclose(given, right, rtol=rel, atol=tol))
        first = tuple(int(i) for i in wrong[0])
        value = float(given[first])
        share = f"{len(wrong)} of {right.size} entries of your {what} are wrong"
        return f"{share}; the first is {list(first)}: {_size(value, float(right[first]), '')}"

    return judge


def _plain(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value, dtype=np.float64)


def numbers(expected: Mapping[str, float], *, rel: float = 1e-3, tol: float = 0.0) -> Judge:
    """A judge of named numbers: a dict with exactly these keys, each judged on its own."""

    def judge(answer: Any) -> str | None:
        if not isinstance(answer, Mapping):
            return f"give a dict with the keys {', '.join(expected)}, not {type(answer).__name__}"
        missing = [key for key in expected if key not in answer]
        if missing:
            return f"'{missing[0]}' is missing; give {', '.join(expected)}"
        for key, value in expected.items():
            off = number(value, rel=rel, tol=tol)(answer[key])
            if off:
                return f"'{key}': {off}"
        return None

    return judge


def choice(expected: Any, *, because: Mapping[Any, str]) -> Judge:
    """A judge of a choice: ``because`` says for every wrong option why it is wrong.

    One option may come alone in a list or set, in quotes or with a bracket (``"b)"``); several in any collection.
    """
    several = isinstance(expected, (set, frozenset, list, tuple))
    right = set(expected) if several else {expected}

    def judge(answer: Any) -> str | None:
        given = _options(answer)
        if given == right:
            return None
        extra = sorted((option for option in given if option not in right), key=str)
        if several:
            if extra:
                known = all(type(option) in {type(one) for one in right} for option in extra)
                unknown = f"{extra[0]!r} is not among the options" + ("" if known else "; give a set such as {1, 2}")
                return because.get(extra[0], unknown)
            return f"{len(given)} of {len(right)} found, and those are right; look on"
        if len(given) != 1:
            return f"choose one option; you gave {len(given)}"
        options = ", ".join(sorted({*map(str, because), str(expected)}))
        return because.get(extra[0], f"{extra[0]!r} is not among the options: {options}")

    return judge


def _options(answer: Any) -> set[Any]:
    """What was chosen, as a set; letters lower, without quotes and brackets."""
    if hasattr(answer, "tolist"):
        answer = answer.tolist()
    chosen = answer if isinstance(answer, Iterable) and not isinstance(answer, str) else [answer]
    options = [option.item() if hasattr(option, "item") else option for option in chosen]
    return {option.strip().strip("\"'().:").lower() if isinstance(option, str) else option for option in options}


def function(
    reference: Callable[..., Any],
    cases: Sequence[tuple[str, tuple[Any, ...]]],
    *,
    judged_by: Callable[[Any], Judge] = array,
    slips: Iterable[tuple[str, Callable[..., Any]]] = (),
) -> Judge:
    """A judge of a function: it must agree with the reference on every case.

    Args:
        reference: a right implementation.
        cases: pairs of what the case shows and the arguments; the first case that fails is named.
        judged_by: makes a judge from the reference's result; :func:`array` by default.
        slips: sentences about known mistakes, each with the function that makes it.
    """
    slips = tuple(slips)

    def judge(answer: Any) -> str | None:
        if not callable(answer):
            return f"give a function, not {type(answer).__name__}"
        for shows, arguments in cases:
            expected = reference(*_copies(arguments))
            given = answer(*_copies(arguments))
            if given is ...:
                raise NotImplementedError
            if given is None:
                return "your function returns nothing; does it end in a return?"
            off = judged_by(expected)(given)
            if off is None:
                continue
            for sentence, slip in slips:
                theirs = slip(*_copies(arguments))
                if judged_by(theirs)(given) is None and judged_by(expected)(theirs) is not None:
                    return sentence
            return f"{shows}: {off}"
        return None

    return judge


def _copies(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Fresh arguments, so that a function that writes into them does not spoil the next call."""
    import copy

    return tuple(copy.deepcopy(a) for a in arguments)
