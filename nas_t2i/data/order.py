"""Which pair is a trial's sample number n: a function of (seed, n), in constant memory.

Samples come in blocks of 1000. In each block every source has its exact share, by weight, at
places drawn anew for the block. Within a source the pairs are shuffled anew for each epoch and
each is shown once before any is shown again. Nothing is stored but the sizes: a shuffle is a
pseudo-random permutation that tells the element at any place without knowing the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from nas_t2i.errors import ConfigError
from nas_t2i.streams import raw_rows

BLOCK = 1000  # samples within which the sources' shares are exact

_ROUNDS = 8
_PIECE = 1 << 20  # rows that are worked out at once
_HELD_OUT_SEED = 0  # the held-out pairs are the same for every trial

IntArray = npt.NDArray[np.int64]


def permute(index: IntArray, size: int, seed: int, purpose: str) -> IntArray:
    """The elements at places `index` of a shuffle of ``range(size)`` drawn by (seed, purpose).

    A Feistel network permutes the smallest fitting range of 4^b numbers; a number that falls
    outside of ``range(size)`` is permuted again until it falls inside (cycle walking).
    """
    half = max(1, math.ceil(math.log2(size) / 2))
    keys = raw_rows(seed, purpose, 0, 1, _ROUNDS)[0]
    values = _feistel(index.astype(np.uint64), half, keys)
    outside = np.flatnonzero(values >= size)
    while len(outside):
        values[outside] = _feistel(values[outside], half, keys)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _feistel(
    values: npt.NDArray[np.uint64], half: int, keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread every bit of a word over all of it (the finisher of splitmix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """`total` divided in proportion to the weights, in whole numbers, by largest remainder."""
    exact = [total * weight / sum(weights) for weight in weights]
    parts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (parts[i] - exact[i], i))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


class Order:
    """The order of pairs of several weighted sources, with some pairs held out of it.

    Args:
        sizes: pairs of each source; global rows number them source by source.
        weights: how often each source is drawn, relative to the others.
        held_out: number of pairs that are never drawn, from the sources by weight.

    Raises:
        ConfigError: too few pairs are there, or a weight gives a source none of 1000 samples.
    """

    def __init__(self, sizes: list[int], weights: list[float], held_out: int) -> None:
        self._starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._quotas = shares(BLOCK, weights)
        for number, quota in enumerate(self._quotas):
            if quota == 0:
                raise ConfigError(
                    f"data.sources[{number}].weight",
                    f"got {weights[number]:g} of {sum(weights):g}, none of {BLOCK} samples",
                    expected=f"at least {1 / BLOCK:g} of all the weights",
                )
        self._sizes = sizes
        self._held = _held_out_shares(sizes, weights, held_out)
        self._places = np.repeat(np.arange(len(sizes)), self._quotas)

    def rows(self, seed: int, first: int, count: int) -> IntArray:
        """Global rows of samples ``first .. first + count`` of the trial with this seed."""
        numbers = np.arange(first, first + count, dtype=np.int64)
        source, draw = self._draws(seed, numbers)
        rows = np.empty(count, dtype=np.int64)
        for s in np.unique(source):
            here = np.flatnonzero(source == s)
            rows[here] = self._rows_of_source(seed, int(s), draw[here])
        return rows

    def seen(self, seed: int, count: int) -> Iterator[IntArray]:
        """Yield, in pieces, the different global rows among the first `count` samples of a trial.

        Within a source no row comes again before all others have come.
        """
        whole = count // BLOCK
        source, _ = self._draws(seed, np.arange(whole * BLOCK, count, dtype=np.int64))
        for s, quota in enumerate(self._quotas):
            draws = whole * quota + int((source == s).sum())
            last = min(draws, self._sizes[s] - self._held[s])
            for start in range(0, last, _PIECE):
                piece = np.arange(start, min(last, start + _PIECE), dtype=np.int64)
                yield self._rows_of_source(seed, s, piece)

    def held_out_rows(self) -> IntArray:
        """Global rows of the held-out pairs, source by source; the same for every trial."""
        held = [
            self._starts[s] + self._shuffled(s, np.arange(count, dtype=np.int64))
            for s, count in enumerate(self._held)
        ]
        return np.concatenate(held)

    def _draws(self, seed: int, numbers: IntArray) -> tuple[IntArray, IntArray]:
        """The source of each sample, and how often that source was drawn before it."""
        source, draw = np.empty_like(numbers), np.empty_like(numbers)
        blocks = numbers // BLOCK
        for block in np.unique(blocks):
            here = np.flatnonzero(blocks == block)
            places = permute(np.arange(BLOCK, dtype=np.int64), BLOCK, seed, f"sources {block}")
            sources = self._places[places]
            before = np.empty(BLOCK, dtype=np.int64)
            for s, quota in enumerate(self._quotas):
                before[sources == s] = int(block) * quota + np.arange(quota)
            source[here] = sources[numbers[here] % BLOCK]
            draw[here] = before[numbers[here] % BLOCK]
        return source, draw

    def _rows_of_source(self, seed: int, s: int, draws: IntArray) -> IntArray:
        """Global rows of the given draws of one source."""
        held = self._held[s]
        left = self._sizes[s] - held
        epochs, places = np.divmod(draws, left)
        rows = np.empty_like(draws)
        for epoch in np.unique(epochs):
            here = np.flatnonzero(epochs == epoch)
            rows[here] = permute(places[here], left, seed, f"source {s} epoch {epoch}")
        return self._starts[s] + self._shuffled(s, held + rows)

    def _shuffled(self, s: int, places: IntArray) -> IntArray:
        """A source's rows in the order whose beginning is held out."""
        return permute(places, self._sizes[s], _HELD_OUT_SEED, f"held out of source {s}")


def _held_out_shares(sizes: list[int], weights: list[float], held_out: int) -> list[int]:
    """How many pairs each source holds out: by weight, but at least one of each is left."""
    if held_out > sum(sizes) - len(sizes):
        raise ConfigError(
            "data.sources",
            f"got {sum(sizes)} pairs, of which {held_out} are to be held out",
            expected=f"at least {held_out + len(sizes)}, so that each source has some to train on",
        )
    held = [0] * len(sizes)
    open_sources = list(range(len(sizes)))
    while True:
        rest = held_out - sum(held[s] for s in range(len(sizes)) if s not in open_sources)
        parts = shares(rest, [weights[s] for s in open_sources]) if open_sources else []
        full = [s for s, part in zip(open_sources, parts, strict=True) if part > sizes[s] - 1]
        if not full:
            for s, part in zip(open_sources, parts, strict=True):
                held[s] = part
            return held
        for s in full:
            held[s] = sizes[s] - 1
        open_sources = [s for s in open_sources if s not in full]
