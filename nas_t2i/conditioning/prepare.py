"""Fills the cache of encoded pairs, so that trials need not encode them again and again.

Any number of processes, on one machine or on several with the folder in common, may run `prepare`
on one budget at once: each takes the next shard that is neither there nor being made. One that is
killed loses the shard it was at; the next call goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from nas_t2i.conditioning.codecs.common.images import check_images
from nas_t2i.data.cache.claims import Claims
from nas_t2i.data.cache.entries import (
    REMEDY,
    FloatArray,
    IdentityT,
    LatentRows,
    LatentsIdentity,
    Part,
    Posterior,
    TextIdentity,
    bad_rows,
    latents_identity,
    text_identity,
    unused_parts,
    write_latents,
    write_text,
)
from nas_t2i.data.cache.shards import CacheError
from nas_t2i.data.images.ahead import Decoder, Image
from nas_t2i.data.images.bad_samples import BadSamples
from nas_t2i.data.index.pairs import PairIndex, open_index
from nas_t2i.environment import cache_dir
from nas_t2i.errors import ConfigError
from nas_t2i.files import expand_path
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.conditioning import Codec, Moments, TextEncoder
from nas_t2i.protocol.data import PairsData

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]  # "captions" or "images", how many are done, of all
Item = TypeVar("Item")

_IMAGES_AT_ONCE = 64  # decoded together; while they are encoded, as many more are decoded
_CAPTIONS_AT_ONCE = 256


def _silent(*_: object) -> None:
    pass


def prepare(
    budget: Budget, *, say: Say = _silent, progress: Progress = _silent, device: str = "cpu"
) -> None:
    """Write what is missing in the cache of a budget's pairs; returns once it is complete.

    `progress` is called with "captions" or "images", how many are done, and of how many.

    Raises:
        ConfigError: the budget names no cache, or a model that can't be used.
        TooManyBadSamplesError: a greater share than data.bad_share can't be decoded.
        CacheError: an encoder gives numbers that the cache can't hold.
        StorageError: the cache's folder can't be written.
    """
    content = cached_pairs(budget, say)
    # One after the other, so that only one of the two models is in memory.
    _prepare_text(budget, content, progress, say, device)
    _prepare_latents(budget, content, progress, say, device)
    folder = content.text.cache
    for unused in unused_parts(folder, [content.text.folder, content.latents.folder]):
        say(f"cache {folder}: {unused.name} is not used by this budget")


@dataclass(frozen=True)
class Plan:
    """How large a cache is going to be."""

    pairs: int
    captions: int  # distinct ones
    latent_bytes: int
    text_bytes: int  # at most: with padding 'zero', what follows the end of a text takes no space


def plan(budget: Budget, *, say: Say = _silent) -> Plan:
    """Say how large the cache of a budget's pairs will be. Indexes the pairs, loads no model.

    Raises:
        ConfigError: the budget names no cache, or a model that can't be used.
    """
    content = cached_pairs(budget, say)
    return Plan(
        pairs=len(content.index),
        captions=len(content.index.captions),
        latent_bytes=content.latents.identity.most_bytes,
        text_bytes=content.text.identity.most_bytes,
    )


@dataclass(frozen=True)
class CachedPairs:
    """The pairs of a budget and the parts of its cache, complete or not."""

    index: PairIndex
    latents: Part[LatentsIdentity]
    text: Part[TextIdentity]


def cached_pairs(budget: Budget, say: Say) -> CachedPairs:
    """Index a budget's pairs and find out what its cache has to be; loads no model.

    Raises:
        ConfigError: the budget names no cache, or a model that can't be used.
    """
    data, folder = _pairs_and_folder(budget)
    channels, downsampling = budget.latents.geometry()
    # A slip in the codec's settings is to show now, not after hours of encoding captions.
    check_images(
        torch.empty((0, 3, data.resolution, data.resolution), dtype=torch.uint8), downsampling
    )
    side = data.resolution // downsampling
    tokens, width = budget.text.geometry()
    index = open_index(data, folder / "index", say)
    latents = latents_identity(
        pairs=index.fingerprint,
        count=len(index),
        resolution=data.resolution,
        posterior=_posterior(budget),
        codec=budget.latents.fingerprint(),
        shape=(channels, side, side),
    )
    text = text_identity(
        pairs=index.fingerprint,
        captions=len(index.captions),
        encoder=budget.text.fingerprint(),
        tokens=tokens,
        width=width,
    )
    return CachedPairs(index, Part(folder, latents), Part(folder, text))


def open_cache(budget: Budget, say: Say) -> CachedPairs:
    """Return the pairs of a budget and the parts of its cache, complete; loads no model.

    Raises:
        CacheError: the cache is missing, unfinished, or made with something else.
        ConfigError: the budget names no cache, or a model that can't be used.
    """
    _, folder = _pairs_and_folder(budget)
    if not folder.is_dir():  # said at once, and not after the pairs are indexed
        raise CacheError(f"cache {folder}: no such folder; {REMEDY}")
    content = cached_pairs(budget, say)
    content.latents.check()
    content.text.check()
    return content


def _pairs_and_folder(budget: Budget) -> tuple[PairsData, Path]:
    if not isinstance(budget.data, PairsData):
        raise ConfigError(
            f"budget {budget.name}: data.source",
            f"got {budget.data.source!r}, which is made anew at each start",
            expected="'pairs'",
        )
    if budget.data.cache is None:
        raise ConfigError(
            f"budget {budget.name}: data.cache",
            "got null: the pairs are encoded on line",
            expected="the folder of the cache",
        )
    return budget.data, expand_path(budget.data.cache, "data.cache")


def _posterior(budget: Budget) -> Posterior:
    return "sample" if budget.latents.draws else "mean"


# --- text ------------------------------------------------------------------------------------


def _prepare_text(
    budget: Budget, content: CachedPairs, progress: Progress, say: Say, device: str
) -> None:
    part = content.text
    done = _Done("captions", part.identity.count, progress)

    @cache
    def encoder() -> TextEncoder:
        return budget.text.load(cache_dir(), device)

    def make(shard: int) -> None:
        features: list[FloatArray] = []
        for rows in _batches(part.identity.rows(shard), _CAPTIONS_AT_ONCE):
            texts = [_caption(content.index, row) for row in rows]
            features += _encode_captions(encoder(), texts)
            done.add(len(rows))
        write_text(part, shard, features)

    _fill(part, make, done, say)
    part.finish({})


def _caption(index: PairIndex, row: int) -> str:
    return index.captions[row] if row < len(index.captions) else ""


def _encode_captions(encoder: TextEncoder, texts: list[str]) -> list[FloatArray]:
    """Return (tokens, width) features of each text, without the zeros after its end."""
    features = encoder.encode(texts).cpu().numpy()
    lengths = encoder.lengths(texts)
    return [row[:length] for row, length in zip(features, lengths, strict=True)]


# --- latents ---------------------------------------------------------------------------------


def _prepare_latents(
    budget: Budget, content: CachedPairs, progress: Progress, say: Say, device: str
) -> None:
    data, part, index = _pairs_and_folder(budget)[0], content.latents, content.index
    done = _Done("images", part.identity.count, progress)
    bad_samples = BadSamples(data.bad_share, say)
    decoder = Decoder(index, budget.execution.workers)

    @cache
    def codec() -> Codec:
        return budget.latents.load(device)

    def make(shard: int) -> None:
        rows, bad = part.identity.rows(shard), {}
        latents = _no_latents(part.identity, shard)
        images = decoder.read(rows, ahead=2 * _IMAGES_AT_ONCE)
        for batch in _batches(images, _IMAGES_AT_ONCE):
            for image in batch:
                if image.pixels is None:
                    bad[image.row] = image.problem
                    bad_samples.bad(index.name(image.row), image.problem)
                else:
                    bad_samples.good()
            _encode_into(latents, codec(), batch, rows.start)
            done.add(len(batch))
        write_latents(part, shard, latents, bad)

    _fill(part, make, done, say)
    part.finish(_count_bad(part, index, data.bad_share))


def _no_latents(identity: LatentsIdentity, shard: int) -> LatentRows:
    """Return a shard's rows before any image is in them."""
    count = len(identity.rows(shard))
    mean = np.zeros((count, *identity.shape), np.float32)
    std = np.zeros_like(mean) if identity.posterior == "sample" else None
    return LatentRows(mean, std, np.zeros(count, np.bool_))


