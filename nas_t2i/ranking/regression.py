"""Bayesian linear regression of final scores on what runs showed at a rung.

The prior is the conjugate one (normal, inverse gamma; Gelman et al., "Bayesian Data Analysis", 3rd
ed., 2013, section 14.8), so draws are exact.
"""

from __future__ import annotations

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


def features_at(evidence: Evidence, row: int) -> tuple[FloatArray, FloatArray, FloatArray]:
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


class Regression:
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

    def squares(self, finals: FloatArray) -> float:
        """Return the sum of squares of finals (fitted,) around the fit, prior slopes in it."""
        _, _, squares = self._coefficients(finals[None])
        return float(squares[0]) - RESIDUAL_DOF * RESIDUAL_DEVIATION**2

    def slope_errors(self, features: FloatArray) -> FloatArray:
        """Return what a standard normal number for each slope adds: (slopes, runs).

        In units of the residual deviation; the level is taken as known.
        """
        root = np.linalg.cholesky(self._inverse) if len(self._slopes) else self._inverse
        added: FloatArray = root.T @ (features - self._centre).T
        return added

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
