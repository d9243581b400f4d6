"""What is believed of every architecture's final score, and of their order.

The quantity is an architecture's expected score at the last rung, over seeds and over prompts of
the kind that were asked. Seeds are weighted by how well their final is known; architectures are
taken as draws from one population (`population`), which pulls lucky single seeds to what is
expected of the architecture by as much as seed noise deserves (empirical Bayes; Efron & Morris,
"Stein's estimation rule and its competitors", JASA 68, 1973). Draws are joint: all architectures
share their prompts, the noise between seeds and the regressions that predict.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nas_t2i.ranking.evidence import Evidence, gather, sums
from nas_t2i.ranking.noise import SeedNoise, seed_noise
from nas_t2i.ranking.observations import FloatArray, Observation
from nas_t2i.ranking.population import population
from nas_t2i.ranking.prediction import Finals, complete
from nas_t2i.ranking.scale import Scale
from nas_t2i.ranking.seed_effect import SeedEffect

# Joint draws: this many, and fewer where architectures are many; of 5,000 it is the least number.
MOST_DRAWS, LEAST_DRAWS, DRAWN_NUMBERS = 2000, 500, 2_500_000
_AT_A_TIME = 250  # draws; bounds the memory


@dataclass(frozen=True)
class Estimate:
    """Each architecture's mean over its seeds at the last rung, before the population draws it.

    What a seed does to all architectures is taken out of it. Unless said, arrays are of shape
    (architectures,), on the scale.
    """

    mean: FloatArray
    seed_share: FloatArray
    """Times the variance between seeds, it is the variance of `mean` by seeds: 1 / seeds where
    all were measured; of predicted ones what `prediction_variance` has not in it."""
    prediction_variance: FloatArray
    """Of `mean`, by what was predicted; 0 where every seed was measured."""
    prompt_variance: FloatArray
    seeds: FloatArray
    """(architectures, seeds): the weight of each seed in `mean`."""
    influence: FloatArray | None
    """(architectures, prompts), what each prompt adds to `mean`; None without single prompts."""


@dataclass(frozen=True)
class Posterior:
    """What is believed of architectures, from what is on record of them."""

    evidence: Evidence
    noise: SeedNoise
    estimate: Estimate
    measured_seeds: npt.NDArray[np.intp]
    """(architectures,): seeds whose final score was measured."""
    location: FloatArray
    """(architectures,): expectation on the scale."""
    draws: npt.NDArray[np.float32]
    """(draws, architectures), on the scale, joint."""

    @property
    def architectures(self) -> tuple[str, ...]:
        """What the columns are of, sorted."""
        return self.evidence.architectures

    @property
    def step(self) -> int:
        """The last rung: scores are expected for it."""
        return self.evidence.steps[self.evidence.target]

    @cached_property
    def deviation(self) -> FloatArray:
        """(architectures,): standard deviation on the scale."""
        return np.asarray(self.draws.std(axis=0), dtype=np.float64)

    @cached_property
    def expected(self) -> FloatArray:
        """(architectures,): the expected score of one more seed trained to the end."""
        variance = self.noise.between(self.step)
        return self.evidence.scale.expected(self.location, np.sqrt(self.deviation**2 + variance))

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Return where the expected score over seeds lies, low and high (architectures,)."""
        tail = (1 - confidence) / 2
        deviation = np.sqrt(self.noise.between(self.step))
        low, high = np.quantile(self.draws, [tail, 1 - tail], axis=0)
        return self.evidence.scale.interval(low, high, deviation)

    def probability_best(self) -> FloatArray:
        """(architectures,): share of the draws in which it is the best; controls are left out."""
        searched = np.flatnonzero(~self.evidence.apart)
        found = np.zeros(len(self.architectures))
        if searched.size:
            best = searched[np.argmax(self.draws[:, searched], axis=1)]
            found = np.bincount(best, minlength=len(found)) / len(self.draws)
        return found

    def rank_interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Return the interval of each architecture's rank among all but the controls, from 1.

        Of those that hold this probability it is the shortest, of equal ones the one in the middle.
        Each covers its own rank; they are not simultaneous. Controls: NaN.
        """
        searched = np.flatnonzero(~self.evidence.apart)
        low, high = np.full((2, len(self.architectures)), np.nan)
        if searched.size:
            order = np.argsort(-self.draws[:, searched], axis=1)
            # Sorting small integers is linear.
            ranks = np.empty(order.shape, dtype=np.min_scalar_type(searched.size))
            place = np.arange(1, searched.size + 1, dtype=ranks.dtype)
            np.put_along_axis(ranks, order, np.broadcast_to(place, order.shape), axis=1)
            ranks = np.sort(ranks.T, axis=1)
            count = ranks.shape[1]
            held = min(count, int(np.ceil(confidence * count)))
            widths = ranks[:, held - 1 :] - ranks[:, : count - held + 1]
            shortest = widths == widths.min(axis=1, keepdims=True)
            middle = (shortest.sum(axis=1, keepdims=True) + 1) // 2
            start = np.argmax(np.cumsum(shortest, axis=1) == middle, axis=1)[:, None]
            low[searched] = np.take_along_axis(ranks, start, axis=1)[:, 0]
            high[searched] = np.take_along_axis(ranks, start + held - 1, axis=1)[:, 0]
        return low, high


def believe(
    observations: Iterable[Observation],
    scale: Scale,
    *,
    apart: Collection[str] = (),
    draws: int | None = None,
    seed: int = 0,
) -> Posterior:
    """Return what observations say of their architectures; `apart` names the controls.

    Without a number of `draws` there are 2,000; of more than 1,250 architectures fewer, 500 at
    least.

    A function of what was observed alone: not of its order, and the same for the same `seed`.

    Raises:
        ValueError: no score, a run observed twice at a step, or unlike numbers of prompts.
    """
    evidence = gather(observations, scale, apart=apart)
    noise = seed_noise(evidence)
    evidence = noise.removed(evidence)
    if draws is None:
        fitting = DRAWN_NUMBERS // len(evidence.architectures)
        draws = min(MOST_DRAWS, max(LEAST_DRAWS, fitting))
    generator = np.random.default_rng([seed, 2])
    step = evidence.steps[evidence.target]
    variance, effect = noise.at(step), noise.effects[step]
    completed = complete(evidence, min(draws, _AT_A_TIME), generator)
    finals, seed_parts = completed.of_architectures(variance.value)
    weights = _weights(evidence, variance.value * seed_parts + finals.variance)
    estimate = _estimate(evidence, finals, weights, seed_parts)
    measured = np.bincount(evidence.owner, finals.measured, len(evidence.architectures))
    errors = variance.value * estimate.seed_share + estimate.prompt_variance
    around = population(evidence, estimate.mean, errors, measured > 0)
    location = around.centre + around.pull * (estimate.mean - around.centre)
    drawn = np.empty((draws, len(location)), dtype=np.float32)
    for start in range(0, draws, _AT_A_TIME):
        count = min(_AT_A_TIME, draws - start)
        if start and not finals.measured.all():
            completed = complete(evidence, count, generator)
            finals, _ = completed.of_architectures(variance.value)
        means = sums(weights * finals.draws[:count], evidence.owner, len(location))
        error = _error(estimate, effect, variance.draw(generator, count), generator)
        centre = around.centres(generator, count)
        drawn[start : start + count] = (
            centre + around.pull * (means - centre) + np.sqrt(around.pull) * error
        )
    return Posterior(
        evidence=evidence,
        noise=noise,
        estimate=estimate,
        measured_seeds=measured.astype(np.intp),
        location=location,
        draws=drawn,
    )


def _weights(evidence: Evidence, variances: FloatArray) -> FloatArray:
    """Return the weight of each run in its architecture's mean; those of one add up to 1."""
    weights = 1 / variances
    total = sums(weights, evidence.owner, len(evidence.architectures))
    shares: FloatArray = weights / total[evidence.owner]
    return shares


