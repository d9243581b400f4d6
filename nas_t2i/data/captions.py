"""Captions of pairs: which texts a sample offers, which of them is drawn, and where they lie.

Every distinct caption is stored once, all in one file that is read where it lies on the disk.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_t2i.files import Closing
from nas_t2i.protocol.data import CaptionField

TEXT = "txt"  # the field that stands for the text beside an image

_BYTES_FILE = "captions.bin"
_ENDS_FILE = "caption_ends.npy"

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def offered(metadata: Mapping[str, Any], fields: Sequence[CaptionField]) -> list[list[str]]:
    """The captions that a sample offers in each field: stripped, not empty, the first so many."""
    return [_texts(look_up(metadata, rule.field))[: rule.first] for rule in fields]


def look_up(metadata: Mapping[str, Any], name: str) -> object:
    """The value of a field, None where there is none; ``a.b`` looks inside ``a``."""
    if name in metadata:
        return metadata[name]
    value: object = metadata
    for key in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _texts(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    stripped = (item.strip() for item in items if isinstance(item, str))
    # A lone surrogate can come out of JSON; no text encoder could read it.
    return [text.encode("utf-8", "replace").decode("utf-8") for text in stripped if text]


def draw(
    counts: IntArray, probabilities: Sequence[float], u: FloatArray, v: FloatArray
) -> IntArray:
    """Which of its captions each sample gets.

    A field that a sample lacks leaves its probability to the sample's others, in proportion.

    Args:
        counts: (n, fields) how many captions each field offers; at least one in each row.
        probabilities: of the fields.
        u: (n,) in [0, 1), chooses the field.
        v: (n,) in [0, 1), chooses among the field's captions, all alike.

    Returns:
        (n,) places in the sample's captions, counted over all its fields.
    """
    weights = np.where(counts > 0, np.asarray(probabilities), 0.0)
    cumulated = np.cumsum(weights, axis=1)
    passed = cumulated <= (u * cumulated[:, -1])[:, None]
    # Rounding may pass the last field that has a caption; it is the last one all the same.
    last = counts.shape[1] - 1 - np.argmax(counts[:, ::-1] > 0, axis=1)
    field = np.minimum(passed.sum(axis=1), last)
    rows = np.arange(len(counts))
    number = counts[rows, field]
    within = np.minimum((v * number).astype(np.int64), number - 1)
    before = np.cumsum(counts, axis=1)[rows, field] - number
    place: IntArray = before + within
    return place


class CaptionWriter(Closing):
    """Writes each distinct caption once and tells its row, in the order they first come.

    It remembers a digest of every caption: some 200 bytes of memory for each distinct one.
    Use as a context manager.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream = (folder / _BYTES_FILE).open("wb")
        self._rows: dict[bytes, int] = {}
        self._ends = array("q", [0])

    def close(self) -> None:
        """Close the files, the ends of captions written."""
        self._stream.close()
        np.save(self._folder / _ENDS_FILE, np.frombuffer(self._ends, dtype=np.int64))

    def row(self, text: str) -> int:
        """The row of a caption, written if it is new."""
        data = text.encode("utf-8")
        digest = hashlib.blake2b(data, digest_size=16).digest()
        row = self._rows.setdefault(digest, len(self._rows))
        if row == len(self._ends) - 1:
            self._stream.write(data)
            self._ends.append(self._ends[-1] + len(data))
        return row


class Captions(Sequence[str]):
    """The distinct captions of an index, read from the disk one by one."""

    def __init__(self, folder: Path) -> None:
        self._ends = np.load(folder / _ENDS_FILE, mmap_mode="r")
        self._bytes = np.memmap(folder / _BYTES_FILE, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> str:  # type: ignore[override]  # rows only, no slices
        if not 0 <= row < len(self):
            raise IndexError(f"caption {row} of {len(self)}")
        data = self._bytes[self._ends[row] : self._ends[row + 1]]
        return data.tobytes().decode("utf-8")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))
