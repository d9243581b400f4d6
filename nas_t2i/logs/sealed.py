"""JSON lines under a running checksum: a line that was cut out, edited or added is noticed.

The last key of each line, ``"sum"``, is a digest of all bytes of the file before the line and of
the line without that key. Lines of older releases have none: they are covered by the first line
after them that has one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from nas_t2i.errors import StorageError
from nas_t2i.files import Closing, make_folder, repair_torn_tail, write_atomically

_SUM = re.compile(rb',"sum":"([0-9a-f]{16})"\}')
_SUM_KEY = b',"sum":"'
_SUM_BYTES = 26
_DIGEST_BYTES = 8  # against accidents and careless editing, not against forgery


class RunningSum:
    """The checksum of a file, taken line by line from its beginning."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._sealed = False  # whether a line had a checksum

    def copy(self) -> RunningSum:
        """Return another one that stands at the same line."""
        twin = RunningSum()
        twin._hash, twin._sealed = self._hash.copy(), self._sealed
        return twin

    def seal(self, line: bytes) -> bytes:
        """Return a line, one JSON object with a key at least, with its checksum as last key."""
        self._hash.update(line)
        sealed = line[:-1] + b',"sum":"' + self._hash.hexdigest().encode() + b'"}'
        self._hash.update(sealed + b"\n")
        self._sealed = True
        return sealed

    def check(self, line: bytes) -> tuple[bytes, bool]:
        """Return a line without its checksum, and whether it stands where it was written.

        A line without one is right as long as no line before it has one.
        """
        match = _SUM.fullmatch(line, max(0, len(line) - _SUM_BYTES))
        if match is None:
            self._hash.update(line + b"\n")
            return line, not self._sealed
        body = line[: match.start()] + b"}"
        self._hash.update(body)
        right = self._hash.hexdigest().encode() == match[1]
        self._hash.update(line + b"\n")
        self._sealed = True
        return body, right


def bodies_of(lines: Sequence[bytes]) -> list[bytes] | None:
    """Return the lines without their checksums if every one has one and all are right, else None.

    The last checksum covers all lines before it, theirs too, so that one look does for all.
    """
    if not lines or not all(line[-_SUM_BYTES:].startswith(_SUM_KEY) for line in lines):
        return None
    bodies = [line[:-_SUM_BYTES] + b"}" for line in lines]
    pieces = [piece for pair in zip(bodies, lines, strict=True) for piece in (*pair, b"\n")]
    content = b"".join(pieces[:-2])  # up to the body of the last line
    digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
    return bodies if lines[-1].endswith(b'"%s"}' % digest.encode()) else None


class SealedLog(Closing):
    """Appends JSON lines under a running checksum to one file; one writer at a time.

    A torn tail found on opening is moved to ``FILE.torn``.

    Raises:
        StorageError: the file can't be opened or written; what was there before stays readable.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self._descriptor = -1
        make_folder(self.file.parent)
        repair_torn_tail(self.file)
        self._sum, self._size = RunningSum(), 0
        try:
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            self._catch_up()
        except OSError as error:
            self.close()
            raise StorageError(f"{self.file}: can't be opened: {error.strerror}") from None

    def append_line(self, line: bytes, *, durable: bool) -> None:
        """Write one JSON object as one line, in one write; `durable`: wait for the disk.

        Raises:
            StorageError: it can't be written; the file is as it was.
        """
        before = self._catch_up()
        unchanged = self._sum.copy()
        sealed = self._sum.seal(line) + b"\n"
        try:
            if os.write(self._descriptor, sealed) < len(sealed):
                raise OSError(0, "only a part of the line fitted on the disk")
            self._size = before + len(sealed)
            if durable:
                os.fsync(self._descriptor)
        except OSError as error:
            # The next line must not be glued to half of this one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, before)
            self._sum, self._size = unchanged, before
            raise StorageError(f"{self.file}: can't be written: {error.strerror}") from None

    def _catch_up(self) -> int:
        """Take in the lines that another log of this process wrote; return the file's size."""
        size = os.fstat(self._descriptor).st_size
        if size > self._size:
            content = os.pread(self._descriptor, size - self._size, self._size)
            for line in content.split(b"\n")[:-1]:
                self._sum.check(line)
            self._size = size
        return size

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def set_damage_aside(file: Path) -> str:
    """Cut a file back to what stands as it was written; the whole of it goes to ``FILE.damaged``.

    Returns what was found, in words, or "" where nothing is wrong. Only for a file that nobody is
    writing.

    Raises:
        StorageError: the file can't be read or written.
    """
    try:
        content = file.read_bytes() if file.exists() else b""
        running, right = RunningSum(), 0
        lines = content.split(b"\n")[:-1]
        while right < len(lines) and running.check(lines[right])[1]:
            right += 1
        if right == len(lines):
            return ""
        with Path(f"{file}.damaged").open("ab") as damaged:
            damaged.write(content)
            damaged.flush()
            os.fsync(damaged.fileno())
    except OSError as error:
        raise StorageError(f"{file}: can't be repaired: {error.strerror}") from None
    write_atomically(file, b"".join(line + b"\n" for line in lines[:right]))
    return (
        f"{file}:{right + 1}: changed since it was written, or a line before it is gone; this line "
        f"and what follows is set aside in {file.name}.damaged"
    )
