"""Users' own pairs as training reads them: from the cache, or encoded on line.

Which pair a sample is, which of its captions and which draw of its latent: all are functions of
(the trial's seed, the sample's global number). Cache and encoders give the same samples up to the
cache's float16. How samples are split into calls or among ranks changes nothing, but for the
rounding of an encoder that is given other batches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas_t2i.conditioning.prepare import CachedPairs, encode_images, open_cache
from nas_t2i.data import noun_counts
from nas_t2i.data.cache.entries import read_latents, read_text
from nas_t2i.data.images.ahead import Decoder, Image
from nas_t2i.data.images.bad_samples import BadSamples
from nas_t2i.data.index.pairs import PairIndex, open_index
from nas_t2i.data.order import Order, permute
from nas_t2i.errors import ConfigError
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.conditioning import Codec, Moments, TextEncoder
from nas_t2i.protocol.data import PairsData
from nas_t2i.streams import normal_rows, uniform_rows
from nas_t2i.training.feeds.samples import Feed, HeldOut, Samples

_ATTEMPTS = 1000  # to find a good image in the place of a bad one
_OTHER_NUMBERS = 2**32  # the sample that is taken instead has a number below this
_SHUFFLE_SEED = 0  # shuffled captions are the same for every trial

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
ItemT = TypeVar("ItemT")


class Encodings(Protocol[ItemT]):
    """Where latents and text features of pairs come from.

    An item is what `fetch` gets of one image and `encode` makes a latent's moments of.
    """

    @property
    def index(self) -> PairIndex:
        """The pairs."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""

    def fetch(self, rows: IntArray) -> list[ItemT | None]:
        """Get the images of (n,) rows of the index; None: it could not be decoded."""

    def encode(self, items: list[ItemT]) -> Moments:
        """Return the moments, (n, C, h, w)."""

    def text(self, captions: IntArray) -> Tensor:
        """(n, tokens, width) features of distinct captions; the one after the last is empty."""


# --- from the cache --------------------------------------------------------------------------


class StoredMoments(NamedTuple):
    """One image's latent as the cache has it, (C, h, w) each."""

    mean: FloatArray
    std: FloatArray | None


class CachedEncodings:
    """Reads what ``nas-t2i data prepare`` has encoded; on the CPU.

    `pairs` has to be complete. Reading raises CacheError where a shard is missing or damaged.
    """

    def __init__(self, pairs: CachedPairs) -> None:
        self.index = pairs.index
        self._latents, self._text = pairs.latents, pairs.text

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        return self._latents.identity.shape

    def fetch(self, rows: IntArray) -> list[StoredMoments | None]:
        """Read the images' moments."""
        mean, std, good = read_latents(self._latents, rows)
        return [
            StoredMoments(mean[i], None if std is None else std[i]) if good[i] else None
            for i in range(len(rows))
        ]

    def encode(self, items: list[StoredMoments]) -> Moments:
        """Put moments together."""
        stds = [item.std for item in items if item.std is not None]
        return Moments(
            torch.from_numpy(np.stack([item.mean for item in items])),
            torch.from_numpy(np.stack(stds)) if stds else None,
        )

    def text(self, captions: IntArray) -> Tensor:
        """Read features."""
        return torch.from_numpy(read_text(self._text, captions))


# --- on line ---------------------------------------------------------------------------------


