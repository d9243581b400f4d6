"""What a data set's captions say: the columns of the paper's data table, and two histograms.

The table is that of Li et al. 2024 (arXiv 2404.02883): pairs, mean aesthetic score, image-noun
pairs, unique nouns, nouns per image; once with the original captions, once with the synthetic ones
too. An image-noun pair is an image and a noun that one of its captions has, counted once.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nas_t2i.data.images.bad_samples import BadSampleError
from nas_t2i.data.index.pairs import PairIndex
from nas_t2i.data.nouns import NounFinder, words
from nas_t2i.errors import MissingExtraError, UserError, did_you_mean
from nas_t2i.files import write_atomically
from nas_t2i.protocol.data import PairsData
from nas_t2i.untrusted.show import spreadsheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SUFFIXES = ("png", "svg", "pdf")
_DPI = 150
_LONGEST = 200  # words (and nouns) of a caption that have a bin of their own; the last has the rest
_MILLION = 1e6
_PROGRESS_ROWS = 1000
# The names that LAION's releases and img2dataset's users give to the aesthetic score.
_AESTHETIC = ("aesthetic", "aesthetic_score", "AESTHETIC_SCORE")

IntArray = npt.NDArray[np.int64]


@dataclass
class CaptionCounts:
    """Counts over images and some of their captions.

    `words` and `nouns` are histograms: how many captions have 0, 1, 2, ... of them, the last bin
    for so many or more.
    """

    images: int = 0
    captions: int = 0
    image_noun_pairs: int = 0
    different_nouns: set[str] = field(default_factory=set)
    words: IntArray = field(default_factory=lambda: np.zeros(_LONGEST + 1, np.int64))
    nouns: IntArray = field(default_factory=lambda: np.zeros(_LONGEST + 1, np.int64))

    @property
    def nouns_per_image(self) -> float:
        """Different nouns that the captions of an image have, on average; 0 without images."""
        return self.image_noun_pairs / self.images if self.images else 0.0

    def add(self, captions: Sequence[tuple[int, set[str]]]) -> None:
        """Count one image's captions, each its number of words and its nouns."""
        of_image: set[str] = set()
        for number_of_words, nouns in captions:
            self.words[min(number_of_words, _LONGEST)] += 1
            self.nouns[min(len(nouns), _LONGEST)] += 1
            of_image |= nouns
        self.images += 1
        self.captions += len(captions)
        self.image_noun_pairs += len(of_image)
        self.different_nouns |= of_image

    def __add__(self, other: CaptionCounts) -> CaptionCounts:
        return CaptionCounts(
            self.images + other.images,
            self.captions + other.captions,
            self.image_noun_pairs + other.image_noun_pairs,
            self.different_nouns | other.different_nouns,
            self.words + other.words,
            self.nouns + other.nouns,
        )


@dataclass
class DatasetStatistics:
    """One data set: its images with the original captions, and with the synthetic ones too.

    `scored` images have an aesthetic score; `score_sum` adds theirs up.
    """

    name: str
    original: CaptionCounts = field(default_factory=CaptionCounts)
    with_synthetic: CaptionCounts = field(default_factory=CaptionCounts)
    scored: int = 0
    score_sum: float = 0.0

    @property
    def aesthetic(self) -> float | None:
        """The mean aesthetic score of the images that have one."""
        return self.score_sum / self.scored if self.scored else None

    @property
    def has_synthetic(self) -> bool:
        """Whether any image has a caption besides its original one."""
        return self.with_synthetic.captions > self.original.captions

    def add(
        self,
        finder: NounFinder,
        original: Iterable[str],
        synthetic: Iterable[str],
        aesthetic: float | None,
    ) -> int:
        """Count one image; return how many different nouns its captions have.

        An image without an original caption counts with the synthetic.
        """
        own = [_described(finder, caption) for caption in original]
        if own:
            self.original.add(own)
        before = self.with_synthetic.image_noun_pairs
        self.with_synthetic.add(own + [_described(finder, caption) for caption in synthetic])
        if aesthetic is not None:
            self.scored += 1
            self.score_sum += aesthetic
        return self.with_synthetic.image_noun_pairs - before

    def __add__(self, other: DatasetStatistics) -> DatasetStatistics:
        return DatasetStatistics(
            self.name,
            self.original + other.original,
            self.with_synthetic + other.with_synthetic,
            self.scored + other.scored,
            self.score_sum + other.score_sum,
        )


def _described(finder: NounFinder, caption: str) -> tuple[int, set[str]]:
    of_caption = words(caption)
    return len(of_caption), finder.nouns_among(of_caption)


# ---- a pass over an index -----------------------------------------------------------------------


