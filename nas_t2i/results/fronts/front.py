"""A ranking's front of expected scores against costs, and how sure each part of it is.

The scores are joint draws, those that P(best) is counted over; the costs are exact. So are who is
on the front, the knee, the hypervolume and the best within limits: counted over the same draws.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas_t2i.errors import UserError, did_you_mean
from nas_t2i.protocol.objectives import COSTS, ObjectiveOf
from nas_t2i.ranking.front import hypervolume, knee, on_front
from nas_t2i.records import TrialRecord
from nas_t2i.results.fronts.joint import Joint, joint_of, key_of
from nas_t2i.results.fronts.latencies import Latencies, recorded_latencies
from nas_t2i.results.fronts.place import FrontPlace, FrontScore
from nas_t2i.results.leaderboard import LeaderboardRow

# With a lower probability of being on the front a row is not shown as one of it.
LEAST_SHOWN = 0.05


@dataclass(frozen=True)
class Front:
    """The front of one ranking."""

    rows: list[LeaderboardRow]
    """The ranking, in its order; those that the front is of have their place on it."""
    objectives: tuple[ObjectiveOf, ...]
    """What it is of; () where nothing has a score."""
    limits: Mapping[str, float]
    by_chance: frozenset[str] = frozenset()
    """The metrics whose reference is their chance level."""
    knee: str | None = None
    """The name of the knee of the expected scores; None: they have none."""
    hardware: str = ""
    """What latencies hold for."""

    @property
    def among(self) -> list[LeaderboardRow]:
        """Those that the front is of, the cheapest by its first cost first."""
        found = [row for row in self.rows if row.front is not None]
        first = next(iter(self.costs), "")
        return sorted(found, key=lambda row: (_place(row).costs.get(first, 0.0), row.rank))

    @property
    def shown(self) -> list[LeaderboardRow]:
        """The probable members, in the same order."""
        return [row for row in self.among if _place(row).probability >= LEAST_SHOWN]

    @property
    def place(self) -> FrontPlace | None:
        """What all rows say alike of the front; None where nothing has a score."""
        return next((row.front for row in self.rows if row.front is not None), None)

    @property
    def metrics(self) -> list[str]:
        """The measured objectives."""
        return [one.name for one in self.objectives if not one.exact]

    @property
    def costs(self) -> list[str]:
        """The exact objectives."""
        return [one.name for one in self.objectives if one.exact]

    @property
    def may_bend(self) -> bool:
        """Whether it is a line, of one score and one cost, which may have a knee."""
        return len(self.metrics) == len(self.costs) == 1


def with_front(
    rows: Sequence[LeaderboardRow],
    trials: Sequence[TrialRecord],
    objectives: Sequence[ObjectiveOf],
    *,
    limits: Mapping[str, float] | None = None,
    reference: Sequence[float] | None = None,
    latencies: Latencies | None = None,
) -> Front:
    """Return a ranking of trials with a front; controls and broken trials are not of it.

    `limits` are the greatest costs allowed: what is beyond is left out. `reference` is where the
    hypervolume is counted from, a number for each objective in their order; without it the chance
    level (the worst expected score where there is none), and the largest cost. Without `latencies`
    they are those that the trials have on record.

    Raises:
        UserError: nothing is within the limits, or a reference for another number of objectives.
        RecordError: a latency that is not on record, or as `posterior_of`.
        IncomparableError: latencies on record that don't compare, or as `posterior_of`.
    """
    front = Front(list(rows), tuple(objectives), dict(limits or {}))
    if not objectives:
        return front
    _check_reference(front.objectives, reference)
    if "latency" in {*front.costs, *front.limits}:
        latencies = latencies or recorded_latencies(trials)
        front = replace(front, hardware=latencies.described if latencies else "")
    whole = joint_of(trials, objectives, limited=front.limits, latencies=latencies)
    if whole is None:
        return front
    joint = whole.within(front.limits)
    _check_any(joint, whole, front.limits)
    if reference is None:
        chances = {metric: one.chance for metric, one in joint.scored.items()}
        by_chance = frozenset(metric for metric, level in chances.items() if level is not None)
        point = {one.name: _worst(joint, one) for one in front.objectives}
    else:
        by_chance = frozenset()
        point = {one.name: value for one, value in zip(objectives, reference, strict=True)}
    places = _places(front, joint, point)
    names = {(row.arch_id, row.control): row.name for row in rows}
    bend = -1
    if front.may_bend:
        expected = joint.scored[front.metrics[0]].expected
        bend = int(knee(expected[None], joint.prices)[0])
    return replace(
        front,
        rows=[
            row.model_copy(update={"front": places.get((row.arch_id, row.control))}) for row in rows
        ],
        by_chance=by_chance,
        knee=None if bend < 0 else names[key_of(joint.members[bend])],
    )


def reference_point(
    objectives: Sequence[ObjectiveOf], reference: Mapping[str, float]
) -> list[float]:
    """Return a reference as `nas_t2i.ranking.front.hypervolume` takes it."""
    scores = [one.sign * reference[one.name] for one in objectives if not one.exact]
    return scores + [reference[one.name] for one in objectives if one.exact]


def _worst(joint: Joint, objective: ObjectiveOf) -> float:
    """Return where the hypervolume is counted from unless that was said."""
    if objective.exact:
        return float(joint.costs[objective.name].max())
    scored = joint.scored[objective.name]
    if scored.chance is not None:
        return scored.chance
    return objective.sign * float(scored.expected.min())


def _places(
    front: Front, joint: Joint, reference: Mapping[str, float]
) -> dict[tuple[str, str], FrontPlace]:
    scores, prices, count = joint.scores, joint.prices, len(joint.members)
    point = reference_point(front.objectives, reference)
    low, middle, high = np.quantile(hypervolume(scores, prices, point), [0.025, 0.5, 0.975])
    on = on_front(scores, prices).mean(axis=0)
    best = np.bincount(np.argmax(scores[:, :, 0], axis=1), minlength=count) / len(scores)
    knees = None
    if front.may_bend:
        knees = np.bincount(knee(scores, prices) + 1, minlength=count + 1)[1:] / len(scores)
    return {
        key_of(entry): FrontPlace(
            objectives=[str(one) for one in front.objectives],
            scores={one.name: _score(joint, one, i) for one in front.objectives if not one.exact},
            costs={name: float(joint.costs[name][i]) for name in front.costs},
            probability=float(on[i]),
            probability_knee=None if knees is None else float(knees[i]),
            probability_best=float(best[i]),
            hypervolume=float(middle),
            hypervolume_low=float(low),
            hypervolume_high=float(high),
            reference=reference,
        )
        for i, entry in enumerate(joint.members)
    }


def _score(joint: Joint, objective: ObjectiveOf, index: int) -> FrontScore:
    scored, sign = joint.scored[objective.name], objective.sign
    low, high = sorted((sign * float(scored.low[index]), sign * float(scored.high[index])))
    return FrontScore(expected=sign * float(scored.expected[index]), low=low, high=high)


def read_costs(texts: Sequence[str]) -> list[str]:
    """Return the costs that are named, each once. Raises UserError."""
    costs: list[str] = []
    for text in texts:
        costs.append(_cost(text, costs, f"--cost: got {text!r}; expected "))
    return costs


def read_limits(texts: Sequence[str]) -> dict[str, float]:
    """Return what ``gmacs=100`` and the like say. Raises UserError."""
    limits: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        expected = f"--under: got {text!r}; expected COST=NUMBER with "
        if not equals:
            raise UserError(f"{expected}one of {', '.join(COSTS)}")
        known = _cost(name, limits, expected)
        limits[known] = _number(number, f"--under {known}")
        if limits[known] <= 0:
            raise UserError(f"--under {known}: got {number!r}; expected a number above 0")
    return limits


def _cost(text: str, before: Container[str], problem: str) -> str:
    name = "compute" if text.strip() == "training_flops" else text.strip()
    if name not in COSTS:
        hint = did_you_mean(name, COSTS)
        raise UserError(f"{problem}one of {', '.join(COSTS)}" + (f"; {hint}" if hint else ""))
    if name in before:
        option = problem.partition(":")[0]
        raise UserError(f"{option}: got {name} twice; expected each cost once")
    return name


def read_reference(text: str) -> tuple[float, ...]:
    """Return what ``0.25,180`` says: a number for each objective. Raises UserError."""
    return tuple(_number(part, "--reference") for part in text.split(","))


def _number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"{option}: got {text!r}; expected a number, as 0.25, 100 or 3e8")
    return value


def _check_reference(objectives: Sequence[ObjectiveOf], reference: Sequence[float] | None) -> None:
    if reference is None:
        return
    if len(reference) != len(objectives):
        raise UserError(
            f"--reference: got {len(reference)} numbers; expected one for each of "
            f"{', '.join(map(str, objectives))}"
        )
    for one, value in zip(objectives, reference, strict=True):
        if one.exact and value <= 0:
            raise UserError(f"--reference: got {value:g} for {one.name}; expected more than 0")


def _check_any(joint: Joint, whole: Joint, limits: Mapping[str, float]) -> None:
    if not joint.members:
        said = " and ".join(f"{name}={most:g}" for name, most in limits.items())
        least = ", ".join(f"{name} {whole.costs[name].min():.6g}" for name in limits)
        raise UserError(f"--under {said}: no architecture is within; the least is {least}")


def _place(row: LeaderboardRow) -> FrontPlace:
    assert row.front is not None
    return row.front
