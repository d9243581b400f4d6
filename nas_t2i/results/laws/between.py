"""Findings between budgets: what a ranking holds fixed, where two of them differ in it alone.

What the paper found is of the abstract and the ablations of Li et al., "On the Scalability of
Diffusion-based Text-to-Image Generation", 2024 (arXiv 2404.02883).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nas_t2i.errors import IncomparableError, RecordError, number_of
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.laws.contrasts import Candidates, candidates
from nas_t2i.results.laws.finding import FEW, Difference, Statement
from nas_t2i.results.laws.pairs import differences, one_signature, size_of
from nas_t2i.results.metrics import display_name
from nas_t2i.statistics import FloatArray
from nas_t2i.streams import derive_seed


@dataclass(frozen=True)
class _Question:
    key: str
    question: str
    where: str
    """What of a budget must differ, and nothing else."""
    paper: str

    def fits(self, keys: set[str]) -> bool:
        """Whether two budgets that differ in these keys answer it."""
        if self.key == "data" and keys == {"data.captions"}:
            return False
        return bool(keys) and all(
            key == self.where or key.startswith(f"{self.where}.") for key in keys
        )


_QUESTIONS = (
    _Question(
        "vae",
        "Which latent codec?",
        "latents",
        "in its ablation SDXL's VAE is ahead of SD2's on every metric",
    ),
    _Question(
        "captions",
        "Which captions?",
        "data.captions",
        "increasing caption density and diversity improves text-image alignment performance and "
        "the learning efficiency",
    ),
    _Question(
        "data",
        "More data, or others?",
        "data",
        "quality and diversity of the training set matter more than simply dataset size",
    ),
)


def between(found: RankedStudies, others: Sequence[RankedStudies]) -> list[Statement]:
    """Answer each question from two budgets that differ in what it is about, and in nothing else.

    Of several such pairs it is that of the largest and the smallest training set, else the first.
    """
    groups = [*others, found]
    return [_answer(question, groups) for question in _QUESTIONS]


def _answer(question: _Question, groups: Sequence[RankedStudies]) -> Statement:
    fitting = [pair for pair in combinations(groups, 2) if question.fits(differences(list(pair)))]
    if not fitting:
        return _none(
            question,
            "a ranking is of one budget, which holds it fixed. Name studies whose budgets differ "
            f"in {question.where} alone.",
        )
    try:
        first, second = max((_ordered(pair) for pair in fitting), key=_spread)
        one_signature([first, second], first.metric)
    except (IncomparableError, RecordError) as error:
        return _none(question, str(error))
    one, other = candidates(first), candidates(second)
    shared = _shared(one, other) if one and other else []
    if one is None or other is None or not shared:
        return _none(
            question,
            f"no architecture was measured at the last rung of both {first.title} and "
            f"{second.title}.",
        )
    return _statement(question, first, second, one, other, shared)


def _none(question: _Question, why: str) -> Statement:
    answer = f"The records don't support this: {why}"
    return Statement(question.key, question.question, answer, False, None, (), question.paper)


def _ordered(pair: tuple[RankedStudies, RankedStudies]) -> tuple[RankedStudies, RankedStudies]:
    """Return the one with more image-noun pairs first, where they are known and differ."""
    first, second = pair
    return (second, first) if (size_of(first) or 0) < (size_of(second) or 0) else (first, second)


def _spread(pair: tuple[RankedStudies, RankedStudies]) -> float:
    more, fewer = (size_of(group) for group in pair)
    return more / fewer if more and fewer else 0.0


def _shared(one: Candidates, other: Candidates) -> list[tuple[int, int]]:
    places = {e.first.arch_id: i for i, e in enumerate(other.entries) if not e.first.control}
    return [
        (i, places[e.first.arch_id])
        for i, e in enumerate(one.entries)
        if not e.first.control and e.first.arch_id in places
    ]


def _statement(
    question: _Question,
    first: RankedStudies,
    second: RankedStudies,
    one: Candidates,
    other: Candidates,
    shared: Sequence[tuple[int, int]],
) -> Statement:
    ours, theirs = (list(places) for places in zip(*shared, strict=True))
    value = float((one.scores[ours] - other.scores[theirs]).mean())
    # Of two rankings by themselves: their draws are put together at random.
    drawn = one.draws[:, ours].mean(axis=1) - _mixed(other.draws[:, theirs].mean(axis=1))
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    low, high = min(low, value), max(high, value)
    if low > 0 or high < 0:
        better = first if (value > 0) != first.smaller_is_better else second
        answer = f"Here {_described(better)} scores better."
    else:
        answer = "Can't be told apart: the interval includes 0."
    if len(shared) < FEW:
        answer += f" Of {number_of(len(shared), 'architecture')} only: it may not hold for others."
    return Statement(
        question.key,
        question.question,
        answer,
        True,
        Difference(
            f"{display_name(first.metric)}, {_described(first)} less {_described(second)}",
            value,
            low,
            high,
            f"mean over {number_of(len(shared), 'architecture')} of both; over seeds and prompts, "
            "as if they were drawn for each budget by itself",
        ),
        tuple(one.names[place] for place in ours),
        question.paper,
    )


def _mixed(draws: FloatArray) -> FloatArray:
    generator = np.random.default_rng(derive_seed(0, "statements/between budgets"))
    mixed: FloatArray = generator.permutation(draws)
    return mixed


def _described(group: RankedStudies) -> str:
    size = size_of(group)
    return group.title + ("" if size is None else f" ({size:,} image-noun pairs)")
