"""What is believed of the entries of a ranking: expected final scores, ranks and ties."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas_t2i.errors import IncomparableError, RecordError
from nas_t2i.ranking.observations import FloatArray, Observation, scores_by_step
from nas_t2i.ranking.pairs import tied
from nas_t2i.ranking.posterior import Posterior, believe
from nas_t2i.ranking.scale import Scale, scale_for
from nas_t2i.records import Score
from nas_t2i.results.entries import BROKEN, Entry

# Of more entries than this, only the best ones are compared pair by pair.
MOST_COMPARED = 300


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of one entry; scores in the metric's unit, at the last rung on record."""

    expected: float
    low: float
    high: float
    """The 95 % interval of the expected score over seeds."""
    measured_seeds: int
    """Seeds whose score at the last rung was measured; of 0 it is predicted."""
    probability_best: float | None
    """None for a control."""
    ranks: tuple[int, int] | None
    """The 95 % interval of its rank alone, among all but controls and broken entries."""
    tied_with: frozenset[int] | None
    """Indices of the entries that can't be told apart from it; None where that was not asked."""


def beliefs(entries: Sequence[Entry]) -> dict[int, Belief]:
    """Return by index what is believed of the entries that did not break and have a measurement.

    None where nothing has a score yet.

    Raises:
        IncomparableError: scores over different numbers of prompts among them.
        RecordError: an infinite score of a prompt; says whose.
    """
    found = posterior_of(entries)
    return {} if found is None else _beliefs(*found)


def posterior_of(
    entries: Sequence[Entry], *, seed: int = 0
) -> tuple[Posterior, list[int], int] | None:
    """Return the joint belief of entries, the index of each of its columns, and its sign.

    On its scale larger is better: the sign is -1 where scores are turned round for it. None where
    nothing has a score yet. Raises as `beliefs`.
    """
    sound = [i for i, entry in enumerate(entries) if entry.state not in BROKEN]
    observations = [o for i in sound for o in _observations(entries[i], i)]
    if not any(o.score is not None for o in observations):
        return None
    sign = -1 if any(_smaller_is_better(entries[i]) for i in sound) else 1
    controls = {_key(i) for i in sound if entries[i].first.control}
    try:
        scale = _scale(entries, observations, sign)
        posterior = believe(observations, scale, apart=controls, seed=seed)
    except ValueError as error:
        raise IncomparableError(str(error)) from None
    return posterior, [int(name) for name in posterior.architectures], sign


def _beliefs(posterior: Posterior, indices: Sequence[int], sign: int) -> dict[int, Belief]:
    expected = posterior.expected
    low, high = posterior.interval()
    best, ranks = posterior.probability_best(), posterior.rank_interval()
    compared = np.sort(np.argsort(-expected, kind="stable")[:MOST_COMPARED])
    same = tied(posterior, compared)
    pairs = {
        int(column): frozenset(indices[other] for other in compared[same[row]])
        for row, column in enumerate(compared)
    }
    found = {}
    for column, index in enumerate(indices):
        ends = sorted((sign * float(low[column]), sign * float(high[column])))
        searched = not posterior.evidence.apart[column]
        found[index] = Belief(
            expected=sign * float(expected[column]),
            low=ends[0],
            high=ends[1],
            measured_seeds=int(posterior.measured_seeds[column]),
            probability_best=float(best[column]) if searched else None,
            ranks=(int(ranks[0][column]), int(ranks[1][column])) if searched else None,
            tied_with=pairs.get(column),
        )
    return found


def _observations(entry: Entry, index: int) -> Iterator[Observation]:
    if entry.counted:
        entry.per_prompt(entry.step)  # refuses seeds of unlike numbers of prompts, by name
    for trial in entry.trials:
        for point in trial.curve:
            score = point.scores.get(entry.metric)
            if score is not None and not math.isfinite(score.value):
                score = None
            sign = -1 if score is not None and score.better == "smaller" else 1
            yield Observation(
                _key(index),
                trial.seed,
                point.step,
                None if score is None else sign * score.value,
                None if score is None or not math.isfinite(score.stderr) else score.stderr,
                None if score is None else _single(score, sign, f"{trial.name} seed {trial.seed}"),
                {
                    name: signal.value
                    for name, signal in point.signals.items()
                    if math.isfinite(signal.value)
                },
                trial.family,
            )


def _single(score: Score, sign: int, whose: str) -> FloatArray | None:
    if not score.per_prompt:
        return None
    values = np.asarray(score.per_prompt, dtype=np.float64)  # shares the record's memory
    if np.isinf(values).any():  # of a prompt without a score it is NaN
        raise RecordError(f"{whose}: {score.metric} of a prompt is infinite; expected finite ones")
    return -values if sign < 0 else values


def _scale(entries: Sequence[Entry], observations: Sequence[Observation], sign: int) -> Scale:
    chances = [s.chance for entry in entries for s in entry.scores(entry.step)]
    chance = next((c for c in chances if c is not None), None) if sign > 0 else None
    scores = [o.score for o in observations if o.score is not None]
    single = [o.per_prompt for o in observations if o.per_prompt is not None]
    # Of a prompt without a score, NaN, neither says anything.
    lowest = min([*scores, *(float(np.fmin.reduce(p)) for p in single)])
    highest = max([*scores, *(float(np.fmax.reduce(p)) for p in single)])
    return scale_for(scores_by_step(observations), chance, proportion=lowest >= 0 and highest <= 1)


def _smaller_is_better(entry: Entry) -> bool:
    return any(score.better == "smaller" for score in entry.scores(entry.step))


def _key(index: int) -> str:
    return f"{index:08}"
