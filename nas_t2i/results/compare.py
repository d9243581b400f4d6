"""Two results against each other, prompt by prompt: architectures of studies or result files.

Both were scored on the same prompts, and prompts differ far more than models do, so the difference
is taken on each prompt and resampled over prompts (a paired bootstrap). What training again with
another seed would change is added where the studies have enough repeats to tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nas_t2i.errors import IncomparableError

# A trial's seed and step may follow its architecture's name.
from nas_t2i.results.comparands import Result
from nas_t2i.statistics import (
    MIN_SEED_DOF,
    Difference,
    FloatArray,
    SeedEffect,
    paired_bootstrap,
    paired_bootstrap_of_shares,
    seed_effect,
)


@dataclass(frozen=True)
class TypeDifference:
    """The difference within one element type of questions."""

    element_type: str
    first: float
    second: float
    difference: Difference
    """Its interval is unknown (NaN) where single questions are not on record."""
    questions: int | None
    """Questions compared; None where they are not on record."""


@dataclass(frozen=True)
class Comparison:
    """What two results say about each other. Scores are in the metric's unit; larger is better."""

    first: Result
    second: Result
    scores: tuple[float, float]
    """Means over the common prompts."""
    common: int
    left_out: tuple[int, int]
    """Prompts of each that the other has no score of, or that have none themselves."""
    difference: Difference
    """First minus second; the interval is over prompts."""
    seed_noise: SeedEffect | None
    """Between seeds of one architecture; None where nothing was repeated."""
    with_seeds: Difference | None
    """The difference with the noise between seeds in its interval; None where that isn't known."""
    by_type: list[TypeDifference]
    notes: list[str]

    @property
    def decisive(self) -> Difference:
        """The widest interval that could be had: the one to judge by."""
        return self.with_seeds or self.difference

    @property
    def verdict(self) -> str:
        """One sentence on which is better, or that nothing can be told."""
        where = "over prompts and seeds" if self.with_seeds else "over prompts"
        judged = self.decisive
        if math.isnan(judged.low):
            return "Can't be told apart: one common prompt gives no interval."
        if judged.includes_zero:
            return f"Can't be told apart: the 95 % interval {where} includes 0."
        first_is_better = (judged.value > 0) == (self.first.score.better == "larger")
        better = self.first.name if first_is_better else self.second.name
        return f"{better} is better: the 95 % interval {where} excludes 0."


def compare(first: Result, second: Result) -> Comparison:
    """Compare two results over the prompts that both have a score of.

    Raises:
        IncomparableError: other metrics or signatures (names what differs), or no common prompt.
    """
    _check_signatures(first, second)
    a, b = _paired(first, second)
    kept = ~np.isnan(np.concatenate([a, b])).any(axis=0)
    if not kept.any():
        raise IncomparableError(f"{first.name} and {second.name} have no scored prompt in common")
    a, b = a[:, kept], b[:, kept]
    means = a.mean(axis=0), b.mean(axis=0)
    repeats = {**first.repeats, **second.repeats}
    effect = seed_effect(list(repeats.values())) if repeats else None
    known = effect if effect is not None and effect.dof >= MIN_SEED_DOF else None
    counts = len(a), len(b)
    common = int(kept.sum())
    return Comparison(
        first=first,
        second=second,
        scores=(float(means[0].mean()), float(means[1].mean())),
        common=common,
        left_out=(first.per_prompt.shape[1] - common, second.per_prompt.shape[1] - common),
        difference=paired_bootstrap(*means),
        seed_noise=effect if effect is not None and effect.dof else None,
        with_seeds=paired_bootstrap(*means, seeds=counts, effect=known) if known else None,
        by_type=_by_type(first, second),
        notes=_notes(first, second, known),
    )


def _check_signatures(first: Result, second: Result) -> None:
    one, other = first.score, second.score
    if one.metric != other.metric:
        raise IncomparableError(
            f"{first.name} is scored by {one.metric}, {second.name} by {other.metric}: "
            "no difference of the two means anything"
        )
    if one.signature != other.signature:
        raise IncomparableError(
            f"{first.name} and {second.name} were not measured alike: "
            + unlike_parts(one.signature, other.signature)
        )


def unlike_parts(first: str, second: str) -> str:
    """Say in which parts two signatures differ: "guidance=2 against guidance=4"."""
    one, other = (
        {part.partition("=")[0] if "=" in part else f"part {i}": part for i, part in enumerate(s)}
        for s in (first.split("|"), second.split("|"))
    )
    return ", ".join(
        f"{one.get(key, 'nothing')} against {other.get(key, 'nothing')}"
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key)
    )


def _paired(first: Result, second: Result) -> tuple[FloatArray, FloatArray]:
    """Return the scores of both, (seeds, prompts) each, over the prompts that both name."""
    if first.prompts and second.prompts:
        places = {prompt: column for column, prompt in enumerate(second.prompts)}
        common = [(i, places[p]) for i, p in enumerate(first.prompts) if p in places]
        columns = np.array(common, dtype=np.intp).reshape(-1, 2)
        return first.per_prompt[:, columns[:, 0]], second.per_prompt[:, columns[:, 1]]
    if first.per_prompt.shape[1] != second.per_prompt.shape[1]:
        raise IncomparableError(
            f"{first.name} has scores of {first.per_prompt.shape[1]} prompts, {second.name} of "
            f"{second.per_prompt.shape[1]}, and not both say which"
        )
    return first.per_prompt, second.per_prompt


def _by_type(first: Result, second: Result) -> list[TypeDifference]:
    if not first.correct or not second.correct:
        return [
            TypeDifference(kind, a, b, Difference(a - b, math.nan, math.nan), None)
            for kind, a in sorted(first.by_type.items())
            if (b := second.by_type.get(kind)) is not None
        ]
    sums: dict[str, dict[str, list[float]]] = {}
    for key, (kind, right) in first.correct.items():
        if key in second.correct:
            row = sums.setdefault(kind, {}).setdefault(key[0], [0.0, 0.0, 0.0])
            for place, value in enumerate((right, second.correct[key][1], 1.0)):
                row[place] += value
    rows = []
    for kind in sorted(sums):
        a, b, counts = np.array(list(sums[kind].values())).T
        total = counts.sum()
        rows.append(
            TypeDifference(
                kind,
                float(a.sum() / total),
                float(b.sum() / total),
                paired_bootstrap_of_shares(a, b, counts),
                int(total),
            )
        )
    return rows


def _notes(first: Result, second: Result, known: SeedEffect | None) -> list[str]:
    notes = list(dict.fromkeys([*first.notes, *second.notes]))
    if first.budget and second.budget and first.budget != second.budget:
        notes.append(
            f"unlike budgets ({first.budget} and {second.budget}): the difference is that of "
            "architecture and budget together"
        )
    if first.step and second.step and first.step != second.step:
        notes.append(f"after unlike numbers of steps: {first.step} and {second.step}")
    if not known and (first.seeds or second.seeds):
        notes.append(
            "the interval holds no noise between seeds (that takes three repeats in the studies): "
            "training again may turn a small difference round"
        )
    return notes