def _encode_into(latents: LatentRows, codec: Codec, images: list[Image], start: int) -> None:
    """Encode the good ones of some images into their places; `start`: row of the first place."""
    good = [image for image in images if image.pixels is not None]
    if not good:
        return
    places = [image.row - start for image in good]
    mean, std = encode_images(codec, good)
    latents.good[places] = True
    latents.mean[places] = mean.cpu().numpy()
    if latents.std is not None and std is not None:
        latents.std[places] = std.cpu().numpy()


def encode_images(codec: Codec, images: list[Image]) -> Moments:
    """Return the moments of one or more good images, in their order, on the codec's device."""
    pixels = [image.pixels for image in images if image.pixels is not None]
    return codec.moments(torch.from_numpy(np.stack(pixels)))


def _count_bad(part: Part[LatentsIdentity], index: PairIndex, share: float) -> dict[str, int]:
    """Hold a part whose shards are all there, whoever made them, to the share of bad images."""
    total = BadSamples(share, _silent)
    for shard in range(part.identity.shards):
        bad = bad_rows(part, shard)
        total.good(len(part.identity.rows(shard)) - len(bad))
        for row, problem in bad.items():
            total.bad(index.name(row), problem)
    total.finish()
    return total.counts


# --- shards, by many processes ---------------------------------------------------------------