class OnlineEncodings:
    """Decodes and encodes at each use; the features are on the encoders' devices.

    Args:
        workers: threads that decode; 0: the caller's.
        bad: counts what can't be decoded, and stops past the declared share.
    """

    def __init__(
        self,
        index: PairIndex,
        encoder: TextEncoder,
        codec: Codec,
        *,
        resolution: int,
        workers: int,
        bad: BadSamples,
    ) -> None:
        self.index = index
        self._encoder, self._codec = encoder, codec
        self._side = resolution // codec.downsampling
        self._decoder = Decoder(index, workers)
        self._bad = bad

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        return self._codec.channels, self._side, self._side

    def fetch(self, rows: IntArray) -> list[Image | None]:
        """Decode images. Raises TooManyBadSamplesError."""
        images = list(self._decoder.read(rows.tolist(), ahead=len(rows)))
        for image in images:
            if image.pixels is None:
                self._bad.bad(self.index.name(image.row), image.problem)
            else:
                self._bad.good()
        return [None if image.pixels is None else image for image in images]

    def encode(self, items: list[Image]) -> Moments:
        """Encode images."""
        return encode_images(self._codec, items)

    def text(self, captions: IntArray) -> Tensor:
        """Encode captions, each distinct one once."""
        distinct, places = np.unique(captions, return_inverse=True)
        texts = [
            self.index.captions[row] if row < len(self.index.captions) else ""
            for row in distinct.tolist()
        ]
        return self._encoder.encode(texts)[torch.from_numpy(places)]


# --- a trial's samples -----------------------------------------------------------------------


class PairsFeed:
    """One trial's stream of pairs: each source shuffled anew for each epoch, sources by weight.

    An image that can't be decoded is replaced by that of another sample number, drawn for its
    own number. With `shuffle_captions`, a control, an image has another image's captions.
    """

    def __init__(
        self,
        encodings: Encodings[Any],
        order: Order,
        seed: int,
        *,
        shuffle_captions: bool = False,
    ) -> None:
        self._encodings, self._order, self._seed = encodings, order, seed
        self._shuffle_captions = shuffle_captions
        self._nouns = noun_counts.stored(encodings.index)
        self.latent_shape = encodings.latent_shape
        self.null_text = null_text(encodings)

    def image_noun_pairs_seen(self, count: int) -> int | None:
        """Image-noun pairs whose image is among the first `count` samples; None: not counted.

        An image that proved bad, and had another in its place, counts as it stands in the order.
        """
        if self._nouns is None:
            return None
        return sum(
            self._nouns.total(self._captioned_by(rows))
            for rows in self._order.seen(self._seed, count)
        )

    def samples(self, first: int, count: int) -> Samples:
        """Return the global samples ``first .. first + count``.

        Raises:
            TooManyBadSamplesError: too many images could not be decoded.
        """
        rows, items = self._good(first, self._order.rows(self._seed, first, count))
        mean, std = self._encodings.encode(items)
        if std is not None:
            draws = normal_rows(self._seed, "posterior", first, count, mean[0].numel())
            mean = mean + std * torch.from_numpy(draws).view(mean.shape).to(std)
        index, rows = self._encodings.index, self._captioned_by(rows)
        u, v = uniform_rows(self._seed, "caption", first, count, 2).T
        return Samples(mean, self._encodings.text(index.caption_rows(rows, u, v)))

    def held_out(self, seed: int, count: int | None = None) -> HeldOut:
        """Return pairs that no trial trains on: all, or `count` drawn among them by `seed`.

        The latents are the posterior's means; which of a pair's captions it has is a function of
        `seed`. A pair whose image can't be decoded has the next one in its place, so that their
        number stands and none of them is ever trained on.

        Raises:
            ConfigError: none of the images could be decoded.
        """
        rows = self._order.held_out_rows()
        u, v = uniform_rows(seed, "held-out caption", 0, len(rows), 2).T
        if count is not None:
            few = permute(np.arange(count), len(rows), seed, "drawn of the held out")
            rows, u, v = rows[few], u[few], v[few]
        found = self._encodings.fetch(rows)
        good = np.flatnonzero([item is not None for item in found])
        if not len(good):
            raise ConfigError("data.sources", f"none of the {len(rows)} held-out images is good")
        places = good[np.searchsorted(good, np.arange(len(rows))) % len(good)]
        items = [item for place in places if (item := found[place]) is not None]
        index = self._encodings.index
        captions = index.caption_rows(rows[places], u, v)
        samples = Samples(self._encodings.encode(items).mean, self._encodings.text(captions))
        return HeldOut(samples, [index.captions[row] for row in captions.tolist()])

    def _captioned_by(self, rows: IntArray) -> IntArray:
        """Return the rows whose captions the images of these rows have."""
        if not self._shuffle_captions:
            return rows
        return permute(rows, len(self._encodings.index), _SHUFFLE_SEED, "shuffled captions")

    def _good(self, first: int, rows: IntArray) -> tuple[IntArray, list[Any]]:
        """Return the rows of the samples ``first ..``, others in the place of bad ones."""
        found = self._encodings.fetch(rows)
        for attempt in range(_ATTEMPTS):
            bad = [place for place, item in enumerate(found) if item is None]
            if not bad:
                return rows, [item for item in found if item is not None]
            rows[bad] = [self._instead(first + place, attempt) for place in bad]
            for place, item in zip(bad, self._encodings.fetch(rows[bad]), strict=True):
                found[place] = item
        raise ConfigError(
            "data.sources", f"no good image among {_ATTEMPTS} drawn for sample {first + bad[0]}"
        )

    def _instead(self, number: int, attempt: int) -> int:
        """Return the row to try in the place of sample `number`; never a held-out one."""
        drawn = uniform_rows(self._seed, f"replacement {attempt}", number, 1, 1)[0, 0]
        return int(self._order.rows(self._seed, int(drawn * _OTHER_NUMBERS), 1)[0])


