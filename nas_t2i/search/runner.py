"""Something that runs a trial to its next rung: here a process; a recorded table can be another.

The driver only knows the protocols `Runner` and `RunningTrial`, so that recorded learning curves
can take the place of training.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Literal, Protocol

from nas_t2i.errors import ConfigError, StorageError
from nas_t2i.events import EventLog, EventTail
from nas_t2i.files import write_atomically
from nas_t2i.locks import FolderLock
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialEvent, TrialState
from nas_t2i.search.decisions import DecisionLog
from nas_t2i.search.fork_server import UNSEEN
from nas_t2i.search.launch import Machines, find_machines, make_launch, may_be_forked
from nas_t2i.search.resume.faults import failed, kills_for_memory
from nas_t2i.search.starter import Process, Starter
from nas_t2i.search.trial_config import TrialConfig

TRIAL_MODULE = "nas_t2i.search.trial"  # what each of a trial's processes runs
LEAVE_SECONDS = 90.0  # between asking a trial to save and leave, and SIGTERM
TERM_SECONDS = 20.0  # between SIGTERM, or its end event, and killing it
# What DeepSpeed's launcher says of itself is not why a trial died.
_LAUNCHER_LINE = re.compile(r"(\S+: )?\[\d{4}-.*\[(launch|runner)\.py:")
_RANK_PREFIX = re.compile(r"^(\S+: )?\[rank\d+\]: ?")  # torch's, after pdsh's host
_LOST_RANK = re.compile(r"connection (closed|reset)|remote process exit", re.IGNORECASE)
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")


class RunningTrial(Protocol):
    """A trial under way."""

    config: TrialConfig

    def poll(self) -> Sequence[TrialEvent]:
        """Return the events since the last call; the last one of a trial is its EndEvent."""

    def decide(self, rung: int, go: bool) -> None:
        """Answer a trial that waits at a rung."""

    def leave(self) -> None:
        """Ask the trial to save where it stands and go; poll until its EndEvent."""


class Runner(Protocol):
    """Starts trials."""

    def start(self, config: TrialConfig) -> RunningTrial:
        """Start a trial, or start it again where an earlier start of the same key left off."""


class ProcessRunner:
    """Runs each trial in processes of its own, in a folder named by the trial's key.

    On CUDA each trial gets devices of its own, one a rank. `say` is told what a user should know.
    """

    def __init__(
        self,
        trials: Path,
        *,
        stall_seconds: float,
        module: str = TRIAL_MODULE,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._trials, self._stall_seconds, self._module = trials, stall_seconds, module
        self._starter = Starter(module, say or partial(print, file=sys.stderr))
        self._machines: Machines | None = None
        self._running: list[TrialProcess] = []

    def start(self, config: TrialConfig) -> TrialProcess:
        """Write the trial's config and start its processes.

        Raises:
            UserError: no devices for it, or another driver runs the trial.
        """
        path = write_config(self._trials, config)
        folder = path.parent
        budget = Budget.model_validate(config.budget, strict=False)
        self._machines = self._machines or find_machines(budget)
        devices = self._free_devices(budget, self._machines)
        log = DecisionLog(folder)
        try:
            arguments = [str(path.absolute()), log.start]
            launch = make_launch(budget, self._machines, devices, self._module, arguments, folder)
            fork = may_be_forked(budget, self._machines)
            start = partial(self._starter.start, launch, arguments, fork=fork)
            trial = TrialProcess(config, folder, log, start, devices, self._stall_seconds)
        except BaseException:
            log.close()
            raise
        self._running.append(trial)
        return trial

    def _free_devices(self, budget: Budget, machines: Machines) -> tuple[str, ...]:
        self._running = [trial for trial in self._running if not trial.ended]
        if machines.devices is None:
            return ()
        ranks, sharing = budget.execution.ranks, budget.execution.trials_per_device
        load = Counter(device for trial in self._running for device in trial.devices)
        free = [device for device in machines.devices if load[device] < sharing]
        free.sort(key=lambda device: load[device])
        if len(free) < ranks:
            raise ConfigError(
                f"budget {budget.name}: search.parallel",
                f"{len(self._running)} trials of {ranks} ranks left {len(free)} devices free",
                expected=f"at most {len(machines.devices) * sharing // ranks} side by side",
            )
        return tuple(free[:ranks])


def write_config(trials: Path, config: TrialConfig) -> Path:
    """Write a trial's config.json into its folder, if it has none; return its path."""
    folder = trials / config.key
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    if not path.exists():
        write_atomically(path, config.model_dump_json(indent=1) + "\n")
    return path


