"""Damaged copies of files, each a function of a seed; and one run of a command on one of them."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

MOST_SECONDS, MOST_BYTES = 5.0, 10**9  # of processor time: others may be at work here
_KILL_SECONDS = 120.0  # by the clock

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][\w.-]*")
_VALUES = (
    b"0", b"-1", b"1e999", b"NaN", b"Infinity", b"9" * 400, b"9" * 5000, b"1" + b"0" * 25, b"0.5",
    b"null", b"true", b'"x"', b"[]", b"{}", b"[1, 2]", b"[" * 3000, b'{"a":' * 3000, b"\x00",
    b"\xff", b"\x1b[31m", b"1000000000", b"*a", b"&a [*a]", b"!!python/object:os.system x", b"\t",
)  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return a copy of a binary or text file with one to three faults of disks or people."""
    for _ in range(rng.randint(1, 3)):
        content = rng.choice(_FAULTS)(content, rng) if content else content
    return content


def _flip(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _remove(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 200) :]


def _zeros(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    size = min(rng.randint(1, 4096), len(content) - start)
    return content[:start] + bytes(size) + content[start + size :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.choice(_VALUES) + content[place:]


def _lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(3):
        case 0:
            lines[one], lines[other] = lines[other], lines[one]
        case 1:
            lines.insert(one, lines[other])
        case _:
            del lines[one]
    return b"\n".join(lines)


def _replace(content: bytes, rng: random.Random) -> bytes:
    pattern = rng.choice((_NUMBER, _NUMBER, _WORD))
    found = list(pattern.finditer(content[:200_000]))
    if not found:
        return content
    match = rng.choice(found)
    return content[: match.start()] + rng.choice(_VALUES) + content[match.end() :]


_FAULTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip, _cut, _remove, _zeros, _insert, _lines, _replace, _replace, _replace,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How one run of a command ended."""

    status: int  # -9: it was killed after _KILL_SECONDS
    out: str
    err: str
    seconds: float
    peak_bytes: int

    def fault(self) -> str:
        """Return what is wrong with it, "" for a run that did its work or refused in lines."""
        if self.seconds > MOST_SECONDS:
            return f"took {self.seconds:.1f} s"
        if self.peak_bytes > MOST_BYTES:
            return f"took {self.peak_bytes / 1e6:.0f} MB"
        if "Traceback" in self.err or self.status not in (0, 2):
            return f"status {self.status}: {self.err[-300:]}"
        lines = [line for line in self.err.splitlines() if not line.startswith("nas-t2i: note")]
        if self.status == 2 and not (lines and lines[-1].startswith("nas-t2i: error: ")):
            return f"no reason: {self.err[-300:]}"
        if any("\x1b" in text for text in (self.out, self.err)):
            return "an escape character"
        return ""


def run(arguments: Sequence[str]) -> Outcome:
    """Run the command line in a fork of this process, which has the libraries loaded already."""
    ends = [os.pipe(), os.pipe()]
    sys.stdout.flush()
    sys.stderr.flush()
    begin, shared = time.monotonic(), psutil.Process().memory_info().rss
    child = os.fork()
    if not child:
        _child(arguments, ends)
    for _, writing in ends:
        os.close(writing)
    told: dict[int, bytearray] = {reading: bytearray() for reading, _ in ends}
    open_ends = set(told)
    killed = False
    while open_ends:
        left = _KILL_SECONDS - (time.monotonic() - begin)
        if left <= 0 and not killed:
            os.kill(child, signal.SIGKILL)
            killed = True
        for ready in select.select(list(open_ends), [], [], max(0.1, left))[0]:
            chunk = os.read(ready, 1 << 16)
            told[ready] += chunk
            if not chunk:
                open_ends.remove(ready)
    _, status, usage = os.wait4(child, 0)
    for reading in told:
        os.close(reading)
    out, err = (bytes(text).decode("utf-8", "replace") for text in told.values())
    return Outcome(
        os.waitstatus_to_exitcode(status),
        out,
        err,
        usage.ru_utime + usage.ru_stime if not killed else _KILL_SECONDS,
        usage.ru_maxrss * 1024 - shared,
    )


def _child(arguments: Sequence[str], ends: list[tuple[int, int]]) -> None:
    status = 1
    try:
        for (reading, writing), descriptor in zip(ends, (1, 2), strict=True):
            os.close(reading)
            os.dup2(writing, descriptor)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        from nas_t2i.cli.main import main

        try:
            main(list(arguments))
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else int(left.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
