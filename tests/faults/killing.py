"""Processes that end themselves, by SIGKILL, at their n-th write that reaches the disk."""

import os
import signal
from pathlib import Path


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(count: int, *, before: bool) -> None:
    """Have this process killed at its `count`-th fsync, just before it or just after."""
    fsync, left = os.fsync, [count]

    def counted(descriptor: int) -> None:
        left[0] -= 1
        if left[0] == 0 and before:
            die()
        fsync(descriptor)
        if left[0] == 0:
            die()

    os.fsync = counted


def order_death(place: Path, count: int, *, before: bool) -> None:
    """Have the next process that takes the order die; there is one order at a time."""
    place.write_text(f"{count} {int(before)}")


def take_order(place: Path) -> None:
    mine = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        place.rename(mine)
    except FileNotFoundError:
        return
    count, before = map(int, mine.read_text().split())
    die_at(count, before=bool(before))
