"""What Optuna is told of a candidate: a function of its records, whoever came first."""

from __future__ import annotations

from collections.abc import Sequence

from nas_t2i.protocol.budget import Budget
from nas_t2i.records import TrialState
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.objectives.values import values_of
from nas_t2i.search.study import Outcome

_BROKEN = (TrialState.FAILED, TrialState.DIVERGED)


def outcome_under(budget: Budget, candidate: Candidate) -> Outcome:
    """Return what the sampler is to know of a candidate: of `outcome_of`, or of objectives.

    With several objectives Optuna has no values at rungs: what did not complete has failed.
    """
    outcome = outcome_of(candidate, budget.full_rungs, budget.evaluation.metric)
    if not budget.objectives:
        return outcome
    values = values_of(budget, candidate) if outcome.state == "complete" else None
    if outcome.state == "running" or values is None:
        return Outcome("running" if outcome.state == "running" else "failed", None, {})
    return Outcome("complete", None, {}, values)


def outcome_of(candidate: Candidate, rungs: Sequence[int], metric: str) -> Outcome:
    """Return what the sampler is to know of a candidate, where one score is sought.

    The value at a rung is the mean over the seeds, once every seed has reached it. A seed that
    failed or diverged for good is not waited for, and counts where it got to. A rung that a stopped
    seed did not reach has no value: the others alone would flatter.
    """

    def mean(rung: int) -> float:
        scores: list[float] = candidate.prompt_scores(rung, metric).tolist()
        return sum(scores) / len(scores)

    def is_settled(rung: int) -> bool:
        reached = candidate.points.get(rung, {})
        return bool(reached) and all(
            seed in reached or (seed in candidate.ends and candidate.ends[seed].state in _BROKEN)
            for seed in candidate.seeds
        )

    at_rungs = {rung: mean(rung) for rung in rungs if is_settled(rung)}
    if not candidate.finished:
        return Outcome("running", None, at_rungs)
    states = {candidate.ends[seed].state for seed in candidate.seeds}
    if TrialState.COMPLETE in states and not candidate.stopped:
        return Outcome("complete", mean(rungs[-1]), at_rungs)
    return Outcome("stopped" if TrialState.STOPPED in states else "failed", None, at_rungs)