class Patience:
    """Follows what one start of a trial says, and tells when it is to be ended by force."""

    def __init__(self, stall_seconds: float, budget: Budget) -> None:
        self.killed_because = ""
        self.leaving = False
        self._stall_seconds, self._decided_rungs = stall_seconds, budget.rungs[:-1]
        self._heard_at = time.monotonic()
        self._leave_by = 0.0
        self._sent_away = self._has_ended = self._waits_for_word = False
        self._told: set[int] = set()  # rungs of which the trial knows whether it goes on

    def hear(self, events: Iterable[TrialEvent]) -> None:
        """Take note of what a trial said."""
        for event in events:
            self._heard_at = time.monotonic()
            # Silent because the driver says nothing: its other seeds may be slower.
            step = event.point.step if isinstance(event, RungEvent) else 0
            self._waits_for_word = step in self._decided_rungs and step not in self._told
            self._has_ended |= isinstance(event, EndEvent)

    def tell(self, rung: int) -> None:
        """Take note that the trial was told whether it goes on after a rung."""
        self._told.add(rung)
        self._waits_for_word, self._heard_at = False, time.monotonic()

    def restart(self) -> None:
        """Count silence from now on: what was before was not the trial's."""
        self._heard_at = time.monotonic()

    def ask_to_leave(self) -> bool:
        """Take note that the trial is asked to leave; return whether that is new."""
        if self.leaving:
            return False
        self.leaving, self._leave_by = True, time.monotonic() + LEAVE_SECONDS
        return True

    def terminate(self) -> None:
        """Take note that the trial gets SIGTERM."""
        self._sent_away, self._leave_by = True, time.monotonic() + TERM_SECONDS

    def due(self) -> Literal["", "terminate", "kill"]:
        """Return what is to be done with the trial now; why it is killed is in `killed_because`."""
        now = time.monotonic()
        silent = now - self._heard_at
        if self._has_ended:
            return "kill" if silent > TERM_SECONDS else ""
        if self.leaving and now > self._leave_by:
            if not self._sent_away:
                return "terminate"
            self.killed_because = "did not leave when asked to"
            return "kill"
        if silent > self._stall_seconds and not self._waits_for_word:
            self.killed_because = f"silent for {self._stall_seconds / 60:g} minutes, killed"
            return "kill"
        return ""


