"""Does one study order architectures as another does, and as the paper does?

For studies of unlike budgets: other proxies, lengths, data. Their scores can't be compared, their
orders can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nas_t2i.arch.catalog import CATALOG, ReportedOrder, reported_orders
from nas_t2i.errors import RecordError, number_of
from nas_t2i.ranking.evidence import BoolArray
from nas_t2i.ranking.pairs import tied
from nas_t2i.records import TrialState
from nas_t2i.results.beliefs import posterior_of
from nas_t2i.results.correlations import Correlation, kendall_interval, spearman_interval
from nas_t2i.results.entries import group_entries
from nas_t2i.statistics import FloatArray, spearman
from nas_t2i.store import Study

LEAST = 4
"""Architectures in both studies; fewer have no order to speak of."""


@dataclass(frozen=True)
class Order:
    """How a study orders what it trained to the end; arrays go by the architectures' ids, sorted.

    A larger expected score is better, whatever the metric says.
    """

    study: str
    budget: str
    metric: str
    names: dict[str, str]
    """By architecture id."""
    expected: FloatArray
    """(architectures,): the expected final score."""
    gmacs: FloatArray
    """(architectures,): of the full architecture."""
    apart: BoolArray
    """(architectures, architectures): whether the 95 % interval of the difference excludes 0."""
    seeds: int
    """Seeds that all of them have."""
    between_seeds: float
    """Mean Spearman's correlation of the final scores of one seed with those of another; NaN."""

    def places(self, ids: Sequence[str]) -> list[int]:
        """Return where architectures stand in the arrays."""
        known = {arch_id: place for place, arch_id in enumerate(self.names)}
        return [known[arch_id] for arch_id in ids]


@dataclass(frozen=True)
class Agreement:
    """Two orders of the architectures that both have."""

    first: str
    second: str
    architectures: int
    spearman: Correlation
    kendall: Correlation
    told_apart: int
    """Pairs that each of the two tells apart by itself."""
    same_way: int
    """Of these, the ones that both order alike."""
    contradictions: tuple[tuple[str, str], ...]
    """The others: (better, worse) in the first."""
    picked: str
    """The best in the first."""
    regret: float
    """What it scores in the second less than the best there."""


@dataclass(frozen=True)
class ReportedPair:
    """A pair that the paper puts in an order, in a study."""

    order: ReportedOrder
    difference: float
    """Expected score of the one that is better in the paper less that of the other."""
    apart: bool


@dataclass(frozen=True)
class WithPaper:
    """A study beside what the paper says."""

    study: str
    pairs: tuple[ReportedPair, ...]
    gmacs: Correlation
    """Spearman's correlation of the final score with the full architectures' GMACs."""


def order_of(study: Study) -> Order:
    """Return how a study orders the architectures that it trained to the end with every seed.

    Raises:
        RecordError: fewer than four of them.
        IncomparableError: two metrics or signatures among them.
    """
    whole = [t for t in study.trials if t.state is TrialState.COMPLETE and not t.control]
    entries = sorted(group_entries(whole), key=lambda entry: entry.first.arch_id)
    seeds = sorted({trial.seed for entry in entries for trial in entry.trials})
    entries = [entry for entry in entries if len(entry.trials) == len(seeds)]
    found = posterior_of(entries) if len(entries) >= LEAST else None
    if found is None:
        raise RecordError(
            f"study {study.record.study}: {number_of(len(entries), 'architecture')} trained to the "
            f"end with every seed; expected {LEAST} or more"
        )
    posterior, _, _ = found
    scores = np.array([[s.value for s in entry.scores(posterior.step)] for entry in entries]).T
    pairs = [spearman(one, other) for one, other in combinations(scores, 2)]
    same = tied(posterior, np.arange(len(entries)))
    return Order(
        study=study.record.study,
        budget=study.record.budget.name,
        metric=entries[0].metric,
        names={entry.first.arch_id: entry.first.name for entry in entries},
        expected=posterior.expected,
        gmacs=np.array([entry.first.profile.gmacs for entry in entries]),
        apart=~same & ~np.eye(len(entries), dtype=bool),
        seeds=len(seeds),
        between_seeds=float(np.mean(pairs)) if pairs else float("nan"),
    )


def agreement(first: Order, second: Order) -> Agreement:
    """Compare two orders. Raises RecordError where they share fewer than four architectures."""
    shared = [arch_id for arch_id in first.names if arch_id in second.names]
    if len(shared) < LEAST:
        raise RecordError(
            f"studies {first.study} and {second.study} have "
            f"{number_of(len(shared), 'architecture')} in common; expected {LEAST} or more"
        )
    mine, theirs = first.places(shared), second.places(shared)
    one, other = first.expected[mine], second.expected[theirs]
    told, same, against = 0, 0, []
    for i, j in combinations(range(len(shared)), 2):
        if not (first.apart[mine[i], mine[j]] and second.apart[theirs[i], theirs[j]]):
            continue
        told += 1
        if (one[i] > one[j]) == (other[i] > other[j]):
            same += 1
        else:
            better, worse = (i, j) if one[i] > one[j] else (j, i)
            against.append((first.names[shared[better]], first.names[shared[worse]]))
    best = int(np.argmax(one))
    return Agreement(
        first=first.study,
        second=second.study,
        architectures=len(shared),
        spearman=spearman_interval(one, other),
        kendall=kendall_interval(one, other),
        told_apart=told,
        same_way=same,
        contradictions=tuple(against),
        picked=first.names[shared[best]],
        regret=float(other.max() - other[best]),
    )


def with_paper(order: Order) -> WithPaper:
    """Hold a study's order against the pairs that the paper orders and that the study holds."""
    found = []
    for pair in reported_orders():
        ids = [CATALOG[pair.better].arch_id, CATALOG[pair.worse].arch_id]
        if all(arch_id in order.names for arch_id in ids):
            better, worse = order.places(ids)
            difference = float(order.expected[better] - order.expected[worse])
            found.append(ReportedPair(pair, difference, bool(order.apart[better, worse])))
    return WithPaper(order.study, tuple(found), spearman_interval(order.expected, order.gmacs))
