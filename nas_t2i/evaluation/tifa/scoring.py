"""TIFA (Hu et al. 2023, arXiv 2303.11897): is what the caption says in the image?

A caption's score is the share of its questions that are answered as the caption demands; the TIFA
of a model is the mean over captions, accuracy by element type a mean over questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from nas_t2i.evaluation.tifa.types import Question, exact_match, normalized
from nas_t2i.records import Score
from nas_t2i.statistics import mean_over_prompts


def score_correct(
    questions: Sequence[Question],
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
    for question, right in zip(questions, correct, strict=True):
        by_caption[str(question["id"])].append(float(right))
        by_type[str(question["element_type"])].append(float(right))
        if "group" in question:
            by_type[str(question["group"])].append(float(right))
    per_prompt = [sum(shares) / len(shares) for shares in by_caption.values()]
    mean = mean_over_prompts(per_prompt)
    return Score(
        metric="tifa",
        value=mean.value,
        stderr=mean.stderr,
        n=mean.n,
        n_missing=n_missing,
        chance=chance,
        by_type={name: sum(shares) / len(shares) for name, shares in sorted(by_type.items())},
        signature=signature,
        per_prompt=[round(score, 6) for score in per_prompt],
    )


def no_image_baseline(questions: Sequence[Question]) -> float:
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
    return mean_over_prompts([sum(shares) / len(shares) for shares in by_caption.values()]).value
