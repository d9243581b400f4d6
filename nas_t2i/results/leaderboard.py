"""From trials to a ranking: one row an architecture, with what can't be told apart from it.

How a ranking is made, and what it does not say, is in docs/reading-a-ranking.md. In short:

- Seeds of one architecture (same id, budget and control) are one row: the mean over seeds.
- The expected score at the last rung decides, for stopped entries as for those that finished; it
  says how many seeds were measured there. Diverged and failed trials come last. A control stands
  below whatever beats it.
- Beside it: the probability of being the best, an interval of the rank, and which pairs tie.
- Scores of another metric, budget or metric signature never stand in one ranking.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from nas_t2i.errors import UserError, did_you_mean
from nas_t2i.records import TrialRecord, TrialState
from nas_t2i.results.beliefs import Belief, beliefs
from nas_t2i.results.entries import BROKEN, Entry, group_entries
from nas_t2i.results.fronts.place import FrontPlace

Cost = Literal["params", "gmacs", "training_flops"]
COSTS: tuple[Cost, ...] = ("params", "gmacs", "training_flops")

_LARGEST_FIRST = ("score", "chance", "expected_score", "probability_best")


class AdditionalScore(BaseModel):
    """A metric on record beside the ranked one, at the step of the row's score, mean over seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    """None where it is no finite number."""
    stderr: float | None
    """Standard error over prompts (FID: over images); it holds no seed noise."""
    n: int
    """Prompts or images scored, of one seed."""
    signature: str
    """Scores of unlike signatures can't be compared; "" where those of the seeds are unlike."""


class LeaderboardRow(BaseModel):
    """One architecture (or control) of a ranking. Absent numbers are None.

    Sizes and compute of `params`, `gmacs` (1e9 multiply-adds, one forward pass at batch 1) and
    `attention_share` (0 to 1) are of the full architecture, `trained_*` and `training_flops` (one
    run up to `step`, in FLOPs) of what was trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int
    name: str
    arch_id: str
    family: str
    control: str
    metric: str
    """What `score` is, of every row of the ranking; "" where no row has a score."""
    score: float | None
    score_stderr: float | None
    """Standard error over prompts of the mean over seeds; it holds no seed noise."""
    tied_with: list[str] | None
    """Names of the rows that can't be told apart from this one, best first; None: not compared."""
    params: int
    gmacs: float
    attention_share: float
    training_flops: float | None
    seconds: float | None
    """Training time of one run up to `step`, mean over seeds; evaluation excluded."""
    step: int
    """The rung that `score` was measured at; 0 without one."""
    state: TrialState
    study: str
    budget_id: str
    seed: int
    """The first of `seeds`."""
    seeds: list[int]
    """The seeds whose mean `score` is (all of them where no rung was reached)."""
    score_by_seed: list[float]
    score_seed_std: float | None
    """Sample standard deviation between the seeds; None with one seed."""
    chance: float | None
    """What an uninformed model scores; None for a metric without such a level."""
    by_type: dict[str, float]
    """Accuracy by element type, mean over seeds."""
    n_prompts: int
    trained_params: int
    trained_gmacs: float
    pareto: list[str]
    """The costs for which the score on record is on the Pareto front; of `front` it says less."""
    steps_done: int
    """Training steps taken, at a rung or between two; the furthest seed."""
    reason: str
    """Why it did not complete, or which seeds are left out and why."""
    signature: str
    reused: dict[int, str] = Field(default_factory=dict)
    """By seed, the study that trained it, where `study` used its record instead."""
    beyond: list[str] = Field(default_factory=list)
    """The soft limits of its study's space that it exceeds."""
    expected_score: float | None
    """Expectation at the last rung on record, over seeds: what is ranked by. None: no record."""
    expected_low: float | None
    """The 95 % interval of it, over seeds and prompts."""
    expected_high: float | None
    measured_seeds: int
    """Seeds that were measured at the last rung; with 0 the expectation is a prediction."""
    predicted: bool
    """Whether `expected_score` is predicted from earlier rungs."""
    probability_best: float | None
    """Of being the best of all but controls and broken trials; None for those."""
    rank_low: int | None
    """The 95 % interval of the rank among the same, of this row alone: not simultaneous."""
    rank_high: int | None
    additional: dict[str, AdditionalScore] = Field(
        validation_alias=AliasChoices("additional", "further"), serialization_alias="further"
    )
    """The budget's additional metrics by name; none where they were not measured at `step`."""
    front: FrontPlace | None = Field(default=None, exclude_if=lambda place: place is None)
    """Its place on the front that was asked for; None: none was, or it is not of it."""
    latency_s: float | None = Field(default=None, exclude_if=lambda seconds: seconds is None)
    """Median seconds of one forward pass of the full architecture, where its study measured it."""
    arch: dict[str, Any]
    """The full architecture's parameters by name, in canonical form, without the family."""


