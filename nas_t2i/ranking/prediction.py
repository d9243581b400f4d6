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

from nas_t2i.ranking.evidence import BoolArray, Evidence, IntArray
from nas_t2i.ranking.observations import FloatArray

# Prior slopes of the final score (on its scale). On an earlier score: it was 1.9 and 1.1 at 56 and
# 78 % of the steps of comparison-embedded, with residual deviations of 0.8 and 0.3. On a signal, in
# its standard deviations among the runs, at the early rungs: alone, held-out loss has -0.7 and text
# gain 0.2 to 0.6 among widths and depths (sdxl-exhaustive); where places of the attention vary
# (comparison-embedded) the text gain orders better. The prior stands between the two.
SCORE_SLOPE = 1.5
SIGNAL_SLOPES = {"text_gain": 0.35, "caption_gain": 0.1, "heldout_loss": -0.45}
# Each prior slope counts as much as this many runs; so does the residual variance.
PRIOR_RUNS = 2.0
RESIDUAL_DEVIATION, RESIDUAL_DOF = 0.6, 3.0
# Prior deviation, on the scale, of what a kind of architecture is better or worse by than its
# signals say: they compare within a kind alone. Beside an earlier score there is little left of it.
KIND_DEVIATION, KIND_DEVIATION_SCORED = 1.5, 0.3
# The share of a prediction's error that the seeds of one architecture have in common; 0.07 to 0.15
# of the variance there.
COMMON_SHARE = 0.2


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
        features, slopes, weights = _features(evidence, row)
        fitted = known & searched
        if not fitted.any():  # controls alone were measured to the end
            fitted = known
        fit = _Fit(features[fitted], slopes, weights, evidence.owner[fitted])
        mean[ended] = fit.expected(mean[fitted], features[ended])
        draws[:, ended] = fit.drawn(
            draws[:, fitted], features[ended], evidence.owner[ended], generator
        )
        known |= ended
    steps = np.array(evidence.steps, dtype=np.float64)
    shown = (steps[np.minimum(last, target)] / steps[target]) ** _SHOWN_POWER
    return Finals(measured, np.where(measured, 1.0, shown), mean, draws)


def _features(evidence: Evidence, row: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return what runs show at a rung, (runs, features), standardised; prior slopes; their weights.

    Of each quantity the last one up to the rung counts. What a run lacks is taken as the mean.
    Signals are those less the mean of their kind, and each of several kinds has a level of its own.
    A prior slope weighs as so many runs.
    """
    columns, slopes = [], []
    searched = ~evidence.apart[evidence.owner]
    kinds = np.unique(evidence.kind[searched])
    quantities = [("", evidence.scores), *sorted(evidence.signals.items())]
    for name, table in quantities:
        values = _latest(table[: row + 1])
        # Who ended before this rung shows what it had at another step: it is no yardstick here.
        there = searched & (evidence.last >= row) & ~np.isnan(values)
        if name and len(kinds) > 1:
            values = _within(values, evidence.kind, there)
        seen = values[there]
        spread = float(seen.std()) if seen.size > 1 else 0.0
        if not spread > 0:
            continue
        columns.append(np.nan_to_num((values - seen.mean()) / spread))
        slopes.append(SIGNAL_SLOPES.get(name, 0.0) if name else SCORE_SLOPE * spread)
    weights = [PRIOR_RUNS] * len(slopes)
    if len(kinds) > 1:
        scored = not np.isnan(evidence.scores[: row + 1]).all()
        deviation = KIND_DEVIATION_SCORED if scored else KIND_DEVIATION
        columns += [(evidence.kind == kind).astype(np.float64) for kind in kinds]
        slopes += [0.0] * len(kinds)
        weights += [(RESIDUAL_DEVIATION / deviation) ** 2] * len(kinds)
    table = np.stack(columns, axis=1) if columns else np.zeros((len(evidence.owner), 0))
    return table, np.array(slopes), np.array(weights)


def _within(values: FloatArray, kind: IntArray, there: BoolArray) -> FloatArray:
    """Return values (runs,) less the mean of those of their kind that are `there`."""
    found = values.copy()
    for one in np.unique(kind):
        own = kind == one
        found[own] -= values[own & there].mean() if (own & there).any() else np.nan
    return found


def _latest(table: FloatArray) -> FloatArray:
    """Return for each column of (steps, runs) its last value that is one."""
    there = ~np.isnan(table)
    rows = len(table) - 1 - np.argmax(there[::-1], axis=0)
    latest: FloatArray = table[rows, np.arange(table.shape[1])]
    return latest


class _Fit:
    """The regression of one rung. Finals may be many draws: they share the features."""

    def __init__(
        self, features: FloatArray, slopes: FloatArray, prior: FloatArray, owner: IntArray
    ) -> None:
        # Seeds of one architecture are not independent: three count as 2.1.
        seeds = np.bincount(owner)[owner]
        self._weights = 1 / (1 + COMMON_SHARE * (seeds - 1))
        self._total = float(self._weights.sum())
        self._centre = self._weights @ features / self._total
        self._x = features - self._centre
        self._slopes, self._prior = slopes, prior
        size = len(slopes)
        self._precision = (self._x.T * self._weights) @ self._x + np.diag(prior)
        self._inverse = np.linalg.inv(self._precision) if size else np.zeros((0, 0))

    def expected(self, finals: FloatArray, features: FloatArray) -> FloatArray:
        """Return predicted finals of (runs, features) from finals (fitted,)."""
        level, coefficients, _ = self._coefficients(finals[None])
        predicted: FloatArray = level[0] + (features - self._centre) @ coefficients[0]
        return predicted

    def drawn(
        self,
        finals: FloatArray,
        features: FloatArray,
        owner: IntArray,
        generator: np.random.Generator,
    ) -> FloatArray:
        """Return a draw (draws, runs) for each draw of finals (draws, fitted)."""
        level, coefficients, squares = self._coefficients(finals)
        count, dof = len(finals), RESIDUAL_DOF + max(0.0, self._total - 1)
        residual = np.sqrt(squares / generator.chisquare(dof, count))[:, None]
        root = np.linalg.cholesky(self._inverse) if len(self._slopes) else self._inverse
        slopes = coefficients + residual * (generator.standard_normal(coefficients.shape) @ root.T)
        level = level + residual[:, 0] * generator.standard_normal(count) / np.sqrt(self._total)
        names, place = np.unique(owner, return_inverse=True)
        common = generator.standard_normal((count, len(names)))[:, place]
        own = generator.standard_normal((count, len(owner)))
        noise = np.sqrt(COMMON_SHARE) * common + np.sqrt(1 - COMMON_SHARE) * own
        drawn: FloatArray = level[:, None] + slopes @ (features - self._centre).T + residual * noise
        return drawn

    def _coefficients(self, finals: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return level (draws,), slopes (draws, features), dof times residual variance (draws,)."""
        level = finals @ self._weights / self._total
        y = finals - level[:, None]
        moment = (y * self._weights) @ self._x + self._prior * self._slopes
        slopes = moment @ self._inverse
        squares = (
            RESIDUAL_DOF * RESIDUAL_DEVIATION**2
            + (y * y) @ self._weights
            + float((self._prior * self._slopes) @ self._slopes)
            - np.einsum("ij,ij->i", slopes, moment)
        )
        return level, slopes, np.maximum(squares, 1e-12)
