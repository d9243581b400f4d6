"""Rank correlations of what was measured early with the final score, and how sure they are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.statistics import FloatArray, average_ranks, spearman

SAMPLES = 1000


@dataclass(frozen=True)
class Correlation:
    """A rank correlation and its 95 % interval over architectures; NaN where undefined."""

    value: float
    low: float
    high: float


def kendall(first: FloatArray, second: FloatArray) -> float:
    """Return Kendall's tau-b of two vectors (n,); NaN where one of them is constant.

    Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945. Takes n² memory.
    """
    a = np.sign(first[:, None] - first)
    b = np.sign(second[:, None] - second)
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / scale if scale else math.nan


def partial(first: FloatArray, second: FloatArray, given: Sequence[FloatArray]) -> float:
    """Return the partial rank correlation of two vectors (n,) given others.

    Pearson's correlation of what a linear regression on the ranks of `given` leaves of the ranks
    (Conover, "Practical Nonparametric Statistics", 3rd ed., 1999, section 5.4). NaN with fewer
    than 3 values beyond the number of `given`, or where they leave nothing.
    """
    count = len(first)
    if count < len(given) + 3:
        return math.nan
    known = np.stack([np.ones(count), *map(average_ranks, given)], axis=1)
    ranks = np.stack([average_ranks(first), average_ranks(second)], axis=1)
    left = ranks - known @ np.linalg.lstsq(known, ranks, rcond=None)[0]
    squares = (left**2).sum(axis=0)
    if squares.min() < 1e-9 * count**3:
        return math.nan
    return float(left[:, 0] @ left[:, 1]) / math.sqrt(float(squares[0] * squares[1]))


def with_interval(
    correlation: Callable[[FloatArray, FloatArray], float],
    first: FloatArray,
    second: FloatArray,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Correlation:
    """Return a correlation of two vectors (n,), a value an architecture, and its interval.

    The percentile interval of the bootstrap over architectures (Efron & Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 13). With few of them it is too narrow.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(first), (samples, len(first)))
    found = [correlation(first[rows], second[rows]) for rows in drawn]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all of them undefined
        low, high = np.nanquantile(found, [0.025, 0.975])
    return Correlation(correlation(first, second), float(low), float(high))


def spearman_interval(first: FloatArray, second: FloatArray) -> Correlation:
    """Return Spearman's correlation of two vectors (n,) with its interval."""
    return with_interval(spearman, first, second)


def kendall_interval(first: FloatArray, second: FloatArray) -> Correlation:
    """Return Kendall's tau-b of two vectors (n,) with its interval."""
    return with_interval(kendall, first, second)
