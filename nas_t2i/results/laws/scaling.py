"""How scores grow with compute, size and data: laws on the Pareto front, with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from nas_t2i.errors import RecordError, number_of
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import CurvePoint
from nas_t2i.results.entries import BROKEN, Entry
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.laws.power_law import PowerLaw, fit_power_law
from nas_t2i.statistics import FloatArray
from nas_t2i.streams import derive_seed

SAMPLES = 200
FEWEST_ARCHITECTURES = 3
"""Of fewer a bootstrap over architectures says nothing."""
FEWEST_ON_FRONT = 4
"""Points on the front; of fewer no law is fitted."""


@dataclass(frozen=True)
class Quantity:
    """What a law is in: its name, and its value at a point of an architecture's curve.

    NaN: the point has none on record.
    """

    title: str
    of: Callable[[Entry, CurvePoint], float]
    every_rung: bool
    """Whether a point of each rung counts; a size does not change while training: the last rung."""


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "compute": Quantity("training compute, FLOPs", lambda _, p: p.training_flops, True),
        "params": Quantity(
            "parameters of the full architecture", lambda e, _: float(e.first.profile.params), False
        ),
        "gmacs": Quantity(
            "GMACs of the full architecture", lambda e, _: e.first.profile.gmacs, False
        ),
        "images": Quantity("training images seen", lambda _, p: float(p.images), True),
        "seen": Quantity(
            "image-noun pairs seen", lambda _, p: float(p.image_noun_pairs_seen or math.nan), True
        ),
    }
)


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Law:
    """A law on the Pareto front, and what the bootstrap over architectures makes of it."""

    quantity: str
    metric: str
    fitted: PowerLaw
    with_floor: bool
    b: Interval
    floor: Interval
    range: tuple[float, float]
    """X of the points on the front: outside the law is a guess."""
    points: int
    architectures: int
    residual: float
    """Median of |log S - log law| on the front."""
    worst_residual: float
    drawn: tuple[PowerLaw, ...]

    def predict(self, x: float) -> Interval:
        """Return S at X: the interval holds the law's and the scatter around it."""
        value = float(self.fitted.at(x))
        scatter = 1.4826 * self.residual  # a normal deviation by its median
        generator = np.random.default_rng(derive_seed(0, "scaling/prediction"))
        noise = np.exp(scatter * generator.standard_normal(len(self.drawn)))
        drawn = np.array([float(law.at(x)) for law in self.drawn]) * noise
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Interval(value, min(float(low), value), max(float(high), value))

    def is_outside(self, x: float) -> bool:
        """Whether no point of the front is as small, or as large."""
        return not self.range[0] <= x <= self.range[1]


@dataclass(frozen=True)
class Points:
    """All that was measured of one architecture."""

    x: FloatArray
    y: FloatArray


def scaling(found: RankedStudies, quantity: str, metric: str = "", *, floor: bool = False) -> Law:
    """Fit S = a X^b, or floor + a X^b, on the Pareto front of what architectures reached.

    The bootstrap draws architectures with all their points, and takes a new front of each draw.

    Raises:
        RecordError: too few points on the front, or scores that are not positive.
        MissingExtraError: SciPy is not installed.
    """
    metric = metric or found.metric
    measured, sign = points_of(found, QUANTITIES[quantity], metric)
    where = f"{found.title}: {metric} against {quantity}"
    return law_of(list(measured.values()), sign, quantity, metric, where, floor=floor)


def law_of(
    measured: Sequence[Points], sign: int, quantity: str, metric: str, where: str, *, floor: bool
) -> Law:
    """Fit a law on the front of what was measured, an item an architecture.

    `where` is for messages. Raises as `scaling`.
    """
    x, y = front_of(measured, sign)
    if not len(x):
        raise RecordError(f"{where}: the records don't support this: it is not on record")
    if len(x) < FEWEST_ON_FRONT:
        raise RecordError(
            f"{where}: {number_of(len(x), 'point')} on the Pareto front; expected "
            f"{FEWEST_ON_FRONT} or more"
        )
    if len(measured) < FEWEST_ARCHITECTURES:
        raise RecordError(
            f"{where}: {number_of(len(measured), 'architecture')}; expected "
            f"{FEWEST_ARCHITECTURES} or more to say how sure a law is"
        )
    if y.min() <= 0:
        raise RecordError(
            f"{where}: a score of {y.min():g}; expected positive ones for a power law"
        )
    fitted = fit_power_law(x, y, floor=floor)
    drawn = _resampled(measured, sign, fitted, floor)
    if len(drawn) < SAMPLES // 2:
        raise RecordError(
            f"{where}: the front rests on too few of {len(measured)} architectures to say how "
            "sure a law is"
        )
    residuals = np.abs(np.log(y) - np.log(fitted.at(x)))
    return Law(
        quantity=quantity,
        metric=metric,
        fitted=fitted,
        with_floor=floor,
        b=_interval(fitted.b, [law.b for law in drawn]),
        floor=_interval(fitted.floor, [law.floor for law in drawn]),
        range=(float(x.min()), float(x.max())),
        points=len(x),
        architectures=len(measured),
        residual=float(np.median(residuals)),
        worst_residual=float(residuals.max()),
        drawn=tuple(drawn),
    )


def front_of(measured: Sequence[Points], sign: int) -> tuple[FloatArray, FloatArray]:
    """Return the points that none as cheap is better than, cheapest first.

    `sign` is 1 where larger scores are better, -1 where smaller ones are.
    """
    x = np.concatenate([points.x for points in measured]) if measured else np.empty(0)
    y = np.concatenate([points.y for points in measured]) if measured else np.empty(0)
    order = np.lexsort((-sign * y, x))
    x, y = x[order], y[order]
    if not len(x):
        return x, y
    best = np.maximum.accumulate(sign * y)
    kept = np.concatenate([[True], sign * y[1:] > best[:-1]])
    return x[kept], y[kept]


def points_of(
    found: RankedStudies, quantity: Quantity, metric: str
) -> tuple[dict[str, Points], int]:
    """Return by architecture what was measured, and the sign that makes larger scores better."""
    measured = {}
    smaller = False
    entries = [e for e in found.entries(metric).values() if not e.first.control]
    entries = [entry for entry in entries if entry.state not in BROKEN]
    last = max((entry.step for entry in entries), default=0)
    for entry in entries:
        steps = entry.steps if quantity.every_rung else [s for s in entry.steps if s == last]
        x = [_mean([quantity.of(entry, p) for p in entry.points(step)]) for step in steps]
        known = [place for place, value in enumerate(x) if not math.isnan(value)]
        if not known:
            continue
        smaller = entry.scores(steps[0])[0].better == "smaller"
        measured[entry.first.arch_id] = Points(
            np.array([x[place] for place in known]),
            np.array([entry.mean(steps[place])[0] for place in known]),
        )
    if metric in SIGNALS:
        smaller = SIGNALS[metric].better == "smaller"
    return measured, -1 if smaller else 1


def _resampled(
    measured: Sequence[Points], sign: int, fitted: PowerLaw, floor: bool
) -> list[PowerLaw]:
    generator = np.random.default_rng(derive_seed(0, "scaling/bootstrap"))
    laws = []
    for _ in range(SAMPLES):
        chosen = generator.integers(0, len(measured), len(measured))
        x, y = front_of([measured[i] for i in chosen], sign)
        if len(x) >= 2 + floor + 1:
            laws.append(fit_power_law(x, y, floor=floor, near=fitted))
    return laws


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, min(float(low), value), max(float(high), value))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
