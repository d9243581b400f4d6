"""Which pairs to keep: a budget's rules, expressions over a pair's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_t2i.errors import ConfigError, Where, did_you_mean
from nas_t2i.expressions import Expression, MissingFieldError
from nas_t2i.protocol.data import FilterRule


class Filters:
    """The filter rules of a budget, parsed.

    They are asked in their order; `file` is the budget's, for messages.
    """

    names: tuple[str, ...]
    fields: tuple[frozenset[str], ...]  # that each expression names, ``exif.Model`` as written

    def __init__(self, rules: Sequence[FilterRule], file: str = "budget") -> None:
        self.names = tuple(rule.keep for rule in rules)
        self._rules = [
            _Rule(rule, Where(file, key_path=f"data.filters[{number}].keep"))
            for number, rule in enumerate(rules)
        ]
        self.fields = tuple(rule.expression.fields for rule in self._rules)

    def verdict(self, metadata: Mapping[str, Any]) -> str | None:
        """Return None to keep a pair, or the expression of the first rule that drops it.

        A pair that lacks a field of an expression follows the rule's `missing`, whatever the rest
        of the expression says. Lacking are: a field that is not there, null, NaN, or of another
        kind than what it is compared with, and a result that no number is (division by zero).

        Args:
            metadata: the fields of the pair's json, and width, height, aspect, min_side, pixels
                and txt. ``key`` or ``file_name`` names the pair in messages.

        Raises:
            ConfigError: the pair lacks a field and the rule says that this is an error.
        """
        for rule in self._rules:
            if not rule.keeps(metadata):
                return rule.expression.text
        return None


class _Rule:
    def __init__(self, rule: FilterRule, where: Where) -> None:
        self.expression = Expression(rule.keep)
        self._missing = rule.missing
        self._where = where

    def keeps(self, metadata: Mapping[str, Any]) -> bool:
        try:
            return self.expression.holds(metadata)
        except MissingFieldError as missing:
            if self._missing == "error":
                raise self._lacking(missing, metadata) from None
            return self._missing == "keep"

    def _lacking(self, missing: MissingFieldError, metadata: Mapping[str, Any]) -> ConfigError:
        name = metadata.get("key") or metadata.get("file_name") or "without a name"
        return ConfigError(
            self._where,
            f"in {self.expression.text!r}: pair {name}: {missing}",
            expected=missing.expected or "a value, or 'missing: drop' or 'missing: keep'",
            hint=did_you_mean(missing.field, set(map(str, metadata)) - {missing.field}),
        )
