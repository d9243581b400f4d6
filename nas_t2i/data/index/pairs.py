"""Users' own pairs of image and caption: one index over all their sources.

The index says of every pair that is kept where it lies and which captions it has. It is made once
and then read where it lies on the disk, so that a hundred million pairs take no memory. Images
stay in their shards and folders and are read one by one, in any order.

    FOLDER/parts/*.json      what a scan found in each part (nas_t2i.data.index.scan)
    FOLDER/FINGERPRINT/      an index: pairs.npy, choices.npy, names.bin, captions.bin,
                             caption_ends.npy, index.json
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_t2i import plugins
from nas_t2i.data import captions as caption_store
from nas_t2i.data.captions import Captions
from nas_t2i.data.images.bad_samples import TooManyBadSamplesError
from nas_t2i.data.index import scan
from nas_t2i.data.index.build import CHOICES, NAMES, NONE, PAIRS, SUMMARY, Say, Summary, build
from nas_t2i.data.index.scan import geometry, printable, read_metadata
from nas_t2i.data.sources.common.parts import Extent, Part, Sample
from nas_t2i.locks import FolderLock
from nas_t2i.protocol.data import PairsData

_VERSION = 1  # of the layout; raise when an older index can't be read
_A_DAY = 86_400.0  # seconds; how long to wait for another process that makes the index

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class PairIndex:
    """The kept pairs of a budget's data; get one from `open_index`.

    Rows are global row numbers, contiguous for each source. Reading is safe from several threads
    and processes.
    """

    def __init__(self, data: PairsData, folder: Path, parts: Sequence[Part]) -> None:
        summary = Summary.model_validate_json((folder / SUMMARY).read_bytes())
        self.folder = folder
        self.fingerprint = folder.name
        self.report = summary.report
        self.weights = [source.weight for source in data.sources]
        self.rows_of_source = _ranges(summary.kept_of_source)
        self.captions = Captions(folder)
        self._data = data
        self._parts = parts
        self._probabilities = [rule.probability for rule in data.captions]
        self._pairs = np.load(folder / PAIRS, mmap_mode="r")
        self._choices = np.load(folder / CHOICES, mmap_mode="r")
        self._names = np.memmap(folder / NAMES, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self._pairs)

    def image(self, row: int) -> npt.NDArray[np.uint8]:
        """The image of a row, (3, resolution, resolution).

        Raises:
            BadSampleError: it proves bad only now that it is decoded.
        """
        pair = self._pairs[row]
        extent = _extent(pair["picture"])
        assert extent is not None
        data = self._data
        return self._part(pair).image(self._key(pair), extent, data.resolution, data.max_pixels)

    def caption_row(self, row: int, u: float, v: float) -> int:
        """The row in `captions` of the caption that a pair gets.

        `u` in [0, 1) chooses the caption field, `v` in [0, 1) among that field's captions.
        """
        rows = self.caption_rows(np.array([row]), np.array([u]), np.array([v]))
        return int(rows[0])

    def caption_rows(self, rows: IntArray, u: FloatArray, v: FloatArray) -> IntArray:
        """Like `caption_row`, for (n,) rows at once."""
        pairs = self._pairs[rows]
        place = caption_store.draw(pairs["captions"].astype(np.int64), self._probabilities, u, v)
        chosen: IntArray = np.asarray(self._choices[pairs["first_choice"] + place], dtype=np.int64)
        return chosen

    def captions_of(self, row: int) -> list[list[str]]:
        """All the captions that a pair may get, for each of the budget's caption fields."""
        pair = self._pairs[row]
        ends = pair["first_choice"] + np.cumsum(pair["captions"])
        starts = ends - pair["captions"]
        return [
            [self.captions[int(choice)] for choice in self._choices[start:end]]
            for start, end in zip(starts, ends, strict=True)
        ]

    def caption_counts(self) -> IntArray:
        """(pairs,) how many captions each pair may get."""
        counts: IntArray = self._pairs["captions"].sum(axis=1, dtype=np.int64)
        return counts

    def metadata(self, row: int) -> dict[str, Any]:
        """What the filters saw of a pair: its json, ``txt``, and the fields of its size.

        Raises:
            BadSampleError: it can't be read any more.
        """
        pair = self._pairs[row]
        image = _extent(pair["picture"])
        assert image is not None
        sample = Sample(self._key(pair), image, _extent(pair["text"]), _extent(pair["metadata"]))
        width, height = pair["size"].tolist()
        return read_metadata(self._part(pair), sample) | geometry(width, height)

    def name(self, row: int) -> str:
        """A pair's part and key, for messages: "00003.tar: 000030012"."""
        pair = self._pairs[row]
        return f"{self._part(pair).name}: {printable(self._key(pair))}"

    def _part(self, pair: np.void) -> Part:
        return self._parts[int(pair["part"])]

    def _key(self, pair: np.void) -> str:
        start, size = pair["name"].tolist()
        return self._names[start : start + size].tobytes().decode("utf-8")


def open_index(data: PairsData, folder: Path, say: Say) -> PairIndex:
    """Open the index of the data in `folder`, made first if it is not there or out of date.

    Of several processes that ask at once one makes it and the others wait. One that is cut goes
    on where it was when it is asked for again.

    Args:
        data: the budget's data.
        folder: holds indices, of this data or of others.
        say: takes lines for the log.

    Raises:
        ConfigError: a source that is not there or has nothing left, a field that no pair has.
        MissingExtraError: a package for this data is not installed.
        StorageError: the folder can't be written, or a shard not be downloaded.
        TooManyBadSamplesError: more samples are bad than data.bad_share allows.
    """
    by_source = [
        source.parts(f"data.sources[{number}]") for number, source in enumerate(data.sources)
    ]
    parts = [part for of_source in by_source for part in of_source]
    place = folder / _fingerprint(data, by_source)
    if not (place / SUMMARY).exists():
        busy = f"the index in {folder} is being made"
        with FolderLock(folder / ".lock", wait_seconds=_A_DAY, held=busy):
            if not (place / SUMMARY).exists():
                build(data, by_source, place, say)
    index = PairIndex(data, place, parts)
    report = index.report
    if sum(report.bad.values()) > data.bad_share * report.seen:
        raise TooManyBadSamplesError(report.bad, report.seen, data.bad_share)
    return index


def _fingerprint(data: PairsData, by_source: Sequence[Sequence[Part]]) -> str:
    """A hash of all that decides what the pairs are; weights decide only how often they come."""
    settings = data.model_dump(
        mode="json", include={"resolution", "captions", "filters", "duplicates", "max_pixels"}
    )
    parts = [[(part.name, part.identity) for part in of_source] for of_source in by_source]
    made_of = [_VERSION, scan.VERSION, settings, parts]
    # Of sources from outside, their code too.
    origins = [plugins.origin_of(type(source)) for source in data.sources]
    made_of += [origin.text for origin in origins if origin is not None]
    text = json.dumps(made_of, sort_keys=True)
    return f"pairs-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def _ranges(sizes: Sequence[int]) -> list[range]:
    ends = np.cumsum(sizes).tolist()
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _extent(stored: npt.NDArray[np.int64]) -> Extent | None:
    offset, size = stored.tolist()
    return None if size == NONE else Extent(offset, size)
