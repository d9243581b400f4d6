"""Small expressions over a mapping, such as ``aesthetic >= 5 and punsafe < 0.5``.

They look like Python and are parsed by Python's own parser, but nothing of them is run as Python: a
fixed list of kinds of syntax is turned into look-ups and comparisons here, and whatever is not on
the list is an error that shows its column.

What there is: field names (``exif.Model`` looks inside), numbers, quoted text, ``true`` and
``false``, lists of them; ``< <= > >= == !=``, ``in``, ``not in``; ``and``, ``or``, ``not``,
parentheses; ``+ - * /``; ``len(x)`` of text or a list, ``lower(x)`` of text. No value is converted:
a comparison of two kinds of value counts as a missing field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_t2i.expressions.parser import Parser
from nas_t2i.expressions.terms import ExpressionError, MissingFieldError

__all__ = ["Expression", "ExpressionError", "MissingFieldError"]


class Expression:
    """A condition on the fields of a mapping.

    Raises:
        ExpressionError: the text is not one.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parser = Parser(text)
        self._term = parser.whole()
        self.fields = frozenset(parser.fields)  # as written: ``exif.Model``

    def holds(self, data: Mapping[str, Any]) -> bool:
        """Say whether the condition holds.

        All of it is looked at: a field that is lacking is noticed also where another part decides.

        Raises:
            MissingFieldError: `data` lacks a field.
        """
        return self._term.value(data) is True
