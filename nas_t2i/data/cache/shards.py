"""One shard of the cache of encoded pairs: a safetensors file whose tensors are read by rows.

Reading opens the file, reads rows at their offsets and closes it: nothing is held in memory, and
no number of shards exhausts the open files. Memory maps that are kept give a row of 800 shards in
random order no sooner (both 12 us for the bare reading, page cache warm, one core of an AMD EPYC);
``safetensors.safe_open`` took 27 us.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from nas_t2i.errors import UserError
from nas_t2i.files import Closing, write_atomically
from nas_t2i.untrusted.json_text import parse_json

_DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "BOOL": np.dtype(np.bool_),
}
_LONGEST_HEADER = 2**24  # bytes; it names the shard's bad images
_REMEDY = "run: nas-t2i data prepare BUDGET, which makes it again"

Array = npt.NDArray[Any]


class CacheError(UserError):
    """A cache that is missing, unfinished, damaged, or made with something else."""


class Layout(NamedTuple):
    """A tensor of a shard: its safetensors type and its shape; -1: any number of rows."""

    dtype: str
    shape: tuple[int, ...]


class ShardFile(Closing):
    """An open shard. Use as a context manager.

    Raises:
        CacheError: the file is missing, truncated, or not of the expected layout.
    """

    def __init__(self, file: Path, layout: Mapping[str, Layout]) -> None:
        self.file = file
        self._layout = layout
        self.note: dict[int, str] = {}  # words on some rows of the whole part
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self.file, os.O_RDONLY)
        except FileNotFoundError:
            raise CacheError(f"{self.file}: no such shard; {_REMEDY}") from None
        except OSError as error:
            raise CacheError(f"{self.file}: can't be read: {error.strerror}") from None
        try:
            self._read_header()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Return the rows ``start .. stop`` of a tensor, read from the file."""
        tensor = self._tensors[name]
        if not 0 <= start <= stop <= tensor.shape[0]:
            raise self._damaged(f"no rows {start} to {stop} of {name}")
        row_bytes = tensor.row_bytes
        size = (stop - start) * row_bytes
        data = os.pread(self._descriptor, size, tensor.begin + start * row_bytes)
        if len(data) != size:
            raise self._damaged("truncated")
        return np.frombuffer(data, tensor.dtype).reshape(stop - start, *tensor.shape[1:])

    def _read_header(self) -> None:
        size = os.fstat(self._descriptor).st_size
        length = int.from_bytes(os.pread(self._descriptor, 8, 0), "little")
        if size < 8 or length > size - 8:
            raise self._damaged(f"truncated to {size} bytes")
        if length > _LONGEST_HEADER:
            raise self._damaged("not a shard's header")
        try:
            header = parse_json(os.pread(self._descriptor, length, 8))
            note = parse_json(header.pop("__metadata__", {}).get("note", "{}"))
            self.note = {int(row): str(words) for row, words in note.items()}
            self._tensors = {name: _tensor(entry, 8 + length) for name, entry in header.items()}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise self._damaged("not a shard's header") from None
        end = max((tensor.end for tensor in self._tensors.values()), default=0)
        if size != end:
            raise self._damaged(f"{size} bytes; expected {end}")
        if self._tensors.keys() != self._layout.keys() or not all(
            _fits(self._tensors[name], wanted) for name, wanted in self._layout.items()
        ):
            shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
            raise self._damaged(f"holds {shapes}")

    def _damaged(self, how: str) -> CacheError:
        return CacheError(f"{self.file}: a damaged shard ({how}); {_REMEDY}")


def write_shard(file: Path, tensors: Mapping[str, Array], note: Mapping[int, str]) -> None:
    """Write a shard, atomically: arrays by name, and words on some rows.

    Raises:
        StorageError: the file can't be written.
    """
    write_atomically(file, save(dict(tensors), metadata={"note": json.dumps(dict(note))}))


def to_half(values: npt.NDArray[np.float32], what: str) -> npt.NDArray[np.float16]:
    """Return float32 numbers as float16.

    Raises:
        CacheError: numbers that float16 can't hold, or that are none.
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        largest = float(np.abs(values).max())
        raise CacheError(
            f"{what}: got a number as large as {largest:g}; expected numbers that float16 can hold "
            "(up to 65504); does the encoder's precision suit it?"
        )
    return half


class _Tensor(NamedTuple):
    """Where a tensor lies in its file, bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int

    @property
    def row_bytes(self) -> int:
        return int(self.dtype.itemsize) * math.prod(self.shape[1:])

    @property
    def end(self) -> int:
        return self.begin + self.shape[0] * self.row_bytes


def _tensor(entry: dict[str, Any], data: int) -> _Tensor:
    """Read a header's entry; `data` is where the tensors begin. Raises ValueError and the like."""
    begin, end = entry["data_offsets"]
    tensor = _Tensor(_DTYPES[entry["dtype"]], tuple(map(int, entry["shape"])), data + int(begin))
    if min(tensor.shape) < 0 or begin < 0 or tensor.end != data + end:
        raise ValueError("shape and offsets disagree")
    return tensor


def _fits(tensor: _Tensor, wanted: Layout) -> bool:
    return (
        tensor.dtype == _DTYPES[wanted.dtype]
        and len(tensor.shape) == len(wanted.shape)
        and all(b in (-1, a) for a, b in zip(tensor.shape, wanted.shape, strict=True))
    )
