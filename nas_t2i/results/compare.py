"""Two results against each other, prompt by prompt: architectures of studies or result files.

Both were scored on the same prompts, and prompts differ far more than models do, so the difference
is taken on each prompt and resampled over prompts (a paired bootstrap). Where both were trained,
what training again with another seed would change is added by the model of noise that rankings use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_t2i.errors import IncomparableError
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.ranking.evidence import gather
from nas_t2i.ranking.noise import seed_noise
from nas_t2i.ranking.observations import Observation
from nas_t2i.ranking.pairs import interval_of_difference
from nas_t2i.ranking.scale import scale_for
from nas_t2i.results.comparands import Result
from nas_t2i.statistics import (
    Difference,
    FloatArray,
    paired_bootstrap,
    paired_bootstrap_of_shares,
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
class BetweenSeeds:
    """The noise between seeds of one architecture, around the middle of the two scores."""

    deviation: float
    """In the metric's unit."""
    repeats: int
    """Seeds beyond the first that it was estimated from; with few the prior speaks."""
    difference: Difference
    """First minus second; the interval is over prompts and seeds."""


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
    seeds: BetweenSeeds | None
    """None where one of the two is not a trial of a study: nothing is known of its training."""
    by_type: list[TypeDifference]
    notes: list[str]

    @property
    def decisive(self) -> Difference:
        """The widest interval that could be had: the one to judge by."""
        return self.seeds.difference if self.seeds else self.difference

    @property
    def verdict(self) -> str:
        """One sentence on which is better, or that nothing can be told."""
        where = "over prompts and seeds" if self.seeds else "over prompts"
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
    common = int(kept.sum())
    return Comparison(
        first=first,
        second=second,
        scores=(float(means[0].mean()), float(means[1].mean())),
        common=common,
        left_out=(first.per_prompt.shape[1] - common, second.per_prompt.shape[1] - common),
        difference=paired_bootstrap(*means),
        seeds=_between_seeds(first, second, a, b, kept) if first.seeds and second.seeds else None,
        by_type=_by_type(first, second),
        notes=_notes(first, second),
    )


def _between_seeds(
    first: Result, second: Result, a: FloatArray, b: FloatArray, kept: npt.NDArray[np.bool_]
) -> BetweenSeeds:
    repeats = {**first.repeats, **second.repeats}
    repeats = {k: r for k, r in repeats.items() if r.per_prompt.shape[1] == kept.size}
    rows = np.concatenate([a, b, *(r.per_prompt[:, kept] for r in repeats.values())])
    shares = first.score.better == "larger" and first.score.metric not in SIGNALS
    scale = scale_for(
        [np.nanmean(rows, axis=1)],
        first.score.chance,
        proportion=shares and 0 <= np.nanmin(rows) <= np.nanmax(rows) <= 1,
    )
    observations = [
        Observation("\t".join(key), seed, 0, float(np.nanmean(row)), None, row)
        for key, found in repeats.items()
        for seed, row in zip(found.seeds, found.per_prompt[:, kept], strict=True)
    ]
    noise = seed_noise(gather(observations, scale))
    shift, share = noise.effect(0).difference(first.seeds, second.seeds)
    value = float(a.mean() - b.mean())
    low, high = math.nan, math.nan
    if a.shape[1] > 1:
        low, high = interval_of_difference(
            scale, a, b, noise.at(0), shift=shift, common_share=share
        )
    slope = float(scale.slope((a.mean() + b.mean()) / 2))
    return BetweenSeeds(
        math.sqrt(noise.between(0)) / slope, noise.repeats.get(0, 0), Difference(value, low, high)
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


def _notes(first: Result, second: Result) -> list[str]:
    notes = list(dict.fromkeys([*first.notes, *second.notes]))
    if first.budget and second.budget and first.budget != second.budget:
        notes.append(
            f"unlike budgets ({first.budget} and {second.budget}): the difference is that of "
            "architecture and budget together"
        )
    if first.step and second.step and first.step != second.step:
        notes.append(f"after unlike numbers of steps: {first.step} and {second.step}")
    if bool(first.seeds) != bool(second.seeds):
        notes.append(
            "the interval holds no noise between seeds, of which a result file knows nothing: "
            "training again may turn a small difference round"
        )
    return notes
