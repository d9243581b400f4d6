"""Sampler ``front``: who is expected to add most to the hypervolume, costs being exact.

Scores of architectures that nobody trained are predicted by a Gaussian process (Rasmussen &
Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and 5) over what is known of
them before training. As costs are exact, the expected hypervolume improvement (Emmerich,
Giannakoglou & Naujoks, IEEE TEC 10, 2006) is a sum of one-dimensional expected improvements, one
for each height that the front has beyond the costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_t2i.protocol.budget import Budget
from nas_t2i.ranking.front import on_front
from nas_t2i.records import Profile
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.objectives.values import exact_costs

FloatArray = npt.NDArray[np.float64]

# So many are spread over the costs before anything is predicted: over the axis that the
# hypervolume has, not over its logarithm, where most are so cheap that they add nothing to it.
_FIRST = 4
# What a process may be, of the scores' own spread: length scales (in standard deviations of a
# feature, times the root of their number) and variances of the noise. The likelihood chooses.
_LENGTHS, _NOISES = (0.35, 0.7, 1.4, 2.8), (0.02, 0.1, 0.4)


class ForTheFront:
    """The chooser of a search for one measured objective against exact costs."""

    def __init__(self, budget: Budget) -> None:
        """Raises StopIteration where the budget seeks something else."""
        self._budget = budget
        self._place = next(i for i, one in enumerate(budget.objectives) if not one.exact)
        self._sign = budget.objectives[self._place].sign

    def choose(
        self,
        tried: Sequence[Candidate],
        told: Sequence[tuple[float, ...] | None],
        pool: Sequence[Candidate],
    ) -> int:
        """Return the index of the one of `pool` to try next."""
        scores = [None if one is None else self._sign * one[self._place] for one in told]
        return choose([self._option(c) for c in tried], scores, [self._option(c) for c in pool])

    def _option(self, candidate: Candidate) -> Option:
        costs = exact_costs(self._budget, candidate)
        return Option(candidate.arch.canonical(), candidate.profile, costs)


def chooser_of(budget: Budget) -> ForTheFront | None:
    """Return who proposes instead of Optuna's sampler, None where that one does."""
    return ForTheFront(budget) if budget.search.sampler == "front" else None


@dataclass(frozen=True)
class Option:
    """An architecture as it is known before training."""

    arch: Mapping[str, Any]
    """Its canonical form."""
    profile: Profile
    costs: tuple[float, ...]
    """The exact objectives, smaller is better."""


def choose(tried: Sequence[Option], scores: Sequence[float | None], pool: Sequence[Option]) -> int:
    """Return the index of the one of `pool` to try next.

    `scores`, larger is better, are of `tried`; None: not known yet, its predicted score stands for
    it. The first few are spread over the costs, from the cheapest on.
    """
    prices = np.array([option.costs for option in pool])
    paid = np.array([option.costs for option in tried]).reshape(len(tried), prices.shape[1])
    known = np.array([score is not None for score in scores], dtype=bool)
    if len(tried) < _FIRST or known.sum() < 2:
        return _farthest(prices, paid)
    features = _features([*tried, *pool])
    values = np.array([score for score in scores if score is not None])
    middle, spread = float(values.mean()), float(values.std()) or 1.0
    mean, deviation = _predict(features[: len(tried)][known], (values - middle) / spread, features)
    count = len(tried)
    front = mean[:count], paid
    return int(np.argmax(added_hypervolume(mean[count:], deviation[count:], prices, front)))


