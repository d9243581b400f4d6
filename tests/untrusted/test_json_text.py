import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.untrusted.json_text import MOST_DIGITS, MOST_LEVELS, JsonError, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_json_writes_is_read(value):
    assert parse_json(json.dumps(value)) == value


def test_as_many_levels_as_are_allowed_and_one_more():
    brackets = '"[[[\\"[["' + ", 1" * 200  # in a text they are no levels
    assert parse_json(f"[{brackets}]")
    assert parse_json("[" * MOST_LEVELS + "]" * MOST_LEVELS)
    assert parse_json("[" + ",".join(["[[]]"] * 200) + "]")
    with pytest.raises(JsonError) as caught:
        parse_json("[\n" * MOST_LEVELS + "[" + "]" * (MOST_LEVELS + 1))
    assert (caught.value.problem, caught.value.line) == (
        "lists or mappings nested too deeply",
        MOST_LEVELS + 1,
    )


@pytest.mark.parametrize("depth", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_one_error(depth, opening):
    with pytest.raises(JsonError, match="nested too deeply"):
        parse_json(opening * depth)


@pytest.mark.parametrize("digits", [MOST_DIGITS + 1, 5_000, 1_000_000])
def test_a_giant_number_has_its_place(digits):
    assert parse_json("9" * MOST_DIGITS)
    with pytest.raises(JsonError) as caught:
        parse_json('{"a": 1,\n "b": ' + "9" * digits + "}")
    assert caught.value.problem == f"a number of {digits} digits"
    assert (caught.value.line, caught.value.column) == (2, 7)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error_with_its_place(content):
    try:
        parse_json(content)
    except JsonError as error:
        assert error.line >= 1 and error.column >= 1
