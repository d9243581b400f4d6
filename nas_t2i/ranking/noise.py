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
from dataclasses import dataclass

import numpy as np

from nas_t2i.ranking.evidence import Evidence, sums
from nas_t2i.ranking.observations import FloatArray

# Between seeds of one architecture, on the logit above chance: of nine architectures with three
# seeds it was 0.35, 0.46 and 0.55 at 56, 78 and 100 % of the steps (comparison-embedded).
PRIOR_DEVIATION = 0.45
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
    """The variance between seeds, by rung."""

    by_step: Mapping[int, Variance]
    repeats: Mapping[int, int]
    """Degrees of freedom of what was measured at a rung: seeds beyond the first."""
    pooled: Variance

    def at(self, step: int) -> Variance:
        """Return the belief about the variance at a rung; without scores there, the pooled one."""
        return self.by_step.get(step, Variance(self.pooled.value, PRIOR_DOF))


def seed_noise(evidence: Evidence) -> SeedNoise:
    """Estimate the noise between seeds at every rung that has a score.

    Seeds share their prompts, so only the part of the prompts' noise that they don't share is in
    their sum of squares; it is taken out. Scores that the scale clips, and controls, say nothing.
    """
    found = {
        step: _repeats(evidence, row)
        for row, step in enumerate(evidence.steps)
        if not np.isnan(evidence.scores[row]).all()
    }
    pooled = PRIOR.updated(
        sum(squares for squares, _ in found.values()), sum(dof for _, dof in found.values())
    )
    centre = Variance(pooled.value, PRIOR_DOF)
    return SeedNoise(
        by_step={step: centre.updated(*seen) for step, seen in found.items()},
        repeats={step: dof for step, (_, dof) in found.items()},
        pooled=pooled,
    )


def _repeats(evidence: Evidence, row: int) -> tuple[float, int]:
    """Return sum of squares between seeds, net of prompts, and its degrees of freedom."""
    owner, count = evidence.owner, len(evidence.architectures)
    values = evidence.scores[row]
    there = ~np.isnan(values)
    seeds = np.bincount(owner, there, count)
    barred = evidence.apart | (np.bincount(owner, evidence.clipped[row], count) > 0)
    counts = (seeds > 1) & ~barred
    if not counts.any():
        return 0.0, 0
    kept = there & counts[owner]
    owner, values = owner[kept], values[kept]
    seeds = np.where(counts, seeds, 1.0)
    means = sums(values, owner, count) / seeds
    squares = float(((values - means[owner]) ** 2).sum())
    influence = evidence.influence.get(row)
    if influence is not None:
        rows, n = influence[kept], influence.shape[1]
        together = np.add.reduceat(rows, np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]]))
        shared = float((together**2 / seeds[counts][:, None]).sum())
        squares -= (float(np.einsum("ij,ij->", rows, rows)) - shared) / (n * (n - 1))
    return max(0.0, squares), int(seeds[counts].sum() - counts.sum())
