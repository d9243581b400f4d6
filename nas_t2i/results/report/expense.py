"""What a study took, and what became of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nas_t2i.records import TrialRecord, TrialState
from nas_t2i.results.figures.wording import duration, scaled

_MOST_LISTED = 200


class StateExpense(NamedTuple):
    """What the trials of one state took together."""

    state: str
    trials: int
    steps: str
    training: str
    evaluation: str
    compute: str


class Ended(NamedTuple):
    """A trial that did not complete, or only at a further attempt."""

    name: str
    seed: int
    state: str
    step: int
    reason: str


def by_state(trials: Sequence[TrialRecord]) -> list[StateExpense]:
    """Return a line a state, and one of all. Times are added up over trials side by side.

    What another study trained took nothing here: it has a line of its own, below.
    """
    own = [trial for trial in trials if trial.reused is None]
    lines = []
    for state in TrialState:
        of_state = [trial for trial in own if trial.state is state]
        if of_state:
            lines.append(_line(state.value, of_state))
    if len(lines) != 1:
        lines.append(_line("all", own))
    if len(own) < len(trials):
        lines.append(_line("reused, not trained here", [t for t in trials if t.reused]))
    return lines


def _line(state: str, trials: Sequence[TrialRecord]) -> StateExpense:
    last = [trial.curve[-1] for trial in trials if trial.curve]
    return StateExpense(
        state=state,
        trials=len(trials),
        steps=f"{sum(trial.steps_done for trial in trials):,}",
        training=duration(sum(point.seconds for point in last)),
        evaluation=duration(sum(point.evaluation_seconds for point in last)),
        compute=scaled(sum(point.training_flops for point in last), "FLOPs"),
    )


def ended_early(trials: Sequence[TrialRecord]) -> tuple[list[Ended], int]:
    """Return trials that did not complete, broken ones first, and how many more there are."""
    order = [TrialState.FAILED, TrialState.DIVERGED, TrialState.INTERRUPTED, TrialState.RUNNING]
    found = [t for t in trials if t.state is not TrialState.COMPLETE or t.attempt > 1]
    found.sort(key=lambda t: (order.index(t.state) if t.state in order else len(order), t.number))
    lines = [
        Ended(trial.name, trial.seed, trial.state.value, trial.steps_done, _reason(trial))
        for trial in found[:_MOST_LISTED]
    ]
    return lines, len(found) - len(lines)


def _reason(trial: TrialRecord) -> str:
    reason = " ".join(trial.reason.split())
    if trial.attempt > 1:
        before = " ".join(trial.last_failure.split())
        reason = "; ".join(p for p in (reason, f"attempt {trial.attempt}, before: {before}") if p)
    return reason
