"""Files behind URLs: downloaded whole, once, into the cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO

from nas_t2i.environment import cache_dir
from nas_t2i.errors import ConfigError, MissingExtraError, StorageError, UserError
from nas_t2i.files import make_folder
from nas_t2i.locks import FolderLock

_A_DAY = 86_400.0  # seconds; how long to wait for another process that downloads the same file
_CHUNK = 1 << 22  # bytes


def without_query(url: str) -> str:
    """The part of a URL that says what it is; signatures and the like come after it."""
    return re.split("[?#]", url, maxsplit=1)[0]


def local_copy(url: str) -> Path:
    """Return the file of a URL in the cache folder, downloaded if it is not there yet.

    A file at a URL is taken to never change. Several processes may ask for one at once.

    Raises:
        ConfigError: the kind of URL is unknown, or none of the installed packages reads it.
        MissingExtraError: the package for that kind of URL is not installed.
        StorageError: nothing is there, the download broke off, or came out too short.
    """
    name = without_query(url).rsplit("/", 1)[-1]
    digest = hashlib.sha256(without_query(url).encode()).hexdigest()[:16]
    folder = cache_dir() / "shards"
    # The digest alone tells files apart; the name is for people, and never more than a name.
    safe_name = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-80:]
    file = folder / f"{digest}-{safe_name}"
    if file.exists():
        return file
    with FolderLock(folder / "locks" / digest, wait_seconds=_A_DAY, held=f"{url} is downloaded"):
        if not file.exists():
            make_folder(folder)
            _download(url, file)
    return file


def _download(url: str, file: Path) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:16]}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            announced = _copy(url, stream)
            stream.flush()
            os.fsync(stream.fileno())
            came = stream.tell()
        if announced is not None and came != announced:
            raise StorageError(f"{url}: got {came} of {announced} bytes; try again")
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _copy(url: str, stream: IO[bytes]) -> int | None:
    """Copy what is at the URL; returns the size that was announced, if any."""
    import fsspec

    kind = url.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(url)
        size = system.size(path)
        with system.open(path, "rb") as source:
            shutil.copyfileobj(source, stream, _CHUNK)
    except UserError:
        raise
    except FileNotFoundError as error:
        # fsspec says so of a server that does not answer, too; the cause tells them apart.
        problem = error.__cause__ or "no such file"
        raise StorageError(f"{url}: can't be downloaded: {problem}") from None
    except ImportError as error:
        if kind in ("http", "https"):
            raise MissingExtraError(f"a shard behind {kind}://", "data") from None
        raise ConfigError(url, f"no package for {kind}:// is installed", hint=str(error)) from None
    except ValueError as error:
        raise ConfigError(url, f"can't be read: {error}") from None
    except OSError as error:
        raise StorageError(f"{url}: can't be downloaded: {error}") from None
    except Exception as error:
        # Each kind of URL has a package of its own, with errors of its own.
        raise StorageError(f"{url}: can't be downloaded: {type(error).__name__} {error}") from None
    return None if size is None else int(size)
