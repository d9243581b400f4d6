"""What a source of pairs is made of: parts (a shard, a piece of a folder) that hold samples."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from nas_t2i.data.images.bad_samples import BadSampleError

Kind = Literal["image", "text", "metadata"]


class Extent(NamedTuple):
    """Where in its file a member of a sample lies, bytes."""

    offset: int
    size: int


class Sample(NamedTuple):
    """What is found of one sample; nothing of it is read yet."""

    key: str
    image: Extent
    text: Extent | None
    metadata: Extent | None


class Rejected(NamedTuple):
    """A sample, or what is left of a part, that is no good."""

    name: str
    reason: str


class Part(Protocol):
    """One part of a source. `identity` changes when its content does.

    `read` and `image` raise BadSampleError.
    """

    name: str
    identity: str

    def samples(self) -> Iterator[Sample | Rejected]:
        """Go through the part once."""
        ...

    def read(self, kind: Kind, key: str, extent: Extent) -> bytes:
        """The bytes of a sample's member, or the beginning of them where `extent` is smaller."""
        ...

    def image(
        self, key: str, extent: Extent, resolution: int, max_pixels: int
    ) -> npt.NDArray[np.uint8]:
        """A sample's image, (3, resolution, resolution)."""
        ...


def stamp(path: Path) -> str:
    """A file's name, size and time of change. It says nothing of the folder it lies in."""
    status = path.stat()
    return f"{path.name}\t{status.st_size}\t{status.st_mtime_ns}"


def is_unsafe(name: str) -> bool:
    """Whether a name from the data could lead out of its folder."""
    return name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")


def read_extent(path: Path, extent: Extent) -> bytes:
    """Read part of a file.

    Raises:
        BadSampleError: it can't be read, is no regular file, or ends too early.
    """
    try:
        opened = OpenFile(path)
    except OSError as error:
        raise BadSampleError(f"can't be read: {error.strerror}") from None
    return opened.read(extent)


class OpenFile:
    """A regular file, open for as long as somebody holds this; any thread may read from it.

    Raises:
        OSError: it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        # Not blocking: a named pipe in the place of a file must not hang the reader.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file")

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, extent: Extent) -> bytes:
        """Read with one seek. Raises BadSampleError: it can't be read, or ends too early."""
        try:
            data = os.pread(self._descriptor, extent.size, extent.offset)
            # One call reads 2 GiB at most, and less where a network file system likes.
            while 0 < len(data) < extent.size:
                rest = Extent(extent.offset + len(data), extent.size - len(data))
                more = os.pread(self._descriptor, rest.size, rest.offset)
                if not more:
                    break
                data += more
        except OSError as error:
            raise BadSampleError(f"can't be read: {error.strerror}") from None
        if len(data) < extent.size:
            raise BadSampleError("file cut short")
        return data
