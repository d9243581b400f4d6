"""Work that several processes, on one machine or many, share out among themselves."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from nas_t2i.errors import StorageError
from nas_t2i.files import Closing, make_folder

CLAIMS_FILE = ".claims"


class Claims(Closing):
    """Numbered items of work in a folder, each claimed by one process at a time.

    A claim is a lock on one byte of a file in the folder: the system lets go of it when its
    process ends, and 100,000 items need no 100,000 lock files. fcntl(2)'s record locks work over
    NFS. They tell processes apart, not threads, and end when the process closes the file: open one
    `Claims` of a folder at a time. Use as a context manager.

    Raises:
        StorageError: the file can't be made or locked.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / CLAIMS_FILE
        self._descriptor = -1

    def __enter__(self) -> Self:
        make_folder(self.file.parent)
        try:
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"{self.file}: can't be opened: {error.strerror}") from None
        return self

    def close(self) -> None:
        """Close the file of claims."""
        os.close(self._descriptor)
        self._descriptor = -1

    @contextlib.contextmanager
    def claim(self, item: int, *, wait: bool) -> Iterator[bool]:
        """Hold an item while inside; yields False where another process has it.

        With `wait`, waits until that process is done with it, or dead.
        """
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, item)
        except (BlockingIOError, PermissionError):  # fcntl(2): EAGAIN or EACCES
            yield False
            return
        except OSError as error:
            raise StorageError(f"{self.file}: can't be locked: {error.strerror}") from None
        try:
            yield True
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, item)
