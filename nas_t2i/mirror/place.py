"""A folder at a URL, by way of fsspec: whole objects put, got, listed and removed."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_t2i.errors import MissingExtraError, StorageError, UserError, did_you_mean
from nas_t2i.files import make_folder
from nas_t2i.untrusted.redact import redacted

_LOCAL = ("file", "local")
# They end with this process, can't be written, or lead to another URL.
_REFUSED = ("memory", "http", "https", "data", "cached", "simplecache", "filecache", "blockcache")
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "last_modified")


def is_url(text: str | Path) -> bool:
    """Whether results are named by a URL; else it is a path."""
    return isinstance(text, str) and "://" in text


def is_name(text: str) -> bool:
    """Whether a study may be called so: it becomes the name of a folder."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text) is not None


@dataclass(frozen=True)
class Entry:
    """One object, as a listing has it."""

    size: int
    version: str  # changes when it is put again; "": not known


@dataclass(frozen=True)
class Place:
    """A folder at a URL. Whatever its store can't do is an exception of the store's package."""

    url: str
    system: Any  # fsspec's AbstractFileSystem
    path: str

    @property
    def digest(self) -> str:
        """What names the place on this machine."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def at(self, name: str) -> Place:
        """Return the folder of that name in this one."""
        return Place(f"{self.url}/{name}", self.system, f"{self.path}/{name}")

    def put(self, name: str, content: bytes) -> None:
        """Put an object, whole or not at all."""
        self._put(name, lambda path: self.system.pipe_file(path, content))

    def put_file(self, name: str, file: Path) -> None:
        """Put a file, whole or not at all."""
        self._put(name, lambda path: self.system.put_file(str(file), path))

    def get(self, name: str) -> bytes | None:
        """Return an object; None where there is none."""
        try:
            return bytes(self.system.cat_file(f"{self.path}/{name}"))
        except FileNotFoundError:
            return None

    def get_files(self, names: Sequence[str], folder: Path) -> None:
        """Fetch objects into the places of their names in a folder, each whole or not at all."""
        if not names:
            return
        make_folder(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as beside:
            halves = [Path(beside) / str(number) for number in range(len(names))]
            # All in one call: stores that can do several things at once do.
            self.system.get([f"{self.path}/{name}" for name in names], [str(h) for h in halves])
            for name, half in zip(names, halves, strict=True):
                make_folder((folder / name).parent)
                half.replace(folder / name)

    def list(self, under: str = "") -> dict[str, Entry]:
        """Return what lies in the folder, or in one `under` it, by name.

        Names that would lead out of a folder or be hidden in it are left out: nobody here put them.
        """
        self.system.invalidate_cache()
        whole = f"{self.path}/{under}".rstrip("/")
        found: Mapping[str, Mapping[str, Any]] = self.system.find(whole, detail=True)
        entries = {}
        for path, info in found.items():
            name = path.removeprefix(f"{self.path}/")
            if name != path and _is_plain(name):
                version = next((str(info[key]) for key in _VERSION_KEYS if info.get(key)), "")
                entries[name] = Entry(int(info.get("size") or 0), version)
        return entries

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no problem."""
        for name in names:
            try:
                self.system.rm_file(f"{self.path}/{name}")
            except FileNotFoundError:
                continue

    def _put(self, name: str, put: Callable[[str], None]) -> None:
        path = f"{self.path}/{name}"
        if not self._is_local:  # an object store shows an object when it is whole
            put(path)
            return
        head, _, tail = path.rpartition("/")
        half = f"{head}/.{tail}.half"
        put(half)
        self.system.mv(half, path)

    @property
    def _is_local(self) -> bool:
        return self.url.partition("://")[0] in _LOCAL


def open_place(url: str, option: str = "--results-dir") -> Place:
    """Return the folder at a URL; nothing is asked of its store.

    Raises:
        UserError: no such kind of URL, or not one that holds results.
        MissingExtraError: the package for its kind is not installed.
    """
    scheme = url.partition("://")[0]
    if "::" in url or "?" in url or "#" in url or scheme in _REFUSED:
        raise UserError(
            f"{option}: got {url!r}; expected a path or a URL of an object store, such as "
            "s3://bucket/folder"
        )
    import fsspec

    here = {"auto_mkdir": True} if scheme in _LOCAL else {}
    try:
        system, path = fsspec.core.url_to_fs(
            url, use_listings_cache=False, skip_instance_cache=True, **here
        )
    except ImportError as error:
        if scheme in ("s3", "s3a"):
            raise MissingExtraError(f"{option} {scheme}://", "s3") from None
        raise UserError(f"{option}: {scheme}:// needs another package: {error}") from None
    except ValueError as error:
        hint = did_you_mean(scheme, fsspec.available_protocols())
        raise UserError(
            f"{option}: got {redacted(url)!r}: {one_line(error)}" + (f"; {hint}" if hint else "")
        ) from None
    if not path.strip("/"):
        raise UserError(f"{option}: got {url!r}; expected a bucket or a folder in it")
    return Place(url.rstrip("/"), system, path.rstrip("/"))


def cant(what: str, place: Place, error: BaseException) -> StorageError:
    """Return one line on what a store refused."""
    return StorageError(f"{place.url}: {what}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """Return what a store's package says, on one line and without secrets."""
    kinds = {
        PermissionError: "no rights",
        FileNotFoundError: "no such bucket or folder",
    }
    kind = next((text for cls, text in kinds.items() if isinstance(error, cls)), "")
    text = " ".join(str(error).split()) or type(error).__name__
    return redacted(f"{kind} ({text[:300]})" if kind else text[:300])


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return not any(part == "" or part[0] == "." or "\\" in part or "\0" in part for part in parts)
