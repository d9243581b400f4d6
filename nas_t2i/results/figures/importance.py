"""What matters: an additive model of the scores, what it loses without a parameter, its effects.

The model is a ridge regression of the expected final score on the parameters that varied, a
coefficient a value (a curve for numbers with many values), weighted by how well each score is
known. Its penalty is chosen by leave-one-out error. The importance of a parameter is half of what
the squared error grows by when the parameter's values are shuffled among the architectures
(Breiman, "Random forests", Machine Learning 45, 2001), over the variance of the scores: for
parameters that vary independently, the share of the variance that the parameter makes (Jansen,
"Analysis of variance designs for model output", Computer Physics Communications 117, 1999).
Intervals are of the bootstrap over architectures (the noise of their scores is in the scores).
Interactions are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.results.figures.chart import Chart, Role, Series
from nas_t2i.results.figures.parameters import Parameter, varied
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.wording import interval, score
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.results.metrics import display_name
from nas_t2i.statistics import FloatArray
from nas_t2i.streams import derive_seed

_PENALTIES = np.logspace(-3, 3, 13)
_RESAMPLED = 400
FEWEST = 8
"""Architectures; with fewer nothing is fitted."""
_MOST_FITTED = 400  # of more, the best and a regular choice of the others


@dataclass(frozen=True)
class Effect:
    """The expected score at each value of a parameter, the others as they are."""

    level: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """How much one parameter matters; shares of the variance of the scores."""

    parameter: str
    short: str
    value: float
    low: float
    high: float
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class WhatMatters:
    """The fitted model and what it says."""

    importances: tuple[Importance, ...]
    """The most important first."""
    explained: float
    """Share of the variance explained on architectures left out of the fit; below 0: nothing."""
    architectures: int


def what_matters(found: RankedStudies, seed: int = 0) -> WhatMatters | None:
    """Fit the model; None with fewer than `FEWEST` architectures or nothing that varied."""
    rows = _fitted(found.sound)
    parameters = varied(rows) if rows else []
    if len(rows) < FEWEST or not parameters:
        return None
    values = np.array([row.expected_score for row in rows], dtype=np.float64)
    ends = np.array([(row.expected_low, row.expected_high) for row in rows], dtype=np.float64)
    errors = np.maximum((ends[:, 1] - ends[:, 0]) / 3.92, 1e-9)
    design = _Design(parameters)
    # An architecture known well counts more, but none for more than the spread of them all.
    weights = 1 / (errors**2 + values.var() + 1e-18)
    explained, penalty = _by_leaving_out(design, values, weights)
    generator = np.random.default_rng(derive_seed(seed, "importance"))
    point = design.fit(values, weights, penalty)
    importance = design.importance(point, values, weights)
    effects = design.effects(point)
    drawn_importance, drawn_effects = [], []
    for _ in range(_RESAMPLED):
        chosen = generator.integers(0, len(rows), len(rows))
        counted = weights * np.bincount(chosen, minlength=len(rows))
        fitted = design.fit(values, counted, penalty)
        drawn_importance.append(design.importance(fitted, values, counted))
        drawn_effects.append(design.effects(fitted))
    low, high = np.quantile(drawn_importance, [0.025, 0.975], axis=0)
    effect_low, effect_high = np.quantile(drawn_effects, [0.025, 0.975], axis=0)
    importances, start = [], 0
    for i, parameter in enumerate(parameters):
        places = range(start, start + len(parameter.levels))
        start = places.stop
        importances.append(
            Importance(
                parameter=parameter.name,
                short=parameter.short,
                value=float(importance[i]),
                low=float(min(low[i], importance[i])),
                high=float(max(high[i], importance[i])),
                effects=tuple(
                    Effect(level, float(effects[j]), float(effect_low[j]), float(effect_high[j]))
                    for level, j in zip(parameter.levels, places, strict=True)
                ),
            )
        )
    importances.sort(key=lambda i: -i.value)
    return WhatMatters(tuple(importances), explained, len(rows))


def _fitted(rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    rows = [row for row in rows if row.expected_score is not None]
    if len(rows) <= _MOST_FITTED:
        return list(rows)
    places = np.unique(np.linspace(0, len(rows) - 1, _MOST_FITTED).astype(int))
    return [rows[i] for i in places]


@dataclass(frozen=True)
class _Fit:
    intercept: float
    by_level: list[FloatArray]
    """What each level of each parameter adds."""


class _Design:
    """The columns of the model, centred over architectures."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._parameters = parameters
        self._columns = []
        for parameter in parameters:
            middle = parameter.columns[parameter.level].mean(axis=0)
            self._columns.append(parameter.columns - middle)
        self.matrix = np.concatenate(
            [c[p.level] for c, p in zip(self._columns, parameters, strict=True)], axis=1
        )

    def fit(self, values: FloatArray, weights: FloatArray, penalty: float) -> _Fit:
        """Fit by weighted ridge regression; the penalty is a share of the mean weight."""
        weights = weights / weights.sum()
        middle = float(weights @ values)
        centred = self.matrix - weights @ self.matrix
        gram = (centred * weights[:, None]).T @ centred
        size = len(gram)
        inner = gram + penalty * np.eye(size) / len(values)
        coefficients = np.linalg.solve(inner, (centred * weights[:, None]).T @ (values - middle))
        by_level, start = [], 0
        for columns in self._columns:
            stop = start + columns.shape[1]
            by_level.append(columns @ coefficients[start:stop])
            start = stop
        return _Fit(middle - float(weights @ self.matrix @ coefficients), by_level)

    def importance(self, fit: _Fit, values: FloatArray, weights: FloatArray) -> FloatArray:
        """Return by parameter half of the growth of the squared error when it is shuffled.

        Over all shuffles that is the covariance of the parameter's part with what the other parts
        leave of the scores; here as a share of the variance of the scores.
        """
        parts = [f[p.level] for f, p in zip(fit.by_level, self._parameters, strict=True)]
        weights = weights / weights.sum()
        left = values - fit.intercept - np.sum(parts, axis=0)
        total = float(weights @ (values - weights @ values) ** 2) or 1.0
        return np.array(
            [float(weights @ ((part - weights @ part) * (left + part))) / total for part in parts]
        )

    def effects(self, fit: _Fit) -> FloatArray:
        """Return the expected score at every level of every parameter, one after the other."""
        parts = [f[p.level] for f, p in zip(fit.by_level, self._parameters, strict=True)]
        means = [float(part.mean()) for part in parts]
        middle = fit.intercept + sum(means)
        return np.concatenate(
            [middle - mean + levels for mean, levels in zip(means, fit.by_level, strict=True)]
        )


