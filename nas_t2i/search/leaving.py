"""A search that is asked to leave, by SIGINT or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it before it takes the machine away; what runs has saved."""


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end what precedes the first trial as SIGINT does: by an exception."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def listening_to_signals(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yield "was SIGINT or SIGTERM sent?", so that the search leaves between two events.

    A second one acts as if nobody listened; the trials then save by themselves.
    """
    leave = threading.Event()
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        leave.set()
        restore()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield leave.is_set
    except KeyboardInterrupt:
        if received[:1] == [signal.SIGTERM]:
            raise TerminatedError from None
        raise
    finally:
        restore()
        if leave.is_set():
            say("asked to leave: the running trials saved where they stood")
