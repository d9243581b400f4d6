"""Something that runs a trial to its next rung: here a process; a recorded table can be another.

The driver only knows the protocols `Runner` and `RunningTrial`, so that recorded learning curves
can stand in for training.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nas_t2i.events import EventLog, EventTail
from nas_t2i.files import write_atomically
from nas_t2i.records import EndEvent, StartEvent, TrialEvent, TrialState
from nas_t2i.search.trial_config import TrialConfig

_TERM_SECONDS = 20.0  # between asking a trial to leave and killing it


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
    """Runs each trial as a process of its own, in a folder named by the trial's key."""

    def __init__(self, trials: Path, *, threads: int, stall_seconds: float) -> None:
        self._trials, self._threads, self._stall_seconds = trials, threads, stall_seconds

    def start(self, config: TrialConfig) -> TrialProcess:
        """Write the trial's config and start its process."""
        folder = self._trials / config.key
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "config.json"
        if not path.exists():
            write_atomically(path, config.model_dump_json(indent=1) + "\n")
        return TrialProcess(config, folder, self._threads, self._stall_seconds)


class TrialProcess:
    """A trial in a process group of its own; it outlives neither its driver nor its silence."""

    def __init__(
        self, config: TrialConfig, folder: Path, threads: int, stall_seconds: float
    ) -> None:
        self.config = config
        self._folder = folder
        self._stall_seconds = stall_seconds
        self._tail = EventTail(folder / "events.jsonl")
        self._stderr = (folder / "stderr.log").open("ab")
        self._heard = time.monotonic()
        self._leave_by: float | None = None
        self._killed_because = ""
        self._on_record = False  # whether any process of this trial told its start
        self._started = self._ended = False
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "CUDA_VISIBLE_DEVICES": "",
            "DS_ACCELERATOR": "cpu",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nas_t2i.search.trial", str(folder / "config.json")],
            stdin=subprocess.PIPE,
            stdout=self._stderr,
            stderr=self._stderr,
            env=environment,
            start_new_session=True,
        )

    def poll(self) -> Sequence[TrialEvent]:
        """Return new events; makes up the EndEvent of a process that died without one."""
        if self._ended:
            return []
        # Asked before reading: what a process wrote before it ended is then surely read.
        status = self._process.poll()
        events = list(self._tail.read())
        if events:
            self._heard = time.monotonic()
        # Ends from before this start were last words of earlier processes.
        events = self._after_own_start(events)
        if any(isinstance(event, EndEvent) for event in events) or status is not None:
            if not events or not isinstance(events[-1], EndEvent):
                events.append(self._last_word(status))
            self._close()
            return events
        self._kill_if_overdue()
        return events

    def decide(self, rung: int, go: bool) -> None:
        """Write the decision to the trial's standard input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{'go' if go else 'stop'} {rung}\n".encode())
            self._process.stdin.flush()
        except OSError:  # it died meanwhile; poll will tell
            return

    def leave(self) -> None:
        """Send SIGTERM; a trial that doesn't leave in time is killed."""
        if self._leave_by is None and not self._ended:
            self._leave_by = time.monotonic() + _TERM_SECONDS
            self._signal(signal.SIGTERM)

    def _after_own_start(self, events: list[TrialEvent]) -> list[TrialEvent]:
        """Drop the ends that were written before this process started."""
        kept: list[TrialEvent] = []
        for event in events:
            if isinstance(event, StartEvent):
                self._on_record = True
                self._started = event.pid == self._process.pid
            if self._started or not isinstance(event, EndEvent):
                kept.append(event)
        return kept

    def _kill_if_overdue(self) -> None:
        now = time.monotonic()
        if self._leave_by is not None and now > self._leave_by:
            self._killed_because = "did not leave when asked to"
        elif now - self._heard > self._stall_seconds:
            self._killed_because = f"silent for {self._stall_seconds / 60:g} minutes, killed"
        else:
            return
        self._signal(signal.SIGKILL)

    def _last_word(self, status: int | None) -> EndEvent:
        reason = self._killed_because or _describe_death(status, self._folder / "stderr.log")
        state = TrialState.INTERRUPTED if self._leave_by is not None else TrialState.FAILED
        end = EndEvent(state=state, reason=reason)
        with EventLog(self._folder / "events.jsonl") as log:
            if not self._on_record:  # it died before it could say anything
                log.append(StartEvent(record=self.config.new_record(), pid=self._process.pid))
            log.append(end)
        return end

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _close(self) -> None:
        self._ended = True
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_TERM_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._stderr.close()


def _describe_death(status: int | None, log: Path) -> str:
    """Say in one line how a process ended that did not tell itself."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        guess = " (out of memory?)" if name == "SIGKILL" else ""
        return f"killed by {name}{guess}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "no message"
    return f"exit status {status}: {last[:300]}"