def _by_leaving_out(
    design: _Design, values: FloatArray, weights: FloatArray
) -> tuple[float, float]:
    """Return the share of variance explained of architectures left out, and the best penalty.

    Leaving one out needs no second fit: its error is the residual over one less its leverage
    (Allen, "The relationship between variable selection and data augmentation", 1974).
    """
    weights = weights / weights.sum()
    root = np.sqrt(weights)
    matrix = np.concatenate([np.ones((len(values), 1)), design.matrix], axis=1)
    scaled = matrix * root[:, None]
    total = float(weights @ (values - weights @ values) ** 2)
    best = (-np.inf, float(_PENALTIES[-1]))
    for penalty in _PENALTIES:
        ridge = np.eye(matrix.shape[1]) * penalty / len(values)
        ridge[0, 0] = 0.0  # the intercept is free
        inverse = np.linalg.pinv(scaled.T @ scaled + ridge)
        leverage = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
        left = values - matrix @ (inverse @ (scaled.T @ (values * root)))
        errors = left / np.maximum(1 - leverage, 1e-6)
        share = 1 - float(weights @ errors**2) / total if total else -np.inf
        best = max(best, (share, float(penalty)))
    return best


# --- charts ----------------------------------------------------------------------------------


def importance_chart(found: RankedStudies, fitted: WhatMatters) -> Chart:
    """Return the importance of each parameter with its interval."""
    return Chart(
        key="importance",
        title="What matters: importance of each parameter",
        caption=(
            f"The share of the variance of expected {display_name(found.metric)} among "
            f"{fitted.architectures} architectures that a parameter makes, by shuffling it in an "
            "additive ridge model, with the 95 % interval of a bootstrap over architectures; above "
            "1 where another parameter works against it. "
            f"{reliability_of(fitted)}"
        ),
        x_title="share of the variance",
        y_title="parameter",
        categories=tuple(i.parameter for i in fitted.importances),
        series=(
            Series(
                name="importance",
                role=Role.BEST,
                x=tuple(i.value for i in fitted.importances),
                y=tuple(i.parameter for i in fitted.importances),
                low=tuple(i.low for i in fitted.importances),
                high=tuple(i.high for i in fitted.importances),
                hover=tuple(
                    f"{i.parameter}\n{i.value:.2f} ({i.low:.2f} to {i.high:.2f})"
                    for i in fitted.importances
                ),
                line=False,
            ),
        ),
    )


def reliability_of(fitted: WhatMatters) -> str:
    """Say how far the model can be believed."""
    if fitted.explained <= 0:
        return (
            "Of architectures left out of the fit the model explains nothing: these records do "
            "not show what matters."
        )
    return (
        f"Of architectures left out of the fit the model explains {fitted.explained:.0%} of the "
        "variance."
    ).replace("%", " %")


def effects_chart(found: RankedStudies, fitted: WhatMatters) -> Chart:
    """Return the marginal effects: the expected score at each value of each parameter."""
    shown = [(i, e) for i in fitted.importances[:6] for e in i.effects[:12]]
    names = tuple(f"{i.short} = {e.level}" for i, e in shown)
    metric = display_name(found.metric)
    return Chart(
        key="effects",
        title="Marginal effects",
        caption=(
            f"Expected {metric} at each value of a parameter, the other parameters as they are in "
            "these architectures, with the 95 % interval of the bootstrap; the most important "
            "parameter first."
        ),
        x_title=f"expected {metric}",
        y_title="parameter",
        categories=names,
        series=tuple(
            Series(
                name=importance.parameter,
                role=Role.BEST,
                x=tuple(e.value for e in importance.effects[:12]),
                y=tuple(f"{importance.short} = {e.level}" for e in importance.effects[:12]),
                low=tuple(e.low for e in importance.effects[:12]),
                high=tuple(e.high for e in importance.effects[:12]),
                hover=tuple(
                    f"{importance.short} = {e.level}\n{score(e.value)} ({interval(e.low, e.high)})"
                    for e in importance.effects[:12]
                ),
            )
            for importance in fitted.importances[:6]
        ),
    )
