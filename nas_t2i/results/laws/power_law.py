"""Power laws with and without a floor, fitted robustly.

S(X) = floor + a X^b is fitted by minimising a Huber loss of the residuals of log S from many starts
with BFGS, as Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022, section 3.3,
and its replication do (Besiroglu, Erdil, Barnett and You, "Chinchilla Scaling: A replication
attempt", 2024, whose delta and sum in place of a mean are taken: a loss that is too small ends the
minimisation early). SciPy, of the extra ``laws``, is loaded on first use.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np

from nas_t2i.errors import MissingExtraError
from nas_t2i.statistics import FloatArray

DELTA = 1e-3
"""Of the Huber loss, in natural logarithms: a residual of more than 0.1 % counts by its size."""
_MOST_STEPS = 100  # it takes about twenty; the kink may hold it up for ever
_NO_FLOOR = -60.0  # its logarithm: nothing beside any score
_EXPONENTS = (-0.8, -0.4, -0.1, 0.1, 0.4, 0.8)
_FLOOR_SHARES = (0.05, 0.4, 0.8, 0.97)  # of the smallest score


@dataclass(frozen=True)
class PowerLaw:
    """S(X) = floor + a X^b, with `a` per (unit of X)^b; `floor` is 0 in the plain law."""

    log_a: float
    b: float
    floor: float
    loss: float
    """The sum of the Huber loss over the points."""

    @property
    def a(self) -> float:
        """The factor; it may overflow where X is in single FLOPs, `log_a` does not."""
        return math.exp(min(self.log_a, 700.0))

    def at(self, x: FloatArray | float) -> FloatArray:
        """Return S at X (any shape)."""
        values = np.log(np.asarray(x, dtype=np.float64))
        with np.errstate(over="ignore"):
            return np.asarray(self.floor + np.exp(self.log_a + self.b * values))


def fit_power_law(
    x: FloatArray,
    y: FloatArray,
    *,
    floor: bool,
    near: PowerLaw | None = None,
) -> PowerLaw:
    """Fit a law to points (n,), both positive; `near` is where to start, in place of many starts.

    Raises:
        ValueError: unlike shapes, fewer points than the law has numbers, or one that is not
            positive.
        MissingExtraError: SciPy is not installed.
    """
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2 + floor:
        raise ValueError(f"expected {2 + floor} points or more, got shapes {x.shape}, {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and x.min() > 0 and y.min() > 0):
        raise ValueError("expected positive, finite points")
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise MissingExtraError("fitting power laws", "laws") from None

    log_y = np.log(y)
    centre = float(np.log(x).mean())
    log_x = np.log(x) - centre  # a then stands for the middle of the points: well conditioned
    best: tuple[float, FloatArray] | None = None
    for start in _starts(log_x, log_y, floor, near, centre):
        with warnings.catch_warnings():
            # What BFGS has to say of the kink of an almost absolute loss is no news.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = minimize(
                _loss, start, args=(log_x, log_y), jac=True, method="BFGS",
                options={"maxiter": _MOST_STEPS},
            )  # fmt: skip
        if np.isfinite(found.fun) and (best is None or found.fun < best[0]):
            best = (float(found.fun), found.x)
    assert best is not None
    loss, numbers = best
    return PowerLaw(
        log_a=float(numbers[0] - numbers[1] * centre),
        b=float(numbers[1]),
        floor=float(math.exp(numbers[2])) if floor else 0.0,
        loss=loss,
    )


def _starts(
    log_x: FloatArray, log_y: FloatArray, floor: bool, near: PowerLaw | None, centre: float
) -> Iterable[FloatArray]:
    if near is not None:
        start = [near.log_a + near.b * centre, near.b]
        if not floor:
            yield np.array(start)
            return
        # From a floor of almost nothing no slope leads away: two others are tried as well.
        smallest = float(np.exp(log_y.min()))
        for height in (max(near.floor, 1e-9), 0.3 * smallest, 0.8 * smallest):
            yield np.array([*start, math.log(height)])
        return
    slope = float(np.polyfit(log_x, log_y, 1)[0])
    if not floor:
        for b in (slope, *_EXPONENTS):
            yield np.array([float(np.median(log_y - b * log_x)), b])
        return
    smallest = math.exp(float(log_y.min()))
    for b, share in product((slope, *_EXPONENTS), _FLOOR_SHARES):
        left = np.log(np.maximum(np.exp(log_y) - share * smallest, 1e-12))
        yield np.array([float(np.median(left - b * log_x)), b, math.log(share * smallest)])


def _loss(numbers: FloatArray, log_x: FloatArray, log_y: FloatArray) -> tuple[float, FloatArray]:
    """Return the sum of the Huber loss and its gradient."""
    powers = numbers[0] + numbers[1] * log_x
    floor = numbers[2] if len(numbers) > 2 else _NO_FLOOR
    predicted = np.logaddexp(powers, floor)
    residual = predicted - log_y
    size = np.abs(residual)
    small = size <= DELTA
    loss = np.where(small, residual**2 / 2, DELTA * (size - DELTA / 2)).sum()
    slope = np.where(small, residual, DELTA * np.sign(residual))
    share = np.exp(powers - predicted)  # of the power in the sum
    gradient = [float(slope @ share), float(slope @ (share * log_x))]
    if len(numbers) > 2:
        gradient.append(float(slope @ np.exp(floor - predicted)))
    # The minimiser's tolerance is absolute: in units of delta a percent is not nothing.
    return float(loss) / DELTA, np.array(gradient) / DELTA
