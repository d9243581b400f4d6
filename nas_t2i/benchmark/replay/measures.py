"""What a replay was worth: regret, the chance of the best, hypervolume, as compute is spent.

Over repeats the interquartile mean stands for the middle: the mean of the middle half, which few
bad repeats don't pull away and which is surer than a median (Agarwal, Schwarzer, Castro, Courville
& Bellemare, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021).
Its interval is the percentile interval of the bootstrap over repeats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.limits import Limits
from nas_t2i.arch.space import Space
from nas_t2i.benchmark.form import ArchitectureEntry
from nas_t2i.benchmark.replay.replay import Event
from nas_t2i.benchmark.table import Table
from nas_t2i.errors import UserError
from nas_t2i.ranking.front import hypervolume, on_front
from nas_t2i.ranking.observations import Observation
from nas_t2i.ranking.posterior import believe
from nas_t2i.ranking.scale import Scale, scale_for
from nas_t2i.statistics import FloatArray

# Joint draws of a ranking: only its expected scores are needed, and those hardly depend on them.
_DRAWS = 100
_SAMPLES = 1000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Truth:
    """What there was to be found: true scores are means over all recorded seeds."""

    table: Table
    arch_ids: tuple[str, ...]
    """Those that a search may find: of its space, within its limits."""
    scores: FloatArray
    """(architectures,), larger is better."""
    costs: FloatArray
    """(architectures, costs): what each one costs, GMACs unless other objectives were asked for."""

    @classmethod
    def of(cls, table: Table, space: Space, costs: Sequence[str] = ("gmacs",)) -> Truth:
        """Return the truth of a table for a space, against some of `protocol.objectives.COUNTED`.

        Raises:
            UserError: nothing of the table is in the space within its limits.
        """
        within: Limits = space.limits
        given = {arch.arch_id for _, arch in space.included}
        chosen = [
            index
            for index, entry in enumerate(table.manifest.architectures)
            if within.check(entry.profile) is None
            and (entry.arch_id in given or _is_reached(space, table, entry.arch_id))
        ]
        if not chosen:
            raise UserError(f"table {table.name}: no architecture of it is within the limits")
        sign = 1 if table.better == "larger" else -1
        entries = [table.manifest.architectures[index] for index in chosen]
        return cls(
            table,
            tuple(entry.arch_id for entry in entries),
            sign * table.values(table.metric).mean(axis=1)[chosen],
            np.array([[_cost(entry, cost) for cost in costs] for entry in entries]),
        )

    @cached_property
    def places(self) -> dict[str, int]:
        """The index of each architecture."""
        return {arch_id: index for index, arch_id in enumerate(self.arch_ids)}

    @property
    def guess(self) -> float:
        """The regret of one drawn at random: that of a search that has seen no score yet."""
        return float(self.scores.max() - self.scores.mean())

    def regret(self, arch_id: str) -> float:
        """Return how far an architecture is below the best one, in the metric's unit."""
        return float(self.scores.max() - self.scores[self.places[arch_id]])

    def hypervolume(self, arch_ids: Sequence[str]) -> float:
        """Return the hypervolume of score and costs that architectures dominate, as a share of all.

        The reference point is the worst score and the largest of each cost of all.
        """
        whole = self._volume(range(len(self.arch_ids)))
        part = self._volume([self.places[arch_id] for arch_id in arch_ids])
        return part / whole if whole > 0 else float(bool(arch_ids))

    def front(self, scores: Mapping[str, float]) -> list[str]:
        """Return who is on the front of some scores against the costs."""
        if not scores:
            return []
        costs = self.costs[[self.places[arch_id] for arch_id in scores]]
        on = on_front(np.array([list(scores.values())]), costs)[0]
        return [arch_id for arch_id, member in zip(scores, on, strict=True) if member]

    def _volume(self, indices: Sequence[int]) -> float:
        chosen = list(indices)
        if not chosen:
            return 0.0
        reference = [float(self.scores.min()), *self.costs.max(axis=0)]
        return float(hypervolume(self.scores[None, chosen], self.costs[chosen], reference)[0])


def _cost(entry: ArchitectureEntry, cost: str) -> float:
    if cost == "compute":  # of every run as many images: what is left is the size
        return entry.trained_profile.gmacs
    return float(getattr(entry.profile, cost))


def _is_reached(space: Space, table: Table, arch_id: str) -> bool:
    if not space.axes:
        return False
    return space.encode(arch_from_dict(table.architecture(arch_id).arch)) is not None


