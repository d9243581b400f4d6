"""From a free-form answer to one of a question's choices.

A model that says "Two dogs" where the choices are "one" and "two" has to be read. How it is read
decides the score, so that a mapping has an identity and is part of every score's signature.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from nas_t2i.evaluation.vqa import Answer


class Mapped(NamedTuple):
    """The choice that an answer was taken for, and how."""

    choice: str  # as written in the question; "" where the answer is none of them
    how: str  # "exact", "embedding", "likelihood" or "none"
    similarity: float | None = None  # of answer and choice, in the mapping's own unit
    margin: float | None = None  # similarity to the choice, less that to the next best one


class Mapping(Protocol):
    """A way to read free-form answers."""

    identity: str  # what the choice depends on besides answer and choices

    def map(self, answer: Answer, choices: list[str]) -> Mapped:
        """Return the choice that an answer stands for."""


def normalized(text: str) -> str:
    """Return a text without the differences that do not count: letter case and white space."""
    return " ".join(text.casefold().split())


def exact_match(text: str, choices: list[str]) -> str | None:
    """Return the choice that is written like `text`, up to letter case and white space.

    A choice that is the same letter for letter goes first, then the first of those that fit.
    """
    if text in choices:
        return text
    wanted = normalized(text)
    return next((choice for choice in choices if normalized(choice) == wanted), None)


class ExactMapping:
    """Takes an answer for the choice that reads the same, or for none."""

    identity = "exact-v1"

    def map(self, answer: Answer, choices: list[str]) -> Mapped:
        """Return the choice that is written like the answer, or ``Mapped("", "none")``."""
        choice = exact_match(answer.text, choices)
        return Mapped("", "none") if choice is None else Mapped(choice, "exact")
