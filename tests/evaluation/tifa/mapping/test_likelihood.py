"""The likeliest choice, and what reads answers that have no likelihoods."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.evaluation.tifa.mapping.exact import ExactMapping
from nas_t2i.evaluation.tifa.mapping.likelihood import LikelihoodMapping
from nas_t2i.evaluation.tifa.types import Answer, Mapped


class Last:
    identity = "last"

    def map(self, answer: Answer, choices: list[str]) -> Mapped:
        return Mapped(choices[-1], "exact")


def test_the_likeliest_choice_whatever_the_text_says() -> None:
    answer = Answer("yes", (-3.0, -1.5, -2.25))
    found = LikelihoodMapping().map(answer, ["yes", "no", "maybe"])
    assert found == Mapped("no", "likelihood", -1.5, 0.75)


def test_one_choice_has_no_margin_and_equal_ones_go_to_the_first() -> None:
    assert LikelihoodMapping().map(Answer("", (-2.0,)), ["a"]) == Mapped("a", "likelihood", -2.0)
    assert LikelihoodMapping().map(Answer("", (-2.0, -2.0)), ["a", "b"]).choice == "a"


@given(st.lists(st.floats(-1e6, 0), min_size=2, max_size=6))
def test_no_choice_beats_the_chosen_one(values: list[float]) -> None:
    choices = [str(row) for row in range(len(values))]
    found = LikelihoodMapping().map(Answer("", tuple(values)), choices)
    assert values[int(found.choice)] == max(values)
    assert found.margin is not None
    assert found.margin >= 0
    assert math.isclose(found.margin, max(values) - sorted(values)[-2], abs_tol=1e-9)


def test_answers_without_likelihoods_are_read_by_another_mapping() -> None:
    choices = ["yes", "no"]
    assert LikelihoodMapping().map(Answer("NO"), choices) == Mapped("no", "exact")
    assert LikelihoodMapping().map(Answer("perhaps"), choices) == Mapped("", "none")
    assert LikelihoodMapping(Last()).map(Answer("yes"), choices).choice == "no"
    assert LikelihoodMapping(Last()).map(Answer("", (-1.0, -2.0)), choices).choice == "yes"
    identities = {LikelihoodMapping().identity, LikelihoodMapping(Last()).identity, "exact-v1"}
    assert len(identities) == 3
    assert ExactMapping.identity in LikelihoodMapping().identity


def test_likelihoods_of_other_choices_are_a_bug() -> None:
    with pytest.raises(ValueError, match="3 likelihoods of 2 choices"):
        LikelihoodMapping().map(Answer("", (-1.0, -2.0, -3.0)), ["a", "b"])
