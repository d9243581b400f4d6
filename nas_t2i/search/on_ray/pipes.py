"""The trial's end of the pipes to the actor that started it: words in, events out.

The actor (nas_t2i.search.on_ray.rank) is the only one that holds the other ends. When it is gone,
however it ended, the kernel closes them, and the trial's process is killed at once: another node
may go on with the trial, from its last checkpoint.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Self

from nas_t2i.events import event_line
from nas_t2i.records import TrialEvent
from nas_t2i.search.decisions import Decisions

_PIPES = "pipes"


def pipes_argument(words: int, events: int) -> str:
    """Return what names the two descriptors to a trial, in the place of the start's name."""
    return f"{_PIPES}:{words}:{events}"


class Pipes:
    """Both pipes of a rank. Events are lines of JSON; the actor's side puts them on record."""

    def __init__(self, words: int, events: int) -> None:
        self.words: list[str] = []  # all that was said so far
        self._events = os.fdopen(events, "wb")
        threading.Thread(target=self._listen, args=(words,), name="words", daemon=True).start()

    @classmethod
    def of(cls, start: str) -> Self | None:
        """Return the pipes that `start` names; None where it names none."""
        kind, *descriptors = start.split(":")
        return cls(*map(int, descriptors)) if kind == _PIPES else None

    def append(self, event: TrialEvent) -> None:
        """Hand an event to the actor."""
        self._events.write(event_line(event) + b"\n")
        self._events.flush()

    def _listen(self, words: int) -> None:
        with os.fdopen(words) as stream:
            for line in stream:
                self.words.append(line.rstrip("\n"))
        # A process group of its own: a trial's helpers end with it.
        os.killpg(0, signal.SIGKILL)


class PipedDecisions(Decisions):
    """What the driver says, by way of the actor, which outlives the trial or takes it along."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        super().__init__(Path(), "")

    def _read(self) -> None:
        self._take(tuple(self._pipes.words))

    def _look_for_driver(self) -> None:
        """Nothing: without its actor the trial is killed."""
