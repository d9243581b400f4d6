"""Fronts of score against a cost that is known exactly, in every draw of the scores. NumPy only.

Scores are (draws, architectures), larger is better; costs (architectures,), smaller is better.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas_t2i.ranking.evidence import BoolArray, IntArray
from nas_t2i.ranking.observations import FloatArray


def on_front(scores: npt.ArrayLike, costs: npt.ArrayLike) -> BoolArray:
    """Return in which draws an architecture is on the front: (draws, architectures).

    It is where no other one is as good and as cheap, and better in one of them. `costs` may be
    several, (architectures, costs).
    """
    if np.ndim(costs) == 2:
        return _on_front_of_many(np.asarray(scores), np.asarray(costs))
    drawn, price = _checked(scores, costs)
    group, best = _best_by_cost(drawn, price)
    cheaper = np.full_like(best, -np.inf)
    cheaper[:, 1:] = np.maximum.accumulate(best, axis=1)[:, :-1]
    on: BoolArray = (drawn > cheaper[:, group]) & (drawn == best[:, group])
    return on


def _on_front_of_many(drawn: FloatArray, costs: FloatArray) -> BoolArray:
    on = np.ones(drawn.shape, dtype=np.bool_)
    for index, own in enumerate(costs):
        affordable = (costs <= own).all(axis=1)
        alike = (costs == own).all(axis=1)
        cheaper = affordable & ~alike
        value = drawn[:, index]
        if cheaper.any():
            on[:, index] &= value > drawn[:, cheaper].max(axis=1)
        on[:, index] &= value >= drawn[:, alike].max(axis=1)
    return on


def hypervolume(
    scores: npt.ArrayLike, costs: npt.ArrayLike, reference: tuple[float, float]
) -> FloatArray:
    """Return the hypervolume in each draw, (draws,), in units of score times cost.

    It is the area that the front dominates, bounded by `reference`: a score, from which it is
    counted upwards, and a cost, from which it is counted downwards (Zitzler & Thiele,
    "Multiobjective evolutionary algorithms", IEEE TEC 3, 1999).
    """
    drawn, price = _checked(scores, costs)
    least, most = reference
    _, best = _best_by_cost(drawn, price)
    prices = np.minimum(np.unique(price), most)
    widths = np.diff(np.append(prices, most))
    heights = np.maximum(np.maximum.accumulate(best, axis=1) - least, 0.0)
    volume: FloatArray = heights @ widths
    return volume


def knee(scores: npt.ArrayLike, costs: npt.ArrayLike) -> IntArray:
    """Return the index of the front's knee in each draw, (draws,); -1 where it has none.

    It is the member of the front that is furthest above the straight line between the front's
    two ends, after score and cost were scaled so that the ends are 0 and 1 (Das, "On characterizing
    the 'knee' of the Pareto curve based on normal-boundary intersection", Structural Optimization
    18, 1999). A front of two, or one that bulges nowhere, has none.
    """
    drawn, price = _checked(scores, costs)
    rows = np.arange(len(drawn))
    members = on_front(drawn, price)
    first = np.argmin(np.where(members, price, np.inf), axis=1)
    last = np.argmax(np.where(members, price, -np.inf), axis=1)
    low, high = drawn[rows, first][:, None], drawn[rows, last][:, None]
    cheap, dear = price[first][:, None], price[last][:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (drawn - low) / (high - low) - (price - cheap) / (dear - cheap)
    above = np.where(members & np.isfinite(above), above, -np.inf)
    place = np.argmax(above, axis=1)
    found: IntArray = np.where(above[rows, place] > 1e-9, place, -1)
    return found


def _checked(scores: npt.ArrayLike, costs: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    drawn, price = np.asarray(scores, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    if drawn.ndim != 2 or price.shape != drawn.shape[1:] or not price.size:
        raise ValueError(f"scores {drawn.shape} and costs {price.shape} don't fit")
    return drawn, price


def _best_by_cost(scores: FloatArray, costs: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return whose cost is which of the distinct ones, and the best score there (draws, costs)."""
    _, group = np.unique(costs, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])
    return group, np.maximum.reduceat(scores[:, order], starts, axis=1)
