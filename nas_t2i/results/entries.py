"""The trials of one architecture, taken together: which rung and which seeds count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nas_t2i.errors import IncomparableError, RecordError, did_you_mean
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import CurvePoint, Score, Signal, TrialRecord, TrialState
from nas_t2i.statistics import FloatArray, mean_over_prompts

SETTLED = (TrialState.COMPLETE, TrialState.STOPPED)
BROKEN = (TrialState.DIVERGED, TrialState.FAILED)


@dataclass(frozen=True)
class Entry:
    """The trials of one architecture under one budget and control: a seed each, in order."""

    trials: tuple[TrialRecord, ...]
    metric: str
    """The metric of the ranking; "" where no trial of it has a score."""
    _points: dict[int, list[CurvePoint]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _means: dict[tuple[int, str], tuple[float, float | None]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def first(self) -> TrialRecord:
        """The trial that lends the row what all seeds share."""
        return self.trials[0]

    @cached_property
    def state(self) -> TrialState:
        """The state of the row: any seed that diverged or was stopped decides for all.

        One that was stopped before its first score, as further seeds in a race are, is left out of
        the row and decides nothing where others have a score.
        """
        deciding = [t for t in self.trials if last_step(t) or t.state is TrialState.DIVERGED]
        states = {trial.state for trial in deciding or self.trials}
        for state in (TrialState.DIVERGED, TrialState.STOPPED, TrialState.COMPLETE):
            if state in states:
                return state
        for state in (TrialState.RUNNING, TrialState.INTERRUPTED):
            if state in states:
                return state
        return TrialState.FAILED

    @cached_property
    def step(self) -> int:
        """The rung to compare at: the last one that every seed that was settled has reached.

        A seed that was stopped counts there with its score; leaving it out would flatter the rest.
        Before any seed is settled it is the furthest rung of any. 0: no rung was reached.
        """
        settled = [last_step(t) for t in self.trials if t.state in SETTLED and last_step(t)]
        return min(settled) if settled else max(last_step(t) for t in self.trials)

    @cached_property
    def counted(self) -> tuple[TrialRecord, ...]:
        """The trials whose mean is the row's score: those with a score at `step`."""
        return tuple(t for t in self.trials if point_at(t, self.step))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The rungs up to `step` at which every counted seed has a score, in order."""
        steps = [set(scored_steps(trial)) for trial in self.counted]
        return tuple(sorted(s for s in set.intersection(*steps) if s <= self.step)) if steps else ()

    def points(self, step: int) -> list[CurvePoint]:
        """Return the curve points of the counted seeds at a rung."""
        if step not in self._points:
            self._points[step] = [p for t in self.counted if (p := point_at(t, step))]
        return self._points[step]

    def scores(self, step: int, metric: str = "") -> list[Score]:
        """Return the scores of the counted seeds at a rung, by the ranked metric or another one."""
        found = [_only(point, metric or self.metric) for point in self.points(step)]
        return [score for scores in found for score in scores.values()]

    def additional(self, step: int) -> list[str]:
        """Return what every counted seed has beside the ranked metric: metrics, then signals."""
        points = self.points(step)
        named = [*points[0].scores, *points[0].signals] if points else []
        return [
            metric
            for metric in named
            if metric != self.metric and all(_only(point, metric) for point in points)
        ]

    def per_prompt(self, step: int, metric: str = "") -> FloatArray:
        """Return the scores of single prompts, (seeds, prompts); no prompts if not recorded."""
        rows = [score.per_prompt for score in self.scores(step, metric)]
        if len({len(row) for row in rows}) > 1:
            raise IncomparableError(
                f"{self.first.name}: seeds scored on different numbers of prompts: "
                f"{', '.join(str(len(row)) for row in rows)}"
            )
        return np.array(rows, dtype=np.float64)

    def mean(self, step: int, metric: str = "") -> tuple[float, float | None]:
        """Return score and standard error over prompts at a rung, mean over the counted seeds."""
        known = self._means.get((step, metric))
        if known is None:
            known = self._means[step, metric] = self._mean(step, metric)
        return known

    def _mean(self, step: int, metric: str) -> tuple[float, float | None]:
        scores = self.scores(step, metric)
        value = sum(score.value for score in scores) / len(scores)
        prompts = self.per_prompt(step, metric)
        if prompts.size:
            stderr = mean_over_prompts(prompts.mean(axis=0)).stderr
        else:
            # Seeds share their prompts: without the single scores, take them as fully correlated.
            stderr = sum(score.stderr for score in scores) / len(scores)
        return value, stderr if math.isfinite(stderr) else None

    def merit(self, step: int) -> float:
        """Return the score at a rung, negated where smaller ones are better: larger is better."""
        value = self.mean(step)[0]
        return value if self.scores(step)[0].better == "larger" else -value


def group_entries(trials: Iterable[TrialRecord]) -> list[Entry]:
    """Group trials by architecture and control, in order of their first trial.

    The same seed twice (two studies, one budget) is one measurement: the one that went further
    counts, of equals the later one.

    Raises:
        IncomparableError: two metrics, budgets or metric signatures among them; names both.
    """
    trials = list(trials)
    metric = shared_metric(trials)
    _check_comparable(trials, metric)
    groups: dict[tuple[str, str], dict[int, TrialRecord]] = {}
    for trial in trials:
        seeds = groups.setdefault((trial.arch_id, trial.control), {})
        known = seeds.get(trial.seed)
        if known is None or last_step(trial) >= last_step(known):
            seeds[trial.seed] = trial
    return [
        Entry(tuple(seeds[seed] for seed in sorted(seeds)), metric) for seeds in groups.values()
    ]


def shared_metric(trials: Iterable[TrialRecord]) -> str:
    """Return the one metric that trials are ranked by, "" where none has a score yet.

    It is the first of every rung's scores; additional metrics of a budget stand behind it.

    Raises:
        IncomparableError: there are two; names both.
    """
    seen: dict[str, TrialRecord] = {}
    for trial in trials:
        for point in trial.curve:
            for metric in list(point.scores)[:1]:
                seen.setdefault(metric, trial)
    _check_one("metrics", seen)
    return next(iter(seen), "")


def with_one_metric(trials: Sequence[TrialRecord], metric: str) -> list[TrialRecord]:
    """Return the trials with their scores of one metric only; a signal is taken as a score."""
    return [
        trial.model_copy(
            update={
                "curve": [
                    point.model_copy(update={"scores": _only(point, metric)})
                    for point in trial.curve
                ]
            }
        )
        for trial in trials
    ]


def _only(point: CurvePoint, metric: str) -> dict[str, Score]:
    found = {name: score for name, score in point.scores.items() if name == metric}
    if signal := point.signals.get(metric):
        found[metric] = as_score(signal)
    return found


def as_score(signal: Signal) -> Score:
    """Return a signal in the form of a score: its pairs stand for prompts."""
    return Score(
        metric=signal.name,
        value=signal.value,
        stderr=signal.stderr,
        n=signal.n,
        signature=signal.signature,
        better=SIGNALS[signal.name].better,
        per_prompt=signal.per_pair,
    )


def measured_signals(trials: Iterable[TrialRecord]) -> list[str]:
    """Return the names of the signals on record, in order of first appearance."""
    return list(dict.fromkeys(s for t in trials for point in t.curve for s in point.signals))


def check_metric(metric: str, found: Iterable[str], place: str) -> str:
    """Return a metric's name if it is among those found; else raise RecordError, naming those."""
    names = sorted(set(found))
    if metric not in names:
        hint = did_you_mean(metric, names)
        raise RecordError(
            f"{place}: no score of the metric {metric!r}; expected one of {', '.join(names)}"
            + (f"; {hint}" if hint else "")
        )
    return metric


