"""Studies of one budget with their ranking: what figures and the report are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nas_t2i.errors import IncomparableError
from nas_t2i.records import TrialRecord
from nas_t2i.results.beyond import mark_beyond
from nas_t2i.results.entries import (
    BROKEN,
    Entry,
    group_entries,
    measured_signals,
    with_one_metric,
)
from nas_t2i.results.figures.chart import Role
from nas_t2i.results.fronts.front import Front, with_front
from nas_t2i.results.fronts.objectives import objectives_of, ranked_against, sought_alike
from nas_t2i.results.leaderboard import LeaderboardRow, rank_trials
from nas_t2i.store import Study, read_contents, without_collection

MOST_NAMED = 7
"""Architectures with a colour of their own; more are hard to tell apart (Okabe and Ito, "Color
Universal Design", 2008, has eight colours, of which one is for the front)."""


@dataclass(frozen=True)
class RankedStudies:
    """Studies that share a budget, in one ranking; without trials there are no rows."""

    studies: tuple[Study, ...]
    rows: tuple[LeaderboardRow, ...]

    @property
    def title(self) -> str:
        """What the studies are called together."""
        return ", ".join(study.record.study for study in self.studies)

    @cached_property
    def trials(self) -> tuple[TrialRecord, ...]:
        """The trials of all studies."""
        return tuple(trial for study in self.studies for trial in study.trials)

    @cached_property
    def metric(self) -> str:
        """What is ranked by; before the first score, what the study says it will be."""
        return next((row.metric for row in self.rows if row.metric), self.studies[0].record.metric)

    @cached_property
    def sound(self) -> tuple[LeaderboardRow, ...]:
        """The searched architectures of which something is believed, best first."""
        return tuple(row for row in self.rows if row.probability_best is not None)

    @cached_property
    def smaller_is_better(self) -> bool:
        """Whether smaller scores of the ranked metric are better."""
        scores = (p.scores[self.metric] for t in self.trials for p in t.curve if p.scores)
        return next((score.better == "smaller" for score in scores), False)

    @cached_property
    def quantities(self) -> tuple[str, ...]:
        """What curves there are: the ranked metric, additional ones, signals."""
        scores = [name for t in self.trials for point in t.curve for name in point.scores]
        found = dict.fromkeys([*scores, *measured_signals(self.trials)])
        return tuple(sorted(found, key=lambda name: name != self.metric))

    @cached_property
    def sought(self) -> Front | None:
        """The front of the objectives that all studies sought alike, with what is not sure of it.

        None where they sought the ranked metric alone, or their latencies don't compare.
        """
        texts = sought_alike(self.studies)
        if not texts:
            return None
        scored = any(row.metric for row in self.rows)
        objectives = objectives_of(texts, self.trials) if scored else ()
        try:
            return with_front(self.rows, self.trials, objectives)
        except IncomparableError:
            return None

    def front(self, cost: str) -> Front:
        """Return the front of expected score against a cost, with what is not sure about it."""
        return with_front(self.rows, self.trials, ranked_against([cost], self.trials))

    def entries(self, quantity: str) -> Mapping[tuple[str, str], Entry]:
        """Return by architecture and control what was measured of a metric or signal.

        Nothing where it was not measured alike in all trials.
        """
        try:
            groups = group_entries(with_one_metric(self.trials, quantity))
        except IncomparableError:
            return {}
        return {(e.first.arch_id, e.first.control): e for e in groups if e.steps}

    def role(self, row: LeaderboardRow) -> Role:
        """Return how a row is drawn."""
        if row.control:
            return Role.CONTROL
        named = {r.rank for r in self.sound[:MOST_NAMED]}
        return Role.BEST if row.rank in named else Role.OTHER


@without_collection()
def read_ranked(folders: Iterable[Path]) -> RankedStudies:
    """Read studies and rank their trials together.

    Raises:
        RecordError: a study can't be read.
        IncomparableError: two metrics, budgets or metric signatures among them.
    """
    return ranked([read_contents(folder) for folder in folders])


def ranked(studies: Sequence[Study]) -> RankedStudies:
    """Rank the trials of studies together. Raises IncomparableError."""
    budgets = {study.record.budget_id: study.record.study for study in studies}
    if len(budgets) > 1:
        (one, a), (other, b) = list(budgets.items())[:2]
        raise IncomparableError(
            f"studies of different budgets can't stand in one ranking: {one} (study {a}) and "
            f"{other} (study {b})"
        )
    rows = rank_trials(trial for study in studies for trial in study.trials)
    return RankedStudies(tuple(studies), tuple(mark_beyond(rows, studies)))


def is_broken(row: LeaderboardRow) -> bool:
    """Whether a row diverged or failed."""
    return row.state in BROKEN
