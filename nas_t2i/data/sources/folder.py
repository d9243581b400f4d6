"""A folder of images, with their captions in ``metadata.jsonl`` or in files beside them.

``metadata.jsonl`` has one JSON object a line with the image's path inside the folder under
``file_name``. Without it every image below the folder is a sample, and its metadata is the
``.json`` file beside it. Either way the ``.txt`` file beside an image is its text.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas_t2i.data.images import decode
from nas_t2i.data.sources.common.parts import (
    Extent,
    Kind,
    Part,
    Rejected,
    Sample,
    is_unsafe,
    read_extent,
    stamp,
)
from nas_t2i.errors import ConfigError
from nas_t2i.files import expand_path
from nas_t2i.protocol.data import Source
from nas_t2i.untrusted.json_text import JsonError, parse_json
from nas_t2i.untrusted.regular_files import inside, open_regular

LISTING = "metadata.jsonl"

_IMAGES = 1000  # of a part
_LINES = 1 << 22  # bytes of the listing of a part
_LED_OUT = -1  # in the place of a size
_LINK = "a symbolic link out of the folder"
_SUFFIX_OF = {"text": ".txt", "metadata": ".json"}


class FolderSource(Source):
    """A folder of images, with ``metadata.jsonl`` or a ``.txt`` beside each image."""

    source: Literal["folder"]
    path: str = Field(min_length=1, description="~ and $NAME are expanded")

    def parts(self, where: str) -> Sequence[Part]:
        """Return the folder in pieces; see `Source.parts`."""
        return folder_parts(self.path, where)

    def described(self) -> str:
        """Return the path."""
        return self.path


def folder_parts(path: str, where: str) -> list[Part]:
    """The folder, in pieces.

    Raises:
        ConfigError: no such folder, or no image in it.
    """
    folder = expand_path(path, f"{where}.path")
    if not folder.is_dir():
        raise ConfigError(f"{where}.path", f"{folder}: no such folder")
    sizes, digest = _walk(folder)
    images = [name for name in sizes if name.rpartition(".")[2].lower() in decode.SUFFIXES]
    if not images:
        raise ConfigError(
            f"{where}.path",
            f"{folder} has no images",
            expected=", ".join(f".{suffix}" for suffix in sorted(decode.SUFFIXES)),
        )
    if sizes.get(LISTING) == _LED_OUT:
        raise ConfigError(f"{where}.path", f"{folder / LISTING}: {_LINK}", expected="a file in it")
    if LISTING in sizes:
        starts = range(0, sizes[LISTING], _LINES)
        return [ListedPart(folder, sizes, start, digest) for start in starts]
    chunks = [images[i : i + _IMAGES] for i in range(0, len(images), _IMAGES)]
    return [ImagesPart(folder, sizes, names, digest) for names in chunks]


def _walk(folder: Path) -> tuple[dict[str, int], str]:
    """Size of every file below a folder, in the order of their names, and a digest of them all."""
    stamps: dict[str, tuple[int, str]] = {}
    for place, _, files in os.walk(folder):
        for name in files:
            path = Path(place, name)
            if path.is_file():
                relative = path.relative_to(folder).as_posix()
                led_out = path.is_symlink() and not inside(folder, path)
                size = _LED_OUT if led_out else path.stat().st_size
                stamps[relative] = (size, f"{relative}\t{stamp(path)}")
    names = sorted(stamps)
    lines = "\n".join(stamps[name][1] for name in names)
    digest = hashlib.blake2b(lines.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return {name: stamps[name][0] for name in names}, digest


class _FolderPart:
    """Reads what the two kinds of part have in common: files beside each other."""

    def __init__(self, folder: Path, sizes: dict[str, int]) -> None:
        self.name = folder.name
        self._folder = folder
        self._sizes = sizes

    def read(self, kind: Kind, key: str, extent: Extent) -> bytes:
        """The bytes of an image or of a file beside it. Raises BadSampleError."""
        name = key if kind == "image" else _beside(key, kind)
        return read_extent(self._folder / name, extent)

    def image(
        self, key: str, extent: Extent, resolution: int, max_pixels: int
    ) -> npt.NDArray[np.uint8]:
        """A sample's image, (3, resolution, resolution). Raises BadSampleError."""
        return decode.decode(self.read("image", key, extent), resolution, max_pixels)

    def _leads_out(self, key: str) -> bool:
        """Whether an image, or what lies beside it, is a link to a file outside of the folder."""
        names = (key, _beside(key, "text"), _beside(key, "metadata"))
        return any(self._sizes.get(name) == _LED_OUT for name in names)

    def _whole(self, name: str) -> Extent | None:
        size = self._sizes.get(name)
        return None if size is None else Extent(0, size)


class ImagesPart(_FolderPart):
    """Some of a folder's images, in the order of their names."""

    def __init__(self, folder: Path, sizes: dict[str, int], names: list[str], digest: str) -> None:
        super().__init__(folder, sizes)
        self.identity = f"{digest} {names[0]}"
        self._names = names

    def samples(self) -> Iterator[Sample | Rejected]:
        """Go through the images."""
        for name in self._names:
            if self._leads_out(name):
                yield Rejected(name, _LINK)
                continue
            image = Extent(0, self._sizes[name])
            text, metadata = (self._whole(_beside(name, kind)) for kind in ("text", "metadata"))
            yield Sample(name, image, text, metadata)


class ListedPart(_FolderPart):
    """The images of the lines of the listing that begin in one stretch of it."""

    def __init__(self, folder: Path, sizes: dict[str, int], start: int, digest: str) -> None:
        super().__init__(folder, sizes)
        self.identity = f"{digest} {start}"
        self._start = start

    def samples(self) -> Iterator[Sample | Rejected]:
        """Go through the lines."""
        listing = self._folder / LISTING
        with os.fdopen(open_regular(listing), "rb") as stream:
            if self._start:
                # The line that this byte is in, or ends, began in the stretch before.
                stream.seek(self._start - 1)
                stream.readline()
            while (offset := stream.tell()) < self._start + _LINES:
                line = stream.readline()
                if not line:
                    return
                if line.strip():
                    yield self._sample(line, Extent(offset, len(line)))

    def read(self, kind: Kind, key: str, extent: Extent) -> bytes:
        """The bytes of an image, of the text beside it, or of its line. Raises BadSampleError."""
        if kind == "metadata":
            return read_extent(self._folder / LISTING, extent)
        return super().read(kind, key, extent)

    def _sample(self, line: bytes, extent: Extent) -> Sample | Rejected:
        place = f"{LISTING}: byte {extent.offset}"
        try:
            name = parse_json(line)["file_name"]
        except JsonError:
            return Rejected(place, "broken json")
        except (KeyError, TypeError):
            return Rejected(place, "no file_name")
        if not isinstance(name, str) or not name:
            return Rejected(place, "no file_name")
        if is_unsafe(name):
            return Rejected(name, "unsafe name")
        key = PurePosixPath(name).as_posix()
        if self._leads_out(key):
            return Rejected(name, _LINK)
        image = self._whole(key)
        if image is None:
            return Rejected(name, "no such file")
        return Sample(key, image, self._whole(_beside(key, "text")), extent)


def _beside(image: str, kind: str) -> str:
    return str(PurePosixPath(image).with_suffix(_SUFFIX_OF[kind]))