def _check_comparable(trials: Sequence[TrialRecord], metric: str) -> None:
    budgets: dict[str, TrialRecord] = {}
    signatures: dict[str, TrialRecord] = {}
    for trial in trials:
        budgets.setdefault(trial.budget_id, trial)
        for point in trial.curve:
            if metric in point.scores:
                signatures.setdefault(point.scores[metric].signature, trial)
    _check_one("budgets", budgets)
    _check_one("metric signatures", signatures)


def _check_one(what: str, seen: Mapping[str, TrialRecord]) -> None:
    """Refuse two values of what a ranking must share; `seen` has a trial for each value."""
    if len(seen) > 1:
        (one, a), (other, b) = list(seen.items())[:2]
        raise IncomparableError(
            f"scores of different {what} can't stand in one ranking: {one} "
            f"({_place(a)}) and {other} ({_place(b)})"
        )


def _place(trial: TrialRecord) -> str:
    return f"study {trial.study}, {trial.name}"


def point_at(trial: TrialRecord, step: int) -> CurvePoint | None:
    """Return the scored point of a trial at a rung, None where it has none."""
    for point in trial.curve:
        if point.step == step and point.scores:
            return point
    return None


def scored_steps(trial: TrialRecord) -> list[int]:
    """Return the rungs at which a trial has a score, in order."""
    return [point.step for point in trial.curve if point.scores]


def last_step(trial: TrialRecord) -> int:
    """Return the last rung at which a trial has a score, 0 for none."""
    return max(scored_steps(trial), default=0)
