"""Which architectures can be told apart, two at a time."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from nas_t2i.ranking.evidence import BoolArray
from nas_t2i.ranking.observations import FloatArray
from nas_t2i.ranking.posterior import Posterior


def tied(posterior: Posterior, among: npt.ArrayLike, *, confidence: float = 0.95) -> BoolArray:
    """Return which of the architectures `among` (indices) can't be told apart, symmetric.

    Two tie where the interval of the difference of their finals includes 0: Student's t with the
    degrees of freedom of the noise between seeds, more where much of the variance is of prompts
    (Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics
    Bulletin 2, 1946). Nothing is drawn to the middle: of equal pairs that were measured to the end
    1 - `confidence` are told apart. It holds for one pair, not for all at once. The diagonal is
    False.
    """
    chosen = np.asarray(among, dtype=np.intp)
    estimate, believed = posterior.estimate, posterior.noise.at(posterior.step)
    mean = estimate.mean[chosen]
    seeds = _added(believed.value * estimate.seed_share[chosen])
    others = _added(estimate.prompt_variance[chosen]) + _added(estimate.prediction_variance[chosen])
    if estimate.influence is not None:
        influence = estimate.influence[chosen]
        n = influence.shape[1]
        others = others - 2 * (influence @ influence.T) / (n * (n - 1))
    variance = seeds + np.maximum(others, 0.0)
    dof = believed.dof * (variance / seeds) ** 2
    same: BoolArray = np.abs(mean[:, None] - mean) <= student(confidence, dof) * np.sqrt(variance)
    np.fill_diagonal(same, False)
    return same


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
