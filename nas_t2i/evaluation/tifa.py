"""TIFA (Hu et al. 2023, arXiv 2303.11897): is what the caption says in the picture?

A caption's score is the share of its questions that are answered as the caption demands; the TIFA
of a model is the mean over captions, accuracy by element type a mean over questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from nas_t2i.evaluation.statistics import mean_over_prompts
from nas_t2i.records import Score


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
    by_caption: defaultdict[str, list[float]] = defaultdict(list)
    by_type: defaultdict[str, list[float]] = defaultdict(list)
    for question, answer in zip(questions, answers, strict=True):
        correct = float(answer == question["answer"])
        by_caption[str(question["id"])].append(correct)
        by_type[str(question["element_type"])].append(correct)
    per_prompt = [sum(marks) / len(marks) for marks in by_caption.values()]
    mean = mean_over_prompts(per_prompt)
    return Score(
        metric="tifa",
        value=mean.value,
        stderr=mean.stderr,
        n=mean.n,
        chance=chance,
        by_type={name: sum(marks) / len(marks) for name, marks in sorted(by_type.items())},
        signature=signature,
        per_prompt=[round(score, 6) for score in per_prompt],
    )
