"""How early each quantity orders architectures as the final score does: every signal and rung."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.ranking.evidence import IntArray
from nas_t2i.records import CurvePoint, TrialRecord
from nas_t2i.results.correlations import (
    Correlation,
    kendall_interval,
    partial,
    spearman_interval,
)
from nas_t2i.results.entries import measured_signals
from nas_t2i.statistics import FloatArray, better_half, seed_spread, spearman

# Of a family with fewer architectures there is no correlation of its own.
LEAST_OF_A_FAMILY = 3


@dataclass(frozen=True)
class EarlyQuantity:
    """What one quantity says at one rung. Correlations are with the final score; 1 is the same
    order, with a quantity of which smaller is better turned round."""

    quantity: str
    """A metric or a signal."""
    step: int
    spearman: Correlation
    """Of means over seeds, as `kendall` and `given_size`."""
    kendall: Correlation
    spearman_one_seed: float
    """Of single seeds with their own finals; mean over seeds."""
    spearman_better_half: float
    """Among the better half by the final score."""
    given_size: float
    """Partial rank correlation given params and GMACs of the full architectures."""
    spread: float
    """Between architectures over between seeds of one, standard deviations, on one seed."""
    spread_better_half: float
    within: dict[str, Correlation] = field(default_factory=dict)
    """`spearman` within each family that is large enough; empty where all are of one. Signals order
    within a family alone: `spearman` of all may be far lower."""


def early_quantities(
    runs: Sequence[Mapping[int, TrialRecord]], seeds: Sequence[int], metric: str
) -> list[EarlyQuantity]:
    """Return a row for every quantity and rung that all runs have on record.

    `runs` has the trials of each architecture by seed. The metric comes first, then signals.
    """
    last = max(p.step for p in runs[0][seeds[0]].curve if metric in p.scores)
    final = _table(runs, seeds, metric, last)
    if final is None:
        return []
    sizes = [
        np.array([float(getattr(next(iter(r.values())).profile, cost)) for r in runs])
        for cost in ("params", "gmacs")
    ]
    families = _families(runs)
    steps = sorted({point.step for run in runs for point in run[seeds[0]].curve})
    found = []
    for quantity in [metric, *measured_signals(t for run in runs for t in run.values())]:
        for step in steps:
            values = _table(runs, seeds, quantity, step)
            if values is not None:
                found.append(_row(quantity, step, values, final, sizes, families))
    return found


def _families(runs: Sequence[Mapping[int, TrialRecord]]) -> dict[str, IntArray]:
    """Return the indices of each family's architectures; none where all are of one family."""
    of = np.array([next(iter(run.values())).family for run in runs])
    members = {str(name): np.flatnonzero(of == name) for name in np.unique(of)}
    if len(members) == 1:
        return {}
    return {name: rows for name, rows in members.items() if len(rows) >= LEAST_OF_A_FAMILY}


def _row(
    quantity: str,
    step: int,
    values: FloatArray,
    final: FloatArray,
    sizes: Sequence[FloatArray],
    families: Mapping[str, IntArray],
) -> EarlyQuantity:
    means, ends = values.mean(axis=1), final.mean(axis=1)
    half = np.sort(np.argsort(-ends, kind="stable")[: len(better_half(final))])
    single = [spearman(values[:, s], final[:, s]) for s in range(values.shape[1])]
    return EarlyQuantity(
        quantity=quantity,
        step=step,
        spearman=spearman_interval(means, ends),
        kendall=kendall_interval(means, ends),
        spearman_one_seed=float(np.mean(single)),
        spearman_better_half=spearman(means[half], ends[half]),
        given_size=partial(means, ends, sizes),
        spread=seed_spread(values).ratio(),
        spread_better_half=seed_spread(values[half]).ratio() if len(half) > 1 else math.nan,
        within={
            name: spearman_interval(means[rows], ends[rows]) for name, rows in families.items()
        },
    )


def _table(
    runs: Sequence[Mapping[int, TrialRecord]], seeds: Sequence[int], quantity: str, step: int
) -> FloatArray | None:
    """Return (architectures, seeds), larger is better; None where one has no finite value."""
    values = np.array([[_value(run[seed], quantity, step) for seed in seeds] for run in runs])
    return values if np.isfinite(values).all() else None


def _value(trial: TrialRecord, quantity: str, step: int) -> float:
    point = next((point for point in trial.curve if point.step == step), None)
    return math.nan if point is None else _of(point, quantity)


def _of(point: CurvePoint, quantity: str) -> float:
    if score := point.scores.get(quantity):
        return score.value if score.better == "larger" else -score.value
    if signal := point.signals.get(quantity):
        return signal.value if SIGNALS[signal.name].better == "larger" else -signal.value
    return math.nan
