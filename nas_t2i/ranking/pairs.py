"""Which architectures can be told apart, two at a time.

The interval of a difference is Student's t with the degrees of freedom of the noise between seeds,
more where much of the variance is of prompts (Satterthwaite, "An approximate distribution of
estimates of variance components", Biometrics Bulletin 2, 1946).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from nas_t2i.ranking.evidence import BoolArray
from nas_t2i.ranking.noise import Variance
from nas_t2i.ranking.observations import FloatArray
from nas_t2i.ranking.posterior import Posterior
from nas_t2i.ranking.scale import Scale


def tied(posterior: Posterior, among: npt.ArrayLike, *, confidence: float = 0.95) -> BoolArray:
    """Return which of the architectures `among` (indices) can't be told apart, symmetric.

    Two tie where the interval of the difference of their finals includes 0. Nothing is drawn to
    the middle: of equal pairs that were measured to the end 1 - `confidence` are told apart. It
    holds for one pair, not for all at once. The diagonal is False.
    """
    chosen = np.asarray(among, dtype=np.intp)
    estimate, believed = posterior.estimate, posterior.noise.at(posterior.step)
    mean = estimate.mean[chosen]
    common = posterior.noise.effects[posterior.step].covariance
    weights = estimate.seeds[chosen]
    together = weights @ common @ weights.T
    seed_share = _added(estimate.seed_share[chosen] + np.diag(together)) - 2 * together
    others = _added(estimate.prompt_variance[chosen]) + _added(estimate.prediction_variance[chosen])
    if estimate.influence is not None:
        influence = estimate.influence[chosen]
        n = influence.shape[1]
        others = others - 2 * (influence @ influence.T) / (n * (n - 1))
    same: BoolArray = np.abs(mean[:, None] - mean) <= _half_width(
        believed, seed_share, others, confidence
    )
    np.fill_diagonal(same, False)
    return same


def interval_of_difference(
    scale: Scale,
    first: FloatArray,
    second: FloatArray,
    noise: Variance,
    *,
    shift: float = 0.0,
    common_share: float = 0.0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return low and high of the difference of two scores, over prompts and seeds.

    `first` and `second` are scores (seeds, prompts), larger or smaller better, of the same two or
    more prompts; `noise` is what a seed does to one architecture, a variance on the scale. Where
    the seeds of the two are not the same, `shift` is what theirs do to all architectures, first
    minus second, and `common_share` times that variance the variance of its error. The interval is
    made on the scale and carried back around the middle of the two, so it includes 0 exactly where
    they tie.
    """
    means = [scores.mean(axis=1) for scores in (first, second)]
    one, other = (float(scale.forward(m).mean()) for m in means)
    influence = [
        ((scores - m[:, None]) * scale.slope(m)[:, None]).mean(axis=0)
        for scores, m in zip((first, second), means, strict=True)
    ]
    n = first.shape[1]
    prompts = ((influence[0] - influence[1]) ** 2).sum() / (n * (n - 1))
    share = 1 / len(first) + 1 / len(second) + common_share
    half = _half_width(noise, share, prompts, confidence)
    middle, ends = (one + other) / 2, one - other - shift + np.array([-1, 1]) * half
    low, high = scale.back(middle + ends / 2) - scale.back(middle - ends / 2)
    return float(low), float(high)


def _half_width(
    noise: Variance, seed_share: npt.ArrayLike, others: npt.ArrayLike, confidence: float
) -> FloatArray:
    """Return half the interval, where prompts and predictions bring the variance `others`."""
    seeds = noise.value * np.maximum(np.asarray(seed_share, dtype=np.float64), 1e-9)
    variance = seeds + np.maximum(others, 0.0)
    half: FloatArray = student(confidence, noise.dof * (variance / seeds) ** 2) * np.sqrt(variance)
    return half


def _added(values: FloatArray) -> FloatArray:
    return values[:, None] + values


def student(confidence: float, dof: npt.ArrayLike) -> FloatArray:
    """Return the half width of the central interval of Student's t; to 4 digits, dof >= 1."""
    inverse, quantiles = _table(confidence)
    return np.interp(1 / np.asarray(dof, dtype=np.float64), inverse, quantiles)


@cache
def _table(confidence: float) -> tuple[FloatArray, FloatArray]:
    """Return 1/dof and quantiles, by the trapezium rule over t = sqrt(dof) tan(angle)."""
    inverse = np.linspace(0, 1, 401)
    quantiles = []
    for value in inverse:
        dof = 1 / max(value, 1e-6)
        # With t = sqrt(dof) tan a the density is cos(a)^(dof - 1), up to a factor.
        limit = min(np.pi / 2, 12 / np.sqrt(dof)) if dof > 60 else np.pi / 2
        angles = np.linspace(0, limit, 2001)
        density = np.exp((dof - 1) * np.log(np.maximum(np.cos(angles), 1e-300)))
        area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
        angle = float(np.interp(confidence * area[-1], area, angles))
        quantiles.append(np.sqrt(dof) * np.tan(angle))
    return inverse, np.array(quantiles)
