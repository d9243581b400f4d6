"""What a run that ended early would have scored at the last rung, from what it left on record.

Runs end early because of what was measured on them, so what is missing can be filled in from it:
"missing at random", monotone (Little & Rubin, "Statistical Analysis with Missing Data", 2nd ed.,
2002, chapters 6 and 7). It is done from the last rung backwards. At each rung a Bayesian linear
regression of the final score on what the rung shows is fitted on the runs that went on, those of
them that ended at a later rung with their own predicted finals, once for each draw; it predicts the
runs that ended there. So every link's residual variance is in the draws, and few runs at the end do
not hurt. The prior is the conjugate one (normal, inverse gamma; Gelman et al., "Bayesian Data
Analysis", 3rd ed., 2013, section 14.8), so draws are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nas_t2i.ranking.evidence import BoolArray, Evidence
from nas_t2i.ranking.observations import FloatArray
from nas_t2i.ranking.regression import Regression, features_at

# What of the noise between seeds a run has shown by a share f of the steps: f ** 3. Within 33
# architectures with two seeds (sdxl-exhaustive) the difference of the seeds' finals correlates with
# that of their held-out losses by 0.07 to 0.23 up to 30 % of the steps, 0.39 at 55 %, 0.49 at 75 %,
# and there with that of their scores by 0.70.
_SHOWN_POWER = 3.0
# A prediction is never believed to be surer of the architecture than this share of its variance.
_LEAST_SHARE = 0.2


@dataclass(frozen=True)
class Finals:
    """Every run's score at the last rung on the scale, measured or predicted."""

    measured: BoolArray
    """(runs,)"""
    shown: FloatArray
    """(runs,): share of what sets this seed apart from others that is in its score or prediction;
    1 where it was measured."""
    mean: FloatArray
    """(runs,): expectation; the score itself where it was measured."""
    draws: FloatArray
    """(draws, runs): of predicted ones; measured ones are alike in all."""

    @property
    def variance(self) -> FloatArray:
        """(runs,): of the prediction, 0 for what was measured."""
        found: FloatArray = np.where(self.measured, 0.0, self.draws.var(axis=0))
        return found

    def of_architectures(self, seed_variance: float) -> tuple[Finals, FloatArray]:
        """Return finals whose draws scatter as an architecture's mean over seeds does around them.

        A run's final is its architecture's mean and what sets the seed apart. By an early signal
        that part is not predicted: it is in the prediction's error, though not in the
        architecture's. With e the error and s the seed's part, of which the share `shown` is
        predicted, Var(mean - prediction) = Var(e) - Var(s) + 2 shown Var(s). Where that is more
        than Var(e), the rest is returned: how much of the seed variance (runs,) is still to add.
        """
        variance = self.variance
        added = np.where(self.measured, 1.0, 2 * self.shown - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = 1 + np.minimum(added, 0.0) * seed_variance / variance
        kept = np.where(variance > 0, np.clip(kept, _LEAST_SHARE, 1.0), 1.0)
        draws = self.mean + np.sqrt(kept) * (self.draws - self.mean)
        return replace(self, draws=draws), np.maximum(added, 0.0)


def complete(evidence: Evidence, count: int, generator: np.random.Generator) -> Finals:
    """Fill in the finals that are missing, in `count` joint draws.

    Raises:
        ValueError: there is no score at all.
    """
    target, last = evidence.target, evidence.last
    runs = len(evidence.owner)
    measured = ~np.isnan(evidence.scores[target])
    mean = evidence.scores[target].copy()
    draws = np.broadcast_to(mean, (count, runs)).copy()
    known = measured.copy()
    searched = ~evidence.apart[evidence.owner]
    for row in range(len(evidence.steps) - 1, -1, -1):
        ended = ~known & (last == row)
        if not ended.any():
            continue
        features, slopes, weights = features_at(evidence, row)
        fitted = known & searched
        if not fitted.any():  # controls alone were measured to the end
            fitted = known
        fit = Regression(features[fitted], slopes, weights, evidence.owner[fitted])
        mean[ended] = fit.expected(mean[fitted], features[ended])
        draws[:, ended] = fit.drawn(
            draws[:, fitted], features[ended], evidence.owner[ended], generator
        )
        known |= ended
    steps = np.array(evidence.steps, dtype=np.float64)
    shown = (steps[np.minimum(last, target)] / steps[target]) ** _SHOWN_POWER
    return Finals(measured, np.where(measured, 1.0, shown), mean, draws)
