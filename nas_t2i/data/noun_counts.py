"""How many different nouns the captions of each pair have: counted once, kept beside the index.

The file is of the index and of the tagger that found the nouns, and both are in its name.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nas_t2i.data.index.pairs import PairIndex
from nas_t2i.data.nouns import TAGGER, NounFinder, tagger_version
from nas_t2i.errors import MissingExtraError, StorageError
from nas_t2i.files import write_atomically
from nas_t2i.records import TrainingSet

MOST_UNASKED = 1_000_000
"""Captions that are counted without being asked for: about half a minute."""

IntArray = npt.NDArray[np.int64]
Say = Callable[[str], None]


class NounCounts:
    """(pairs,) different nouns of each pair's captions, and what found them."""

    def __init__(self, counts: npt.NDArray[np.uint16], tagger: str) -> None:
        self.counts, self.tagger = counts, tagger

    def total(self, rows: IntArray | slice = slice(None)) -> int:
        """Image-noun pairs of these rows."""
        return int(self.counts[rows].sum(dtype=np.int64))


def stored(index: PairIndex) -> NounCounts | None:
    """Return what was counted of an index, by the newest tagger; None: nothing was."""
    files = sorted(index.folder.glob(f"nouns-{TAGGER}-*.npy"))
    if not files:
        return None
    counts = np.load(files[-1], mmap_mode="r", allow_pickle=False)
    return (
        NounCounts(counts, files[-1].stem.removeprefix("nouns-")) if _fits(counts, index) else None
    )


def store(index: PairIndex, counts: IntArray) -> None:
    """Keep the counts of all pairs. Raises StorageError."""
    buffer = io.BytesIO()
    np.save(buffer, np.minimum(counts, np.iinfo(np.uint16).max).astype(np.uint16))
    name = f"nouns-{TAGGER}-{tagger_version()}.npy"
    write_atomically(index.folder / name, buffer.getvalue())


def count(index: PairIndex, finder: NounFinder) -> IntArray:
    """Return the number of different nouns that the captions of each pair have, (pairs,)."""
    return np.array(
        [
            len(
                set().union(
                    *(finder.nouns(text) for texts in index.captions_of(row) for text in texts)
                )
            )
            for row in range(len(index))
        ],
        dtype=np.int64,
    )


def ensure(index: PairIndex, say: Say) -> None:
    """Count what is not counted yet, where that takes seconds; else say how it is to be had."""
    if stored(index) is not None:
        return
    captions = int(index.caption_counts().sum())
    if captions > MOST_UNASKED:
        say(
            f"image-noun pairs are not counted: {captions:,} captions take a while; "
            "nas-t2i data stats counts them once"
        )
        return
    try:
        store(index, count(index, NounFinder()))
    except (MissingExtraError, StorageError) as error:
        say(f"image-noun pairs are not counted: {error}")


def training_set(index: PairIndex, held_out: IntArray) -> TrainingSet:
    """Return what is left to train on when these rows are held out."""
    captions, found = index.caption_counts(), stored(index)
    return TrainingSet(
        images=len(index) - len(held_out),
        captions=int(captions.sum() - captions[held_out].sum()),
        image_noun_pairs=None if found is None else found.total() - found.total(held_out),
        nouns_by="" if found is None else found.tagger,
    )


def _fits(counts: npt.NDArray[np.uint16], index: PairIndex) -> bool:
    return counts.shape == (len(index),) and counts.dtype == np.uint16
