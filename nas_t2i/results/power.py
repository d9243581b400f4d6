"""How many seeds and prompts it takes to tell two architectures apart that differ by so much.

The noise is that of the ranking's model (`nas_t2i.ranking`): on its scale the difference of two
architectures over S seeds and P prompts that both share has the variance

    2 v / S + (A + B / S) / P

with v what a seed does to one architecture, A the variance between prompts of what is the same with
every seed (this architecture is worse at counting), B of what is not. What a seed does to all
architectures falls out, because both have the same seeds. Two are told apart where the interval of
`nas_t2i.ranking.pairs`, Student's t with Satterthwaite's degrees of freedom, excludes 0.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.errors import RecordError
from nas_t2i.ranking.evidence import gather
from nas_t2i.ranking.noise import Variance, seed_noise
from nas_t2i.ranking.observations import Observation
from nas_t2i.ranking.pairs import student
from nas_t2i.ranking.scale import Scale, scale_for
from nas_t2i.records import TrialRecord, TrialState
from nas_t2i.results.entries import group_entries, last_step
from nas_t2i.statistics import FloatArray

_MOST_SEEDS = 4096
_NEIGHBOURS = 3  # places in the ranking between two that one wants to tell apart, at most


@dataclass(frozen=True)
class PairNoise:
    """What makes the difference of two architectures uncertain."""

    scale: Scale
    seeds: Variance
    """What a seed does to one architecture, on the scale."""
    repeats: int
    """Seeds beyond the first, at the last rung, that it was estimated from."""
    lasting: float
    """Variance between prompts of the difference that every seed shows, in the unit of scores."""
    passing: float
    """Variance between prompts of what a single seed adds to it, in the unit of scores."""
    level: float
    """The score of those that it was estimated from: the median of the better half."""
    prompts: int
    """Prompts of the records."""
    pairs: int
    """Pairs of neighbours that the variances between prompts are means over."""


def pair_noise(trials: Sequence[TrialRecord]) -> PairNoise:
    """Estimate the noise from the records of one ranking, from trials that ran to the end.

    Prompts: of neighbours in the ranking's better half, which are what one wants to tell apart.

    Raises:
        RecordError: fewer than four architectures, no repeated seed, or no single prompts.
        IncomparableError: two budgets, metrics or metric signatures.
    """
    whole = [t for t in trials if t.state is TrialState.COMPLETE and not t.control]
    entries = group_entries(whole)
    last = max((last_step(trial) for trial in whole), default=0)
    by_arch: dict[str, dict[int, FloatArray]] = {}
    observations, scores, chance = [], [], None
    for entry in entries:
        for trial in entry.trials:
            for point in trial.curve:
                score = point.scores.get(entry.metric)
                if score is None:
                    continue
                sign = 1 if score.better == "larger" else -1
                single = sign * np.asarray(score.per_prompt, dtype=np.float64)
                observations.append(
                    Observation(
                        trial.arch_id,
                        trial.seed,
                        point.step,
                        sign * score.value,
                        score.stderr,
                        single if single.size > 1 else None,
                    )
                )
                if point.step == last and single.size > 1:
                    by_arch.setdefault(trial.arch_id, {})[trial.seed] = single
                    scores.append(sign * score.value)
                    chance = score.chance
    repeats = sum(len(seeds) - 1 for seeds in by_arch.values())
    if len(by_arch) < 4 or not repeats:
        raise RecordError(
            "power needs single prompts of 4 or more architectures that were trained to the end, "
            f"one of them with two seeds; got {len(by_arch)} and {repeats} repeats"
        )
    proportion = chance is not None or (min(scores) >= 0 and max(scores) <= 1)
    scale = scale_for([scores], chance, proportion=proportion)
    noise = seed_noise(gather(observations, scale))
    means = {a: float(np.mean([s.mean() for s in seeds.values()])) for a, seeds in by_arch.items()}
    order = sorted(means, key=lambda arch: -means[arch])
    better = order[: math.ceil(len(order) / 2)]
    lasting, passing, pairs = _between_prompts(by_arch, better)
    return PairNoise(
        scale=scale,
        seeds=noise.at(last),
        repeats=repeats,
        lasting=lasting,
        passing=passing,
        level=float(np.median([means[arch] for arch in better])),
        prompts=min(len(s) for seeds in by_arch.values() for s in seeds.values()),
        pairs=pairs,
    )


def _between_prompts(
    by_arch: Mapping[str, Mapping[int, FloatArray]], better: Sequence[str]
) -> tuple[float, float, int]:
    """Return lasting and passing variance of paired differences, and how many pairs there were."""
    lasting, passing = [], []
    for place, one in enumerate(better):
        for other in better[place + 1 : place + 1 + _NEIGHBOURS]:
            shared = sorted(by_arch[one].keys() & by_arch[other].keys())
            if not shared:
                continue
            table = np.stack([by_arch[one][seed] - by_arch[other][seed] for seed in shared])
            table = table - table.mean(axis=1, keepdims=True)
            count, prompts = table.shape
            mean = float((table.mean(axis=0) ** 2).sum()) / (prompts - 1)
            if count > 1:
                left = table - table.mean(axis=0)
                single = float((left**2).sum()) / ((count - 1) * (prompts - 1))
                passing.append(single)
                lasting.append(max(0.0, mean - single / count))
    if not passing:
        raise RecordError(
            "power needs neighbours in the ranking that were both trained with the same two seeds; "
            "got none"
        )
    return float(np.mean(lasting)), float(np.mean(passing)), len(passing)


def power(
    noise: PairNoise,
    difference: float,
    seeds: Sequence[int],
    prompts: Sequence[int],
    *,
    level: float | None = None,
    confidence: float = 0.95,
) -> FloatArray:
    """Return the probability that two are told apart, (seeds, prompts).

    Args:
        noise: of the records.
        difference: of their true scores, in the metric's unit.
        seeds: of each of the two.
        prompts: that both are scored on.
        level: the middle of their scores; by default that of the records.
        confidence: of the interval that has to exclude 0.
    """
    middle = noise.level if level is None else level
    ends = noise.scale.forward([middle - difference / 2, middle + difference / 2])
    distance = float(ends[1] - ends[0])
    slope = float(noise.scale.slope(middle))
    found = np.empty((len(seeds), len(prompts)))
    for row, count in enumerate(seeds):
        for column, asked in enumerate(prompts):
            by_seeds = 2 * noise.seeds.value / count
            by_prompts = slope**2 * (noise.lasting + noise.passing / count) / asked
            variance = by_seeds + by_prompts
            dof = noise.seeds.dof * (variance / by_seeds) ** 2
            half = float(student(confidence, dof))
            shift = distance / math.sqrt(variance)
            found[row, column] = _normal(shift - half) + _normal(-shift - half)
    return found


def seeds_needed(
    noise: PairNoise, difference: float, prompts: int, enough: float, *, level: float | None = None
) -> int | None:
    """Return the fewest seeds with which the power is `enough`; None: not with 4096."""

    def reached(count: int) -> float:
        return float(power(noise, difference, [count], [prompts], level=level)[0, 0])

    counts = range(1, _MOST_SEEDS + 1)
    place = bisect.bisect_left(counts, enough, key=reached)
    return counts[place] if place < len(counts) else None


def _normal(value: float) -> float:
    """Return the standard normal distribution function."""
    return 0.5 * math.erfc(-value / math.sqrt(2))