def null_text(encodings: Encodings[Any]) -> Tensor:
    """(tokens, width) features of the empty caption."""
    return encodings.text(np.array([len(encodings.index.captions)]))[0]


class PairsInputs:
    """The pairs of a budget, from its cache where it names one, else encoded on line.

    `encoder` and `codec` make the models, on line only. `shuffle_captions` is a control.

    Raises:
        ConfigError: too few pairs to hold some out and train on others.
        UserError: data or a cache that can't be used.
    """

    def __init__(
        self,
        budget: Budget,
        cache_dir: Path,
        encoder: Callable[[], TextEncoder],
        codec: Callable[[], Codec],
        *,
        shuffle_captions: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        data = budget.data
        assert isinstance(data, PairsData)
        self._encodings: Encodings[Any]
        if data.cache is not None:
            self._encodings = CachedEncodings(open_cache(budget, say))
        else:
            self._encodings = OnlineEncodings(
                open_index(data, cache_dir / "pairs", say),
                encoder(),
                codec(),
                resolution=data.resolution,
                workers=budget.execution.workers,
                bad=BadSamples(data.bad_share, say),
            )
        index = self._encodings.index
        self._order = _order(index, budget)
        self._shuffle_captions = shuffle_captions
        self.latent_shape = self._encodings.latent_shape
        self.null_text = null_text(self._encodings)
        self.training_set = noun_counts.training_set(index, self._order.held_out_rows())
        self.fingerprints = {
            "data": index.fingerprint,
            "text": budget.text.fingerprint(),
            "latents": budget.latents.fingerprint(),
        }

    def make_feed(self, seed: int) -> Feed:
        """Return the samples of the trial with this seed."""
        return PairsFeed(
            self._encodings, self._order, seed, shuffle_captions=self._shuffle_captions
        )


def _order(index: PairIndex, budget: Budget) -> Order:
    sizes = [len(rows) for rows in index.rows_of_source]
    return Order(sizes, index.weights, budget.held_out)


def check_pairs(budget: Budget, cache_dir: Path, say: Callable[[str], None]) -> None:
    """Index a budget's pairs, or check that its cache is complete; loads no model.

    Raises:
        UserError: data or a cache that can't be used, too few pairs.
    """
    index = _index(budget, cache_dir, say)
    _order(index, budget)
    noun_counts.ensure(index, say)


def pairs_fingerprint(budget: Budget, cache_dir: Path) -> str:
    """Return the fingerprint of a budget's pairs, which `check_pairs` has checked."""
    return _index(budget, cache_dir, lambda _: None).fingerprint


def _index(budget: Budget, cache_dir: Path, say: Callable[[str], None]) -> PairIndex:
    data = budget.data
    assert isinstance(data, PairsData)
    if data.cache is not None:
        return CachedEncodings(open_cache(budget, say)).index
    return open_index(data, cache_dir / "pairs", say)
