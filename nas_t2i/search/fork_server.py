"""One warm process that trials are forked from: what they import and share is paid for once.

    python -m nas_t2i.search.fork_server SOCKET MODULE CONFIG

The process imports MODULE, lets ``MODULE.share(CONFIG)`` import more and make what all trials of a
budget have in common, and then forks a child for each request; the child runs
``MODULE.main(arguments, shared)`` in a process group of its own and ends as a process started by
itself would. The process never runs a second thread, and never starts CUDA: locks and devices do
not survive a fork. It holds nothing that a trial depends on: killed, its trials train on, and the
driver starts another one. It ends when the driver's end of the socket is closed, however the driver
ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import IO, Any, NoReturn

from nas_t2i.errors import UserError

UNSEEN = 256  # "exit status" of a child that ended when no server was left to see how
_READY_SECONDS = 300.0  # that imports may take, from a cold disk
_FORK_SECONDS = 30.0
_LEAVE_SECONDS = 5.0  # between closing its socket and its end
_REAP_SECONDS = 0.05  # between two looks at the children
_MESSAGE_BYTES = 1 << 16
_THREADS = Path("/proc/self/task")  # one entry a thread
# jemalloc lets go of its locks in a child, where it starts no such thread. Arrow brings it, which
# pandas imports where it is installed.
_FORK_SAFE = ("jemalloc_bg_thd",)


class ForkServerError(Exception):
    """No trial can be forked; the text says why."""


class ForkServer:
    """The driver's end. The server ends with the last object that refers to this one.

    The server starts in `environment`, with standard output and error in `log`, the file of the
    first trial; `config` is that trial's.

    Raises:
        ForkServerError: it ended before it could serve, or more than one thread runs in it.
    """

    def __init__(
        self, module: str, config: Path, environment: dict[str, str], log: IO[bytes]
    ) -> None:
        self.environment, self._log = environment, log.name
        self._statuses: dict[int, int] = {}  # of children that ended, by pid
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), module, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        self.close = weakref.finalize(self, _end, self._process, self._channel)
        self._answer("ready", _READY_SECONDS)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Whether the server has ended, or was ended because it did not answer."""
        return not self.close.alive

    def fork(
        self, arguments: list[str], environment: dict[str, str], log: IO[bytes]
    ) -> ForkedProcess:
        """Run ``MODULE.main(arguments, shared)`` in a child whose output goes to `log`.

        Its environment is the server's and `environment`.

        Raises:
            ForkServerError: the server is gone or refuses.
        """
        if self.gone:
            raise ForkServerError("it has ended")
        alive, held = os.pipe()
        try:
            request = {
                "arguments": arguments,
                "environment": environment,
                "cwd": str(Path.cwd()),
            }
            self._channel.settimeout(_FORK_SECONDS)
            socket.send_fds(self._channel, [json.dumps(request).encode()], [log.fileno(), held])
            pid = self._answer("forked", _FORK_SECONDS)
        except OSError as error:
            os.close(alive)
            self.close()
            raise ForkServerError(f"it takes no requests: {error}") from None
        except ForkServerError:
            os.close(alive)
            raise
        finally:
            os.close(held)
        return ForkedProcess(self, pid, alive)

    def status(self, pid: int) -> int | None:
        """Return the exit status of a child, negative for a signal; None: none was heard of."""
        while not self.gone and pid not in self._statuses:
            self._channel.settimeout(0)
            try:
                self._hear()
            except BlockingIOError:
                break
            except (OSError, ForkServerError):
                self.close()
        return self._statuses.pop(pid, None)

    def _answer(self, word: str, seconds: float) -> int:
        """Wait for the message of that name. Raises ForkServerError."""
        try:
            self._channel.settimeout(seconds)
            while True:
                message = self._hear()
                if word in message:
                    return int(message[word])
                if "refused" in message:
                    raise ForkServerError(message["refused"])
        except TimeoutError:
            self.close()
            raise ForkServerError(f"it did not answer within {seconds:g} s") from None
        except OSError as error:
            self.close()
            raise ForkServerError(f"it can't be heard: {error}") from None

    def _hear(self) -> dict[str, Any]:
        received = self._channel.recv(_MESSAGE_BYTES)
        if not received:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LEAVE_SECONDS)  # to tell how, before it is made sure
            self.close()
            status = self._process.returncode
            raise ForkServerError(f"it ended with exit status {status}, see {self._log}")
        message: dict[str, Any] = json.loads(received)
        if "ended" in message:
            self._statuses[message["ended"]] = message["status"]
        return message


