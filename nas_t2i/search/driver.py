"""The search loop: start trials, score them at rungs, let the good go on, survive the rest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from nas_t2i.protocol.budget import Budget
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    ProgressEvent,
    RungEvent,
    StartEvent,
    TrialEvent,
    TrialState,
)
from nas_t2i.search.candidates import Candidate, Proposals
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

    def tick(self) -> None:
        """Time passed."""


@dataclass
class _Run:
    candidate: Candidate
    seed: int
    trial: RunningTrial
    waits_at: int | None = None  # the rung whose decision it waits for


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
    asked_to_leave: Callable[[], bool] = lambda: False
    _queue: deque[tuple[Candidate, int]] = field(default_factory=deque)
    _running: list[_Run] = field(default_factory=list)
    _started: int = 0
    _leaving: bool = False

    def run(self) -> None:
        """Search until done, or until asked to leave: the trials save where they stand.

        Raises:
            KeyboardInterrupt: it was asked to leave; every trial has its end event.
        """
        self._started = sum(len(candidate.ends) for candidate in self.candidates)
        for candidate in self.candidates:
            self._queue_unfinished_seeds(candidate)
        try:
            while self._start_what_fits() or self._running:
                self._hear()
                if self.asked_to_leave():
                    raise KeyboardInterrupt
        except BaseException:
            self._send_away()
            raise

    def _start_what_fits(self) -> bool:
        """Fill the free places; return whether anything was started."""
        before = self._started
        while len(self._running) < self.parallel and not self._hopeless():
            if not self._queue and not self._propose():
                break
            candidate, seed = self._queue.popleft()
            self._start(candidate, seed)
        return self._started > before

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

    def _start(self, candidate: Candidate, seed: int) -> None:
        candidate.ends.pop(seed, None)
        config = candidate.config(self.study_name, self._started, self.budget, seed)
        self._running.append(_Run(candidate, seed, self.runner.start(config)))
        self._started += 1
        self.listener.started(candidate, seed)

    def _hear(self) -> None:
        for run in list(self._running):
            for event in run.trial.poll():
                self._handle(run, event)
        for run in self._running:
            self._decide(run)
        self.listener.tick()
        self.clock.sleep(_POLL_SECONDS)

    def _handle(self, run: _Run, event: TrialEvent) -> None:
        candidate, seed = run.candidate, run.seed
        match event:
            case StartEvent():
                pass
            case ProgressEvent():
                self.listener.progress(candidate, seed, event)
            case RungEvent(point=point):
                at_rung = candidate.points.setdefault(point.step, {})
                known = seed in at_rung  # a resumed trial reports its old rungs again
                at_rung[seed] = point
                full = self.budget.full_rungs
                run.waits_at = point.step if point.step in full[:-1] else None
                if not known:
                    if point.step in full:
                        self._report(candidate, point.step)
                    self.listener.reached_rung(candidate, seed, point)
            case EndEvent():
                self._running.remove(run)
                candidate.ends[seed] = event
                self._tell_if_finished(candidate)
                self.listener.ended(candidate, seed, event)

    def _decide(self, run: _Run) -> None:
        """Answer a waiting trial once its candidate's other running seeds are as far."""
        rung, candidate = run.waits_at, run.candidate
        if rung is None or self._leaving:
            return
        siblings = [other for other in self._running if other.candidate is candidate]
        if any(
            rung not in candidate.points or other.seed not in candidate.points[rung]
            for other in siblings
        ):
            return
        if not candidate.control and not candidate.stopped:
            candidate.stopped = not self._goes_on(candidate, rung)
        for sibling in siblings:
            if sibling.waits_at == rung:
                sibling.waits_at = None
                sibling.trial.decide(rung, not candidate.stopped)

    def _goes_on(self, candidate: Candidate, rung: int) -> bool:
        rule, evaluation = self.budget.search.early_stopping, self.budget.evaluation
        if rule is None:
            return True
        sign = 1 if evaluation.BETTER == "larger" else -1
        at_rung = {
            str(other.key): [sign * s for s in other.prompt_scores(rung, evaluation.metric)]
            for other in self.candidates
            if rung in other.points and not other.control
        }
        return rule.goes_on(str(candidate.key), at_rung, self.budget.full_rungs.index(rung))

    def _report(self, candidate: Candidate, rung: int) -> None:
        if candidate.optuna_number is not None:
            value = self._mean(candidate, rung)
            self.optuna.report(candidate.optuna_number, rung, value)

    def _mean(self, candidate: Candidate, rung: int) -> float:
        scores = candidate.prompt_scores(rung, self.budget.evaluation.metric)
        return sum(scores) / len(scores)

    def _tell_if_finished(self, candidate: Candidate) -> None:
        if candidate.optuna_number is None or not candidate.finished:
            return
        states = {end.state for end in candidate.ends.values()}
        last = self.budget.rungs[-1]
        if TrialState.COMPLETE in states and not candidate.stopped:
            self.optuna.tell(candidate.optuna_number, self._mean(candidate, last))
        elif TrialState.STOPPED in states:
            self.optuna.tell(candidate.optuna_number, None, stopped=True)
        else:
            self.optuna.tell(candidate.optuna_number, None)

    def _hopeless(self) -> bool:
        ends = [end for candidate in self.candidates for end in candidate.ends.values()]
        failed = [end for end in ends if end.state is TrialState.FAILED]
        nothing_trained = not any(candidate.points for candidate in self.candidates)
        return len(failed) >= _HOPELESS and nothing_trained

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
