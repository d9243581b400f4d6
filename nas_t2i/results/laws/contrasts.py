"""Differences of architectures' expected scores, over the joint draws that rankings use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.results.beliefs import posterior_of
from nas_t2i.results.entries import Entry, group_entries
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.statistics import FloatArray

Pair = tuple[int, int]
"""Places of two candidates: the difference is the first less the second."""


@dataclass(frozen=True)
class Contrast:
    """A mean difference of scores and its 95 % interval, over seeds and prompts."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Candidates:
    """Searched architectures measured at the last rung, with joint draws of their scores."""

    entries: tuple[Entry, ...]
    names: tuple[str, ...]
    scores: FloatArray
    """(architectures,): expected scores at the last rung, in the metric's unit."""
    draws: FloatArray
    """(draws, architectures): the same, drawn jointly."""

    def contrast(self, pairs: Sequence[Pair]) -> Contrast:
        """Return the mean difference over pairs; each is taken as often as it is named."""
        first, second = np.array(pairs).T
        value = float((self.scores[first] - self.scores[second]).mean())
        drawn = (self.draws[:, first] - self.draws[:, second]).mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Contrast(value, min(float(low), value), max(float(high), value))


def candidates(found: RankedStudies) -> Candidates | None:
    """Return what can be compared; None where nothing was measured at the last rung.

    Predictions are left out: they are made from scores of the others.
    """
    entries = group_entries(found.trials)
    entries.sort(key=lambda e: (e.first.arch_id, e.first.control))
    believed = posterior_of(entries)
    if believed is None:
        return None
    posterior, indices, sign = believed
    kept = [
        column
        for column in range(len(indices))
        if posterior.measured_seeds[column] and not posterior.evidence.apart[column]
    ]
    if not kept:
        return None
    deviation = np.sqrt(posterior.noise.between(posterior.step))
    names = {(row.arch_id, row.control): row.name for row in found.rows}
    chosen = [entries[indices[column]] for column in kept]
    return Candidates(
        entries=tuple(chosen),
        names=tuple(names[e.first.arch_id, e.first.control] for e in chosen),
        scores=sign * posterior.expected[kept],
        draws=sign * posterior.evidence.scale.expected(posterior.draws[:, kept], deviation),
    )