class ForkedProcess:
    """A child of the server, as `subprocess.Popen` shows a child of one's own."""

    def __init__(self, server: ForkServer, pid: int, alive: int) -> None:
        """`alive` is the reading end of a pipe that ends when the child does."""
        self.pid, self._server = pid, server
        self._status: int | None = None
        self._alive = os.fdopen(alive, "rb", buffering=0)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, `UNSEEN` if unknown; None: it runs."""
        if self._status is None:
            self._status = self._server.status(self.pid)
            if self._status is None and self._server.gone and self._has_ended():
                self._status = UNSEEN
            if self._status is not None:
                self._alive.close()
        return self._status

    def _has_ended(self) -> bool:
        return bool(select.select([self._alive], [], [], 0)[0])


def _end(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    channel.close()
    process.kill()  # nothing is lost: it holds only what can be made again
    process.wait()


def main(arguments: list[str]) -> int:
    """Serve until the driver is gone; in a child of the server, run its trial."""
    channel = socket.socket(fileno=int(arguments[0]))
    channel.set_inheritable(False)
    module = importlib.import_module(arguments[1])
    try:
        shared = module.share(Path(arguments[2]))
    except UserError as error:  # no child of this process could work
        _tell(channel, {"refused": str(error)})
        return 0
    gc.collect()
    gc.freeze()  # what is shared stays shared: a child's collector does not write to it
    trial = _serve(channel)
    if trial is not None:
        sys.argv = [str(module.__file__), *trial]
        _leave(module.main(trial, shared))
    return 0


def _leave(status: int) -> NoReturn:
    """End a trial's process without taking apart what it shares with the server.

    As children of `multiprocessing` do: exit functions run, but modules and objects are left to the
    system. The interpreter's own way of ending takes a second or two here, a pause of a race each.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _serve(channel: socket.socket) -> list[str] | None:
    """Answer requests; return None when the driver is gone, in a child its arguments."""
    children = 0
    problem = _why_not_fork()
    with contextlib.suppress(ConnectionError):
        _tell(channel, {"refused": problem} if problem else {"ready": os.getpid()})
        while True:
            if select.select([channel], [], [], _REAP_SECONDS if children else None)[0]:
                message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 2)
                if not message:
                    break
                request = json.loads(message)
                pid, problem = _fork()
                if pid == 0:
                    channel.close()
                    os.environ.update(request["environment"])
                    _become_a_trial(request["cwd"], *descriptors)
                    return list(request["arguments"])
                for descriptor in descriptors:
                    os.close(descriptor)
                children += pid > 0
                _tell(channel, {"refused": problem} if problem else {"forked": pid})
            while children:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                children -= 1
                _tell(channel, {"ended": pid, "status": os.waitstatus_to_exitcode(status)})
    return None


def _fork() -> tuple[int, str]:
    """Fork. Returns 0 in the child; here its pid, or -1 and why there is none."""
    problem = _why_not_fork()
    if problem:
        return -1, problem
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError as error:
        return -1, f"no process can be forked: {error.strerror}"
    # Here and there, whoever is first: the group is there before anybody signals it.
    with contextlib.suppress(ProcessLookupError):
        os.setpgid(pid, pid or os.getpid())
    return pid, ""


def _why_not_fork() -> str:
    names = [(thread / "comm").read_text().strip() for thread in _THREADS.iterdir()]
    others = sorted(names)
    others.remove(Path("/proc/self/comm").read_text().strip())  # this one
    unsafe = [name for name in others if name not in _FORK_SAFE]
    # Another thread may hold a lock at the fork; in the child nobody would let it go.
    return f"other threads run in it: {', '.join(unsafe)}" if unsafe else ""


def _become_a_trial(folder: str, log: int, held: int) -> None:
    """Take the trial's output, no input, and the driver's folder; `held` is kept to the end."""
    os.set_inheritable(held, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    os.chdir(folder)


def _tell(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
