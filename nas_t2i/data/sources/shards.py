"""Tar shards as img2dataset and webdataset write them.

The members of one sample share a key, the name up to the first dot: ``000012.jpg``,
``000012.txt``, ``000012.json``. Headers are parsed with the standard library; nothing is extracted,
and an image is read from where it lies in the tar.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from nas_t2i.data.images import decode as images
from nas_t2i.data.images.bad_samples import BadSampleError
from nas_t2i.data.sources.common import paths
from nas_t2i.data.sources.common.parts import (
    Extent,
    Kind,
    OpenFile,
    Part,
    Rejected,
    Sample,
    is_unsafe,
    stamp,
)
from nas_t2i.data.sources.common.remote import local_copy, without_query
from nas_t2i.errors import ConfigError
from nas_t2i.protocol.data import Source
from nas_t2i.protocol.part import Names
from nas_t2i.untrusted.redact import redacted

CUT = "tar cut short"

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_ARCHIVE_END = bytes(512)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ShardsSource(Source):
    """img2dataset or webdataset tar shards: image, ``.txt`` and ``.json`` members of one key."""

    source: Literal["shards"]
    urls: Annotated[Names, BeforeValidator(_listed, json_schema_input_type=str | list[str])] = (
        Field(description="tar files: paths, globs, brace ranges or URLs; ~ and $NAME are expanded")
    )

    def parts(self, where: str) -> Sequence[Part]:
        """Return a part a shard; see `Source.parts`."""
        return shard_parts(self.urls, where)

    def described(self) -> str:
        """Return the URLs, without passwords."""
        return redacted(", ".join(self.urls))


def shard_parts(urls: Sequence[str], where: str) -> list[Part]:
    """The shards that a source names, each once, in the order written.

    Raises:
        ConfigError: a name that is not there.
    """
    names = (name for url in urls for name in paths.find_files(url, f"{where}.urls"))
    return [ShardPart(name) for name in dict.fromkeys(names)]


class ShardPart:
    """One shard: a local file, or a URL that is downloaded when it is first read."""

    def __init__(self, location: str) -> None:
        self._location = location
        if paths.is_url(location):
            self.name = without_query(location).rsplit("/", 1)[-1]
            # What lies at a URL is taken to stay the same, so that asking is not needed.
            self.identity = without_query(location)
        else:
            self.name = Path(location).name
            self.identity = stamp(Path(location))

    def samples(self) -> Iterator[Sample | Rejected]:
        """Go through the headers of the tar once.

        Raises:
            ConfigError: the tar is compressed.
        """
        file = self._file()
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            start = stream.read(8)
            for magic, kind in _COMPRESSED.items():
                if start.startswith(magic):
                    raise ConfigError(
                        str(file),
                        f"compressed with {kind}, which allows no reading in any order",
                        expected="a plain .tar (images are compressed already)",
                    )
            if not size:
                yield Rejected(self.name, "empty file")
                return
            stream.seek(0)
            try:
                tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115  closed with `stream`
            except tarfile.TarError:
                yield Rejected(self.name, "no tar file")
                return
            yield from _Grouped(self.name, tar, size).samples()

    def read(self, kind: Kind, key: str, extent: Extent) -> bytes:  # noqa: ARG002  one file holds all
        """The bytes at an extent of the tar. Raises BadSampleError."""
        file = self._file()
        try:
            return _opened(file, self.identity).read(extent)
        except OSError as error:
            raise BadSampleError(f"can't be read: {error.strerror}") from None

    def image(
        self, key: str, extent: Extent, resolution: int, max_pixels: int
    ) -> npt.NDArray[np.uint8]:
        """A sample's image, (3, resolution, resolution). Raises BadSampleError."""
        return images.decode(self.read("image", key, extent), resolution, max_pixels)

    def _file(self) -> Path:
        is_remote = paths.is_url(self._location)
        return local_copy(self._location) if is_remote else Path(self._location)


@lru_cache(maxsize=128)
def _opened(file: Path, identity: str) -> OpenFile:  # noqa: ARG001  a changed file is another one
    return OpenFile(file)


class _Grouped:
    """The members of one tar, put together to samples by their keys."""

    def __init__(self, name: str, tar: tarfile.TarFile, size: int) -> None:
        self._name, self._tar, self._size = name, tar, size
        self._found: dict[str, dict[str, Extent]] = {}
        self._rejected: dict[str, str] = {}  # key -> reason
        self._is_cut = False

    def samples(self) -> Iterator[Sample | Rejected]:
        for member in self._members():
            self._add(member)
        for key, members in self._found.items():
            if key in self._rejected:
                yield Rejected(key, self._rejected[key])
            elif sample := _sample(key, members):
                yield sample
            else:
                yield Rejected(key, "no image")
        if self._is_cut and CUT not in self._rejected.values():
            yield Rejected(self._name, CUT)

    def _members(self) -> Iterator[tarfile.TarInfo]:
        """The members up to the end of the tar, or up to what is wrong with it."""
        place = -1
        while True:
            try:
                member = self._tar.next()
            except (tarfile.TarError, OSError, ValueError, OverflowError):
                self._is_cut = True
                return
            if member is None:
                self._is_cut = not self._ends_here()
                return
            # A header that leads backwards would be read for ever.
            if member.size < 0 or member.offset <= place:
                self._is_cut = True
                return
            place = member.offset
            yield member
            self._tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all

    def _ends_here(self) -> bool:
        stream = self._tar.fileobj
        assert stream is not None
        stream.seek(self._tar.offset)
        return stream.read(len(_ARCHIVE_END)) == _ARCHIVE_END

    def _add(self, member: tarfile.TarInfo) -> None:
        folder, _, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        kind = _kind(extension.lower())
        if not member.isreg() or member.issparse() or not stem or kind is None:
            return
        key = f"{folder}/{stem}" if folder else stem
        extent = Extent(member.offset_data, member.size)
        # Of two members of one name, or two images of one key, the first counts.
        self._found.setdefault(key, {}).setdefault(kind, extent)
        if is_unsafe(member.name):
            self._rejected[key] = "unsafe name"
        elif extent.offset + extent.size > self._size:
            self._rejected[key] = CUT


def _kind(extension: str) -> Kind | None:
    if extension in images.SUFFIXES:
        return "image"
    kinds: dict[str, Kind] = {"txt": "text", "json": "metadata"}
    return kinds.get(extension)


def _sample(key: str, members: dict[str, Extent]) -> Sample | None:
    if "image" not in members:
        return None
    return Sample(key, members["image"], members.get("text"), members.get("metadata"))