class Picker:
    """Says which architecture the program's own ranking has first after some events of a replay."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._sign = 1 if table.better == "larger" else -1
        self._known: dict[tuple[str, int, int, int], Observation] = {}
        scores = self._sign * table.values(table.metric)
        chance = table.manifest.chance
        self._scale: Scale = scale_for([scores], chance, proportion=self._is_proportion)

    @cached_property
    def _is_proportion(self) -> bool:
        values = self._table.values(self._table.metric)
        return bool(values.min() >= 0 and values.max() <= 1)

    def expected(self, events: Sequence[Event]) -> dict[str, float]:
        """Return what the ranking expects of each arch_id; nothing before there is any score."""
        if not any(event.step in self._table.full_steps for event in events):
            return {}
        posterior = believe([self._observation(e) for e in events], self._scale, draws=_DRAWS)
        return dict(zip(posterior.architectures, posterior.expected.tolist(), strict=True))

    def pick(self, events: Sequence[Event]) -> str | None:
        """Return the arch_id of the first of the ranking; None before there is any score."""
        expected = self.expected(events)
        return max(expected, key=expected.__getitem__) if expected else None

    def _observation(self, event: Event) -> Observation:
        key = event.arch_id, event.recorded_seed, event.step, event.seed
        if key not in self._known:
            point = self._table.point(event.arch_id, event.step, event.recorded_seed)
            score = point.scores.get(self._table.metric)
            single = None
            if score is not None and score.per_prompt:
                single = self._sign * np.asarray(score.per_prompt, dtype=np.float64)
            self._known[key] = Observation(
                event.arch_id,
                event.seed,
                event.step,
                None if score is None else self._sign * score.value,
                None if score is None else score.stderr,
                single,
                {name: signal.value for name, signal in point.signals.items()},
                self._table.architecture(event.arch_id).family,
            )
        return self._known[key]


@dataclass(frozen=True)
class Course:
    """What one replay was worth at each point of the compute axis; all (points,)."""

    regret: FloatArray
    found: FloatArray
    """1 where the best was picked, else 0."""
    hypervolume: FloatArray
    """Of those that were trained to the end."""
    front: FloatArray
    """The same of those on the front of the expected scores: what the search would report."""
    seconds: FloatArray
    """Simulated, when so much compute had been spent; of one that ended before, its end."""
    spent: float
    """Compute in all, FLOPs."""


def course(truth: Truth, picker: Picker, events: Sequence[Event], compute: FloatArray) -> Course:
    """Follow one replay along `compute` (FLOPs, ascending)."""
    columns: list[tuple[float, ...]] = []
    picked: str | None = None
    expected: dict[str, float] = {}
    before, last = -1, truth.table.steps[-1]
    for budget in compute:
        count = sum(event.compute <= budget for event in events)
        if count != before:
            expected, before = picker.expected(events[:count]), count
            picked = max(expected, key=expected.__getitem__) if expected else None
        whole = {event.arch_id for event in events[:count] if event.step == last}
        regret = truth.guess if picked is None else truth.regret(picked)
        columns.append(
            (
                regret,
                float(picked is not None and regret == 0),
                truth.hypervolume(sorted(whole)),
                truth.hypervolume(truth.front(expected)),
                events[count - 1].seconds if count else 0.0,
            )
        )
    regrets, found, volumes, fronts, seconds = np.array(columns).T
    return Course(regrets, found, volumes, fronts, seconds, events[-1].compute if events else 0.0)


@dataclass(frozen=True)
class Middle:
    """A mean over repeats and its 95 % interval; all (points,)."""

    value: FloatArray
    low: FloatArray
    high: FloatArray


def interquartile_mean(table: FloatArray) -> FloatArray:
    """Return the mean of the middle half of (repeats, ...), a quarter cut off at either end.

    Of a number of repeats that four does not divide, the outermost that are left count in part.
    """
    ordered = np.sort(table, axis=0)
    count = len(ordered)
    edges = np.clip(np.arange(count + 1), count / 4, 3 * count / 4)
    weights = np.diff(edges)
    found: FloatArray = np.tensordot(weights, ordered, axes=1) / weights.sum()
    return found


def middle(table: FloatArray, *, seed: int, plain: bool = False) -> Middle:
    """Return the interquartile mean over (repeats, points), or the plain mean, and its interval.

    The plain mean is for shares: the middle half of zeros and ones says nothing between.
    """
    centre = (lambda values: values.mean(axis=0)) if plain else interquartile_mean
    generator = np.random.default_rng(seed)
    drawn = np.array(
        [
            centre(table[generator.integers(0, len(table), len(table))])
            for _ in range(_SAMPLES if len(table) > 1 else 0)
        ]
    )
    value = centre(table)
    if not len(drawn):
        unknown = np.full_like(value, math.nan)
        return Middle(value, unknown, unknown)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return Middle(value, low, high)
