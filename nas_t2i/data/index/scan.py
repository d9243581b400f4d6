"""Going through a part once: what of it is kept, what is dropped, and what is bad.

The result of a part is one file, written whole or not at all, so that a scan that is cut goes on
with the next part, and a source that grows is scanned where it is new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from nas_t2i.data.captions import TEXT, look_up, offered
from nas_t2i.data.images import decode as images
from nas_t2i.data.images.bad_samples import BadSampleError
from nas_t2i.data.index.duplicates import PHASH, SIDE, parse_hash, perceptual_hash
from nas_t2i.data.index.filters import Filters
from nas_t2i.data.sources.common.parts import Extent, Kind, Part, Rejected, Sample
from nas_t2i.files import write_atomically
from nas_t2i.protocol.data import PairsData
from nas_t2i.untrusted.json_text import JsonError, parse_json

VERSION = 1  # raise when a scan of the same part comes out differently

_LONGEST_TEXT = 1 << 24  # bytes of a text or json member; more is no caption
MOST_FIELDS = 200  # of a part that are remembered


class Row(NamedTuple):
    """A pair that the filters keep."""

    key: str
    image: tuple[int, int]  # offset and size, bytes
    text: tuple[int, int] | None
    metadata: tuple[int, int] | None
    size: tuple[int, int]  # width and height, pixels
    hash: str | None  # 64 bits, hexadecimal
    captions: list[list[str]]  # of each caption field


class PartScan(BaseModel):
    """The result of one part. Every sample is in exactly one of the three."""

    rows: list[Row]
    dropped: dict[str, int]  # by the rule that drops it
    bad: list[tuple[str, str]]  # name and reason
    fields: list[str]  # names of metadata, for messages

    @property
    def good(self) -> int:
        """Samples that could be read, kept or not."""
        return len(self.rows) + sum(self.dropped.values())


class Scanner:
    """Scans parts by a budget's rules, or finds their results in a folder.

    Raises:
        ConfigError: a filter that can't be read.
    """

    def __init__(self, data: PairsData, folder: Path) -> None:
        self._data = data
        self._folder = folder
        self._filters = Filters(data.filters)
        # Only what decides what a scan finds: a new probability or weight scans nothing again.
        rules = {
            "version": VERSION,
            "captions": [(rule.field, rule.first) for rule in data.captions],
            "filters": [rule.model_dump() for rule in data.filters],
            "hash": data.duplicates.hash if data.duplicates else None,
            "max_pixels": data.max_pixels,
        }
        self._rules = json.dumps(rules, sort_keys=True)

    def file_of(self, part: Part) -> Path:
        """Where the result of a part is kept."""
        text = json.dumps([self._rules, part.name, part.identity])
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"

    def scan(self, part: Part) -> Path:
        """Scan a part if that has not been done; returns the file of the result.

        Raises:
            UserError: the part, or a pair of it, is nothing to go on with.
        """
        file = self.file_of(part)
        if not file.exists():
            write_atomically(file, self._scanned(part).model_dump_json())
        return file

    def _scanned(self, part: Part) -> PartScan:
        result = PartScan(rows=[], dropped={}, bad=[], fields=[])
        fields: set[str] = set()
        for sample in part.samples():
            if isinstance(sample, Rejected):
                result.bad.append((printable(sample.name), sample.reason))
                continue
            try:
                metadata = self._metadata(part, sample)
                if len(fields) < MOST_FIELDS:
                    fields.update(metadata)
                rule = self._filters.verdict({"key": sample.key} | metadata)
                if rule is None:
                    result.rows.append(self._row(part, sample, metadata))
                else:
                    result.dropped[rule] = result.dropped.get(rule, 0) + 1
            except BadSampleError as error:
                result.bad.append((f"{part.name}: {printable(sample.key)}", error.reason))
        result.fields = sorted(map(printable, fields))[:MOST_FIELDS]
        return result

    def _metadata(self, part: Part, sample: Sample) -> dict[str, Any]:
        if not _is_text(sample.key):
            raise BadSampleError("name is not UTF-8")
        size = _read_size(part, sample)
        images.check_pixels(size, self._data.max_pixels)
        return read_metadata(part, sample) | geometry(*size)

    def _row(self, part: Part, sample: Sample, metadata: Mapping[str, Any]) -> Row:
        captions = offered(metadata, self._data.captions)
        if not any(captions):
            names = " or ".join(rule.field for rule in self._data.captions)
            raise BadSampleError(f"no caption ({names})")
        return Row(
            key=sample.key,
            image=sample.image,
            text=sample.text,
            metadata=sample.metadata,
            size=(metadata["width"], metadata["height"]),
            hash=self._hash(part, sample, metadata),
            captions=captions,
        )

    def _hash(self, part: Part, sample: Sample, metadata: Mapping[str, Any]) -> str | None:
        if self._data.duplicates is None:
            return None
        field = self._data.duplicates.hash
        if field == PHASH:
            pixels = part.image(sample.key, sample.image, SIDE, self._data.max_pixels)
            number: int | None = perceptual_hash(pixels)
        else:
            number = parse_hash(look_up(metadata, field))
        return None if number is None else f"{number:016x}"


def read_metadata(part: Part, sample: Sample) -> dict[str, Any]:
    """A sample's json, and its text as ``txt``.

    Raises:
        BadSampleError: a member of it can't be read.
    """
    metadata: dict[str, Any] = {}
    if sample.metadata is not None:
        try:
            metadata = parse_json(_read_text(part, "metadata", sample.key, sample.metadata))
        except JsonError:
            raise BadSampleError("broken json") from None
        if not isinstance(metadata, dict):
            raise BadSampleError("json is no object")
    if sample.text is not None:
        metadata[TEXT] = _read_text(part, "text", sample.key, sample.text)
    return metadata


def geometry(width: int, height: int) -> dict[str, Any]:
    """The fields that come from an image's size in pixels."""
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "min_side": min(width, height),
        "pixels": width * height,
    }


def printable(name: str) -> str:
    """A name from the data, fit for a terminal and for a file of UTF-8."""
    return "".join(character if character.isprintable() else "?" for character in name)


def _is_text(name: str) -> bool:
    # Other bytes in the names of files come as lone surrogates.
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_text(part: Part, kind: Kind, key: str, extent: Extent) -> str:
    if extent.size > _LONGEST_TEXT:
        raise BadSampleError(f"{kind} of over {_LONGEST_TEXT >> 20} MiB")
    try:
        return part.read(kind, key, extent).decode("utf-8")
    except UnicodeDecodeError:
        raise BadSampleError(f"{kind} is not UTF-8") from None


def _read_size(part: Part, sample: Sample) -> tuple[int, int]:
    offset, size = sample.image
    try:
        head = Extent(offset, min(size, images.HEADER))
        return images.header_size(part.read("image", sample.key, head))
    except BadSampleError:
        # The size may come late, after a large colour profile or a preview.
        if size <= images.HEADER:
            raise
        return images.header_size(part.read("image", sample.key, sample.image))
