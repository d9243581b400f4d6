"""The one way to read a whole file: a regular one, of bounded size, inside its folder.

What a person names (on the command line, in a budget or a space) is followed wherever it leads,
symbolic links too. What data name (an image beside a listing, a caption beside an image) must lie
inside the folder that they came in, after its links are followed: `inside`.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MEGABYTE = 1 << 20
MOST_RECORD_BYTES = 256 * MEGABYTE  # a trial that reports once a second for a month writes 200 MB


def open_regular(path: str | Path) -> int:
    """Return a descriptor of a regular file, open for reading.

    Raises:
        OSError: there is none, it can't be read, or it is a folder, a pipe or a device.
    """
    # Not blocking: a named pipe in the place of a file must not hang the reader.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "no regular file, but a pipe or a device", str(path))


def read_regular(path: str | Path, most: int = MOST_RECORD_BYTES) -> bytes:
    """Return the bytes of a regular file of at most `most` bytes.

    Raises:
        OSError: as `open_regular`, or the file is larger.
    """
    with os.fdopen(open_regular(path), "rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most / MEGABYTE:,.0f} MB", str(path))
    return content


def inside(folder: Path, path: Path) -> bool:
    """Whether a path is in a folder once the symbolic links of both are followed."""
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))  # noqa: PTH118
