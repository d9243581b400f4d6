"""What earlier processes of a study left: its candidates, with everything brought in line.

The folder is the truth about what was measured. Where a part of it is missing or was changed, a
line says so and it is measured again; Optuna's trials are made to agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.events import EVENTS_FILE
from nas_t2i.logs.sealed import set_damage_aside
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.search import RacingRule
from nas_t2i.records import EndEvent, TrialRecord, TrialState
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.resume.faults import is_to_be_tried
from nas_t2i.search.resume.outcome import outcome_under
from nas_t2i.search.resume.rung_log import RungLog
from nas_t2i.search.study import MEASURED_IN, OptunaStudy
from nas_t2i.search.trial_config import Control, load_trial_config, trial_key
from nas_t2i.store import TRIALS_FOLDER, read_contents

Say = Callable[[str], None]


def mend_records(folder: Path, say: Say) -> None:
    """Set aside what was changed in the records of a study that nobody is searching."""
    for file in sorted((folder / TRIALS_FOLDER).glob(f"*/{EVENTS_FILE}")):
        if note := set_damage_aside(file):
            say(f"{note}; it is measured again")


def known_candidates(
    folder: Path,
    budget: Budget,
    factory: CandidateFactory,
    optuna: OptunaStudy,
    rungs: RungLog,
    *,
    retry_failed: bool,
    say: Say,
) -> list[Candidate]:
    """Return the candidates that are on disk or open in Optuna, as an earlier process left them."""
    candidates: dict[tuple[str, str], Candidate] = {}
    for record in _records(folder):
        candidate = _candidate_of(record, folder, factory, candidates)
        _take_over(candidate, record, budget, rungs, retry_failed=retry_failed, say=say)
    for candidate in candidates.values():
        candidate.stopped |= rungs.was_stopped(candidate.label)
    _agree(candidates, budget, factory, optuna, say)
    return list(candidates.values())


def _records(folder: Path) -> Iterator[TrialRecord]:
    """Yield the trials in order of their number, also one of which only the config is left."""
    found = {
        trial_key(trial.arch_id, trial.seed, trial.control): trial
        for trial in read_contents(folder).trials
    }
    for file in sorted((folder / TRIALS_FOLDER).glob("*/config.json")):
        if file.parent.name not in found:
            state = {"state": TrialState.INTERRUPTED}
            found[file.parent.name] = load_trial_config(file).new_record().model_copy(update=state)
    yield from sorted(found.values(), key=lambda trial: trial.number)


def _candidate_of(
    record: TrialRecord,
    folder: Path,
    factory: CandidateFactory,
    candidates: dict[tuple[str, str], Candidate],
) -> Candidate:
    key = (record.arch_id, record.control)
    if key not in candidates:
        arch = arch_from_dict(record.arch)
        if factory.latencies is not None and record.latency is not None:
            factory.latencies.learn(arch, record.name, record.latency)
        candidate = factory.make(arch, name=record.name, control=cast(Control, record.control))
        trial = trial_key(record.arch_id, record.seed, record.control)
        path = folder / TRIALS_FOLDER / trial / "config.json"
        candidate.optuna_number = load_trial_config(path).optuna_number
        candidates[key] = candidate
    return candidates[key]


def _take_over(
    candidate: Candidate,
    record: TrialRecord,
    budget: Budget,
    rungs: RungLog,
    *,
    retry_failed: bool,
    say: Say,
) -> None:
    seed, metric = record.seed, budget.evaluation.metric
    for point in record.curve:
        candidate.points.setdefault(point.step, {})[seed] = point
        if metric in point.scores:
            score = point.scores[metric].value
            before = rungs.see(candidate.label, seed, point.step, score)
            if before is not None:
                say(
                    f"{candidate.name} seed {seed}: {metric} at step {point.step} was {before:.4f} "
                    f"when it was measured and is {score:.4f} on record"
                )
    candidate.failures[seed] = record.attempt - (record.state is not TrialState.FAILED)
    missing = _missing_rungs(candidate, record, budget, rungs)
    if missing:
        say(
            f"{candidate.name} seed {seed}: its record lacks what was measured at step "
            f"{', '.join(map(str, missing))}; it is measured again"
        )
        return
    by_hand = retry_failed and record.state is TrialState.FAILED
    plan = budget.search
    if by_hand or is_to_be_tried(record.state, record.fault, record.attempt, plan.retries):
        return
    candidate.ends[seed] = EndEvent(state=record.state, reason=record.reason, fault=record.fault)
    candidate.stopped |= record.state is TrialState.STOPPED


def _missing_rungs(
    candidate: Candidate, record: TrialRecord, budget: Budget, rungs: RungLog
) -> list[int]:
    """Return the rungs that a trial must have been measured at, and that are not on record."""
    on_record = {point.step for point in record.curve}
    seen = set(rungs.rungs_seen(candidate.label, record.seed))
    reached = max(on_record | seen, default=0)
    if record.state is TrialState.COMPLETE:
        reached = budget.rungs[-1]
    elif record.state is TrialState.STOPPED:
        racing = isinstance(budget.search.early_stopping, RacingRule)
        reached = max(reached, budget.rungs[0] if racing else budget.decided_rungs[0])
    return [rung for rung in budget.rungs if rung <= reached and rung not in on_record]


def _agree(
    candidates: dict[tuple[str, str], Candidate],
    budget: Budget,
    factory: CandidateFactory,
    optuna: OptunaStudy,
    say: Say,
) -> None:
    """Make Optuna's trials agree with the records, and take over those that have no record yet."""
    for candidate in candidates.values():
        number = candidate.optuna_number
        if number is not None:
            candidate.optuna_number = optuna.place_of(number)
            if candidate.optuna_number is None:
                say(f"Optuna's storage does not know trial {number}: going on without it")
    taken = {candidate.optuna_number for candidate in candidates.values()}
    for trial in optuna.known_trials():
        if trial.number in taken or MEASURED_IN in trial.attributes:
            continue
        if "arch" in trial.attributes:  # no process of it has started, or its folder is gone
            arch = arch_from_dict(dict(trial.attributes["arch"]))
            candidate = factory.make(arch, name=trial.attributes["name"])
            if candidate.key not in candidates:
                if trial.finished:
                    say(
                        f"{candidate.name}: Optuna knows its result, but its record is gone; it is "
                        "measured again"
                    )
                candidate.optuna_number = trial.number
                candidates[candidate.key] = candidate
                continue
        if not trial.finished:
            optuna.discard(trial.number)
    if isinstance(budget.search.early_stopping, RacingRule):
        return  # a race tells at its decisions what was known of them, neither more nor less
    for candidate in candidates.values():
        before = candidate.optuna_number
        if before is not None:
            outcome = outcome_under(budget, candidate)
            candidate.optuna_number = optuna.agree(before, outcome)
            if candidate.optuna_number != before and outcome.state != "running":
                say(
                    f"{candidate.name}: Optuna's trial {before} holds another result than the "
                    f"records; trial {candidate.optuna_number} holds theirs"
                )