def rank_trials(trials: Iterable[TrialRecord]) -> list[LeaderboardRow]:
    """Return the ranking of trials of one budget, best first; no trials, no rows.

    Raises:
        IncomparableError: two metrics, budgets or metric signatures among them; names both.
    """
    entries, believed = _in_order(group_entries(trials))
    names = unique_names(entries)
    fronts = {cost: _front(entries, cost) for cost in COSTS}
    return [
        _row(
            entry,
            rank=index + 1,
            name=names[index],
            tied_with=_tied_names(believed.get(index), names),
            pareto=[cost for cost in COSTS if index in fronts[cost]],
            belief=believed.get(index),
        )
        for index, entry in enumerate(entries)
    ]


def sort_rows(rows: Sequence[LeaderboardRow], column: str) -> list[LeaderboardRow]:
    """Sort by a numeric column: scores largest first, others smallest first, "-column" reversed.

    Absent values come last; equal ones stay in order of rank.

    Raises:
        UserError: no such column, or one without numbers; names those that there are.
    """
    reverse = column.startswith("-")
    name = column.removeprefix("-")
    columns = numeric_columns()
    if name not in columns:
        what = "is not a number" if name in LeaderboardRow.model_fields else "is no column"
        hint = did_you_mean(name, columns)
        text = f"--sort: {name!r} {what}; expected one of {', '.join(columns)}"
        raise UserError(f"{text}; {hint}" if hint else text)
    sign = -1 if (name in _LARGEST_FIRST) != reverse else 1

    def key(row: LeaderboardRow) -> tuple[bool, float, int]:
        value = getattr(row, name)
        return (value is None, 0.0 if value is None else sign * float(value), row.rank)

    return sorted(rows, key=key)


def numeric_columns() -> list[str]:
    """Return the columns that a ranking can be sorted by."""
    numbers = ("int", "float", "float | None", "int | None")
    fields = LeaderboardRow.__annotations__
    return [name for name, kind in fields.items() if kind in numbers]


# --- the order -------------------------------------------------------------------------------


def _in_order(entries: Sequence[Entry]) -> tuple[list[Entry], dict[int, Belief]]:
    """Sort entries best first; what is believed of them goes by their new places.

    A control may be spared early stopping, so that how far it came says nothing: it stands right
    below the last entry that beats it at the last rung both have.
    """
    entries = sorted(entries, key=lambda e: (e.first.arch_id, e.first.control))
    believed = beliefs(entries)
    places = {id(entry): index for index, entry in enumerate(entries)}
    controls = [e for e in entries if e.first.control and e.counted and e.state not in BROKEN]

    def standing(entry: Entry) -> tuple[bool, bool, float, int, float, int, int]:
        return _standing(entry, believed.get(places[id(entry)]))

    searched = [e for e in entries if not any(e is control for control in controls)]
    ordered = sorted(searched, key=standing)
    for control in sorted(controls, key=standing):
        # From the end: the first that beats it is the last one that does.
        lower = (i for i in reversed(range(len(ordered))) if _beats(ordered[i], control))
        ordered.insert(next(lower, -1) + 1, control)
    new = {places[id(entry)]: index for index, entry in enumerate(ordered)}
    return ordered, {
        new[old]: replace(
            belief,
            tied_with=None
            if belief.tied_with is None
            else frozenset(new[other] for other in belief.tied_with),
        )
        for old, belief in believed.items()
    }


def _tied_names(belief: Belief | None, names: Sequence[str]) -> list[str] | None:
    if belief is None:
        return []
    return None if belief.tied_with is None else [names[i] for i in sorted(belief.tied_with)]


def _beats(entry: Entry, other: Entry) -> bool:
    if entry.state in BROKEN:
        return False
    common = set(entry.steps) & set(other.steps)
    return bool(common) and entry.merit(max(common)) >= other.merit(max(common))


def _standing(
    entry: Entry, belief: Belief | None
) -> tuple[bool, bool, float, int, float, int, int]:
    """Sort key: broken trials last, before them those without a measurement; the expectation.

    Where there is none: the rung reached, the score there, the steps taken, the number.
    """
    merit = entry.merit(entry.step) if entry.counted else -math.inf
    sign = -1 if entry.counted and entry.scores(entry.step)[0].better == "smaller" else 1
    expected = -sign * belief.expected if belief else 0.0
    broken = entry.state in BROKEN
    steps_done = max(trial.steps_done for trial in entry.trials)
    return (broken, belief is None, expected, -entry.step, -merit, -steps_done, entry.first.number)


