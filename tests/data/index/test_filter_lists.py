"""Lists in filters hold values that are known when the filter is read."""

import pytest

from nas_t2i.expressions import Expression, ExpressionError


@pytest.mark.parametrize(
    "text",
    [
        "x in [y + 1, 2]",
        "x in [-y, 2]",
        "x in [len(y), 2]",
        "x in [lower(y), 'a']",
        "x in [a.b * 2]",
        "x in [y]",
        "x in [1, [2]]",
        "x in [1 / 0, 2]",
        "x in [true, 1]",
        "len([y + 1]) > x",
    ],
)
def test_a_field_inside_a_list_is_one_error_with_its_column(text):
    with pytest.raises(ExpressionError, match="at column") as caught:
        Expression(text)
    assert "\n" not in str(caught.value)


def test_arithmetic_of_numbers_in_a_list_is_computed():
    assert Expression("x in [1 + 1, -3]").holds({"x": 2})
    assert Expression("x in ('a', lower('B'))").holds({"x": "b"})
