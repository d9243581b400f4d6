"""What Optuna is told of a candidate: a function of its records, whoever came first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nas_t2i.protocol.budget import Budget
from nas_t2i.records import CurvePoint, TrialState
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.objectives.values import values_of
from nas_t2i.search.study import Outcome

_BROKEN = (TrialState.FAILED, TrialState.DIVERGED)


def outcome_under(budget: Budget, candidate: Candidate) -> Outcome:
    """Return what the sampler is to know of a candidate, and people of a finished one."""
    outcome = _outcome_under(budget, candidate)
    if outcome.state == "running":
        return outcome
    return replace(outcome, attributes=attributes_of(candidate))


def _outcome_under(budget: Budget, candidate: Candidate) -> Outcome:
    """Return what `outcome_of` says, or what there is of several objectives.

    With those Optuna has no values at rungs: what did not complete has failed.
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


def attributes_of(candidate: Candidate) -> dict[str, float | str]:
    """Return what people want to know of a candidate: state, reason, and what was measured."""
    ends = {seed: candidate.ends[seed] for seed in sorted(candidate.ends)}
    found: dict[str, float | str] = {
        "state": _by_seed({seed: end.state.value for seed, end in ends.items()}) or "running"
    }
    if any(end.reason for end in ends.values()):
        found["reason"] = _by_seed({seed: end.reason for seed, end in ends.items()})
    return found | measured(candidate.points)


def measured(points: Mapping[int, Mapping[int, CurvePoint]]) -> dict[str, float | str]:
    """Return the last step, the training compute, and every score and signal, by name.

    `points` are by step and seed. A score is of the last step at which any seed has one, the mean
    over those that do.
    """
    found: dict[str, float | str] = {}
    spent: dict[int, float] = {}
    for step in sorted(points):
        values: dict[str, list[float]] = {}
        for seed, point in sorted(points[step].items()):
            spent[seed] = point.training_flops
            here = {name: score.value for name, score in point.scores.items()}
            here |= {name: signal.value for name, signal in point.signals.items()}
            for name, value in here.items():
                values.setdefault(name, []).append(value)
        found |= {"step": step, "training_flops": sum(spent.values())}
        found |= {name: sum(seen) / len(seen) for name, seen in values.items()}
    return found


def _by_seed(texts: Mapping[int, str]) -> str:
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"seed {seed}: {text}" for seed, text in texts.items() if text)
