"""Filter expressions: what they keep, what a missing field does, and that nothing is run."""

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas_t2i.data.index.filters import Filters
from nas_t2i.errors import ConfigError
from nas_t2i.expressions import Expression, ExpressionError
from nas_t2i.protocol.data import FilterRule

PAIR = {
    "key": "000000012",
    "width": 640,
    "height": 480,
    "aspect": 640 / 480,
    "min_side": 480,
    "pixels": 640 * 480,
    "txt": "A dog on a lawn",
    "AESTHETIC_SCORE": 5.5,
    "punsafe": 0.1,
    "NSFW": "UNLIKELY",
    "status": "success",
    "tags": ["dog", "lawn"],
    "watermarked": False,
    "exif": {"Model": "X100"},
    "a.b": 3,
    "similarity": math.nan,
    "license": None,
}


def filters(*expressions, missing="drop"):
    return Filters([FilterRule(keep=text, missing=missing) for text in expressions], "my.yaml")


@pytest.mark.parametrize(
    "expression",
    [
        "AESTHETIC_SCORE >= 5 and punsafe < 0.5",
        "min_side >= 256",
        "0.5 <= aspect <= 2",
        "pixels <= 1e6",
        "width * height == pixels",
        "width / height - aspect == 0",
        "-width < +height",
        "not width < height",
        "width < 1 or height > 1",
        "lower(NSFW) in ['unlikely', 'unsure']",
        "status == 'success' and status != \"failed\"",
        "'dog' in tags and 'cat' not in tags",
        "'dog' in txt",
        "len(txt) > 5 and len(tags) == 2",
        "width in (640, 320)",
        "watermarked == false",
        "not watermarked",
        "exif.Model == 'X100'",
        "a.b == 3",
        "width >= 256\nand height >= 256",
        "  width >= 256  # small ones teach nothing",
    ],
)
def test_kept(expression):
    assert filters(expression, missing="error").verdict(PAIR) is None
    turned = f"not ({expression}\n)"
    assert filters(turned, missing="error").verdict(PAIR) == turned


def test_the_first_rule_that_drops_is_named():
    rules = filters("min_side >= 256", "punsafe < 0.05", "aspect < 1")
    assert rules.names == ("min_side >= 256", "punsafe < 0.05", "aspect < 1")
    assert rules.fields == (frozenset({"min_side"}), frozenset({"punsafe"}), frozenset({"aspect"}))
    assert rules.verdict(PAIR) == "punsafe < 0.05"
    assert filters().verdict(PAIR) is None


@pytest.mark.parametrize(
    "expression",
    [
        "aesthetic >= 5",
        "license == 'cc'",  # null
        "similarity > 0.3",  # NaN
        "NSFW > 0.5",  # text where a number is compared
        "status == 200",
        "width in ['640']",
        "width == true",
        "tags == 'dog'",
        "lower(width) == 'x'",
        "len(width) > 1",
        "'dog' in width",
        "exif.Make == 'X'",
        "width.inner == 1",
        "width / (height - 480) > 1",
        "not width",
        # Whatever the rest says: the order of the operands decides nothing.
        "width > 1 or aesthetic > 5",
        "aesthetic > 5 or width > 1",
        "width < 1 and aesthetic > 5",
        "aesthetic > 5 and width < 1",
        "1 < 0 < aesthetic",
    ],
)
def test_a_missing_field_follows_the_policy(expression):
    assert filters(expression, missing="drop").verdict(PAIR) == expression
    assert filters(expression, missing="keep").verdict(PAIR) is None
    with pytest.raises(ConfigError, match="pair 000000012"):
        filters(expression, missing="error").verdict(PAIR)


def test_a_missing_field_that_is_an_error_names_rule_field_and_nearest():
    rules = filters("width > 1", "aesthetic_score >= 5", missing="error")
    with pytest.raises(ConfigError) as error:
        rules.verdict(PAIR)
    assert str(error.value) == (
        "my.yaml: data.filters[1].keep: in 'aesthetic_score >= 5': pair 000000012: has no "
        "'aesthetic_score'; expected a value, or 'missing: drop' or 'missing: keep'; "
        "did you mean 'AESTHETIC_SCORE'?"
    )
    with pytest.raises(ConfigError, match=r"NSFW is 'UNLIKELY'; expected number"):
        filters("NSFW < 0.5", missing="error").verdict(PAIR)


