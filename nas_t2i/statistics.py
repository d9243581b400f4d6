"""How sure is a score, and are two scores different? NumPy only.

Every function is deterministic: what is drawn at random is drawn from a generator seeded by an
argument. Scores of one prompt are numbers in any unit; TIFA's lie between 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BOOTSTRAP_SAMPLES = 2000
CONFIDENCE = 0.95
# Bounds the memory of the bootstrap: resampled prompts held at a time (8 bytes each).
_DRAWS_AT_A_TIME = 2_000_000


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over prompts and its standard error, in the unit of the scores."""

    value: float
    stderr: float
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two scores (first minus second) and its interval."""

    value: float
    low: float
    high: float

    @property
    def includes_zero(self) -> bool:
        """Whether the two can't be told apart. An interval that is unknown (NaN) includes it."""
        return not (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Spread:
    """How far apart architectures are, against how far apart the seeds of one are.

    `between` is the standard deviation of the architectures' means over their seeds, `within` the
    pooled standard deviation of single seeds, `between_net` is `between` with the share of it that
    seed noise alone would give taken out. All in the unit of the score.
    """

    architectures: int
    between: float
    between_net: float
    within: float

    def ratio(self, seeds: int = 1) -> float:
        """Return between / within, for a score that is the mean of `seeds` seeds (inf for 0)."""
        noise = self.within / math.sqrt(seeds)
        return self.between / noise if noise else math.inf


def mean_over_prompts(scores: npt.ArrayLike) -> Mean:
    """Return mean and standard error (sample deviation / sqrt n) of scores of shape (prompts,).

    With one prompt the standard error is unknown: NaN.

    Raises:
        ValueError: no prompts, or more than one axis.
    """
    values = _array(scores, 1)
    stderr = values.std(ddof=1) / math.sqrt(values.size) if values.size > 1 else math.nan
    return Mean(float(values.mean()), float(stderr), values.size)


def bootstrap_means(
    scores: npt.ArrayLike, *, samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> FloatArray:
    """Return the means of resampled prompts: scores (rows, prompts) -> (samples, rows).

    One sample draws the same prompts for every row, so that differences between rows are paired.

    Raises:
        ValueError: no rows, no prompts, or not two axes.
    """
    values = _array(scores, 2)
    n = values.shape[1]
    generator = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_AT_A_TIME // n)
    means = np.empty((samples, values.shape[0]))
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        drawn = generator.integers(0, n, size=(rows, n))
        # How often each prompt was drawn is all that matters: one count, then one product.
        drawn += n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means[start : start + rows] = counts @ values.T / n
    return means


def paired_bootstrap(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    samples: int = BOOTSTRAP_SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Return the difference of two means over the same prompts, each of shape (prompts,).

    The interval is the percentile interval of Efron's bootstrap over prompts (Efron & Tibshirani,
    "An Introduction to the Bootstrap", 1993, chapter 13); it says nothing about another training
    run. With one prompt it is unknown: NaN.

    Raises:
        ValueError: different numbers of prompts, or none.
    """
    a, b = _array(first, 1), _array(second, 1)
    if a.shape != b.shape:
        raise ValueError(f"scores of {a.size} and {b.size} prompts can't be paired")
    value = float(a.mean() - b.mean())
    if a.size < 2:
        return Difference(value, math.nan, math.nan)
    means = bootstrap_means(np.stack([a, b]), samples=samples, seed=seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means[:, 0] - means[:, 1], [tail, 1 - tail])
    return Difference(value, float(low), float(high))


def paired_bootstrap_of_shares(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    samples: int = BOOTSTRAP_SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Difference:
    """Return the difference of two means over questions, of which a prompt has several.

    `first` and `second` are the sums of each prompt's marks, `counts` its number of questions, 1
    or more; all of shape (prompts,). Questions about one image are right or wrong together, so
    the bootstrap draws prompts with all their questions. With one prompt it is unknown: NaN.

    Raises:
        ValueError: different numbers of prompts, or none.
    """
    a, b, n = _array(first, 1), _array(second, 1), _array(counts, 1)
    if not a.shape == b.shape == n.shape:
        raise ValueError(f"marks of {a.size}, {b.size} and {n.size} prompts can't be paired")
    value = float((a - b).sum() / n.sum())
    if a.size < 2:
        return Difference(value, math.nan, math.nan)
    means = bootstrap_means(np.stack([a - b, n]), samples=samples, seed=seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means[:, 0] / means[:, 1], [tail, 1 - tail])
    return Difference(value, float(low), float(high))


def average_ranks(values: npt.ArrayLike) -> FloatArray:
    """Return ranks from 1 of values (n,), smallest first; equal values share their mean rank."""
    array = _array(values, 1)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: FloatArray = (last - (counts - 1) / 2)[inverse]
    return ranks


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation of two vectors (n,): Pearson's of their average ranks.

    NaN where one of them is constant or there are fewer than two values.

    Raises:
        ValueError: different lengths, or none.
    """
    a, b = average_ranks(first), average_ranks(second)
    if a.shape != b.shape:
        raise ValueError(f"vectors of {a.size} and {b.size} values can't be correlated")
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def seed_spread(table: npt.ArrayLike) -> Spread:
    """Compare architectures with seeds, from scores of shape (architectures, seeds).

    A missing seed is NaN; every architecture needs at least one score, and one of them two.

    Raises:
        ValueError: fewer than two architectures, one without a score, or no repeated seed.
    """
    values = _array(table, 2)
    present = ~np.isnan(values)
    per_row = present.sum(axis=1)
    if len(values) < 2 or per_row.min() < 1 or per_row.max() < 2:
        raise ValueError(
            "a spread needs two architectures or more, each with a score, one with two seeds"
        )
    means = np.nansum(values, axis=1) / per_row
    within_variance = float(
        np.nansum((values - means[:, None]) ** 2) / (per_row.sum() - len(values))
    )
    between_variance = float(means.var(ddof=1))
    net = max(0.0, between_variance - within_variance * float((1 / per_row).mean()))
    return Spread(
        architectures=len(values),
        between=math.sqrt(between_variance),
        between_net=math.sqrt(net),
        within=math.sqrt(within_variance),
    )


def better_half(table: npt.ArrayLike) -> FloatArray:
    """Return the rows of (architectures, seeds) with the highest means: the half, rounded up.

    Rows keep their order. The halves are told apart by the noisy means themselves, which narrows
    the spread of the half a little: a cautious figure.
    """
    values = _array(table, 2)
    means = np.nanmean(values, axis=1)
    count = math.ceil(len(values) / 2)
    return values[np.sort(np.argsort(-means, kind="stable")[:count])]


def _array(values: npt.ArrayLike, axes: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes or not array.size:
        raise ValueError(f"expected {axes} axes and a value or more, got shape {array.shape}")
    return array
