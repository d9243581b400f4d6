"""One rank of a trial on a node of a Ray cluster: an actor, and the process that it starts there.

The actor passes on what the driver says and what the trial reports; it decides nothing and writes
no record. It needs the driver: unheard for `lease_seconds`, it kills its process and ends. Killed
itself, it takes the process along (nas_t2i.search.on_ray.pipes). So a driver that has not asked for
that long knows that the rank is gone, whatever became of node and network.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ray

from nas_t2i.environment import cache_dir
from nas_t2i.search.on_ray.away import Away, AwayFolder
from nas_t2i.search.on_ray.pipes import pipes_argument
from nas_t2i.version import __version__

LEASE_SECONDS = 60.0
_LOG_BYTES = 1 << 16  # of a dead process's output that are looked at for its cause
_END_SECONDS = 5.0  # between the end of a process and that of its pipe, which a helper may hold
_PROGRESS = b'{"event":"progress",'
_END = b'{"event":"end",'
# What a launcher around the node's daemon may have set, and a rank would take for its own.
_OF_A_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Job:
    """What each rank of a trial is given; paths are the same on every node."""

    module: str
    config: str  # config.json of the trial, in a folder that the nodes share
    folder: str  # where the driver runs, and relative paths begin
    environment: Mapping[str, str]
    ranks: int
    version: str  # of nas-t2i
    wait_seconds: float  # for what a killed driver may have left
    away: Away | None = None  # where no folder is shared


@dataclass(frozen=True)
class Heard:
    """What is new of a rank since it was last listened to."""

    lines: list[bytes] = field(default_factory=list)
    status: int | None = None  # exit status of its process; None: it runs, or has not begun
    said: str = ""  # the end of its output, when it has ended
    unsent: str = ""  # what of it could not be sent to a URL
    moves: bool = False  # it brings or sends files: nothing is said meanwhile


class WrongNodeError(Exception):
    """The node can't run the trial: one line that names both."""


class Rank:
    """A rank's process. A threaded actor: each call has a thread, one of them listens."""

    def __init__(self, lease_seconds: float) -> None:
        self._node, self._lease_seconds = ray.util.get_node_ip_address(), lease_seconds
        self._news = threading.Condition()
        self._lines: list[bytes] = []  # that nobody confirmed to have heard
        self._first = 0  # the number of the first of them
        self._urgent = self._killed = self._moves = False
        self._status: int | None = None
        self._said = self._unsent = ""
        self._away: AwayFolder | None = None
        self._held: list[bytes] = []  # the trial's end, until all it left is at the URL
        self._process: subprocess.Popen[bytes] | None = None
        self._words = -1
        self._early: list[str] = []  # said before there was a process to hear it
        self._listened = time.monotonic()
        threading.Thread(target=self._keep_lease, daemon=True).start()

    def meeting(self) -> tuple[str, int]:
        """Return address and port at which the ranks are to meet: the first rank's node."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return self._node, probe.getsockname()[1]

    def begin(self, job: Job, rank: int, meeting: tuple[str, int]) -> tuple[str, str]:
        """Start the process; return the node's address and id. Raises WrongNodeError."""
        place = self._node, ray.get_runtime_context().get_node_id()
        self._check(job)
        time.sleep(job.wait_seconds)
        inherited = {name: v for name, v in os.environ.items() if name not in _OF_A_LAUNCHER}
        if job.ranks > 1:
            numbers = {"RANK": rank, "WORLD_SIZE": job.ranks, "LOCAL_RANK": 0}
            inherited |= {name: str(value) for name, value in numbers.items()}
            inherited |= {"MASTER_ADDR": meeting[0], "MASTER_PORT": str(meeting[1])}
        config = Path(job.config)
        if job.away is not None:
            cache = Path(job.environment.get("NAS_T2I_CACHE") or cache_dir())
            self._moves = True
            self._away = AwayFolder(job.away, cache, is_first=rank == 0)
            self._moves = False
            config = self._away.folder / config.name
        words, self._words = os.pipe()
        events, theirs = os.pipe()
        log = config.with_name(f"stderr-{rank}.log" if rank else "stderr.log")
        with log.open("ab") as stream, self._news:
            said_before = stream.tell()
            if self._killed:
                return place
            self._process = subprocess.Popen(
                [sys.executable, "-m", job.module, str(config), pipes_argument(words, theirs)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=inherited | dict(job.environment),
                cwd=job.folder,
                start_new_session=True,
                pass_fds=(words, theirs),
            )
            for word in self._early:
                self._write(word)
        os.close(words)
        os.close(theirs)
        reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        reader.start()
        threading.Thread(target=self._wait, args=(reader, log, said_before), daemon=True).start()
        return place

    def listen(self, after: int, seconds: float) -> Heard:
        """Return the lines from number `after` on; the ones before are no longer kept.

        Returns at once when there is more than progress, else after `seconds`.
        """
        self._listened = time.monotonic()
        with self._news:
            # A question that comes late, after the ones asked since, confirms nothing new.
            heard = max(0, after - self._first)
            del self._lines[:heard]
            self._first += heard
            self._urgent &= bool(self._lines)
            self._news.wait_for(lambda: self._urgent or self._status is not None, seconds)
            self._urgent = False
            return Heard(list(self._lines), self._status, self._said, self._unsent, self._moves)

    def say(self, word: str) -> None:
        """Pass a word on to the trial."""
        with self._news:
            if self._process is None:
                self._early.append(word)
            else:
                self._write(word)

    def kill(self, number: int) -> None:
        """Send a signal to the process and its helpers; one that has not begun never will."""
        with self._news:
            self._killed = True
            if self._process is None:
                self._status = -number
                self._news.notify_all()
            elif self._status is None:
                self._signal(number)

    def _check(self, job: Job) -> None:
        if job.version != __version__:
            raise WrongNodeError(
                f"node {self._node} has nas-t2i {__version__}, the driver {job.version}"
            )
        for path in (job.config, job.folder) if job.away is None else (job.folder,):
            if not Path(path).exists():
                raise WrongNodeError(
                    f"node {self._node} does not see {path}: folders of results, and the one the "
                    "search is started in, must be shared"
                )

    def _write(self, word: str) -> None:
        with contextlib.suppress(OSError):  # it has ended, which is told by its status
            os.write(self._words, f"{word}\n".encode())

    def _read(self, events: int) -> None:
        with os.fdopen(events, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):  # it was killed in the midst of it
                    return
                if self._away is not None and line.startswith(_END):
                    self._held.append(line.rstrip(b"\n"))
                    continue
                with self._news:
                    self._lines.append(line.rstrip(b"\n"))
                    if not line.startswith(_PROGRESS):
                        self._urgent = True
                        self._news.notify_all()

    def _wait(self, reader: threading.Thread, log: Path, said_before: int) -> None:
        assert self._process is not None
        status = self._process.wait()
        self._signal(signal.SIGKILL)  # helpers that it left behind
        reader.join(_END_SECONDS)
        said = ""
        with contextlib.suppress(FileNotFoundError), log.open("rb") as stream:
            stream.seek(said_before)
            said = stream.read()[-_LOG_BYTES:].decode(errors="replace")
        if self._away is not None:
            self._moves = True
            self._unsent = self._away.finish()
        with self._news:
            self._lines += self._held
            self._said, self._status = said, status
            self._news.notify_all()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _keep_lease(self) -> None:
        while time.monotonic() - self._listened < self._lease_seconds:
            time.sleep(min(1.0, self._lease_seconds / 10))
        if self._process is not None and self._status is None:
            self._signal(signal.SIGKILL)
        os._exit(1)
