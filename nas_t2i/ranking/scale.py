"""The scale on which the noise between seeds is about as large at every level of the score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Shares of the way from the floor to 1 outside of which a score says no more: below, it is not
# told from chance; above, less than half a prompt of a thousand is wrong.
_LEAST, _MOST = 0.02, 0.9995
# Of fewer scores at the last rung, those at the rungs before it count, too, for how they scatter.
_ENOUGH = 8
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


@dataclass(frozen=True, slots=True)
class Scale:
    """A score (larger is better) on the scale of the model, and back; arrays of any shape.

    With a `floor` it is the logit of the share of the way from the floor (chance, or 0) to 1,
    clipped. Of the scales tried on the committed records (benchmarks/ranking_coverage.py), it is
    the one on which seeds of all architectures scatter most alike. Without a floor (a metric
    without bounds) it is the score itself, less `centre`, in units of `unit`.
    """

    floor: float | None = 0.0
    centre: float = 0.0
    unit: float = 1.0

    def forward(self, score: npt.ArrayLike) -> FloatArray:
        """Return scores on the scale."""
        if self.floor is None:
            return (np.asarray(score, dtype=np.float64) - self.centre) / self.unit
        share = self._share(score)
        return np.log(share / (1 - share))

    def slope(self, score: npt.ArrayLike) -> FloatArray:
        """Return the derivative of `forward`: it carries an error over (the delta method)."""
        if self.floor is None:
            return np.full(np.shape(score), 1 / self.unit)
        share = self._share(score)
        return 1 / (share * (1 - share) * (1 - self.floor))

    def back(self, value: npt.ArrayLike) -> FloatArray:
        """Return scores from values of the scale."""
        values = np.asarray(value, dtype=np.float64)
        if self.floor is None:
            return self.centre + self.unit * values
        return self.floor + (1 - self.floor) / (1 + np.exp(-values))

    def expected(self, mean: npt.ArrayLike, deviation: npt.ArrayLike) -> FloatArray:
        """Return the expected score where the value is normal, by Gauss-Hermite quadrature."""
        means, deviations = (np.asarray(x, dtype=np.float64)[..., None] for x in (mean, deviation))
        scores = self.back(means + deviations * _NODES)
        expected: FloatArray = scores @ _WEIGHTS / math.sqrt(2 * math.pi)
        return expected

    def interval(
        self, low: npt.ArrayLike, high: npt.ArrayLike, deviation: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """Return the expected scores at the ends of an interval of the scale.

        One that reaches what the scale clips goes on to the end, the floor or 1: beyond the clip
        levels are not told apart.
        """
        lowest, highest = self.expected(low, deviation), self.expected(high, deviation)
        if self.floor is None:
            return lowest, highest
        least, most = np.log(_LEAST / (1 - _LEAST)), np.log(_MOST / (1 - _MOST))
        return (
            np.where(np.asarray(low) < least, self.floor, lowest),
            np.where(np.asarray(high) > most, 1.0, highest),
        )

    def is_clipped(self, score: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return where a score lies outside of what the scale tells apart."""
        if self.floor is None:
            return np.zeros(np.shape(score), dtype=bool)
        share = (np.asarray(score, dtype=np.float64) - self.floor) / (1 - self.floor)
        return (share < _LEAST) | (share > _MOST)

    def _share(self, score: npt.ArrayLike) -> FloatArray:
        assert self.floor is not None
        share = (np.asarray(score, dtype=np.float64) - self.floor) / (1 - self.floor)
        return np.clip(share, _LEAST, _MOST)


def scale_for(rungs: Sequence[npt.ArrayLike], chance: float | None, *, proportion: bool) -> Scale:
    """Return the scale of a metric: of shares (with or without a chance level), or unbounded.

    `rungs` are the scores on record by rung, the last one last, larger is better: an unbounded
    metric takes its unit from how they scatter at one rung, which is about as much as finals do.
    Between rungs they differ by their steps, which says nothing of architectures or seeds.
    """
    if chance is not None and 0 <= chance < 1:
        return Scale(chance)
    if proportion:
        return Scale(0.0)
    centre, squares, freedom, count = 0.0, 0.0, 0, 0
    for rung in reversed(rungs):
        scores = np.asarray(rung, dtype=np.float64).ravel()
        scores = scores[np.isfinite(scores)]
        if not scores.size:
            continue
        centre = centre if count else float(scores.mean())
        squares += float(((scores - scores.mean()) ** 2).sum())
        freedom += scores.size - (count > 0)  # every further rung has a mean of its own
        count += scores.size
        if count >= _ENOUGH:
            break
    return Scale(None, centre, math.sqrt(squares / freedom) if squares > 0 else 1.0)
