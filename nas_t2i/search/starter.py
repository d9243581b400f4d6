"""How a trial's first process is started: forked from a warm one where that may be, else anew."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from nas_t2i.search.fork_server import ForkedProcess, ForkServer, ForkServerError
from nas_t2i.search.launch import Launch

_DEVICES = "CUDA_VISIBLE_DEVICES"  # a trial's own


class Process(Protocol):
    """The first process of a trial; its pid is that of its process group."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""


class Starter:
    """Starts the processes of one study's trials, each in a process group of its own."""

    def __init__(self, module: str, say: Callable[[str], None]) -> None:
        """`say` is told when trials can't be forked though they might."""
        self._module, self._say = module, say
        self._server: ForkServer | None = None
        self._forks = True

    def start(self, launch: Launch, arguments: list[str], log: IO[bytes], *, fork: bool) -> Process:
        """Start ``python -m MODULE arguments``, its output to `log`; the first names its config.

        A server that was killed is replaced by another. Where there can be none, this trial and
        the later ones are started anew.
        """
        if fork and self._forks:
            try:
                return self._fork(launch.environment, arguments, log)
            except ForkServerError as error:
                self._forks, self._server = False, None
                self._say(
                    "each trial imports what it needs by itself, which takes seconds: the process "
                    f"to fork them from can't be used: {error} (see execution.warm_start)"
                )
        return subprocess.Popen(
            launch.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=launch.environment,
            start_new_session=True,
        )

    def _fork(
        self, environment: dict[str, str], arguments: list[str], log: IO[bytes]
    ) -> ForkedProcess:
        own = {_DEVICES: environment[_DEVICES]}
        # With none in sight, to import diffusers starts neither CUDA nor NVML, which has a thread.
        common = environment | {_DEVICES: ""}
        if self._server is not None and self._server.environment == common:
            with contextlib.suppress(ForkServerError):
                return self._server.fork(arguments, own, log)
        self._server = ForkServer(self._module, Path(arguments[0]), common, log)
        return self._server.fork(arguments, own, log)
