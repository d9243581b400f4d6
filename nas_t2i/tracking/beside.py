"""``nas-t2i results track --follow`` beside a search: a process of its own.

It reads what is on record and nothing else, so that whatever a tracker does, hangs in or dies of
costs neither a trial nor the search. A search that is killed is followed to its last record.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

LOG_FILE = "tracking.log"
"""In the study's folder: what the trackers' packages print, and the tracebacks."""
_QUIET_SECONDS = 3.0  # of waiting at the end, before a line says so


class Beside:
    """The process that feeds the trackers of a search."""

    def __init__(
        self, folder: Path, trackers: Sequence[tuple[str, str]], say: Callable[[str], None]
    ) -> None:
        """Start it for a study that this process searches; `trackers` are names and WHEREs."""
        self._folder, self._say = folder, say
        options = [f"--track={name}={where}" for name, where in trackers]
        command = ["results", "track", str(folder), "--follow", *options]
        with (folder / LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nas_t2i.cli.main", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # an interrupt is the search's: there is still to be sent
            )
        assert self._process.stdout is not None
        self._thread = threading.Thread(
            target=self._pass_on, args=(self._process.stdout,), daemon=True
        )
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Wait until everything has arrived, `seconds` at most; what is left goes on by itself."""
        try:
            if not self._ends_within(min(seconds, _QUIET_SECONDS)):
                self._say("sending the rest to the trackers; an interrupt leaves that to them")
                if not self._ends_within(seconds):
                    self._say(f"process {self._process.pid} goes on sending to the trackers")
        except KeyboardInterrupt:
            self._say(f"process {self._process.pid} goes on sending to the trackers")

    def _ends_within(self, seconds: float) -> bool:
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._thread.join(1.0)
        if status:
            log = self._folder / LOG_FILE
            self._say(f"the process of the trackers ended with status {status}; {log} tells more")
        return True

    def _pass_on(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._say(line.rstrip("\n"))
