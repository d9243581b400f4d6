"""Which entries of a ranking can't be told apart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from nas_t2i.errors import IncomparableError
from nas_t2i.results.entries import BROKEN, Entry
from nas_t2i.statistics import seed_effect, tied_pairs

# The 97.5 % quantile of the normal distribution: half the width of a 95 % interval.
_Z95 = 1.959964


def ties(entries: Sequence[Entry]) -> list[set[int]]:
    """Return for each entry the indices of those that can't be told apart from it.

    Compared are the entries that have a score and did not break, two at a time, at the last rung
    that both have: the score of a later rung against that of an earlier one would say nothing.
    """
    tied: list[set[int]] = [set() for _ in entries]
    compared = [i for i, entry in enumerate(entries) if entry.counted and entry.state not in BROKEN]
    pairs: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for position, i in enumerate(compared):
        for j in compared[position + 1 :]:
            common = set(entries[i].steps) & set(entries[j].steps)
            if common:
                pairs[max(common)].append((i, j))
    for step, at_step in pairs.items():
        for i, j in _tied_at(entries, step, at_step):
            tied[i].add(j)
            tied[j].add(i)
    return tied


def _tied_at(
    entries: Sequence[Entry], step: int, pairs: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    indices = sorted({index for pair in pairs for index in pair})
    prompts = [entries[i].per_prompt(step) for i in indices]
    sizes = {p.shape[1] for p in prompts}
    if 0 in sizes:
        return [pair for pair in pairs if _tied_without_prompts(entries, step, *pair)]
    if len(sizes) > 1:
        counts = ", ".join(str(size) for size in sorted(sizes))
        raise IncomparableError(
            f"scores at step {step} are over different numbers of prompts: {counts}"
        )
    # A prompt that one entry was not scored on (NaN) is left out for all: pairs stay pairs.
    kept = ~np.isnan(np.concatenate(prompts)).any(axis=0)
    if not kept.any():
        return list(pairs)
    prompts = [p[:, kept] for p in prompts]
    tied = tied_pairs(
        np.stack([p.mean(axis=0) for p in prompts]),
        seeds=[len(p) for p in prompts],
        effect=seed_effect(prompts),
    )
    place = {index: row for row, index in enumerate(indices)}
    return [(i, j) for i, j in pairs if tied[place[i], place[j]]]


def _tied_without_prompts(entries: Sequence[Entry], step: int, i: int, j: int) -> bool:
    """Compare by standard errors alone, as if prompts were not shared: the cautious side."""
    (a, a_stderr), (b, b_stderr) = entries[i].mean(step), entries[j].mean(step)
    if a_stderr is None or b_stderr is None:
        return True
    return abs(a - b) <= _Z95 * math.hypot(a_stderr, b_stderr)