class _Done:
    """Counts the rows that are done and tells of them."""

    def __init__(self, what: str, total: int, progress: Progress) -> None:
        self._what, self._total, self._progress = what, total, progress
        self._done = 0

    def add(self, rows: int) -> None:
        self._done += rows
        self._progress(self._what, self._done, self._total)


def _fill(part: Part[IdentityT], make: Callable[[int], None], done: _Done, say: Say) -> None:
    """Have the part's missing shards made; returns when all are there, whoever made them."""
    leftovers = part.leftovers()
    missing = _missing(part, leftovers.keys(), done, say)
    with Claims(part.folder) as claims:

        def take(shard: int, wait: bool) -> bool:
            with claims.claim(shard, wait=wait) as mine:
                if not mine:
                    return False
                # Nobody else writes this shard now: whoever began these files is dead.
                for file in leftovers.get(shard, []):
                    file.unlink(missing_ok=True)
                if part.is_sound(shard):
                    done.add(len(part.identity.rows(shard)))
                else:
                    make(shard)
            return True

        taken_by_others = [shard for shard in missing if not take(shard, wait=False)]
        # Each is there once its process lets go of it, unless that process was killed.
        for shard in taken_by_others:
            take(shard, wait=True)


def _missing(part: Part[IdentityT], leftovers: Collection[int], done: _Done, say: Say) -> list[int]:
    """Return the shards to look after; count the others as done."""
    present, missing = set(part.present()), []
    for shard in range(part.identity.shards):
        sound = shard in present and part.is_sound(shard)
        if sound and shard not in leftovers:
            done.add(len(part.identity.rows(shard)))
            continue
        missing.append(shard)
        if shard in present and not sound:
            say(f"{part.file(shard)}: a damaged shard; it is made again")
    return missing


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
