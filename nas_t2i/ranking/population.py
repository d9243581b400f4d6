"""Where an architecture is expected before its own finals are seen.

Architectures are draws of one population, whose middle is a regression of their finals on what
they showed early: the model of Fay & Herriot ("Estimates of income for small places", JASA 74,
1979) for small areas. Early signals hardly know which seed is lucky: over 84 UNets of three seeds
(results/tables), the held-out loss of one seed at 30 % of the steps has a correlation of .15 with
what sets its own final apart, and Spearman's .87 with the mean final of the two other seeds, as
much as the seed's own final has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nas_t2i.ranking.evidence import BoolArray, Evidence, sums
from nas_t2i.ranking.observations import FloatArray
from nas_t2i.ranking.regression import RESIDUAL_DEVIATION, RESIDUAL_DOF, Regression, features_at

# Later than this share of the steps, a signal knows of its seed's luck.
_EARLY = 1 / 3
# Prior of the variance between architectures, on the scale, while they are few; of what early
# rungs do not tell, RESIDUAL_DEVIATION ** 2 with the same weight.
_VARIANCE = 1.0
_LEAST_VARIANCE = 0.05


@dataclass(frozen=True)
class Population:
    """What is expected of each architecture, and how far it is believed against its own finals."""

    centre: FloatArray
    """(architectures,)"""
    pull: FloatArray
    """(architectures,): how much of its distance from the centre each one keeps."""
    _slopes: FloatArray
    """(features, architectures): the centre's error, for each standard normal number."""

    def centres(self, generator: np.random.Generator, count: int) -> FloatArray:
        """Draw `count` centres (count, architectures)."""
        drawn = generator.standard_normal((count, len(self._slopes)))
        centres: FloatArray = self.centre + drawn @ self._slopes
        return centres


def population(
    evidence: Evidence, means: FloatArray, errors: FloatArray, measured: BoolArray
) -> Population:
    """Fit the population to architectures' mean finals (architectures,).

    `errors` are the variances of the means by seeds and prompts, `measured` is who has a final that
    is not predicted.
    """
    searched: BoolArray = ~evidence.apart
    count = len(means)
    if searched.sum() < 2:
        return Population(np.zeros(count), np.ones(count), np.zeros((0, count)))
    fitted, prior = searched, _VARIANCE
    features, slopes, weights = _early(evidence)
    if len(slopes) and (searched & measured).any():
        # What is predicted is so from the same features: it can't confirm them.
        fitted, prior = searched & measured, RESIDUAL_DEVIATION**2
    else:
        features, slopes, weights = np.zeros((count, 0)), np.zeros(0), np.zeros(0)
    fit = Regression(features[fitted], slopes, weights, np.arange(int(fitted.sum())))
    error = float(errors[fitted].mean())
    squares = max(0.0, RESIDUAL_DOF * prior + fit.squares(means[fitted]) - errors[fitted].sum())
    variance = max(_LEAST_VARIANCE, squares / (RESIDUAL_DOF + int(fitted.sum()) - 1))
    if len(slopes):
        # Own finals count half at least: while nothing was repeated, their noise is a guess.
        variance = max(variance, error)
    return Population(
        centre=fit.expected(means[fitted], features),
        pull=np.where(searched, variance / (variance + errors), 1.0),
        _slopes=np.sqrt(variance + error) * fit.slope_errors(features),
    )


def _early(evidence: Evidence) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return features (architectures, features), means over seeds; prior slopes; their weights.

    All are empty where nothing early tells one architecture from another.
    """
    count = len(evidence.architectures)
    latest = _EARLY * evidence.steps[evidence.target]
    row = sum(step <= latest for step in evidence.steps) - 1
    if row >= 0:
        signals = {n: np.log(v) for n, v in evidence.signals.items() if n == "heldout_loss"}
        unscored = np.full_like(evidence.scores, np.nan)  # a score knows of its seed's luck
        shown = replace(evidence, scores=unscored, signals=signals)
        features, slopes, weights = features_at(shown, row)
        if slopes.any():
            there = (shown.last >= row).astype(np.float64)
            runs = np.maximum(np.bincount(evidence.owner, there, count), 1.0)
            own = sums(features.T * there, evidence.owner, count) / runs
            return own.T, slopes, weights
    return np.zeros((count, 0)), np.zeros(0), np.zeros(0)
