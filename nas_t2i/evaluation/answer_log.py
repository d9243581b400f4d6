"""Answers as they come, on disk: what was asked once is never asked again.

One JSON line an answer, keyed by the image's digest, a digest of what was asked, and the identity
of the one who answered: ``{"image", "asked", "identity", "value"}``. The value is
plain JSON. Lines are only ever appended, whole, so that several processes may write one file; each
sees what was there when it opened the log, and its own.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from nas_t2i.errors import StorageError
from nas_t2i.files import Closing, make_folder, repair_torn_tail
from nas_t2i.untrusted.json_text import parse_json
from nas_t2i.untrusted.regular_files import open_regular

_BEGINNING = b'{"image": "'


class Key(NamedTuple):
    """What an answer is the answer to."""

    image: str  # digest of the image
    asked: str  # digest of the question, or of the prompt
    identity: str  # of the model that answered


class AnswerLog(Closing):
    """Answers in a file, or in memory only; use as a context manager, or `close` it.

    What an interrupted write left at the end of the file is moved to ``FILE.torn``, unless another
    process has the log open; a line that can't be read is passed over: its question is asked again.

    Attributes:
        file: where the answers are; None: in memory.
        notes: what was repaired or passed over, in words.

    Raises:
        StorageError: the file can't be opened, read or written, or is no log of answers.
    """

    def __init__(self, file: str | Path | None) -> None:
        self.file = None if file is None else Path(file)
        self.notes: list[str] = []
        self._values: dict[Key, Any] = {}
        self._descriptor: int | None = None
        if self.file is not None:
            make_folder(self.file.parent)
            self._descriptor = _open(self.file, self.notes)
            try:
                self._values = _read(self.file, self.notes)
            except BaseException:
                self.close()
                raise

    def get(self, image: str, asked: str, identity: str) -> Any:
        """Return the value under a key, None where there is none."""
        return self._values.get(Key(image, asked, identity))

    def put(self, image: str, asked: str, identity: str, value: Any) -> None:
        """Add a value, plain JSON; the first one under a key stays.

        Raises:
            StorageError: it can't be written.
            ValueError: the value is None, which stands for no value, or not finite.
        """
        if value is None:
            raise ValueError("None stands for no value")
        key = Key(image, asked, identity)
        if key in self._values:
            return
        line = json.dumps({**key._asdict(), "value": value}, allow_nan=False).encode() + b"\n"
        if self._descriptor is not None:
            try:
                # One call a line, at the end of the file: lines of two processes can't mix.
                written = os.write(self._descriptor, line)
            except OSError as error:
                raise StorageError(f"{self.file}: can't be written: {error.strerror}") from None
            if written < len(line):
                raise StorageError(f"{self.file}: can't be written: the disk is full")
        self._values[key] = value

    @property
    def count(self) -> int:
        """How many answers there are."""
        return len(self._values)

    def close(self) -> None:
        """Close the file. What was put survives the end of the process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open(file: Path, notes: list[str]) -> int:
    """Open for appending; repair the end of the file if nobody else is writing it."""
    try:
        _check_kind(file)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise StorageError(f"{file}: can't be opened: {error.strerror}") from None
    try:
        # Writers share the lock: who gets it alone knows that no line is on its way.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            if note := repair_torn_tail(file):
                notes.append(note)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise StorageError(f"{file}: can't be locked: {error.strerror}") from None
        raise
    return descriptor


def _check_kind(file: Path) -> None:
    """Refuse to repair, or to append to, what somebody wrote for another purpose."""
    if not file.exists():
        return
    with os.fdopen(open_regular(file), "rb") as stream:
        line = stream.readline()
    whole = line.endswith(b"\n")
    if line and (_entry(line) is None if whole else not line.startswith(_BEGINNING[: len(line)])):
        raise StorageError(f"{file}:1: not an answer; expected a log of answers, or a new file")


def _read(file: Path, notes: list[str]) -> dict[Key, Any]:
    values: dict[Key, Any] = {}
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                entry = _entry(line)
                if entry is not None:
                    values.setdefault(*entry)
                elif line.endswith(b"\n"):  # else it is on its way
                    notes.append(f"{file}:{number}: not an answer; passed over")
    except OSError as error:
        raise StorageError(f"{file}: can't be read: {error.strerror}") from None
    return values


def _entry(line: bytes) -> tuple[Key, Any] | None:
    try:
        data = parse_json(line)
        key = Key(data["image"], data["asked"], data["identity"])
        value = data["value"]
    except (ValueError, KeyError, TypeError):
        return None
    return (key, value) if value is not None and all(isinstance(k, str) for k in key) else None