@pytest.mark.parametrize(
    ("expression", "column", "said"),
    [
        ("aesthetic = 5", 1, "'=' is written '=='"),
        ("a > 1 && b > 2", 8, "'&&' is written 'and'"),
        ("a > 1 OR b > 2", 1, "'OR' is written 'or'"),
        ("(a > 1) & (b > 2)", 1, "expected and"),
        ("a > 1 and lenn(b) > 2", 11, "did you mean 'len'?"),
        ("\u00e4 > 1 and foo(b)", 11, "got a call of 'foo'"),  # columns are characters
        ("width + 3", 1, "expected a comparison"),
        ("a > 1 and 5 < 'y'", 15, "a number with a text"),
        ("a < ['x']", 5, "expected number or text"),
        ("a in 5", 6, "expected a list or text"),
        ("5 in ['x'] and a > 1", 6, "expected a text"),
        ("a in [1, 'x']", 6, "a list of numbers, or of quoted text"),
        ("a == None", 6, "the rule's 'missing'"),
        ("a is b", 6, "expected == or !="),
        ("5 > 3", 1, "got no field"),
        ("a > 2 ** 9", 5, "one of + - * /"),
        ("width >= 256 and", 1, "invalid syntax"),
        ("(a > 1", 1, "never closed"),
        ("lower(a, b) == 'x'", 1, "expected lower(x)"),
        ("lower(*a) == 'x'", 1, "expected lower(x)"),
    ],
)
def test_what_is_wrong_is_shown_with_its_column(expression, column, said):
    with pytest.raises(ExpressionError) as error:
        Expression(expression)
    assert str(error.value).startswith(f"in {expression!r} at column {column}: ")
    assert said in str(error.value)


def test_of_several_lines_the_line_is_shown_too():
    with pytest.raises(ExpressionError, match="at line 2, column 5: got a call of 'foo'"):
        Expression("a > 1\nand foo(b)")


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__ == 1",
        "(lambda: a)() > 1",
        "[x for x in a] == 1",
        "a[0] > 1",
        "f'{a}' == 'x'",
        "(a := 3) > 1",
        "a if b else c",
        "b'x' in a",
        "1j < a",
        "open('x') > a",
        "...",
        "*a",
        " ",
        "a) > (1\x00",
        "'\\d' in a",
        "(" * 300 + "a > 1" + ")" * 300,
        "-" * 1000 + "a > 1",
        "not " * 300 + "a > 1",
        "a > 1 and " * 300 + "b > 1",
    ],
)
def test_anything_else_is_refused(expression):
    with pytest.raises(ExpressionError):
        Expression(expression)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(st.text(max_size=3), VALUES)
SEPARATOR = ";"
PIECES = st.sampled_from(
    "a;b;a.b;'x';1;2.5;1e400;true;None;[;];(;);,;and;or;not;in;is;<;>=;==;!=;+;-;*;/;**;&;~;=;:=;.;"
    ":;#;\\;\n;len(;lower(;if;else;lambda".split(SEPARATOR)
)


@given(st.lists(PIECES, max_size=12).map(" ".join), st.fixed_dictionaries({"a": JSON, "b": JSON}))
def test_any_text_is_an_expression_or_refused(expression, metadata):
    try:
        rules = filters(expression or " ")
    except ValidationError:
        return
    assert rules.verdict(metadata) in (None, expression)


ORDERINGS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
NUMBERS = st.integers(-3, 3) | st.floats(-3, 3)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, *[st.sampled_from(sorted(ORDERINGS))] * 2)
def test_numbers_compare_as_numbers_do(a, b, c, d, first, second):
    left, right = ORDERINGS[first](a, c), ORDERINGS[second](b, d)
    for text, truth in (
        (f"a {first} {c!r} and b {second} {d!r}", left and right),
        (f"a {first} {c!r} or not (b {second} {d!r})", left or not right),
        (f"a + b {first} {c!r} * 2 - {d!r}", ORDERINGS[first](a + b, c * 2 - d)),
    ):
        kept = filters(text, missing="error").verdict({"a": a, "b": b}) is None
        assert kept == truth
