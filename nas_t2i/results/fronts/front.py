"""A ranking's front of expected score against a cost, and how sure each part of it is.

The scores are the joint draws that P(best) is counted over; the costs are exact. So are who is on
the front, the knee, the hypervolume and the best within limits: counted over the same draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas_t2i.errors import RecordError, UserError, did_you_mean, named
from nas_t2i.ranking.evidence import BoolArray
from nas_t2i.ranking.front import hypervolume, knee, on_front
from nas_t2i.records import TrialRecord
from nas_t2i.results.beliefs import posterior_of
from nas_t2i.results.entries import Entry, group_entries
from nas_t2i.results.fronts.latencies import Latencies, recorded_latencies
from nas_t2i.results.fronts.place import FrontPlace
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.statistics import FloatArray

FrontCost = Literal["gmacs", "params", "compute", "latency"]
FRONT_COSTS: tuple[FrontCost, ...] = ("gmacs", "params", "compute", "latency")
# With a lower probability of being on the front a row is not shown as one of it.
LEAST_SHOWN = 0.05


@dataclass(frozen=True)
class Front:
    """The front of one ranking."""

    rows: list[LeaderboardRow]
    """The ranking, in its order; those that the front is of have their place on it."""
    cost: FrontCost
    limits: Mapping[FrontCost, float]
    by_chance: bool
    """Whether the reference score is the metric's chance level."""
    smaller: bool
    """Whether smaller scores are better."""
    knee: str | None
    """The name of the knee of the expected scores; None: they have none."""
    hardware: str = ""
    """What latencies hold for."""
    step: int = 0
    """The rung that the expected scores are at."""

    @property
    def among(self) -> list[LeaderboardRow]:
        """Those that the front is of, cheapest first."""
        found = [row for row in self.rows if row.front is not None]
        return sorted(found, key=lambda row: (_place(row).value, row.rank))

    @property
    def shown(self) -> list[LeaderboardRow]:
        """The probable members, cheapest first."""
        return [row for row in self.among if _place(row).probability >= LEAST_SHOWN]

    @property
    def place(self) -> FrontPlace | None:
        """What all rows say alike of the front; None where nothing has a score."""
        return next((row.front for row in self.rows if row.front is not None), None)


def with_front(
    rows: Sequence[LeaderboardRow],
    trials: Sequence[TrialRecord],
    cost: FrontCost,
    *,
    limits: Mapping[FrontCost, float] | None = None,
    reference: tuple[float, float] | None = None,
    latencies: Latencies | None = None,
) -> Front:
    """Return a ranking of trials with its front; controls and broken trials are not of it.

    `limits` are the greatest costs allowed: what is beyond is left out. `reference` is the score
    and the cost that the hypervolume is counted from; without it the chance level (the lowest
    expected score where there is none), and the largest cost. Without `latencies` they are those
    that the trials have on record.

    Raises:
        UserError: nothing is within the limits.
        RecordError: a cost that is not on record.
        IncomparableError: latencies on record that don't compare.
    """
    limits = dict(limits or {})
    if "latency" in {cost, *limits}:
        latencies = latencies or recorded_latencies(trials)
    hardware = latencies.described if latencies else ""
    joint = joint_scores(trials)
    if joint is None:
        return Front(list(rows), cost, limits, False, False, None, hardware)
    sign, step = joint.sign, joint.step
    if not joint.members:
        return Front(list(rows), cost, limits, False, sign < 0, None, hardware, step)
    costs = costs_of(joint.members, {cost, *limits}, step, latencies)
    _check_any(costs, limits)
    inside = within(costs, limits)
    members = [entry for entry, is_inside in zip(joint.members, inside, strict=True) if is_inside]
    prices, scores, expected = costs[cost][inside], joint.scores[:, inside], joint.expected[inside]
    chance = next((s.chance for e in members for s in e.scores(e.step)), None) if sign > 0 else None
    least, most = (chance if chance is not None else float(expected.min()), float(prices.max()))
    if reference is not None:
        least, most = sign * reference[0], reference[1]
    low, middle, high = np.quantile(hypervolume(scores, prices, (least, most)), [0.025, 0.5, 0.975])
    knees = np.bincount(knee(scores, prices) + 1, minlength=len(members) + 1)[1:] / len(scores)
    best = np.bincount(np.argmax(scores, axis=1), minlength=len(members)) / len(scores)
    on = on_front(scores, prices).mean(axis=0)
    places = {
        _key(entry): FrontPlace(
            cost=cost,
            value=float(prices[i]),
            probability=float(on[i]),
            probability_knee=float(knees[i]),
            probability_best=float(best[i]),
            hypervolume=float(middle),
            hypervolume_low=float(low),
            hypervolume_high=float(high),
            reference_score=sign * float(least),
            reference_cost=float(most),
        )
        for i, entry in enumerate(members)
    }
    bend = int(knee(expected[None], prices)[0])
    names = {(row.arch_id, row.control): row.name for row in rows}
    return Front(
        rows=[
            row.model_copy(update={"front": places.get((row.arch_id, row.control))}) for row in rows
        ],
        cost=cost,
        limits=limits,
        by_chance=chance is not None and reference is None,
        smaller=sign < 0,
        knee=None if bend < 0 else names[_key(members[bend])],
        hardware=hardware,
        step=step,
    )


