"""What the driver says to a trial, through a file, and how each sees that the other is there.

It works alike for one process, many ranks and many nodes, on any file system that has locks. In the
trial's folder the driver holds the lock ``.driver`` as long as the trial runs, and appends lines to
``decisions``:

    start 5f0c…     which start of the trial is spoken to; always the first line
    go 320          train on after the rung at step 320
    stop 640        end at the rung at step 640
    leave           save where you stand and end

The trial's first rank reads them; it tells the other ranks.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from nas_t2i.errors import StorageError
from nas_t2i.files import write_atomically
from nas_t2i.locks import FolderLock, is_held

DECISIONS_FILE = "decisions"
DRIVER_LOCK = ".driver"
_READ_SECONDS = 0.15  # between two looks at the file
_DRIVER_SECONDS = 0.5  # between two looks at the lock
# Saving a large model takes minutes; a collective whose other ranks are gone never returns.
_OUTLIVE_SECONDS = 900.0
_DECISION = re.compile(r"(go|stop) (\d+)")


class InterruptedTrialError(Exception):
    """The trial is to save where it stands and end; the text says why."""


class DecisionLog:
    """The driver's end, for one start of a trial. Close it when that start has ended.

    Raises:
        StorageError: another driver runs this trial, or the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.start = uuid.uuid4().hex
        self._file = folder / DECISIONS_FILE
        lock = FolderLock(folder / DRIVER_LOCK, held=f"trial {folder.name} is run")
        self._held = contextlib.ExitStack()
        self._held.enter_context(lock)
        try:
            # What was said to an earlier start is void: the driver decides again on every rung it
            # is reported again.
            write_atomically(self._file, f"start {self.start}\n")
        except BaseException:
            self.close()
            raise

    def say(self, line: str) -> None:
        """Append one line; it is on the disk when this returns. Raises StorageError."""
        try:
            with self._file.open("a") as stream:
                stream.write(line + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StorageError(f"{self._file}: can't be written: {error.strerror}") from None

    def close(self) -> None:
        """Let go of the trial: a process of it that still runs sees that nobody listens."""
        self._held.close()


class Decisions:
    """The trial's end, for its first rank only; a thread of it watches the driver.

    `start` is the name of this start of the trial, as the driver gave it. When the driver is gone,
    has been replaced by another, asks to leave, or SIGTERM arrives, `gone` is set; a process that
    is then not done within `outlive_seconds` ends without having saved. So is it when a trial that
    a launcher started, `launched`, has lost the launcher.
    """

    def __init__(
        self,
        folder: Path,
        start: str,
        *,
        launched: bool = False,
        outlive_seconds: float = _OUTLIVE_SECONDS,
    ) -> None:
        self.gone = threading.Event()
        self._why = ""
        self._start = start
        self._file, self._lock = folder / DECISIONS_FILE, folder / DRIVER_LOCK
        self._outlive_seconds = outlive_seconds
        self._launcher = os.getppid() if launched else None
        self._closed = threading.Event()
        self._said: dict[int, bool] = {}  # rung -> whether to go on
        self._look_for_driver()
        self._read()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._watch, name="decisions", daemon=True).start()

    def check(self) -> None:
        """Raise InterruptedTrialError when it is time to leave."""
        if self.gone.is_set():
            raise InterruptedTrialError(self._why)

    def go_on(self, rung: int) -> bool:
        """Wait for the decision on the rung at step `rung`; return whether to train on.

        Raises:
            InterruptedTrialError: the driver is gone or asked to leave.
        """
        while True:
            self.check()
            said = self._said
            if rung in said:
                return said[rung]
            # A trial that was cut before it could save its last rung stands at the one before,
            # while its driver has seen both and answers the last.
            if any(later > rung for later in said):
                return True
            self.gone.wait(_READ_SECONDS)

    def close(self) -> None:
        """Stop watching: the trial has ended."""
        self._closed.set()

    def _watch(self) -> None:
        next_look = 0.0
        while not (self.gone.is_set() or self._closed.wait(_READ_SECONDS)):
            self._read()
            if time.monotonic() >= next_look:
                self._look_for_driver()
                next_look = time.monotonic() + _DRIVER_SECONDS
        if not self._closed.wait(self._outlive_seconds):
            os._exit(1)

    def _read(self) -> None:
        try:
            # Opened anew each time: that is when NFS asks the server what is new.
            *lines, _unfinished = self._file.read_text().split("\n")
        except OSError:
            return  # a network's file system may fail for a while
        if lines and lines[0] != f"start {self._start}":
            self._leave("another driver took over")
            return
        self._take(lines)

    def _take(self, lines: Sequence[str]) -> None:
        """Take in all that was said so far."""
        found = (_DECISION.fullmatch(line) for line in reversed(lines))
        # The first decision on a rung is final.
        self._said = {int(match[2]): match[1] == "go" for match in found if match}
        if "leave" in lines:
            self._leave("asked to leave")

    def _look_for_driver(self) -> None:
        try:
            driver_is_there = is_held(self._lock)
        except OSError:
            return
        if not driver_is_there:
            self._leave("the driver is gone")
        elif self._launcher not in (None, os.getppid()):
            self._leave("the process that started it is gone")

    def _leave(self, why: str) -> None:
        if not self.gone.is_set():
            self._why = why
            self.gone.set()

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self._leave("got SIGTERM")