def _estimate(
    evidence: Evidence, finals: Finals, weights: FloatArray, seed_parts: FloatArray
) -> Estimate:
    owner, count = evidence.owner, len(evidence.architectures)
    influence = evidence.influence.get(evidence.target)
    known = np.where(finals.measured, weights, 0.0)
    if influence is not None:
        table = sums((influence * known[:, None]).T, owner, count).T
        n = table.shape[1]
        prompts = np.einsum("ij,ij->i", table, table) / (n * (n - 1))
    else:
        # Seeds share their prompts: without the single scores, take them as fully correlated.
        table = None
        prompts = sums(known * evidence.errors[evidence.target], owner, count) ** 2
    predicted = sums(weights * (finals.draws - finals.mean), owner, count).var(axis=0)
    return Estimate(
        mean=sums(weights * finals.mean, owner, count),
        seeds=_by_seed(evidence, weights),
        seed_share=sums(weights**2 * seed_parts, owner, count),
        prediction_variance=predicted,
        prompt_variance=prompts,
        influence=table,
    )


def _by_seed(evidence: Evidence, weights: FloatArray) -> FloatArray:
    table = np.zeros((len(evidence.architectures), len(evidence.seeds)))
    table[evidence.owner, evidence.seed] = weights
    return table


def _error(
    estimate: Estimate, effect: SeedEffect, variances: FloatArray, generator: np.random.Generator
) -> FloatArray:
    """Draw the error of the estimates by seeds and prompts: (draws, architectures)."""
    count, architectures = len(variances), len(estimate.mean)
    seeds = np.sqrt(variances[:, None] * estimate.seed_share)
    error: FloatArray = seeds * generator.standard_normal((count, architectures))
    drawn = generator.standard_normal((count, len(effect.value)))
    common = np.sqrt(variances)[:, None] * (drawn @ np.linalg.cholesky(effect.covariance).T)
    error += common @ estimate.seeds.T
    if estimate.influence is None:
        prompts = np.sqrt(estimate.prompt_variance)
        return error + prompts * generator.standard_normal((count, architectures))
    n = estimate.influence.shape[1]
    prompted = generator.standard_normal((count, n)) / np.sqrt(n * (n - 1))
    # Single precision is twice as fast, and all that draws are kept in.
    error += prompted.astype(np.float32) @ estimate.influence.T.astype(np.float32)
    return error
