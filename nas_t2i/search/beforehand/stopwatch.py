"""A process that times forward passes, and its end in the driver.

    python -m nas_t2i.search.beforehand.stopwatch SETTINGS

Weights, compiled code and a device's memory go with the process. It takes one JSON object a line
and answers with one, and ends at once when its input does: a driver that was killed leaves nothing
behind that would disturb the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import IO, Any

from nas_t2i import plugins
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import UserError
from nas_t2i.files import Closing
from nas_t2i.plugins import Origin
from nas_t2i.protocol.latency import LatencySettings
from nas_t2i.records import Latency

_TAIL = 2000  # characters of what a process said before it died
_KILLED = -9


class Stopwatch(Closing):
    """The driver's end; the process starts with the first architecture and again after `close`."""

    def __init__(self, settings: LatencySettings) -> None:
        """Take settings in which nothing is left out."""
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None

    def measure(self, arch: Arch, name: str) -> Latency:
        """Time forward passes of an architecture.

        Raises:
            UserError: it does not fit into the memory, or not on such latents.
            RuntimeError: the process broke; the message has what it said last.
        """
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        asked = {
            "arch": arch.canonical(),
            "name": name,
            "plugins": [origin.model_dump(mode="json") for origin in plugins.used()],
        }
        try:
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps(asked), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BaseException:  # an interrupt: the answer would be taken for the next one's
            self.close()
            raise
        if not line:
            raise self._death(name)
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            raise UserError(answer["problem"])
        return Latency.model_validate(answer)

    def close(self) -> None:
        """End the process, with all that it holds."""
        process, errors, self._process, self._errors = self._process, self._errors, None, None
        if process is not None:
            process.kill()
            with process:
                process.wait()
        if errors is not None:
            errors.close()

    def _start(self) -> subprocess.Popen[str]:
        threads = str(self._settings.threads)
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, self._settings.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            start_new_session=True,  # Ctrl-C is for the driver
        )
        return self._process

    def _death(self, name: str) -> Exception:
        assert self._process is not None and self._errors is not None
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-_TAIL:]
        self.close()
        if status == _KILLED:
            return UserError(
                f"latency of {name}: the process that timed it was killed, as the system does "
                f"where memory is short; try {_INSTEAD}"
            )
        return RuntimeError(
            f"the process that timed {name} ended with exit status {status}:\n{said}"
        )


_INSTEAD = "a smaller batch, bf16, or another device in search.latency"


def main() -> None:
    """Answer what is asked on standard input until it ends."""
    import torch

    from nas_t2i.training.latency import measure_latency

    settings = LatencySettings.model_validate_json(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    assert settings.device is not None and settings.dtype is not None
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    for line in _lines():
        asked = json.loads(line)
        plugins.restore(Origin.model_validate(origin) for origin in asked["plugins"])
        try:
            found = measure_latency(
                arch_from_dict(asked["arch"]),
                latent_size=settings.latent_size,
                text_tokens=settings.text_tokens,
                batch=settings.batch,
                device=settings.device,
                dtype=settings.dtype,
                compiled=settings.compile,
                seconds=settings.seconds,
                name=asked["name"],
                what="latency of ",
                instead=_INSTEAD,
            )
            answer = found.model_dump_json()
        except UserError as error:
            answer = json.dumps({"problem": str(error)})
        print(answer, file=answers, flush=True)


def _lines() -> Iterator[str]:
    """Yield what is asked; a thread that sleeps until then ends the process with its input."""
    heard: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            heard.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield heard.get()


if __name__ == "__main__":
    main()
