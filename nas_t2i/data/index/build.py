"""Making an index of pairs: scan the parts, drop duplicates, write what is kept.

A finished index never changes: it is made beside its place and renamed into it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from nas_t2i.data.captions import CaptionWriter
from nas_t2i.data.images.bad_samples import BadSamples
from nas_t2i.data.index import duplicates
from nas_t2i.data.index.filters import Filters
from nas_t2i.data.index.scan import MOST_FIELDS, PartScan, Row, Scanner
from nas_t2i.data.sources.common.parts import Part
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.files import make_folder, write_json
from nas_t2i.protocol.data import PairsData

SUMMARY = "index.json"
PAIRS, CHOICES, NAMES = "pairs.npy", "choices.npy", "names.bin"
NONE = -1  # the size of a member that is not there

_PARTS = "parts"  # folder of the scans, beside the indices
_MOST_THREADS = 8
_NEWS_SECONDS = 30.0

Say = Callable[[str], None]
Mask = npt.NDArray[np.bool_]


class Report(BaseModel):
    """What became of the samples: ``seen = kept + dropped + bad + duplicates``."""

    seen: int
    kept: int
    dropped: dict[str, int]  # by the filter rule that drops them
    bad: dict[str, int]  # by reason
    duplicates: int


class Summary(BaseModel):
    """Written last: an index with a summary is whole."""

    report: Report
    kept_of_source: list[int]


def pair_type(fields: int) -> np.dtype[np.void]:
    """One row of pairs.npy; extents are (offset, size) in bytes."""
    return np.dtype(
        [
            ("part", "<i4"),
            ("size", "<i4", (2,)),  # width, height
            ("picture", "<i8", (2,)),
            ("text", "<i8", (2,)),
            ("metadata", "<i8", (2,)),
            ("name", "<i8", (2,)),  # in names.bin
            ("first_choice", "<i8"),  # in choices.npy
            ("captions", "<i4", (fields,)),  # how many choices each caption field has
        ]
    )


def build(data: PairsData, by_source: Sequence[Sequence[Part]], place: Path, say: Say) -> None:
    """Make the index of the parts of each source in the folder `place`, which must not exist.

    Raises:
        ConfigError: a source of which nothing is left, a field that no pair has.
        TooManyBadSamplesError: more samples are bad than data.bad_share allows.
    """
    parts = [part for of_source in by_source for part in of_source]
    found = _scan_all(data, parts, place.parent / _PARTS, say)
    keep = _without_duplicates(data, found)
    kept_of_part = [int(mask.sum()) for mask in keep]
    ends = np.cumsum([0, *map(len, by_source)])
    kept_of_source = [sum(kept_of_part[start:end]) for start, end in itertools.pairwise(ends)]
    report = Report(
        seen=found.seen,
        kept=sum(kept_of_part),
        dropped=dict(found.dropped),
        bad=dict(found.bad),
        duplicates=sum(found.rows_of_part) - sum(kept_of_part),
    )
    for number, kept in enumerate(kept_of_source):
        if not kept:
            raise _nothing_left(data, number, report)
    temporary = place.with_name(f".{place.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was cut
    make_folder(temporary)
    _write_pairs(data, found.files, keep, temporary)
    write_json(temporary / SUMMARY, Summary(report=report, kept_of_source=kept_of_source))
    temporary.replace(place)
    say(_describe(report))


def _scan_all(data: PairsData, parts: Sequence[Part], folder: Path, say: Say) -> _Found:
    """Scan every part that is not scanned yet."""
    make_folder(folder)
    scanner = Scanner(data, folder)
    done = sum(scanner.file_of(part).exists() for part in parts)
    say(f"index: {len(parts)} parts" + (f", of which {done} were scanned before" if done else ""))
    found = _Found(data)
    bad_samples = BadSamples(data.bad_share, say)
    news = time.monotonic() + _NEWS_SECONDS
    # Threads wait for disks and networks, and decode where hashes are made of pixels.
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(scanner.scan, part) for part in parts]
        try:
            for number, future in enumerate(futures):
                found.add(future.result(), bad_samples)
                if time.monotonic() > news:
                    news += _NEWS_SECONDS
                    say(f"index: {number + 1} of {len(parts)} parts scanned")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    found.check_fields()
    bad_samples.finish()
    return found


def _load(file: Path) -> PartScan:
    return PartScan.model_validate_json(file.read_bytes())


class _Found:
    """What the scans found, part by part; the pairs themselves stay in the files."""

    def __init__(self, data: PairsData) -> None:
        self.files: list[Path] = []
        self.rows_of_part: list[int] = []
        self.dropped: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        self.hashes: list[npt.NDArray[np.uint64]] = []
        self.has_hash: list[Mask] = []
        self._data = data
        self._fields: set[str] = set()
        self._offering = [0] * len(data.captions)  # pairs that have each caption field

    @property
    def seen(self) -> int:
        """Samples, good and bad."""
        return sum(self.rows_of_part) + self.dropped.total() + self.bad.total()

    def add(self, file: Path, bad_samples: BadSamples) -> None:
        """Take in the next part. Raises TooManyBadSamplesError."""
        scan = _load(file)
        bad_samples.good(scan.good)
        for name, reason in scan.bad:
            bad_samples.bad(name, reason)
            self.bad[reason] += 1
        self.files.append(file)
        self.rows_of_part.append(len(scan.rows))
        self.dropped.update(scan.dropped)
        self._fields.update(scan.fields)
        self.hashes.append(np.array([int(row.hash or "0", 16) for row in scan.rows], np.uint64))
        self.has_hash.append(np.array([row.hash is not None for row in scan.rows], np.bool_))
        for row in scan.rows:
            for field, texts in enumerate(row.captions):
                self._offering[field] += bool(texts)

    def check_fields(self) -> None:
        """Raise ConfigError for a field of the budget that no pair has."""
        self._check_filters()
        if not any(self.rows_of_part):
            return
        for number, (rule, pairs) in enumerate(
            zip(self._data.captions, self._offering, strict=True)
        ):
            if not pairs:
                raise _no_such_field(f"data.captions[{number}].field", rule.field, self._fields)
        if self._data.duplicates and not any(mask.any() for mask in self.has_hash):
            field = self._data.duplicates.hash
            raise _no_such_field("data.duplicates.hash", field, self._fields)

    def _check_filters(self) -> None:
        # A slip in a rule that keeps what lacks its field would keep everything, silently.
        if not 0 < len(self._fields) < MOST_FIELDS:
            return
        known = self._fields | {"key"}
        for number, fields in enumerate(Filters(self._data.filters).fields):
            for field in sorted(fields):
                if not {field, field.partition(".")[0]} & known:
                    raise _no_such_field(f"data.filters[{number}].keep", field, self._fields)


def _no_such_field(where: str, field: str, fields: set[str]) -> ConfigError:
    known = ", ".join(sorted(fields)[:12]) or "none"
    return ConfigError(
        where,
        f"got {field!r}, which holds nothing of use in any pair",
        expected=f"a field of the metadata ({known})",
        hint=did_you_mean(field, fields - {field}),
    )


def _nothing_left(data: PairsData, number: int, report: Report) -> ConfigError:
    return ConfigError(
        f"data.sources[{number}]",
        f"no pair of this source is left ({_describe(report)})",
        expected=f"pairs that pass the {len(data.filters)} filters",
    )


def _describe(report: Report) -> str:
    dropped, bad = sum(report.dropped.values()), sum(report.bad.values())
    return (
        f"index: {report.kept} of {report.seen} pairs kept; {dropped} dropped by filters, "
        f"{report.duplicates} duplicates, {bad} bad"
    )


def _without_duplicates(data: PairsData, found: _Found) -> list[Mask]:
    """Which rows of each part are kept. A pair without a hash is nobody's duplicate."""
    if data.duplicates is None:
        return [np.ones(rows, dtype=np.bool_) for rows in found.rows_of_part]
    hashes = np.concatenate(found.hashes)
    keep = np.ones(len(hashes), dtype=np.bool_)
    hashed = np.flatnonzero(np.concatenate(found.has_hash))
    keep[hashed] = duplicates.kept(hashes[hashed], data.duplicates.distance)
    return np.split(keep, np.cumsum(found.rows_of_part)[:-1])