@dataclass(frozen=True)
class JointScores:
    """What is believed, jointly, of the architectures that a front may be of."""

    members: list[Entry]
    """All but controls and broken ones."""
    scores: FloatArray
    """(draws, members): expected scores at `step`, larger is better."""
    expected: FloatArray
    """(members,): their means."""
    step: int
    """The last rung on record."""
    sign: int
    """-1 where scores are turned round, so that larger is better."""


def joint_scores(trials: Sequence[TrialRecord]) -> JointScores | None:
    """Return the draws that P(best) of a ranking of `trials` is counted over.

    None where nothing has a score. Raises as `nas_t2i.results.beliefs.posterior_of`.
    """
    # In the order that the ranking's own beliefs were made in: the draws are the same.
    entries = sorted(group_entries(trials), key=lambda e: (e.first.arch_id, e.first.control))
    found = posterior_of(entries)
    if found is None:
        return None
    posterior, indices, sign = found
    searched = np.flatnonzero(~posterior.evidence.apart)
    deviation = np.sqrt(posterior.noise.between(posterior.step))
    return JointScores(
        members=[entries[indices[column]] for column in searched],
        scores=posterior.evidence.scale.expected(posterior.draws[:, searched], deviation),
        expected=posterior.expected[searched],
        step=posterior.step,
        sign=sign,
    )


def costs_of(
    members: Sequence[Entry],
    names: Iterable[FrontCost],
    step: int,
    latencies: Latencies | None,
) -> dict[FrontCost, FloatArray]:
    """Return each cost of architectures, (members,); compute is of one run to `step`.

    Raises:
        RecordError: a latency that is not on record.
        IncomparableError: latencies on record that don't compare.
    """
    names = set(names)
    if "latency" in names:
        latencies = latencies or recorded_latencies(t for entry in members for t in entry.trials)
        _check_latencies(members, latencies)
    return {
        name: np.array([_cost(entry, name, step, latencies) for entry in members], dtype=np.float64)
        for name in names
    }


def within(costs: Mapping[FrontCost, FloatArray], limits: Mapping[FrontCost, float]) -> BoolArray:
    """Return which architectures are within the limits, (members,)."""
    inside: BoolArray = np.ones(len(next(iter(costs.values()))), dtype=np.bool_)
    for name, most in limits.items():
        inside &= costs[name] <= most
    return inside


def read_limits(texts: Sequence[str]) -> dict[FrontCost, float]:
    """Return what ``gmacs=100`` and the like say. Raises UserError."""
    limits: dict[FrontCost, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        plain = "compute" if name.strip() == "training_flops" else name.strip()
        known = next((cost for cost in FRONT_COSTS if cost == plain), None)
        if known is None or not equals:
            hint = did_you_mean(name, FRONT_COSTS) if known is None else ""
            raise UserError(
                f"--under: got {text!r}; expected COST=NUMBER with one of {', '.join(FRONT_COSTS)}"
                + (f"; {hint}" if hint else "")
            )
        if known in limits:
            raise UserError(f"--under: got {known} twice; expected each cost once")
        limits[known] = _number(number, f"--under {known}")
    return limits


def read_reference(text: str) -> tuple[float, float]:
    """Return what ``0.25,180`` says: a score and a cost. Raises UserError."""
    parts = text.split(",")
    if len(parts) != 2:
        raise UserError(f"--reference: got {text!r}; expected SCORE,COST, as 0.25,180")
    try:
        score = float(parts[0])
    except ValueError:
        score = np.nan
    if not np.isfinite(score):
        raise UserError(f"--reference: got {parts[0]!r}; expected a score, as 0.25")
    return score, _number(parts[1], "--reference")


def _number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (np.isfinite(value) and value > 0):
        raise UserError(f"{option}: got {text!r}; expected a number above 0, as 100 or 3e8")
    return value


def _check_any(costs: Mapping[FrontCost, FloatArray], limits: Mapping[FrontCost, float]) -> None:
    if not within(costs, limits).any():
        said = " and ".join(f"{name}={most:g}" for name, most in limits.items())
        least = ", ".join(f"{name} {costs[name].min():.6g}" for name in limits)
        raise UserError(f"--under {said}: no architecture is within; the least is {least}")


def _check_latencies(members: Sequence[Entry], latencies: Latencies | None) -> None:
    known = latencies.seconds if latencies else {}
    if lacking := [e.first.name for e in members if e.first.arch_id not in known]:
        raise RecordError(
            f"no latency on record of {named(lacking)}; expected a study that measured them "
            "(search.latency), or --latencies FILE with what `nas-t2i profile --arch ... --latency "
            "--format json` prints"
        )


def _cost(entry: Entry, cost: FrontCost, step: int, latencies: Latencies | None) -> float:
    if cost == "compute":
        point = next(p for trial in entry.trials for p in trial.curve)
        return point.training_flops / point.step * step
    if cost == "latency":
        assert latencies is not None
        return latencies.seconds[entry.first.arch_id]
    return float(getattr(entry.first.profile, cost))


def _key(entry: Entry) -> tuple[str, str]:
    return entry.first.arch_id, entry.first.control


def _place(row: LeaderboardRow) -> FrontPlace:
    assert row.front is not None
    return row.front
