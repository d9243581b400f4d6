"""How much sooner one architecture reaches a score than another: in steps, compute, wall-clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.errors import RecordError, UserError, did_you_mean
from nas_t2i.results.entries import Entry
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.statistics import FloatArray, bootstrap_means

_RESAMPLED = 2000


@dataclass(frozen=True)
class Speedup:
    """B's cost of a score over A's. The interval is over prompts, and holds no seed noise."""

    cost: str
    ratio: float
    low: float
    high: float
    at_least: bool
    """A had passed the score at its first rung: it may have been sooner."""


@dataclass(frozen=True)
class Faster:
    """A reaches a score so many times sooner than B."""

    first: str
    second: str
    score: float
    speedups: tuple[Speedup, ...]
    never: float
    """The share of the resampled prompts on which one of the two does not reach the score."""


def faster(found: RankedStudies, first: str, second: str, score: float | None = None) -> Faster:
    """Compare what two architectures of a ranking take to reach a score; default: B's last one.

    Between two rungs the score is taken as linear in the logarithm of the cost.

    Raises:
        UserError: no such architecture.
        RecordError: one of the two never reaches the score, or prompts are not on record.
    """
    one, other = _entry(found, first), _entry(found, second)
    last = other.mean(other.steps[-1])[0]
    target = last if score is None else score
    sign = -1 if found.smaller_is_better else 1
    for entry, name in ((one, first), (other, second)):
        values = [entry.mean(step)[0] for step in entry.steps]
        if sign * max(values, key=lambda v: sign * v) < sign * target - 1e-12:
            raise RecordError(
                f"{name} never reaches {target:.3f}: its best is {max(values):.3f}; expected a "
                "lower --score"
            )
    draws = _draws(one, other)
    # B's last score moves with the prompts that are drawn; a given score stays.
    targets = draws[1][:, -1] if score is None else np.full(len(draws[1]), score)
    speedups = []
    never = 0.0
    for cost in ("steps", "compute", "wall-clock"):
        ours, theirs = _costs(one, cost), _costs(other, cost)
        reached = [
            _reached(draws[0], ours, targets, sign),
            _reached(draws[1], theirs, targets, sign),
        ]
        ratios = reached[1] / reached[0]
        known = np.isfinite(ratios)
        never = 1 - float(known[1:].mean())
        if known[1:].mean() < 0.5:
            raise RecordError(
                f"{first} and {second}: {target:.3f} is reached on fewer than half of the "
                "resampled prompts; expected a lower --score"
            )
        low, high = np.quantile(ratios[1:][known[1:]], [0.025, 0.975])
        value = float(ratios[0])
        at_least = bool(reached[0][0] <= ours[0])
        speedups.append(
            Speedup(cost, value, min(float(low), value), max(float(high), value), at_least)
        )
    return Faster(first, second, target, tuple(speedups), never)


def _entry(found: RankedStudies, name: str) -> Entry:
    rows: list[LeaderboardRow] = [row for row in found.rows if row.score is not None]
    names = [row.name for row in rows]
    if name not in names:
        hint = did_you_mean(name, names)
        text = f"--faster: got {name!r}; expected an architecture of {found.title} with a score"
        raise UserError(f"{text}; {hint}" if hint else text)
    row = rows[names.index(name)]
    return found.entries(found.metric)[row.arch_id, row.control]


def _draws(one: Entry, other: Entry) -> list[FloatArray]:
    """Return scores of both, (1 + draws, rungs): as measured, then over resampled prompts.

    Both see the same prompts in a draw: an easy one is easy for both.
    """
    tables = [np.array([e.per_prompt(step).mean(axis=0) for step in e.steps]) for e in (one, other)]
    if not all(table.size for table in tables) or tables[0].shape[1] != tables[1].shape[1]:
        raise RecordError(
            f"{one.first.name} and {other.first.name}: the scores of single prompts are not on "
            "record for both, so nothing can be said of how sure a factor is"
        )
    stacked = np.concatenate(tables)
    means = np.concatenate(
        [stacked.mean(axis=1)[None], bootstrap_means(stacked, samples=_RESAMPLED)]
    )
    return [means[:, : len(tables[0])], means[:, len(tables[0]) :]]


def _costs(entry: Entry, cost: str) -> FloatArray:
    if cost == "steps":
        return np.array(entry.steps, dtype=np.float64)
    name = "training_flops" if cost == "compute" else "seconds"
    found: Sequence[float] = [
        float(np.mean([getattr(p, name) for p in entry.points(step)])) for step in entry.steps
    ]
    return np.array(found)


def _reached(scores: FloatArray, costs: FloatArray, targets: FloatArray, sign: int) -> FloatArray:
    """Return the cost at which each row (draws, rungs) passes its target; NaN: it never does."""
    passed = sign * scores >= sign * targets[:, None] - 1e-12
    index = np.argmax(passed, axis=1)
    rows = np.arange(len(scores))
    before = np.maximum(index - 1, 0)
    low, high = scores[rows, before], scores[rows, index]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(index > 0, (targets - low) / (high - low), 1.0)
    share = np.clip(share, 0.0, 1.0)
    logs = np.log(costs)
    cost = np.exp(logs[before] + share * (logs[index] - logs[before]))
    return np.where(passed.any(axis=1), cost, np.nan)