def added_hypervolume(
    mean: FloatArray, deviation: FloatArray, costs: FloatArray, front: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Return by how much each one's score, normal, is expected to raise the hypervolume.

    Costs are (options, costs), `front` scores and costs of what is there. The reference point is
    its worst score, and the largest of all of each cost and a tenth: who costs most may add
    something, too.
    """
    scores, prices = front
    most = 1.1 * np.maximum(prices.max(axis=0), costs.max(axis=0))
    least = float(scores.min())
    member = on_front(scores[None], prices)[0]
    edges, heights = _steps(scores[member], prices[member], least)
    levels, level = np.unique(heights, return_inverse=True)
    sigma = np.maximum(deviation, 1e-9)[:, None]
    z = (mean[:, None] - levels) / sigma
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    improvement = sigma * (z * _normal(z) + density)
    added = np.zeros(len(costs))
    for index, own in enumerate(costs):
        # Of each cell of the grid, how much of it is dearer than this one in all costs.
        widths = [
            np.maximum(np.append(edge[1:], end) - np.maximum(edge, cost), 0.0)
            for edge, end, cost in zip(edges, most, own, strict=True)
        ]
        volumes = reduce(np.multiply.outer, widths).ravel()
        beyond = np.bincount(level.ravel(), volumes, len(levels))
        added[index] = beyond @ improvement[index]
    return added


def _steps(
    scores: FloatArray, prices: FloatArray, least: float
) -> tuple[list[FloatArray], FloatArray]:
    """Return where the cells of a grid over the costs begin, and the best score up to each cell.

    A cell begins at 0 and at each price; up to the cheapest the best is `least`.
    """
    places = [np.unique(column, return_inverse=True) for column in prices.T]
    edges = [np.append(0.0, values) for values, _ in places]
    heights = np.full([len(edge) for edge in edges], least)
    np.maximum.at(heights, tuple(place.ravel() + 1 for _, place in places), scores)
    for axis in range(len(edges)):
        heights = np.maximum.accumulate(heights, axis=axis)
    return edges, heights


def _farthest(pool: FloatArray, tried: FloatArray) -> int:
    """Return the place of the cheapest by its first cost, then of the one furthest from all tried.

    Costs are taken in units of their ranges.
    """
    if not len(tried):
        return int(np.argmin(pool[:, 0]))
    span = np.ptp(np.concatenate([pool, tried]), axis=0)
    apart = (pool[:, None] - tried) / np.where(span > 0, span, 1.0)
    return int(np.argmax((apart**2).sum(axis=2).min(axis=1)))


def _features(options: Sequence[Option]) -> FloatArray:
    """Return sizes and parameters, (options, features), each with a standard deviation of 1."""
    rows = [_numbers(option) for option in options]
    names = sorted({name for row in rows for name in row})
    table = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    spread = table.std(axis=0)
    varied = spread > 1e-12
    found: FloatArray = (table[:, varied] - table[:, varied].mean(axis=0)) / spread[varied]
    return found


def _numbers(option: Option) -> dict[str, float]:
    found = {
        "log params": math.log(option.profile.params),
        "log gmacs": math.log(option.profile.gmacs),
        "attention share": option.profile.attention_share,
    }
    for name, value in option.arch.items():
        for place, part in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(part, int | float):
                found[f"{name} {place}"] = float(part)
            else:
                found[f"{name} {place} {part}"] = 1.0
    return found


def _predict(
    known: FloatArray, values: FloatArray, asked: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation at `asked` (points, features), of the process itself."""
    apart = _squares(known, known)
    best: tuple[float, float, FloatArray, FloatArray] | None = None
    for length in _LENGTHS:
        scale = max(1, known.shape[1]) * length**2
        kernel = np.exp(-0.5 * apart / scale)
        for noise in _NOISES:
            root = np.linalg.cholesky(kernel + noise * np.eye(len(values)))
            half = np.linalg.solve(root, values)
            likelihood = -0.5 * float(half @ half) - float(np.log(np.diag(root)).sum())
            if best is None or likelihood > best[0]:
                best = likelihood, scale, np.asarray(root), np.asarray(half)
    assert best is not None
    _, scale, root, half = best
    across = np.linalg.solve(root, np.exp(-0.5 * _squares(known, asked) / scale))
    mean: FloatArray = across.T @ half
    return mean, np.sqrt(np.maximum(1.0 - (across**2).sum(axis=0), 1e-12))


def _squares(first: FloatArray, second: FloatArray) -> FloatArray:
    squares: FloatArray = ((first[:, None] - second[None]) ** 2).sum(axis=2)
    return squares


def _normal(z: FloatArray) -> FloatArray:
    """Return the standard normal distribution function."""
    flat = [0.5 * math.erfc(-x / math.sqrt(2)) for x in z.ravel().tolist()]
    return np.array(flat).reshape(z.shape)
