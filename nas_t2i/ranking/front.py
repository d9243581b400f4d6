"""Fronts of scores against costs that are known exactly, in every draw of the scores.

Scores are (draws, architectures), or (draws, architectures, metrics) of several; larger is better.
Costs are (architectures,), or (architectures, costs), with no columns for none; smaller is better.
Dominance and hypervolumes are moocore's (M. López-Ibáñez and others; exact, in C).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from nas_t2i.ranking.evidence import BoolArray, IntArray
from nas_t2i.ranking.observations import FloatArray


def on_front(scores: npt.ArrayLike, costs: npt.ArrayLike) -> BoolArray:
    """Return in which draws an architecture is on the front: (draws, architectures).

    It is where no other one is as good and as cheap in everything, and better in one thing.
    """
    import moocore  # here: every command imports this module, and few draw fronts

    drawn, prices = _checked(scores, costs)
    larger = _directions(drawn, prices)
    on = np.empty(drawn.shape[:2], dtype=np.bool_)
    for index, points in enumerate(_points(drawn, prices)):
        on[index] = moocore.is_nondominated(points, maximise=larger, keep_weakly=True)
    return on


def hypervolume(
    scores: npt.ArrayLike, costs: npt.ArrayLike, reference: Sequence[float]
) -> FloatArray:
    """Return the hypervolume in each draw, (draws,), in units of all scores and costs multiplied.

    It is the volume that the front dominates, bounded by `reference`: of each score where it is
    counted upwards from, then of each cost where it is counted downwards from (Zitzler & Thiele,
    "Multiobjective evolutionary algorithms", IEEE TEC 3, 1999).
    """
    import moocore

    drawn, prices = _checked(scores, costs)
    volume = moocore.Hypervolume(ref=list(reference), maximise=_directions(drawn, prices))
    return np.array([volume(points) for points in _points(drawn, prices)], dtype=np.float64)


def knee(scores: npt.ArrayLike, costs: npt.ArrayLike) -> IntArray:
    """Return the index of the knee of a front of one score and one cost in each draw, (draws,).

    -1 where it has none. It is the member of the front that is furthest above the straight line
    between the front's two ends, after score and cost were scaled so that the ends are 0 and 1
    (Das, "On characterizing the 'knee' of the Pareto curve based on normal-boundary intersection",
    Structural Optimization 18, 1999). A front of two, or one that bulges nowhere, has none.
    """
    members = on_front(scores, costs)
    drawn, price = (np.asarray(values, dtype=np.float64) for values in (scores, costs))
    drawn, price = drawn.reshape(members.shape), price.reshape(members.shape[1])
    rows = np.arange(len(drawn))
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
    """Return scores as (draws, architectures, metrics) and costs as (architectures, costs)."""
    drawn, prices = (np.asarray(values, dtype=np.float64) for values in (scores, costs))
    drawn = drawn[..., None] if drawn.ndim == 2 else drawn
    prices = prices[:, None] if prices.ndim == 1 else prices
    if drawn.ndim != 3 or prices.ndim != 2 or len(prices) != drawn.shape[1] or not len(prices):
        raise ValueError(f"scores {np.shape(scores)} and costs {np.shape(costs)} don't fit")
    return drawn, prices


def _directions(drawn: FloatArray, prices: FloatArray) -> list[bool]:
    """Return of each column of `_points` whether more is better."""
    return [True] * drawn.shape[2] + [False] * prices.shape[1]


def _points(drawn: FloatArray, prices: FloatArray) -> Iterator[FloatArray]:
    """Yield each draw as (architectures, metrics + costs), in an array that the next one reuses."""
    metrics = drawn.shape[2]
    table = np.empty((len(prices), metrics + prices.shape[1]))
    table[:, metrics:] = prices
    for scores in drawn:
        table[:, :metrics] = scores
        yield table