def _write_pairs(
    data: PairsData, files: Sequence[Path], keep: Sequence[Mask], folder: Path
) -> None:
    """Write the kept rows, part by part, with their names and captions."""
    total = sum(int(mask.sum()) for mask in keep)
    pairs = np.lib.format.open_memmap(
        folder / PAIRS, mode="w+", dtype=pair_type(len(data.captions)), shape=(total,)
    )
    choices = array("q")
    row_number = name_end = 0
    with CaptionWriter(folder) as writer, (folder / NAMES).open("wb") as names:
        for part_number, row in _kept_rows(files, keep):
            name = row.key.encode()
            names.write(name)
            of_row = [writer.row(text) for texts in row.captions for text in texts]
            choices.extend(of_row)
            pairs[row_number] = (
                part_number,
                row.size,
                row.image,
                row.text or (0, NONE),
                row.metadata or (0, NONE),
                (name_end, len(name)),
                len(choices) - len(of_row),
                [len(texts) for texts in row.captions],
            )
            row_number += 1
            name_end += len(name)
    pairs.flush()
    np.save(folder / CHOICES, np.frombuffer(choices, dtype=np.int64))


def _kept_rows(files: Sequence[Path], keep: Sequence[Mask]) -> Iterator[tuple[int, Row]]:
    for number, (file, mask) in enumerate(zip(files, keep, strict=True)):
        for row, is_kept in zip(_load(file).rows, mask, strict=True):
            if is_kept:
                yield number, row
