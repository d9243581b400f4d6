"""The search loop: start trials, score them at rungs, let the good go on, survive the rest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nas_t2i.errors import StorageError
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    ProgressEvent,
    RungEvent,
    StartEvent,
    TrialEvent,
    TrialState,
)
from nas_t2i.search.beforehand.latencies import Latencies
from nas_t2i.search.candidates import Candidate, Proposals
from nas_t2i.search.racing.ledger import Piece
from nas_t2i.search.resume.faults import Faults
from nas_t2i.search.resume.outcome import outcome_under
from nas_t2i.search.resume.rung_log import RungLog
from nas_t2i.search.runner import Runner, RunningTrial
from nas_t2i.search.study import OptunaStudy

_POLL_SECONDS = 0.1
_HOPELESS = 3  # that many trials failed, none ever trained: something is wrong with the set-up


class Clock(Protocol):
    """Time as the driver sees it; a replay has its own."""

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""


class Listener(Protocol):
    """Who watches a search: a progress display, a log, a leaderboard on disk."""

    def started(self, candidate: Candidate, seed: int) -> None:
        """A trial's process was started."""

    def progress(self, candidate: Candidate, seed: int, event: ProgressEvent) -> None:
        """A trial trained on."""

    def reached_rung(self, candidate: Candidate, seed: int, point: CurvePoint) -> None:
        """A trial was evaluated at a rung."""

    def ended(self, candidate: Candidate, seed: int, end: EndEvent) -> None:
        """A trial has its end event."""

    def decided(self, piece: Piece) -> None:
        """A race decided who is trained on."""

    def tick(self) -> None:
        """Time passed."""


@dataclass
class Run:
    """A trial under way."""

    candidate: Candidate
    seed: int
    trial: RunningTrial
    heard: deque[TrialEvent] = field(default_factory=deque)  # and not handled yet
    waits_at: int | None = None  # the rung whose decision it waits for
    micro_batch: int | None = None


