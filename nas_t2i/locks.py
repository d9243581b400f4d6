"""Locks on folders: one driver a study, one process a trial."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Self

from nas_t2i.errors import StorageError
from nas_t2i.files import Closing, make_folder
from nas_t2i.untrusted.json_text import parse_json
from nas_t2i.untrusted.regular_files import MEGABYTE, read_regular

LOCK_FILE = ".lock"
# A reader that asks whether a study is locked holds the lock for an instant.
_LOCK_PATIENCE_SECONDS = 1.0


class FolderLock(Closing):
    """A lock on what lies in a folder; the system lets go of it when its process ends.

    Use as a context manager. `held` says in messages what another process does meanwhile.
    flock(2) is advisory; over NFS it works from Linux 2.6.12 on.

    Raises:
        StorageError: another process holds it and keeps it for `wait_seconds`.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        wait_seconds: float = _LOCK_PATIENCE_SECONDS,
        held: str = "",
    ) -> None:
        self.file = Path(file)
        self._wait_seconds = wait_seconds
        self._held = held or f"{self.file.parent} is in use"
        self._descriptor = -1

    def __enter__(self) -> Self:
        make_folder(self.file.parent)
        try:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"{self.file}: can't be opened: {error.strerror}") from None
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        self._descriptor = descriptor
        return self

    def close(self) -> None:
        """Let the lock go."""
        # The file stays: unlinking it would let two processes lock two files of one name.
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StorageError(f"{self._held} by {_owner(self.file)}") from None
                time.sleep(0.05)
            except OSError as error:
                raise StorageError(f"{self.file}: can't be locked: {error.strerror}") from None


class StudyLock(FolderLock):
    """Held by the driver of a study while it searches.

    Raises:
        StorageError: "study X is being searched by process N on host H".
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        super().__init__(folder / LOCK_FILE, held=f"study {folder.name} is being searched")


def is_locked(folder: str | Path) -> bool:
    """Say whether a driver is searching this study right now."""
    with contextlib.suppress(OSError):
        return is_held(Path(folder) / LOCK_FILE)
    return False


def searcher(folder: str | Path) -> str:
    """Return "process N on host H", which searches this study right now; "" for nobody."""
    return _owner(Path(folder) / LOCK_FILE) if is_locked(folder) else ""


def is_held(file: Path) -> bool:
    """Say whether a process holds a FolderLock on this file right now.

    Raises:
        OSError: the file system gives no answer; not for a file that isn't there: nobody holds it.
    """
    try:
        stream = file.open("rb")
    except FileNotFoundError:
        return False
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _owner(file: Path) -> str:
    try:
        owner = parse_json(read_regular(file, MEGABYTE))
        return f"process {owner['pid']} on host {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
