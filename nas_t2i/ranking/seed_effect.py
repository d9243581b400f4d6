"""What a seed does to all architectures alike.

At one seed all architectures see the same pairs, noise and time steps in the same order, so a part
of the noise between seeds is theirs in common: score = architecture + seed + what the seed does to
this architecture alone. The common part is a random effect, estimated by its best linear unbiased
prediction (Robinson, "That BLUP is a good thing", Statistical Science 6, 1991) from the
architectures that were trained with several seeds. Unless it is taken out, whoever got a further
and luckier seed than the others rises by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.ranking.evidence import Evidence, sums
from nas_t2i.ranking.observations import FloatArray

# The variance of the common part over that of what a seed does to one architecture: 0.29 and 0.14
# at the last two rungs of 33 architectures with 2 seeds (sdxl-exhaustive), 0.23 and 0.02 of 9 with
# 3 (comparison-embedded), 0.13, 0.20 and none of 9 with 3 under another budget.
COMMON = 0.2


@dataclass(frozen=True)
class SeedEffect:
    """The common part of the seeds at one rung, on the scale."""

    seeds: tuple[int, ...]
    value: FloatArray
    """(seeds,)"""
    covariance: FloatArray
    """(seeds, seeds): of its error, as a multiple of the variance of what a seed does to one
    architecture."""
    squares: float
    """What it explains: with the squares that are left, and as many degrees of freedom as without
    a common part, they estimate that variance."""

    def difference(self, first: Sequence[int], second: Sequence[int]) -> tuple[float, float]:
        """Return what it adds to the mean over `first` seeds less that over `second`.

        And what its error adds to the variance of that difference, as such a multiple.
        """
        weights = Counter(dict.fromkeys(first, 1 / len(first)))
        weights.subtract(dict.fromkeys(second, 1 / len(second)))
        known = np.array([weights.pop(seed, 0.0) for seed in self.seeds])
        unknown = sum(weight**2 for weight in weights.values())
        error = known @ self.covariance @ known + COMMON * unknown
        return float(known @ self.value), float(error)


NO_EFFECT = SeedEffect((), np.zeros(0), np.zeros((0, 0)), 0.0)


def seed_effect(evidence: Evidence, row: int) -> SeedEffect:
    """Estimate the common part at a rung from the repeats there that say something."""
    there = evidence.repeated(row)
    owner, seed = evidence.owner[there], evidence.seed[there]
    count, seeds = len(evidence.architectures), len(evidence.seeds)
    if not there.size:
        return SeedEffect(evidence.seeds, np.zeros(seeds), COMMON * np.eye(seeds), 0.0)
    values = evidence.scores[row, there]
    repeats = np.bincount(owner, minlength=count)
    means = sums(values, owner, count) / np.maximum(repeats, 1)
    own = np.bincount(seed, values - means[owner], minlength=seeds)
    table = np.zeros((count, seeds))
    table[owner, seed] = 1.0
    # Within architectures only: differences from their means.
    design = np.diag(table.sum(axis=0)) - (table / np.maximum(repeats, 1)[:, None]).T @ table
    covariance = np.asarray(np.linalg.inv(design + np.eye(seeds) / COMMON), dtype=np.float64)
    value = covariance @ own
    return SeedEffect(evidence.seeds, value, covariance, float(value @ value) / COMMON)