@dataclass
class Driver:
    """Runs a study's trials side by side until `trials` candidates are tried."""

    budget: Budget
    study_name: str
    trials: int
    parallel: int
    proposals: Proposals
    optuna: OptunaStudy
    runner: Runner
    clock: Clock
    listener: Listener
    candidates: list[Candidate]  # those known from an earlier process, in their order
    room: Callable[[], int] | None = None  # instead of `parallel`, where it changes
    latencies: Latencies | None = None  # measured of what is proposed, while nothing runs
    rung_log: RungLog = field(default_factory=RungLog)
    faults: Faults = field(default_factory=lambda: Faults(retries=0, folder=Path()))
    asked_to_leave: Callable[[], bool] = lambda: False
    check: Callable[[], None] = lambda: None  # raises when the search can't go on here
    say: Callable[[str], None] = lambda _: None
    _queue: deque[tuple[Candidate, int]] = field(default_factory=deque)
    _running: list[Run] = field(default_factory=list)
    _numbers: dict[tuple[tuple[str, str], int], int] = field(default_factory=dict)
    _leaving: bool = False

    def run(self) -> None:
        """Search until done, or until asked to leave: the trials save where they stand.

        Raises:
            KeyboardInterrupt: it was asked to leave; every trial has its end event.
        """
        self._prepare()
        try:
            while self._start_what_fits() or self._running:
                self._hear()
                if self.asked_to_leave():
                    raise KeyboardInterrupt
        except StorageError:
            self._send_away()
            if self.asked_to_leave():  # while it waited for a storage
                raise KeyboardInterrupt from None
            raise
        except BaseException:
            self._send_away()
            raise

    def _prepare(self) -> None:
        for candidate in self.candidates:
            for seed in candidate.seeds:
                if candidate.has_started(seed):
                    self._number_of(candidate, seed)
            self._queue_unfinished_seeds(candidate)

    def _start_what_fits(self) -> bool:
        """Fill the free places; return whether anything was started."""
        started = False
        if self.latencies is not None and not self._running:  # the next time for it may be far
            while len(self._queue) < self._places and not self._hopeless() and self._propose():
                pass
        while len(self._running) < self._places and not self._hopeless():
            if not self._queue and not (self._may_propose() and self._propose()):
                break
            candidate, seed = self._queue.popleft()
            run = self._start(candidate, seed)
            started = True
            self._repeat_decisions(run)
        return started

    @property
    def _places(self) -> int:
        return self.parallel if self.room is None else self.room()

    def _repeat_decisions(self, run: Run) -> None:
        """Tell a trial that was started what is decided already.

        One that was killed before it could save its last rung stands at an earlier one, and waits
        there, while all that it reports again are rungs beyond.
        """
        candidate, seed = run.candidate, run.seed
        last = max((rung for rung, seen in candidate.points.items() if seed in seen), default=0)
        for rung in self.budget.rungs[:-1]:
            said = self.rung_log.decision(candidate.label, seed, rung)
            if said is None and (rung < last or rung not in self.budget.decided_rungs):
                said = True  # nobody is asked about there
            if said is not None:
                run.trial.decide(rung, said)

    def _may_propose(self) -> bool:
        """Whether nothing that runs would disturb, or be disturbed by, measuring a proposal."""
        timed = self.latencies is not None and not self.latencies.complete
        return not (timed and self._running) or self._tried() >= self.trials

    def _propose(self) -> bool:
        candidate = self.proposals.next(planned_only=self._tried() >= self.trials)
        if candidate is None:
            return False
        self.candidates.append(candidate)
        self._queue_unfinished_seeds(candidate)
        return True

    def _tried(self) -> int:
        return sum(not candidate.control for candidate in self.candidates)

    def _queue_unfinished_seeds(self, candidate: Candidate) -> None:
        for seed in candidate.seeds:
            end = candidate.ends.get(seed)
            if end is None or end.state is TrialState.INTERRUPTED:
                self._queue.append((candidate, seed))

    def _start(self, candidate: Candidate, seed: int) -> Run:
        if self.latencies is not None:
            self.latencies.close()
        candidate.ends.pop(seed, None)
        number = self._number_of(candidate, seed)
        config = candidate.config(self.study_name, number, self.budget, seed)
        run = Run(candidate, seed, self.runner.start(config))
        self._running.append(run)
        self.listener.started(candidate, seed)
        return run

    def _number_of(self, candidate: Candidate, seed: int) -> int:
        """Return which of the study's trials that is, in order of their first start."""
        return self._numbers.setdefault((candidate.key, seed), len(self._numbers))

    def _hear(self) -> None:
        self.check()
        for run in list(self._running):
            # Kept until handled: where handling one breaks, the next may be the trial's end.
            run.heard.extend(run.trial.poll())
            while run.heard:
                self._handle(run, run.heard.popleft())
        for run in self._running:
            self._decide(run)
        self.listener.tick()
        self.clock.sleep(_POLL_SECONDS)

    def _handle(self, run: Run, event: TrialEvent) -> None:
        candidate, seed = run.candidate, run.seed
        match event:
            case StartEvent(record=record):
                run.micro_batch = record.micro_batch
                candidate.reused.pop(seed, None)
                if record.reused is not None:
                    candidate.reused[seed] = record.reused
            case ProgressEvent():
                self.listener.progress(candidate, seed, event)
            case RungEvent(point=point):
                at_rung = candidate.points.setdefault(point.step, {})
                known = seed in at_rung  # a resumed trial reports its old rungs again
                at_rung[seed] = point
                full, decided = self.budget.full_rungs, self.budget.decided_rungs
                run.waits_at = point.step if point.step in decided[:-1] else None
                if not known:
                    self.faults.measured()
                    if point.step in full:
                        self._note_score(candidate, seed, point)
                        self._tell(candidate)
                    self.listener.reached_rung(candidate, seed, point)
            case EndEvent():
                self._running.remove(run)
                self._end(run, event)

    def _note_score(self, candidate: Candidate, seed: int, point: CurvePoint) -> None:
        score = point.scores[self.budget.evaluation.metric].value
        before = self.rung_log.see(candidate.label, seed, point.step, score)
        if before is not None:
            self.say(
                f"{candidate.name} seed {seed}: measured again at step {point.step}, it scores "
                f"{score:.4f}; it was {before:.4f}"
            )

    def _end(self, run: Run, end: EndEvent) -> None:
        """Take the end event of a trial, or try again what failed by no fault of its own."""
        candidate, seed = run.candidate, run.seed
        if end.state is TrialState.FAILED:
            failures = candidate.failures[seed] = candidate.failures.get(seed, 0) + 1
            if not self._leaving and self.faults.again(end, failures, run.micro_batch):
                self.listener.ended(candidate, seed, end)
                self.say(f"{candidate.name} seed {seed}: attempt {failures + 1} follows")
                self._queue.appendleft((candidate, seed))
                return
        candidate.ends[seed] = end
        self._tell(candidate)
        self.listener.ended(candidate, seed, end)

    def _decide(self, run: Run) -> None:
        """Answer a waiting trial once its candidate's other running seeds are as far."""
        rung, candidate = run.waits_at, run.candidate
        if rung is None or self._leaving:
            return
        said = self.rung_log.decision(candidate.label, run.seed, rung)
        if said is not None:  # by an earlier process: it stands, whoever was seen since
            run.waits_at = None
            run.trial.decide(rung, said)
            return
        siblings = [other for other in self._running if other.candidate is candidate]
        if any(
            rung not in candidate.points or other.seed not in candidate.points[rung]
            for other in siblings
        ):
            return
        if not candidate.control and not candidate.stopped:
            candidate.stopped = not self._goes_on(candidate, rung)
        waiting = [sibling for sibling in siblings if sibling.waits_at == rung]
        self.rung_log.decide(
            candidate.label,
            [sibling.seed for sibling in waiting],
            rung,
            goes_on=not candidate.stopped,
            peers=len(self._peers(candidate, rung)),
        )
        for sibling in waiting:
            sibling.waits_at = None
            sibling.trial.decide(rung, not candidate.stopped)

    def _goes_on(self, candidate: Candidate, rung: int) -> bool:
        rule, evaluation = self.budget.search.early_stopping, self.budget.evaluation
        if rule is None:
            return True
        name, better = evaluation.metric, evaluation.BETTER
        if rung not in self.budget.full_rungs:
            name = rule.judges_by() or ""
            better = SIGNALS[name].better
        sign = 1 if better == "larger" else -1
        at_rung = {
            str(other.key): sign * other.prompt_scores(rung, name)
            for other in self._peers(candidate, rung)
        }
        return rule.goes_on(str(candidate.key), at_rung, self.budget.decided_rungs.index(rung))

    def _peers(self, candidate: Candidate, rung: int) -> list[Candidate]:
        """Return those seen at a rung so far that a candidate is compared with there, itself too.

        By a signal it is its own family: only within one does a better signal mean a better score.
        """
        scored, family = rung in self.budget.full_rungs, candidate.profile.family
        return [
            other
            for other in self.candidates
            if rung in other.points
            and not other.control
            and (scored or other.profile.family == family)
        ]

    def _tell(self, candidate: Candidate) -> None:
        """Let Optuna know how far a candidate is, unless all is about to end."""
        if candidate.optuna_number is None:
            return
        outcome = outcome_under(self.budget, candidate)
        try:
            candidate.optuna_number = self.optuna.agree(candidate.optuna_number, outcome)
        except StorageError:
            if not self._leaving:  # else a resumed search brings it in line
                raise

    def _hopeless(self) -> bool:
        if any(candidate.points for candidate in self.candidates):
            return False
        ends = [end for candidate in self.candidates for end in candidate.ends.values()]
        return sum(end.state is TrialState.FAILED for end in ends) >= _HOPELESS

    def _send_away(self) -> None:
        """Let every running trial save where it stands, and wait for its end event."""
        self._leaving = True
        for run in self._running:
            run.trial.leave()
        while self._running:
            self._hear()


class WallClock:
    """Real time."""

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)
