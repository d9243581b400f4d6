"""How much a score would change with other seeds and other prompts, on the scale of the model.

The variance between seeds is pooled over the architectures that were trained with several, by
rung. While repeats are few a prior speaks: a scaled inverse chi-squared (inverse gamma), the
conjugate prior of a normal variance (Gelman et al., "Bayesian Data Analysis", 3rd ed., 2013,
section 2.6); the same shrinkage of a variance is used for few replicates of many genes by Smyth,
"Linear models and empirical Bayes methods", Stat. Appl. Genet. Mol. Biol. 3, 2004. Its centre is
the variance pooled over all rungs of the study, whose own prior is PRIOR_DEVIATION.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nas_t2i.ranking.evidence import Evidence, sums
from nas_t2i.ranking.observations import FloatArray
from nas_t2i.ranking.seed_effect import COMMON, NO_EFFECT, SeedEffect, seed_effect

# What a seed does to one architecture, on the logit above chance: with what it does to all it was
# 0.35, 0.46 and 0.55 of nine architectures with three seeds at 56, 78 and 100 % of the steps (the
# budget before), 0.28 and 0.37 of 33 with two at 75 and 100 % (sdxl-exhaustive).
PRIOR_DEVIATION = 0.41
PRIOR_DOF = 4.0


@dataclass(frozen=True, slots=True)
class Variance:
    """What is believed of a variance: `dof * value / variance` is chi-squared with `dof`."""

    value: float
    dof: float

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.value)

    def draw(self, generator: np.random.Generator, count: int) -> FloatArray:
        """Draw `count` variances."""
        drawn: FloatArray = self.dof * self.value / generator.chisquare(self.dof, count)
        return drawn

    def updated(self, squares: float, dof: float) -> Variance:
        """Return the belief after a sum of squares with `dof` degrees of freedom."""
        total = self.dof + dof
        return Variance((self.dof * self.value + squares) / total, total)


PRIOR = Variance(PRIOR_DEVIATION**2, PRIOR_DOF)


@dataclass(frozen=True)
class SeedNoise:
    """What seeds do, by rung: to one architecture, a variance, and to all alike."""

    by_step: Mapping[int, Variance]
    """Of what a seed does to one architecture."""
    effects: Mapping[int, SeedEffect]
    repeats: Mapping[int, int]
    """Degrees of freedom of what was measured at a rung: seeds beyond the first."""
    pooled: Variance

    def at(self, step: int) -> Variance:
        """Return the belief about the variance at a rung; without scores there, the pooled one."""
        return self.by_step.get(step, Variance(self.pooled.value, PRIOR_DOF))

    def effect(self, step: int) -> SeedEffect:
        """Return what seeds do to all architectures alike at a rung; without scores there, none."""
        return self.effects.get(step, NO_EFFECT)

    def between(self, step: int) -> float:
        """Return the variance of the scores of one architecture over seeds."""
        return (1 + COMMON) * self.at(step).value

    def removed(self, evidence: Evidence) -> Evidence:
        """Return the evidence without what seeds do to all architectures alike."""
        scores = evidence.scores.copy()
        for row, step in enumerate(evidence.steps):
            if step in self.effects:
                scores[row] -= self.effects[step].value[evidence.seed]
        return replace(evidence, scores=scores)


def seed_noise(evidence: Evidence) -> SeedNoise:
    """Estimate the noise between seeds at every rung that has a score.

    Seeds share their prompts, so only the part of the prompts' noise that they don't share is in
    their sum of squares; it is taken out. Scores that the scale clips, and controls, say nothing.
    """
    effects, found = {}, {}
    for row, step in enumerate(evidence.steps):
        if not np.isnan(evidence.scores[row]).all():
            effects[step] = seed_effect(evidence, row)
            found[step] = _repeats(evidence, row, effects[step])
    pooled = PRIOR.updated(
        sum(squares for squares, _ in found.values()), sum(dof for _, dof in found.values())
    )
    centre = Variance(pooled.value, PRIOR_DOF)
    return SeedNoise(
        by_step={step: centre.updated(*seen) for step, seen in found.items()},
        effects=effects,
        repeats={step: dof for step, (_, dof) in found.items()},
        pooled=pooled,
    )


def _repeats(evidence: Evidence, row: int, effect: SeedEffect) -> tuple[float, int]:
    """Return sum of squares of what seeds do, net of prompts, and its degrees of freedom."""
    there, count = evidence.repeated(row), len(evidence.architectures)
    if not there.size:
        return 0.0, 0
    owner = evidence.owner[there]
    values = evidence.scores[row, there] - effect.value[evidence.seed[there]]
    seeds = np.bincount(owner, minlength=count)
    means = sums(values, owner, count) / np.maximum(seeds, 1)
    squares = float(((values - means[owner]) ** 2).sum()) + effect.squares
    influence = evidence.influence.get(row)
    if influence is not None:
        rows, n = influence[there], influence.shape[1]
        together = np.add.reduceat(rows, np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]]))
        shared = float((together**2 / seeds[seeds > 0][:, None]).sum())
        squares -= (float(np.einsum("ij,ij->", rows, rows)) - shared) / (n * (n - 1))
    return max(0.0, squares), len(owner) - int((seeds > 0).sum())
