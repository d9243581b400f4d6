"""What is believed, jointly, of the architectures that a front may be of: scores and costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas_t2i.errors import RecordError, named
from nas_t2i.protocol.objectives import ObjectiveOf
from nas_t2i.ranking.evidence import BoolArray
from nas_t2i.records import TrialRecord
from nas_t2i.results.beliefs import posterior_of
from nas_t2i.results.entries import Entry, group_entries, shared_metric, with_one_metric
from nas_t2i.results.fronts.latencies import Latencies, recorded_latencies
from nas_t2i.statistics import FloatArray
from nas_t2i.streams import derive_seed


@dataclass(frozen=True)
class Scored:
    """Scores by one metric; larger is better: turned round where smaller ones are."""

    entries: list[Entry]
    """All but controls and broken ones."""
    draws: FloatArray
    """(draws, entries): expected scores at the last rung."""
    expected: FloatArray
    """(entries,): their means."""
    low: FloatArray
    high: FloatArray
    """(entries,): the 95 % interval."""
    chance: float | None
    step: int
    """The last rung on record."""

    def of(self, places: Sequence[int]) -> Scored:
        """Return the same of some entries, in their order."""
        return replace(
            self,
            entries=[self.entries[place] for place in places],
            draws=self.draws[:, places],
            expected=self.expected[places],
            low=self.low[places],
            high=self.high[places],
        )


@dataclass(frozen=True)
class Joint:
    """All objectives of a front, of the same architectures in the same order."""

    objectives: tuple[ObjectiveOf, ...]
    scored: Mapping[str, Scored]
    """By metric."""
    costs: Mapping[str, FloatArray]
    """By name, (members,): those of the objectives, and those that a limit is on."""

    @property
    def members(self) -> list[Entry]:
        """The architectures."""
        return next(iter(self.scored.values())).entries

    @property
    def scores(self) -> FloatArray:
        """(draws, members, metrics)"""
        draws = [one.draws for one in self.scored.values()]
        fewest = min(map(len, draws))
        return np.stack([one[:fewest] for one in draws], axis=-1)

    @property
    def prices(self) -> FloatArray:
        """(members, costs): those of the objectives."""
        found = np.empty((len(self.members), 0))
        names = [one.name for one in self.objectives if one.exact]
        return np.column_stack([found, *(self.costs[name] for name in names)])

    @property
    def step(self) -> int:
        """The last rung on record, of all metrics."""
        return max(one.step for one in self.scored.values())

    def within(self, limits: Mapping[str, float]) -> Joint:
        """Return what is within limits."""
        inside: BoolArray = np.ones(len(self.members), dtype=np.bool_)
        for name, most in limits.items():
            inside &= self.costs[name] <= most
        places = np.flatnonzero(inside).tolist()
        return replace(
            self,
            scored={metric: one.of(places) for metric, one in self.scored.items()},
            costs={name: values[inside] for name, values in self.costs.items()},
        )


def joint_of(
    trials: Sequence[TrialRecord],
    objectives: Sequence[ObjectiveOf],
    *,
    limited: Iterable[str] = (),
    latencies: Latencies | None = None,
) -> Joint | None:
    """Return scores and costs of the architectures of trials; `limited` names further costs.

    Draws of the ranked metric are those that P(best) is counted over; metrics are drawn
    independently of each other. Compute is of one run to the last rung. Without `latencies` they
    are those on record. None where a metric has no score, or nothing but controls and broken ones.

    Raises:
        RecordError: a latency that is not on record, or as `posterior_of`.
        IncomparableError: latencies on record that don't compare, or as `posterior_of`.
    """
    ranked = shared_metric(trials)
    scored: dict[str, Scored] = {}
    for metric in (one.name for one in objectives if not one.exact):
        own, seed = trials, 0
        if metric != ranked:
            own, seed = with_one_metric(trials, metric), derive_seed(0, f"front of {metric}")
        if (found := _scored(own, seed)) is None:
            return None
        scored[metric] = found
    places = [{key_of(e): i for i, e in enumerate(one.entries)} for one in scored.values()]
    shared = [key for key in places[0] if all(key in others for others in places)]
    if not shared:
        return None
    scored = {
        metric: one.of([own[key] for key in shared])
        for (metric, one), own in zip(scored.items(), places, strict=True)
    }
    joint = Joint(tuple(objectives), scored, {})
    names = {one.name for one in objectives if one.exact} | set(limited)
    return replace(joint, costs=_costs(joint, names, latencies))


def key_of(entry: Entry) -> tuple[str, str]:
    """Return what tells entries apart: architecture and control."""
    return entry.first.arch_id, entry.first.control


def _scored(trials: Sequence[TrialRecord], seed: int) -> Scored | None:
    # In the order that the ranking's own beliefs were made in: the draws are the same.
    entries = sorted(group_entries(trials), key=key_of)
    found = posterior_of(entries, seed=seed)
    if found is None:
        return None
    posterior, indices, sign = found
    searched = np.flatnonzero(~posterior.evidence.apart)
    deviation = np.sqrt(posterior.noise.between(posterior.step))
    low, high = posterior.interval()
    members = [entries[indices[column]] for column in searched]
    chance = next((s.chance for e in members for s in e.scores(e.step)), None) if sign > 0 else None
    return Scored(
        entries=members,
        draws=posterior.evidence.scale.expected(posterior.draws[:, searched], deviation),
        expected=posterior.expected[searched],
        low=low[searched],
        high=high[searched],
        chance=chance,
        step=posterior.step,
    )


def _costs(
    joint: Joint, names: Iterable[str], latencies: Latencies | None
) -> dict[str, FloatArray]:
    members, names = joint.members, set(names)
    if "latency" in names:
        latencies = latencies or recorded_latencies(t for entry in members for t in entry.trials)
        _check_latencies(members, latencies)
    return {
        name: np.array([_cost(entry, name, joint.step, latencies) for entry in members])
        for name in names
    }


def _check_latencies(members: Sequence[Entry], latencies: Latencies | None) -> None:
    known = latencies.seconds if latencies else {}
    if lacking := [e.first.name for e in members if e.first.arch_id not in known]:
        raise RecordError(
            f"no latency on record of {named(lacking)}; expected a study that measured them "
            "(search.latency), or --latencies FILE with what `nas-t2i profile --arch ... --latency "
            "--format json` prints"
        )


def _cost(entry: Entry, cost: str, step: int, latencies: Latencies | None) -> float:
    if cost == "compute":
        point = next(p for trial in entry.trials for p in trial.curve)
        return point.training_flops / point.step * step
    if cost == "latency":
        assert latencies is not None
        return latencies.seconds[entry.first.arch_id]
    return float(getattr(entry.first.profile, cost))
