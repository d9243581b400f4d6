"""Trials that are looked up in a table, on a clock that jumps from event to event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nas_t2i.benchmark.table import Table
from nas_t2i.records import EndEvent, RungEvent, TrialEvent, TrialState
from nas_t2i.search.trial_config import TrialConfig

SeedOf = Callable[[str, int], int]
"""(arch_id, the search's seed) -> the recorded seed that is played back."""
_MOST_IDLE = 1000  # looks of the driver in which nothing happens: it waits for what never comes


@dataclass(frozen=True)
class Curve:
    """What one recorded trial reports, rung by rung."""

    events: tuple[RungEvent, ...]
    clock: tuple[float, ...]
    """Seconds from the trial's start to each report: training and evaluation."""
    flops: tuple[float, ...]
    """Training compute up to each rung."""


class Curves:
    """The curves of a table, made once and shared by all replays."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._known: dict[tuple[str, int], Curve] = {}

    def of(self, arch_id: str, seed: int) -> Curve:
        """Return the curve of a recorded trial. Raises RecordError where the table lacks it."""
        key = arch_id, seed
        if key not in self._known:
            points = [self.table.point(arch_id, step, seed) for step in self.table.steps]
            self._known[key] = Curve(
                tuple(RungEvent(point=point) for point in points),
                tuple(point.seconds + point.evaluation_seconds for point in points),
                tuple(point.training_flops for point in points),
            )
        return self._known[key]

    @cached_property
    def mean_trial(self) -> tuple[float, float]:
        """Compute (FLOPs) and seconds of one trial to the last rung, means over the table."""
        table, last = self.table, self.table.steps[-1]
        flops = table.values("training_flops", last).mean()
        seconds = table.values("seconds", last) + table.values("evaluation_seconds", last)
        return float(flops), float(seconds.mean())


class RecordedTrial:
    """A trial that reports its recorded rungs when their time has come.

    As a real one it waits at a rung for the driver's word, and one that was sent to rest is taken
    up where it stands: it reports its old rungs at once and goes on from the last of them.
    """

    def __init__(self, config: TrialConfig, curve: Curve, runner: RecordedRunner) -> None:
        self.config = config
        self._curve, self._runner = curve, runner
        self._steps = [event.point.step for event in curve.events]
        self._at = runner.reached.get(config.key, 0)  # rungs reached
        self._said: dict[int, bool] = {}
        self._ready: list[TrialEvent] = list(curve.events[: self._at])
        self._waits = self._at > 0
        self.due: float | None = None
        self.ended = False
        if self._at == len(self._steps):
            self._end(TrialState.COMPLETE)
        elif not self._at:
            self._train()

    @property
    def has_news(self) -> bool:
        """Whether there is something to report that does not take any time."""
        return bool(self._ready)

    def poll(self) -> Sequence[TrialEvent]:
        """Return the events whose time has come; the last one of a trial is its EndEvent."""
        if self.due is not None and self.due <= self._runner.now:
            self._reach()
        events, self._ready = self._ready, []
        return events

    def decide(self, rung: int, go: bool) -> None:
        """Answer a trial that waits at a rung, or will get there. The first answer counts."""
        self._said.setdefault(rung, go)
        if self._waits and rung == self._steps[self._at - 1]:
            self._go_on()

    def leave(self) -> None:
        """Have the trial end where it stands."""
        if not self.ended:
            self._end(TrialState.INTERRUPTED)

    def _train(self) -> None:
        before = self._curve.clock[self._at - 1] if self._at else 0.0
        self.due = self._runner.now + self._curve.clock[self._at] - before
        self._waits = False

    def _reach(self) -> None:
        self._ready.append(self._curve.events[self._at])
        before = self._curve.flops[self._at - 1] if self._at else 0.0
        self._runner.flops += self._curve.flops[self._at] - before
        self._at += 1
        self._runner.reached[self.config.key] = self._at
        self.due, self._waits = None, True
        if self._at == len(self._steps):
            self._end(TrialState.COMPLETE)
        elif self._steps[self._at - 1] in self._said:
            self._go_on()

    def _go_on(self) -> None:
        if self._said[self._steps[self._at - 1]]:
            self._train()
        else:
            self._end(TrialState.STOPPED)

    def _end(self, state: TrialState) -> None:
        self._ready.append(EndEvent(state=state))
        self.due, self._waits, self.ended = None, False, True


@dataclass
class RecordedRunner:
    """Starts recorded trials, and is the clock of one replay."""

    curves: Curves
    seed_of: SeedOf
    now: float = 0.0
    """Simulated seconds since the search began."""
    flops: float = 0.0
    """Training compute of all rungs reached so far."""
    reached: dict[str, int] = field(default_factory=dict)
    """By the trial's key, how many rungs it has reached."""
    _running: list[RecordedTrial] = field(default_factory=list)
    _idle: int = 0

    def start(self, config: TrialConfig) -> RecordedTrial:
        """Start a trial, or take it up again. Raises RecordError where the table lacks it."""
        arch_id = config.profile.arch_id
        curve = self.curves.of(arch_id, self.seed_of(arch_id, config.seed))
        trial = RecordedTrial(config, curve, self)
        self._running.append(trial)
        return trial

    def sleep(self, seconds: float) -> None:
        """Jump to the next event, however far it is; where one is at hand, to nowhere."""
        del seconds
        self._running = [trial for trial in self._running if not trial.ended or trial.has_news]
        if any(trial.has_news for trial in self._running):
            return
        due = [trial.due for trial in self._running if trial.due is not None]
        self._idle = 0 if due else self._idle + 1
        assert self._idle < _MOST_IDLE, "the driver waits for trials that wait for it"
        if due:
            self.now = max(self.now, min(due))
