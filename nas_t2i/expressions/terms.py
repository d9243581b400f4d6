"""Parts of an expression: how their values are got, and what is missing where they have none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ExpressionError(ValueError):
    """An expression that can't be read: where in it, what came, what was expected."""


class MissingFieldError(Exception):
    """The data lack what an expression asks for: no such field, null, NaN, or another kind."""

    def __init__(self, problem: str, field: str, expected: str = "") -> None:
        super().__init__(problem)
        self.field, self.expected = field, expected


@dataclass(frozen=True, slots=True)
class Term:
    """A part of an expression: how to get its value from a pair's metadata."""

    value: Callable[[Mapping[str, Any]], Any]
    kind: str | None  # of every value it can have; None: a field's, known with the value
    text: str  # as written


def all_values(
    terms: Sequence[Callable[[Mapping[str, Any]], bool]], metadata: Mapping[str, Any]
) -> list[bool]:
    """Return every value: what is missing is found also where another value decides."""
    return [term(metadata) for term in terms]


def kind_of(value: Any) -> str:
    """Return the kind of a value, as messages call it."""
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, (list, tuple)) else "mapping"


def look_up(metadata: Mapping[str, Any], path: tuple[str, ...], name: str) -> Any:
    """Return a field's value. A key that has the dots itself comes before a mapping's inside."""
    value: Any = metadata.get(name)
    if value is None and len(path) > 1:
        value = metadata
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        problem = f"has no value in the field {name!r}" if name in metadata else f"has no {name!r}"
        raise MissingFieldError(problem, name)
    return value


def of_another_kind(term: Term, value: Any, expected: str) -> MissingFieldError:
    """Return the error of a term whose value is of another kind."""
    return MissingFieldError(f"{term.text} is {value!r:.60}", term.text, expected)
