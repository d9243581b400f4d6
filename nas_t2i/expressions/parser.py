"""One expression, parsed by Python's own parser and turned into a term; nothing of it is run."""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from nas_t2i.errors import did_you_mean
from nas_t2i.expressions.terms import (
    ExpressionError,
    MissingFieldError,
    Term,
    all_values,
    kind_of,
    look_up,
    of_another_kind,
)

_MOST_CHARACTERS = 2000
_MOST_LEVELS = 50

_ORDERINGS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITIES: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_CONSTANTS = {"true": True, "false": False}
_FUNCTIONS = {"len": "number", "lower": "text"}
# What people write who have another language in their fingers.
_FOREIGN = {"&&": "and", "||": "or", " AND ": "and", " OR ": "or", "NOT ": "not", "<>": "!="}
_SYNTAX = (
    "a comparison of fields, numbers and quoted text, joined by and, or, not; "
    "for example aesthetic >= 5"
)
_SCALARS = ("number", "text", "truth value")


class Parser:
    """One expression turned into a term."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._level = 0
        self.fields: set[str] = set()

    def whole(self) -> Term:
        """Return the whole expression, which is true or false. Raises ExpressionError."""
        if not self._text.strip():
            raise self._error("got nothing")
        if len(self._text) > _MOST_CHARACTERS:
            raise self._error(
                f"an expression of {len(self._text)} characters",
                expected=f"at most {_MOST_CHARACTERS}; a list of rules says the same",
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                # In parentheses an expression may go over several lines.
                body = ast.parse(f"({self._text}\n)", mode="eval").body
        except SyntaxError as error:
            raise self._syntax_error(error) from None
        except (ValueError, RecursionError, MemoryError):
            raise self._error("a control character, or nested too deeply") from None
        term = self._wanted(body, "truth value")
        if not self.fields:
            raise self._error("got no field", body, expected="a condition on a pair's metadata")
        return term

    def _term(self, node: ast.expr) -> Term:
        self._level += 1
        if self._level > _MOST_LEVELS:
            raise self._error("nested too deeply", node, expected=f"at most {_MOST_LEVELS} levels")
        try:
            return self._dispatch(node)
        finally:
            self._level -= 1

    def _dispatch(self, node: ast.expr) -> Term:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name(id=name) if name in _CONSTANTS:
                return self._literal(node, _CONSTANTS[name])
            case ast.Name() | ast.Attribute():
                return self._field(node)
            case ast.List() | ast.Tuple() if node.elts:
                return self._list(node)
            case ast.BoolOp():
                return self._bool(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._call(node)
        raise self._error(f"got {self._source(node)!r}", node)

    # ---- values ---------------------------------------------------------------------------------

    def _constant(self, node: ast.Constant) -> Term:
        if node.value is None:
            raise self._error(
                "got None", node, expected="the rule's 'missing' to say what becomes of such pairs"
            )
        if not isinstance(node.value, (bool, int, float, str)):
            raise self._error(f"got {self._source(node)}", node, expected="a number or quoted text")
        return self._literal(node, node.value)

    def _literal(self, node: ast.expr, value: Any) -> Term:
        return Term(lambda _: value, kind_of(value), self._source(node))

    def _field(self, node: ast.Name | ast.Attribute) -> Term:
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise self._error(f"got {self._source(node)!r}", node, expected="a field's name")
        path = (inner.id, *parts)
        name = ".".join(path)
        self.fields.add(name)
        return Term(lambda metadata: look_up(metadata, path, name), None, name)

    def _list(self, node: ast.List | ast.Tuple) -> Term:
        outside, self.fields = self.fields, set()
        items = [self._term(item) for item in node.elts]
        inside, self.fields = self.fields, outside
        kinds = {item.kind for item in items}
        if len(kinds) > 1 or not kinds <= {"number", "text"}:
            raise self._error(
                f"got {self._source(node)}", node, expected="a list of numbers, or of quoted text"
            )
        if inside:  # another value for each pair
            raise self._error(
                f"got the field {min(inside)} in a list", node, expected="numbers, or quoted text"
            )
        try:
            values = tuple(item.value({}) for item in items)
        except MissingFieldError as error:  # 1 / 0
            raise self._error(f"{error} in a list", node, expected="numbers") from None
        return Term(lambda _: values, f"list of {items[0].kind}", self._source(node))

    # ---- operators ------------------------------------------------------------------------------

    def _bool(self, node: ast.BoolOp) -> Term:
        values = [self._wanted(operand, "truth value").value for operand in node.values]
        combine = all if isinstance(node.op, ast.And) else any
        return Term(
            lambda metadata: combine(all_values(values, metadata)),
            "truth value",
            self._source(node),
        )

    def _unary(self, node: ast.UnaryOp) -> Term:
        source = self._source(node)
        if isinstance(node.op, ast.Not):
            value = self._wanted(node.operand, "truth value").value
            return Term(lambda metadata: not value(metadata), "truth value", source)
        if isinstance(node.op, ast.Invert):
            raise self._error("got '~'", node, expected="not")
        value = self._wanted(node.operand, "number").value
        if isinstance(node.op, ast.UAdd):
            return Term(value, "number", source)
        return Term(lambda metadata: -value(metadata), "number", source)

    def _arithmetic(self, node: ast.BinOp) -> Term:
        source = self._source(node)
        if isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            sign, word = ("&", "and") if isinstance(node.op, ast.BitAnd) else ("|", "or")
            raise self._error(f"got {sign!r} in {source!r}", node, expected=word)
        if type(node.op) not in _ARITHMETIC:
            raise self._error(f"got {source!r}", node, expected="one of + - * / between numbers")
        compute = _ARITHMETIC[type(node.op)]
        left = self._wanted(node.left, "number").value
        right = self._wanted(node.right, "number").value

        def value(metadata: Mapping[str, Any]) -> float:
            try:
                result: float = compute(left(metadata), right(metadata))
                if not math.isnan(result):
                    return result
            except ArithmeticError:  # by zero, or too large
                pass
            raise MissingFieldError(f"{source} is no number", source, "a number")

        return Term(value, "number", source)

    def _comparison(self, node: ast.Compare) -> Term:
        operands = [node.left, *node.comparators]
        terms = [self._term(operand) for operand in operands]
        links = [
            self._link(sign, terms[i], terms[i + 1], operands[i + 1])
            for i, sign in enumerate(node.ops)
        ]
        if len(links) == 1:
            return Term(links[0], "truth value", self._source(node))
        return Term(
            lambda metadata: all(all_values(links, metadata)),
            "truth value",
            self._source(node),
        )

    def _link(
        self, sign: ast.cmpop, left: Term, right: Term, node: ast.expr
    ) -> Callable[[Mapping[str, Any]], bool]:
        if isinstance(sign, (ast.In, ast.NotIn)):
            return self._membership(isinstance(sign, ast.In), left, right, node)
        compare = _ORDERINGS.get(type(sign)) or _EQUALITIES.get(type(sign))
        if compare is None:
            raise self._error("got 'is'", node, expected="== or !=")
        kinds = ("number", "text") if type(sign) in _ORDERINGS else _SCALARS
        for term in (left, right):
            if term.kind not in (None, *kinds):
                raise self._error(
                    f"got {term.text}, a {term.kind}", node, expected=" or ".join(kinds)
                )
        if left.kind and right.kind and left.kind != right.kind:
            raise self._error(
                f"compares {left.text} with {right.text}, a {left.kind} with a {right.kind}",
                node,
                expected="two of a kind",
            )
        kind = left.kind or right.kind

        def value(metadata: Mapping[str, Any]) -> bool:
            first, second = left.value(metadata), right.value(metadata)
            wanted = kind or kind_of(first)
            if wanted not in kinds:
                raise of_another_kind(left, first, " or ".join(kinds))
            for term, got in ((left, first), (right, second)):
                if kind_of(got) != wanted:
                    raise of_another_kind(term, got, wanted)
            return compare(first, second)

        return value

    def _membership(
        self, inside: bool, left: Term, right: Term, node: ast.expr
    ) -> Callable[[Mapping[str, Any]], bool]:
        if right.kind not in (None, "text", "list of number", "list of text"):
            raise self._error(
                f"got {right.text}, a {right.kind}, after 'in'", node, expected="a list or text"
            )
        if left.kind not in (None, *_SCALARS):
            raise self._error(
                f"got {left.text}, a {left.kind}, before 'in'", node, expected="one value"
            )
        item_kind = right.kind and right.kind.removeprefix("list of ")
        if left.kind and item_kind and left.kind != item_kind:
            raise self._error(
                f"looks for {left.text}, a {left.kind}, in {right.text}",
                node,
                expected=f"a {item_kind}",
            )

        def value(metadata: Mapping[str, Any]) -> bool:
            item, items = left.value(metadata), right.value(metadata)
            if not isinstance(items, (str, list, tuple)):
                raise of_another_kind(right, items, "list or text")
            wanted = "text" if isinstance(items, str) else item_kind
            if wanted and kind_of(item) != wanted:
                raise of_another_kind(left, item, wanted)
            return (item in items) == inside

        return value

    def _call(self, node: ast.Call) -> Term:
        name = node.func.id if isinstance(node.func, ast.Name) else self._source(node.func)
        if name not in _FUNCTIONS:
            raise self._error(
                f"got a call of {name!r}",
                node,
                expected=" or ".join(f"{known}(x)" for known in _FUNCTIONS),
                hint=did_you_mean(name, _FUNCTIONS),
            )
        if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
            raise self._error(f"got {self._source(node)!r}", node, expected=f"{name}(x)")
        if name == "lower":
            text = self._wanted(node.args[0], "text").value
            return Term(lambda metadata: text(metadata).lower(), "text", self._source(node))
        inner = self._term(node.args[0])
        if inner.kind in ("number", "truth value"):
            raise self._error(f"got len of {inner.text}", node, expected="text or a list")

        def length(metadata: Mapping[str, Any]) -> int:
            value = inner.value(metadata)
            if not isinstance(value, (str, list, tuple)):
                raise of_another_kind(inner, value, "text or list")
            return len(value)

        return Term(length, "number", self._source(node))

    def _wanted(self, node: ast.expr, kind: str) -> Term:
        """Return a term whose every value is of a kind."""
        term = self._term(node)
        if term.kind == kind:
            return term
        if term.kind is not None:
            raise self._error(
                f"got {term.text}, a {term.kind}",
                node,
                expected="a comparison" if kind == "truth value" else f"a {kind}",
            )

        def value(metadata: Mapping[str, Any]) -> Any:
            got = term.value(metadata)
            if kind_of(got) != kind:
                raise of_another_kind(term, got, kind)
            return got

        return Term(value, kind, term.text)

    # ---- problems -------------------------------------------------------------------------------

    def _source(self, node: ast.expr) -> str:
        segment = ast.get_source_segment(f"({self._text}\n)", node) or ""
        text = " ".join(segment.split())
        return text if len(text) <= 60 else text[:57] + "..."

    def _syntax_error(self, error: SyntaxError) -> ExpressionError:
        hints = [
            f"{theirs.strip()!r} is written {ours!r}"
            for theirs, ours in _FOREIGN.items()
            if theirs in self._text
        ]
        if "'='" in error.msg:
            hints = ["'=' is written '=='"]
        reason = error.msg.partition(". ")[0]
        place = (error.lineno or 1, error.offset or 1)
        return self._error(reason, place=place, hint=hints[0] if hints else "")

    def _error(
        self,
        problem: str,
        node: ast.expr | None = None,
        *,
        place: tuple[int, int] | None = None,
        expected: str = _SYNTAX,
        hint: str = "",
    ) -> ExpressionError:
        """Word a problem with its place: of a node, or 1-based (line, column) as it was parsed."""
        if node is not None:
            # The parser counts bytes.
            line = f"({self._text}\n)".split("\n")[node.lineno - 1].encode()
            place = node.lineno, len(line[: node.col_offset].decode(errors="replace")) + 1
        at = ""
        if place is not None:
            # The parenthesis before the first line is not the user's; nor is the last line.
            column = max(1, place[1] - 1) if place[0] == 1 else place[1]
            several = "\n" in self._text.strip()
            at = f" at line {place[0]}, column {column}" if several else f" at column {column}"
        shown = self._text if len(self._text) <= 80 else self._text[:77] + "..."
        return ExpressionError(
            f"in {shown!r}{at}: {problem}; expected {expected}" + (f"; {hint}" if hint else "")
        )
