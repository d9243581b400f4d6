"""Reading an answer as a choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.evaluation.tifa.mapping.exact import ExactMapping
from nas_t2i.evaluation.tifa.types import Answer, Mapped, exact_match, normalized


@pytest.mark.parametrize(
    ("said", "choices", "choice"),
    [
        ("yes", ["yes", "no"], "yes"),
        (" Yes\n", ["yes", "no"], "yes"),
        ("NO", ["Yes", "No"], "No"),
        ("polar  bear", ["Polar Bear", "seal"], "Polar Bear"),
        ("US", ["us", "US"], "US"),  # the same letters go first
        ("Us", ["us", "US"], "us"),
        ("two dogs", ["one", "two"], None),
        ("", ["yes", "no"], None),
    ],
)
def test_letter_case_and_white_space_do_not_count(said, choices, choice):
    assert exact_match(said, choices) == choice
    expected = Mapped("", "none") if choice is None else Mapped(choice, "exact")
    assert ExactMapping().map(Answer(said), choices) == expected


@given(st.lists(st.text(), min_size=1), st.data())
def test_every_choice_stands_for_itself(choices, data):
    said = data.draw(st.sampled_from(choices))
    assert ExactMapping().map(Answer(said), choices) == Mapped(said, "exact")


@given(st.lists(st.text("abCD", min_size=1), min_size=1), st.data())
def test_however_it_is_spaced_and_spelt(words, data):
    spaces = st.text(" \t\n", min_size=1)
    said = "".join(
        data.draw(st.sampled_from([w, w.upper(), w.lower()])) + data.draw(spaces) for w in words
    )
    assert ExactMapping().map(Answer(f" {said}"), ["x", " ".join(words)]).choice == " ".join(words)
    assert normalized(said) == normalized(" ".join(words))
