"""The one way to read JSON: what is wrong has a line and a column, whatever it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

MOST_LEVELS = 100  # of lists and mappings in each other; a record has under ten
MOST_DIGITS = 300  # of a whole number: beyond, it fits into no float
# Every eighth byte of a text with a longer number has so many digits in a row.
_STRIDE = 8
_SAMPLED = re.compile(rb"[0-9]{%d}" % (MOST_DIGITS // _STRIDE))
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class JsonError(ValueError):
    """Text that is no usable JSON: the line and the column, from 1 on, and what is wrong there."""

    def __init__(self, problem: str, text: str, position: int, expected: str = "") -> None:
        super().__init__(problem)
        self.problem, self.expected = problem, expected
        self.line = text.count("\n", 0, position) + 1
        self.column = position - text.rfind("\n", 0, position)


class _LongNumberError(ValueError):
    """A whole number of too many digits."""


def whole_number(digits: str) -> int:
    """Return a whole number, for a decoder's `parse_int`. Raises ValueError beyond MOST_DIGITS."""
    if len(digits) > MOST_DIGITS:
        raise _LongNumberError(digits)
    return int(digits)


_DECODE: Callable[[str], Any] = json.JSONDecoder(parse_int=whole_number).decode


def parse_json(content: bytes | str) -> Any:
    """Return the value of a whole JSON text.

    Raises:
        JsonError: not UTF-8, malformed, nested too deeply, or a whole number of too many digits.
    """
    text = content if isinstance(content, str) else _decoded(content)
    # Counting is cheap; only what might be too deep is looked at closely.
    if text.count("[") + text.count("{") > MOST_LEVELS:
        check_depth(text)
    try:
        return _DECODE(text)
    except json.JSONDecodeError as error:
        raise JsonError(f"not whole JSON ({error.msg})", text, error.pos) from None
    except _LongNumberError as error:
        digits = str(error)
        problem, expected = f"a number of {len(digits)} digits", f"at most {MOST_DIGITS}"
        raise JsonError(problem, text, text.find(digits), expected) from None


def may_hold_long_number(content: bytes) -> bool:
    """Whether a number of more than MOST_DIGITS digits can't be ruled out at a glance."""
    return len(content) > MOST_DIGITS and _SAMPLED.search(content[::_STRIDE]) is not None


def check_depth(text: str) -> None:
    """Raise JsonError where lists and mappings lie too deep in each other."""
    level = 0
    for match in _STRUCTURE.finditer(text):
        mark = text[match.start()]
        if mark in "[{":
            level += 1
            if level > MOST_LEVELS:
                raise JsonError(
                    "lists or mappings nested too deeply",
                    text,
                    match.start(),
                    f"at most {MOST_LEVELS} levels",
                )
        elif mark != '"':
            level -= 1


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        raise JsonError("not UTF-8 text", before, len(before)) from None
