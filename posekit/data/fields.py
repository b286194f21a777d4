"""What the fields of a frozen dataclass may hold: the type that is written beside each, and a rule beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints


class Rule(NamedTuple):
    """A test that nan fails, and what a value that passes is called."""

    holds: Callable[[Any], bool]
    says: str


POSITIVE = Rule(lambda x: 0 < x < math.inf, "a finite number above 0")
NOT_NEGATIVE = Rule(lambda x: 0 <= x < math.inf, "a finite number from 0 up")
BETWEEN = Rule(lambda x: 0 < x < 1, "between 0 and 1, without the ends")
SHARE = Rule(lambda x: 0 <= x <= 1, "between 0 and 1")
PROBABILITY = Rule(SHARE.holds, "a probability between 0 and 1")


def problem(config: Any, rules: Mapping[str, Rule]) -> str | None:
    """What the first field that holds what it may not should be and is, as half a sentence; None when all is well."""
    kinds = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if not _fits(value, kinds[field.name]):
            return f"{field.name} is {_called(kinds[field.name])}, not {value!r}"
        rule = rules.get(field.name)
        if rule and value is not None and not rule.holds(value):
            none = " or None" if _fits(None, kinds[field.name]) else ""
            return f"{field.name} is {rule.says}{none}, not {value!r}"
    return None


def _called(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " | ".join(map(_called, args))
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}"
    if origin is tuple:
        return f"tuple[{', '.join(map(_called, args))}]"
    if kind in (Ellipsis, type(None)):
        return "..." if kind is Ellipsis else "None"
    return kind.__name__


def _fits(value: Any, kind: Any) -> bool:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in args)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = args[:1] * len(value) if args[1:] == (...,) else args
        return len(value) == len(each) and all(map(_fits, value, each))
    if kind in (float, int):  # a whole number is a float, too, but True is neither
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)
