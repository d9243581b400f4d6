"""What TIFA's parts hand to each other: questions, answers, choices; who answers, who reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, NotRequired, Protocol, TypedDict

from PIL import Image


class Question(TypedDict):
    """One row of a TIFA question file."""

    id: str
    caption: str
    question: str
    choices: list[str]
    answer: str
    element_type: str
    element: str
    group: NotRequired[str]  # of questions whose accuracy is told beside that of element types


class Answer(NamedTuple):
    """What a model answered to one question."""

    text: str  # free-form, as the model said it
    likelihoods: tuple[float, ...] | None = None  # log-likelihood of each choice, where asked for


class VqaModel(Protocol):
    """A model that answers questions about an image, always the same way."""

    identity: str  # model, hash of its weights, preprocessing, precision: what answers depend on

    def answer(self, image: Image.Image, questions: list[Question]) -> Sequence[Answer | None]:
        """Answer all questions about one RGB image, in order; None where there is no answer.

        Only the text and the choices of a question decide its answer, never the gold answer.
        """


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


@dataclass(frozen=True)
class Detail:
    """What became of one question."""

    question: Question
    answer: Answer | None = None
    mapped: Mapped | None = None
    missing: str = ""  # why there is no answer, "" where there is one

    @property
    def correct(self) -> bool:
        """Whether the choice is the gold answer, up to letter case and white space."""
        gold = self.question["answer"]
        return self.mapped is not None and normalized(self.mapped.choice) == normalized(gold)