def measure(
    index: PairIndex,
    data: PairsData,
    finder: NounFinder,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    nouns: IntArray | None = None,
) -> list[DatasetStatistics]:
    """Count the kept pairs of every source, and of all together where there are several.

    The original caption is that of the first caption field of the data.

    Args:
        index: of the data.
        data: the budget's.
        finder: of nouns.
        progress: takes "pairs", how many are done, of how many.
        nouns: (pairs,) takes how many different nouns the captions of each pair have.
    """
    sources = []
    for source, rows in zip(data.sources, index.rows_of_source, strict=True):
        statistics = DatasetStatistics(source.described())
        for row in rows:
            original, *others = index.captions_of(row)
            synthetic = [caption for captions in others for caption in captions]
            found = statistics.add(finder, original, synthetic, _aesthetic(index, row))
            if nouns is not None:
                nouns[row] = found
            if row % _PROGRESS_ROWS == 0:
                progress("pairs", row, len(index))
        sources.append(statistics)
    progress("pairs", len(index), len(index))
    if len(sources) == 1:
        return sources
    return [*sources, sum(sources, DatasetStatistics("all sources"))]


def _aesthetic(index: PairIndex, row: int) -> float | None:
    try:
        metadata = index.metadata(row)
    except BadSampleError:  # it could be read when it was indexed
        return None
    for name in _AESTHETIC:
        value = metadata.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None


# ---- the table ----------------------------------------------------------------------------------


def table_rows(statistics: Iterable[DatasetStatistics]) -> list[dict[str, Any]]:
    """Return the rows of the data table, under the paper's column names.

    ``_m`` columns are in millions, exact. ``image_text_pairs_m`` counts every caption of an image;
    ``nouns_per_image`` is over images. A data set with synthetic captions has a second row.
    """
    return [
        {
            "dataset": one.name,
            "synthetic_captions": synthetic,
            "image_text_pairs_m": counts.captions / _MILLION,
            "avg_aesthetic_score": one.aesthetic,
            "image_noun_pairs_m": counts.image_noun_pairs / _MILLION,
            "unique_nouns_m": len(counts.different_nouns) / _MILLION,
            "nouns_per_image": counts.nouns_per_image,
        }
        for one in statistics
        for synthetic, counts in ((False, one.original), (True, one.with_synthetic))
        if not synthetic or one.has_synthetic
    ]


def export(rows: Sequence[dict[str, Any]], kind: Literal["csv", "json"]) -> str:
    """Return rows of the data table as the text of a file."""
    if kind == "json":
        return json.dumps(rows, indent=2) + "\n"
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    # Six decimals of a million are exact to a single pair.
    return f"{value:.6f}" if isinstance(value, float) else spreadsheet(str(value))


# ---- the histograms -----------------------------------------------------------------------------


def check_figure(file: Path) -> None:
    """Raise before the work is done what `draw_histograms` would raise after it.

    Raises:
        UserError: an ending that names no format.
        MissingExtraError: matplotlib is not installed.
    """
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in _SUFFIXES:
        hint = did_you_mean(suffix, _SUFFIXES)
        text = f"-o {file}: can't draw {file.suffix or 'a file without an ending'!r}"
        raise UserError(f"{text}; expected one of .{', .'.join(_SUFFIXES)}{hint and f'; {hint}'}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError("drawing histograms", "plots") from None


def draw_histograms(statistics: DatasetStatistics, file: Path) -> None:
    """Draw words per caption and nouns per caption; the format follows the ending: png, svg, pdf.

    Original captions beside all captions, each as a share of its captions.

    Raises:
        UserError: another ending.
        MissingExtraError: matplotlib is not installed.
        StorageError: the file can't be written.
    """
    check_figure(file)
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # A Figure of its own, not pyplot: no global state and no display needed.
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    of_words, of_nouns = figure.subplots(1, 2)
    for axes, what in ((of_words, "words"), (of_nouns, "nouns")):
        _draw_histogram(axes, statistics, what)
        axes.set(xlabel=f"{what} per caption", ylabel="share of captions")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    of_words.legend(frameon=False)
    figure.suptitle(statistics.name)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file.suffix.removeprefix(".").lower(), dpi=_DPI)
    write_atomically(file, buffer.getvalue())


def _draw_histogram(axes: Axes, statistics: DatasetStatistics, what: str) -> None:
    drawn = [("original captions", statistics.original)]
    if statistics.has_synthetic:
        drawn.append(("with synthetic captions", statistics.with_synthetic))
    # From the first bin to the last that any of them has.
    ends = [np.flatnonzero(getattr(counts, what)) for _, counts in drawn]
    bins = 1 + max((int(end[-1]) for end in ends if len(end)), default=0)
    for label, counts in drawn:
        shares = getattr(counts, what)[:bins] / max(counts.captions, 1)
        axes.stairs(shares, np.arange(bins + 1) - 0.5, fill=True, alpha=0.4, label=label)