class TrialProcess:
    """A trial in a process group of its own; it outlives neither its driver nor its silence."""

    def __init__(
        self,
        config: TrialConfig,
        folder: Path,
        log: DecisionLog,
        start: Callable[[IO[bytes]], Process],
        devices: tuple[str, ...],
        stall_seconds: float,
    ) -> None:
        """`start` starts the process, whose output goes to the file that it is given."""
        self.config, self.devices = config, devices
        self.ended = False
        self._folder, self._log = folder, log
        self._tail = EventTail(folder / "events.jsonl")
        # Ends from before this start are end events of earlier processes.
        self._past = [event for event in self._tail.read() if not isinstance(event, EndEvent)]
        self._on_record = bool(self._past)  # whether any process of this trial recorded its start
        self._started = False
        self._own_end: EndEvent | None = None
        budget = Budget.model_validate(config.budget, strict=False)
        self._patience = Patience(stall_seconds, budget)
        self._killed_for_memory = kills_for_memory()
        self._stderr = (folder / "stderr.log").open("ab")
        self._said_before = self._stderr.tell()
        try:
            self._process = start(self._stderr)
        except BaseException:
            self._stderr.close()
            raise

    def poll(self) -> Sequence[TrialEvent]:
        """Return new events; makes up the EndEvent of a trial that died without one.

        The end event comes when the processes are gone, and what they held is free.
        """
        if self.ended:
            return []
        # Asked before reading: what a process wrote before it ended is then surely read.
        status = self._process.poll()
        new = self._after_own_start(self._tail.read())
        events, self._past = self._past + new, []
        self._patience.hear(events)
        for event in events:
            if isinstance(event, EndEvent):
                self._own_end = event
        events = [event for event in events if not isinstance(event, EndEvent)]
        if status is not None:
            end = self._own_end or self._end_event(status)
            self._close()
            return [*events, end]
        match self._patience.due():
            case "terminate":
                self._terminate()
            case "kill":
                self._signal(signal.SIGKILL)
        return events

    def decide(self, rung: int, go: bool) -> None:
        """Tell the trial to go on after a rung, or to stop there. Raises StorageError."""
        self._log.say(f"{'go' if go else 'stop'} {rung}")
        self._patience.tell(rung)

    def leave(self) -> None:
        """Ask the trial to save and leave; one that doesn't leave in time is killed."""
        if self.ended or not self._patience.ask_to_leave():
            return
        try:
            self._log.say("leave")
        except StorageError:  # a full disk must not keep the others from being asked
            self._terminate()
        if not self._started:  # nobody listens yet, and there is nothing new to save
            self._terminate()

    def _after_own_start(self, events: list[TrialEvent]) -> list[TrialEvent]:
        """Drop the ends that an earlier process, still saving, wrote before this start."""
        kept: list[TrialEvent] = []
        for event in events:
            if isinstance(event, StartEvent):
                self._on_record = self._started = True
            if self._started or not isinstance(event, EndEvent):
                kept.append(event)
        return kept

    def _terminate(self) -> None:
        self._patience.terminate()
        self._signal(signal.SIGTERM)

    def _end_event(self, status: int | None) -> EndEvent:
        with (self._folder / "stderr.log").open("rb") as stream:
            stream.seek(self._said_before)
            said = stream.read().decode(errors="replace")
        for_memory = kills_for_memory() > self._killed_for_memory
        reason = self._patience.killed_because or describe_death(
            status, said, for_memory=for_memory
        )
        end = end_of(reason, leaving=self._patience.leaving)
        # A process of an earlier driver may still be writing: it is waited for.
        lock = FolderLock(self._folder / ".lock", wait_seconds=TERM_SECONDS)
        # What can't be written, a resumed search finds interrupted.
        with contextlib.suppress(StorageError), lock:
            self._write_end(end)
        return end

    def _write_end(self, end: EndEvent) -> None:
        with EventLog(self._folder / "events.jsonl") as log:
            if not self._on_record:  # it died before it could say anything
                log.append(StartEvent(record=self.config.new_record(), pid=self._process.pid))
            log.append(end)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        self.ended = True
        self._signal(signal.SIGKILL)  # ranks whose launcher died before them
        self._stderr.close()
        self._log.close()


def end_of(reason: str, *, leaving: bool) -> EndEvent:
    """Return the end of a trial that recorded none; `leaving`: it was asked to leave."""
    if leaving:
        return EndEvent(state=TrialState.INTERRUPTED, reason=f"asked to leave: {reason}")
    return failed(reason)


def describe_death(status: int | None, said: str, *, for_memory: bool = False) -> str:
    """Say in one line how a trial ended that left no end event; `said` is its output.

    `for_memory`: meanwhile the kernel killed a process of this machine for its memory.
    """
    number = _signal_number(status or 0)
    if number:
        guess = " (out of memory?)" if number == signal.SIGKILL else ""
        if guess and for_memory:
            guess = " (out of memory: the kernel killed a process for it)"
        return f"killed by {signal.Signals(number).name}{guess}"
    cause = _cause(said)
    # Of ranks that die within a second, the launcher reports any; a killed one says nothing.
    lost = "another rank was lost (out of memory?): " if _LOST_RANK.search(cause) else ""
    known = "unknown" if status == UNSEEN else status
    return f"exit status {known}: {lost}{cause[:300]}"


def _signal_number(status: int) -> int:
    """Return the signal that ended a process, or a rank of DeepSpeed's launcher; 0: none did."""
    # The launcher ends with its rank's -9 modulo 256; 255 is ssh's way of saying "no connection".
    number = 256 - status if 128 < status < 255 else -status
    return number if number in set(signal.Signals) else 0


def _cause(said: str) -> str:
    """Return the message of the first exception in an output, else its last line.

    Of several ranks, the first to fail is the cause; the others fail for want of it.
    """
    lines = [_RANK_PREFIX.sub("", line) for line in said.splitlines()]
    lines = [line for line in lines if line.strip() and not _LAUNCHER_LINE.match(line)]
    if not lines:
        return "no message"
    tracebacks = (n for n, line in enumerate(lines) if line.startswith("Traceback (most recent"))
    first = next(tracebacks, len(lines))
    for number in range(first + 1, len(lines)):
        before, line, *after = lines[number - 1 : number + 2]
        ends_traceback = before.startswith("  ") and not line.startswith(" ")
        if ends_traceback and not (after and after[0].startswith(_CHAINED)):
            return line.strip()
    return lines[-1].strip()