def _front(entries: Sequence[Entry], cost: Cost) -> set[int]:
    """Return the indices of the entries that no other beats in both score and cost.

    Against params and GMACs only those at the furthest rung compete: the score of one that was
    stopped is of an earlier rung, and would rise. Against training compute all do, because score
    and compute are of the same moment. Controls and broken trials never do.
    """
    candidates = [
        i
        for i, entry in enumerate(entries)
        if entry.counted and entry.state not in BROKEN and not entry.first.control
    ]
    if cost != "training_flops" and candidates:
        furthest = max(entries[i].step for i in candidates)
        candidates = [i for i in candidates if entries[i].step == furthest]
    values = sorted(
        (_cost(entries[i], cost), -entries[i].merit(entries[i].step), i) for i in candidates
    )
    front: list[tuple[float, float, int]] = []
    for price, loss, index in values:
        # What stands before is as cheap or cheaper: only a better score, or both equal, stays.
        if not front or loss < front[-1][1] or (price, loss) == front[-1][:2]:
            front.append((price, loss, index))
    return {index for _, _, index in front}


def _cost(entry: Entry, cost: Cost) -> float:
    if cost == "training_flops":
        return _mean(point.training_flops for point in entry.points(entry.step))
    return float(getattr(entry.first.profile, cost))


# --- rows ------------------------------------------------------------------------------------


def _row(
    entry: Entry,
    *,
    rank: int,
    name: str,
    tied_with: list[str] | None,
    pareto: list[str],
    belief: Belief | None,
) -> LeaderboardRow:
    first, points, scores = entry.first, entry.points(entry.step), entry.scores(entry.step)
    value, stderr = entry.mean(entry.step) if scores else (None, None)
    values = [score.value for score in scores]
    types = sorted(set.intersection(*(set(s.by_type) for s in scores))) if scores else []
    seeds = [trial.seed for trial in entry.counted or entry.trials]
    return LeaderboardRow(
        rank=rank,
        name=name,
        arch_id=first.arch_id,
        family=first.family,
        control=first.control,
        metric=entry.metric,
        score=value,
        score_stderr=stderr,
        tied_with=tied_with,
        params=first.profile.params,
        gmacs=first.profile.gmacs,
        attention_share=first.profile.attention_share,
        training_flops=_mean(p.training_flops for p in points) if points else None,
        seconds=_mean(p.seconds for p in points) if points else None,
        step=entry.step,
        state=entry.state,
        study=", ".join(dict.fromkeys(trial.study for trial in entry.trials)),
        budget_id=first.budget_id,
        seed=seeds[0],
        seeds=seeds,
        score_by_seed=values,
        score_seed_std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        chance=scores[0].chance if scores else None,
        by_type={kind: _mean(score.by_type[kind] for score in scores) for kind in types},
        n_prompts=scores[0].n if scores else 0,
        trained_params=first.trained_profile.params,
        trained_gmacs=first.trained_profile.gmacs,
        pareto=pareto,
        steps_done=max(trial.steps_done for trial in entry.trials),
        reason=_reason(entry),
        signature=scores[0].signature if scores else "",
        reused={trial.seed: trial.reused.study for trial in entry.trials if trial.reused},
        expected_score=belief.expected if belief else None,
        expected_low=belief.low if belief else None,
        expected_high=belief.high if belief else None,
        measured_seeds=belief.measured_seeds if belief else 0,
        predicted=belief is not None and not belief.measured_seeds,
        probability_best=belief.probability_best if belief else None,
        rank_low=belief.ranks[0] if belief and belief.ranks else None,
        rank_high=belief.ranks[1] if belief and belief.ranks else None,
        additional={metric: _additional(entry, metric) for metric in entry.additional(entry.step)},
        latency_s=first.latency.median_s if first.latency else None,
        arch={key: value for key, value in first.arch.items() if key != "family"},
    )


def _additional(entry: Entry, metric: str) -> AdditionalScore:
    value, stderr = entry.mean(entry.step, metric)
    scores = entry.scores(entry.step, metric)
    signatures = {score.signature for score in scores}
    alike = signatures.pop() if len(signatures) == 1 else ""
    finite = value if math.isfinite(value) else None
    return AdditionalScore(value=finite, stderr=stderr, n=scores[0].n, signature=alike)


def _reason(entry: Entry) -> str:
    """Say why a row did not complete, seed by seed where there are several."""
    several = len(entry.trials) > 1
    parts = []
    for trial in entry.trials:
        left_out = several and trial not in entry.counted
        if trial.state is TrialState.COMPLETE or not (trial.reason or left_out):
            continue
        text = " ".join(trial.reason.split()) or f"{trial.state} at step {trial.steps_done}"
        text = f"seed {trial.seed}: {text}" if several else text
        parts.append(f"{text} (left out)" if left_out and entry.counted else text)
    return "; ".join(parts)


def unique_names(entries: Sequence[Entry]) -> list[str]:
    """Return one name an entry: a control says so, equal names get the end of their id.

    It is what rankings call the entries of a study, as long as no other study stands beside them.
    """
    names = []
    for entry in entries:
        name, control = entry.first.name, entry.first.control
        said = control.replace("-", " ") in name.replace("-", " ")
        names.append(name if said else f"{name} [{control}]")
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name} ({entry.first.arch_id[-6:]})"
        for name, entry in zip(names, entries, strict=True)
    ]


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
