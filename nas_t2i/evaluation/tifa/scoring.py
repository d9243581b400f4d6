"""TIFA (Hu et al. 2023, arXiv 2303.11897): is what the caption says in the image?

A caption's score is the share of its questions that are answered as the caption demands; the TIFA
of a model is the mean over captions, accuracy by element type a mean over questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from nas_t2i.evaluation.tifa.types import Question, exact_match, normalized
from nas_t2i.records import Score
from nas_t2i.statistics import mean_over_prompts


class AskedQuestion(Protocol):
    """The part of a TIFA question that scoring needs."""

    def __getitem__(self, key: str, /) -> object: ...


def tifa_score(
    questions: Sequence[AskedQuestion],
    answers: Sequence[str],
    *,
    chance: float | None,
    signature: str,
) -> Score:
    """Score answers against questions; one answer a question, in order.

    ``per_prompt`` holds one mean a caption id, in order of first appearance.
    """
    correct = [
        answer == question["answer"] for question, answer in zip(questions, answers, strict=True)
    ]
    return score_of_marks(questions, correct, chance=chance, signature=signature)


def score_of_marks(
    questions: Sequence[AskedQuestion],
    correct: Sequence[bool],
    *,
    chance: float | None,
    signature: str,
    n_missing: int = 0,
) -> Score:
    """Score questions of which it is known whether they were answered right, in order.

    `n_missing` captions, none of whose questions are among these, have no score.
    """
    by_caption: defaultdict[str, list[float]] = defaultdict(list)
    by_type: defaultdict[str, list[float]] = defaultdict(list)
    for question, mark in zip(questions, correct, strict=True):
        by_caption[str(question["id"])].append(float(mark))
        by_type[str(question["element_type"])].append(float(mark))
    per_prompt = [sum(marks) / len(marks) for marks in by_caption.values()]
    mean = mean_over_prompts(per_prompt)
    return Score(
        metric="tifa",
        value=mean.value,
        stderr=mean.stderr,
        n=mean.n,
        n_missing=n_missing,
        chance=chance,
        by_type={name: sum(marks) / len(marks) for name, marks in sorted(by_type.items())},
        signature=signature,
        per_prompt=[round(score, 6) for score in per_prompt],
    )


def blind_level(questions: Sequence[Question]) -> float:
    """Return the TIFA of somebody who does not look at the images, but knows the file.

    Where "yes" and "no" are the choices it is always yes, or always no, whichever earns more over
    the whole file; else a guess, each choice as likely as the others. Of a published file most
    answers are "yes", so that this is far above a plain guess.
    """
    return max(_constant_level(questions, constant) for constant in ("yes", "no"))


def _constant_level(questions: Sequence[Question], constant: str) -> float:
    by_caption: defaultdict[str, list[float]] = defaultdict(list)
    for question in questions:
        choices, answer = question["choices"], question["answer"]
        if {normalized(choice) for choice in choices} == {"yes", "no"}:
            expected = float(normalized(answer) == constant)
        else:
            expected = float(exact_match(answer, choices) is not None) / len(choices)
        by_caption[question["id"]].append(expected)
    return mean_over_prompts([sum(marks) / len(marks) for marks in by_caption.values()]).value
