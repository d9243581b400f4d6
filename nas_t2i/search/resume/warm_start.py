"""What another study under the same budget measured, for the sampler of a new one.

It is copied into the study's own Optuna storage, as trials that are finished: a resumed study does
not read the other one again. Nobody of it is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.space import Space
from nas_t2i.errors import IncomparableError, UserError
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.search import RacingRule
from nas_t2i.records import EndEvent
from nas_t2i.search.candidates import Candidate, Maker
from nas_t2i.search.racing.belief import first_outcome
from nas_t2i.search.resume.outcome import outcome_under
from nas_t2i.search.study import MEASURED_IN, OptunaStudy, Outcome
from nas_t2i.store import Study, find_study, read_contents


def read_source(name: str, results: str | Path, folder: Path, budget: Budget) -> Study | None:
    """Read the study that another one, in `folder`, begins from; None where `name` is "".

    Raises:
        RecordError: there is none, or it can't be read.
        IncomparableError: it is of another budget.
        UserError: it is the study itself, or is being searched.
    """
    if not name:
        return None
    place = find_study(name, results)
    if place.resolve() == folder.resolve():
        raise UserError(f"--from {name}: a study can't begin from itself; expected another one")
    source = read_contents(place)
    if source.record.budget_id != budget.budget_id:
        raise IncomparableError(
            f"--from {name}: its budget is {source.record.budget_id}, this one {budget.budget_id}; "
            "scores under different budgets don't compare"
        )
    if source.running:
        raise UserError(f"--from {name}: it is being searched; expected one that has ended")
    return source


def begin_from(
    source: Study | None,
    space: Space,
    budget: Budget,
    factory: Maker,
    optuna: OptunaStudy,
    say: Callable[[str], None],
) -> None:
    """Give the sampler what a study measured of this space; nothing where that was done before."""
    if source is None:
        return
    known = optuna.known_trials()
    if any(MEASURED_IN not in trial.attributes for trial in known):
        return  # it has begun: all of it was there before its first own proposal
    there = {arch_from_dict(dict(trial.attributes["arch"])).arch_id for trial in known}
    given = left = 0
    for candidate in _measured(source, factory):
        outcome = _outcome(budget, candidate)
        labels = space.encode(candidate.arch)
        if labels is None or outcome is None:
            left += 1
            continue
        given += 1
        if candidate.arch.arch_id not in there:
            attributes: dict[str, Any] = {MEASURED_IN: source.record.study, **candidate.sizes}
            excess = candidate.excess(space.limits)
            optuna.keep(
                optuna.draft(space.suggest, labels).beyond(excess),
                outcome=outcome,
                name=candidate.name,
                arch=candidate.arch.canonical(),
                **attributes,
            )
    say(
        f"the sampler knows {given} architectures of study {source.record.study}, which are not "
        "trained again" + (f"; {left} others are not of this space, or broke" if left else "")
    )


def _measured(source: Study, factory: Maker) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for trial in (trial for trial in source.trials if not trial.control):
        candidate = found.get(trial.arch_id)
        if candidate is None:
            candidate = factory.make(arch_from_dict(trial.arch), name=trial.name)
            candidate.seeds = ()
            found[trial.arch_id] = candidate
        candidate.seeds = (*candidate.seeds, trial.seed)
        candidate.ends[trial.seed] = EndEvent(state=trial.state, reason=trial.reason)
        for point in trial.curve:
            candidate.points.setdefault(point.step, {})[trial.seed] = point
    return list(found.values())


def _outcome(budget: Budget, candidate: Candidate) -> Outcome | None:
    """Return what the sampler is told, in numbers of the kind that it gets of its own trials."""
    if isinstance(budget.search.early_stopping, RacingRule):
        points = candidate.points.get(budget.rungs[0], {})
        point = points.get(min(points)) if points else None
        outcome = first_outcome(budget, candidate, point)
    else:
        outcome = outcome_under(budget, candidate)
    usable = outcome.state == "complete" or (outcome.state == "stopped" and outcome.at_rungs)
    return outcome if usable else None
