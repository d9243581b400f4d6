"""The store of encoded pairs: what it was made with, how it lies on disk, how rows are read.

A cache folder holds parts side by side, each in a folder named by a hash of its identity::

    CACHE/latents-<key>/   of every kept pair: whether its image is good, mean (and std) of its
                           latents
    CACHE/text-<key>/      of every distinct caption, and last of the empty one: its tokens without
                           padding

so that a change of the text encoder leaves the latents valid, and two budgets may share a folder.
A part is cut into shards, ``000000.safetensors`` on, each written whole or not at all;
``cache.json`` is written last and says that all are there.

Numbers are float16: 11 significant bits, where bfloat16 has 8. Latents in scaled units and text
features after a final norm are far from its largest value, 65504; a number beyond it is an error,
never an infinity.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from nas_t2i.data.cache.shards import CacheError, Layout, ShardFile, to_half, write_shard
from nas_t2i.errors import RecordError
from nas_t2i.files import json_object, read_bytes, validated, write_json

RECORD = "cache.json"
IMAGES_PER_SHARD = 1024
CAPTIONS_PER_SHARD = 4096
SHARD_BYTES = 256 * 2**20  # a shard is made in memory: where rows are wide, it has fewer

_VERSION = 1  # of the layout
REMEDY = "run: nas-t2i data prepare BUDGET"

Posterior = Literal["sample", "mean"]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


# --- identity --------------------------------------------------------------------------------


class _Identity(BaseModel):
    """What the content of a part depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    pairs: str  # fingerprint of the pair index
    count: int  # rows
    shard_rows: int  # of every shard but the last

    @property
    def key(self) -> str:
        """A hash that names the part's folder."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def shards(self) -> int:
        """How many files the part has."""
        return math.ceil(self.count / self.shard_rows)

    def rows(self, shard: int) -> range:
        """Return the rows of a shard."""
        start = shard * self.shard_rows
        return range(start, min(start + self.shard_rows, self.count))


class LatentsIdentity(_Identity):
    """Latents of images, a row a kept pair."""

    part: Literal["latents"] = "latents"
    codec: str  # fingerprint
    posterior: Posterior  # the standard deviation is kept for 'sample' only
    resolution: int
    shape: tuple[int, int, int]  # (C, h, w)

    @property
    def most_bytes(self) -> int:
        """How much disk its numbers take."""
        return self.count * _latents_bytes(self.shape, self.posterior)

    def layout(self, shard: int) -> dict[str, Layout]:
        """Return the tensors of a shard."""
        count = len(self.rows(shard))
        moments = Layout("F16", (count, *self.shape))
        layout = {"good": Layout("BOOL", (count,)), "mean": moments}
        return layout | {"std": moments} if self.posterior == "sample" else layout


class TextIdentity(_Identity):
    """Features of captions, a row a distinct caption; the last row is the empty caption."""

    part: Literal["text"] = "text"
    encoder: str  # fingerprint
    tokens: int
    width: int

    @property
    def most_bytes(self) -> int:
        """How much disk its numbers take, where no text is shorter than the encoder's longest."""
        return self.count * _text_bytes(self.tokens, self.width)

    def layout(self, shard: int) -> dict[str, Layout]:
        """Return the tensors of a shard."""
        return {
            "offsets": Layout("I64", (len(self.rows(shard)) + 1,)),
            "tokens": Layout("F16", (-1, self.width)),
        }


# How a message names what a part was made with, in the order in which a difference is looked for.
_WORDS = {
    "pairs": "from the pairs",
    "resolution": "at the resolution",
    "posterior": "for the posterior",
    "codec": "with the codec",
    "encoder": "with the text encoder",
}


def latents_identity(
    *,
    pairs: str,
    count: int,
    codec: str,
    posterior: Posterior,
    resolution: int,
    shape: tuple[int, int, int],
) -> LatentsIdentity:
    """Return the identity of the latents of `count` pairs; `pairs`, `codec`: fingerprints."""
    return LatentsIdentity(
        version=_VERSION,
        pairs=pairs,
        count=count,
        shard_rows=_shard_rows(_latents_bytes(shape, posterior), IMAGES_PER_SHARD),
        codec=codec,
        posterior=posterior,
        resolution=resolution,
        shape=shape,
    )


def text_identity(
    *, pairs: str, captions: int, encoder: str, tokens: int, width: int
) -> TextIdentity:
    """Return the identity of the features of so many captions and of the empty one."""
    return TextIdentity(
        version=_VERSION,
        pairs=pairs,
        count=captions + 1,
        shard_rows=_shard_rows(_text_bytes(tokens, width), CAPTIONS_PER_SHARD),
        encoder=encoder,
        tokens=tokens,
        width=width,
    )


def _latents_bytes(shape: tuple[int, int, int], posterior: Posterior) -> int:
    return 2 * math.prod(shape) * (2 if posterior == "sample" else 1)


def _text_bytes(tokens: int, width: int) -> int:
    return 2 * tokens * width


def _shard_rows(row_bytes: int, most: int) -> int:
    return max(1, min(most, SHARD_BYTES // row_bytes))


IdentityT = TypeVar("IdentityT", LatentsIdentity, TextIdentity)


# --- a part of a cache -----------------------------------------------------------------------


class _Record(BaseModel):
    """What ``cache.json`` says of a part that is complete."""

    model_config = ConfigDict(extra="forbid")

    identity: LatentsIdentity | TextIdentity
    bad: dict[str, int]  # reason -> images that could not be decoded


@dataclass(frozen=True)
class Part(Generic[IdentityT]):
    """One part of a cache, complete or not."""

    cache: Path
    identity: IdentityT

    @property
    def folder(self) -> Path:
        """Where its shards lie."""
        return self.cache / f"{self.identity.part}-{self.identity.key}"

    def file(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"{shard:06d}.safetensors"

    def open(self, shard: int) -> ShardFile:
        """Return a shard, to be entered and read. Entering it raises CacheError."""
        return ShardFile(self.file(shard), self.identity.layout(shard))

    def present(self) -> list[int]:
        """Return the numbers of the shards that are there, as far as their names tell."""
        try:
            names = {entry.name for entry in os.scandir(self.folder)}
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CacheError(f"{self.folder}: can't be read: {error.strerror}") from None
        return [n for n in range(self.identity.shards) if self.file(n).name in names]

    def leftovers(self) -> dict[int, list[Path]]:
        """Return files that writers have begun: some live, some were killed. By shard."""
        found: dict[int, list[Path]] = {}
        for file in self.folder.glob(".[0-9]*.safetensors.*"):
            number = file.name[1:].partition(".")[0]
            if number.isdecimal():
                found.setdefault(int(number), []).append(file)
        return found

    def is_sound(self, shard: int) -> bool:
        """Say whether a shard is there and whole, by its header and its size."""
        try:
            with self.open(shard):
                return True
        except CacheError:
            return False

    def finish(self, bad: dict[str, int]) -> None:
        """Declare the part complete: all shards are there. `bad`: reason -> images.

        Raises:
            StorageError: the record can't be written.
        """
        write_json(self.folder / RECORD, _Record(identity=self.identity, bad=bad))

    def check(self) -> None:
        """Make sure that the part is complete.

        Raises:
            CacheError: it is not; says how far it is, or what else is there instead.
        """
        present, shards = len(self.present()), self.identity.shards
        if present == shards and (self.folder / RECORD).exists():
            return
        name = self.identity.part
        if self.folder.exists():
            raise CacheError(
                f"cache {self.cache}: unfinished: {present} of {shards} shards of {name} are "
                f"there; {REMEDY}"
            )
        others = [_read_record(f) for f in sorted(self.cache.glob(f"{name}-*/{RECORD}"))]
        if not others:
            raise CacheError(f"cache {self.cache}: no {name} are there; {REMEDY}")
        nearest = min(others, key=lambda other: len(self._differences(other)))
        raise CacheError(
            f"cache {self.cache}: {name} made {self._difference(nearest)}; {REMEDY}, or name "
            "another folder as data.cache"
        )

    def _differences(self, other: LatentsIdentity | TextIdentity) -> list[str]:
        there, here = other.model_dump(), self.identity.model_dump()
        return [name for name in _WORDS if there.get(name) != here.get(name)]

    def _difference(self, other: LatentsIdentity | TextIdentity) -> str:
        differences = self._differences(other)
        if not differences:
            return f"by another release of nas-t2i (layout {other.version}, this one: {_VERSION})"
        name = differences[0]
        there, here = getattr(other, name), getattr(self.identity, name)
        return f"{_WORDS[name]} {there}, the budget asks for {here}"


def unused_parts(cache: Path, used: Sequence[Path]) -> list[Path]:
    """Return the parts' folders in a cache that are none of the `used` ones."""
    found = {folder for kind in ("latents", "text") for folder in cache.glob(f"{kind}-*")}
    return sorted(found - set(used))


def _read_record(file: Path) -> LatentsIdentity | TextIdentity:
    try:
        return validated(json_object(read_bytes(file), file), _Record, file).identity
    except RecordError as error:
        raise CacheError(str(error)) from None


# --- rows ------------------------------------------------------------------------------------


class LatentRows(NamedTuple):
    """Stored moments of n images, in scaled latent units."""

    mean: FloatArray  # (n, C, h, w); zeros where the image is bad
    std: FloatArray | None  # the same, where the posterior is sampled
    good: npt.NDArray[np.bool_]  # (n,): the image could be decoded


def write_latents(
    part: Part[LatentsIdentity], shard: int, latents: LatentRows, bad: dict[int, str]
) -> None:
    """Write a shard of latents, atomically, with the reason of each of the part's bad rows in it.

    Raises:
        CacheError: a number that float16 can't hold.
        StorageError: the file can't be written.
    """
    what = f"{part.identity.codec}: latents"
    tensors = {"good": latents.good, "mean": to_half(latents.mean, what)}
    if latents.std is not None:
        tensors["std"] = to_half(latents.std, what)
    write_shard(part.file(shard), tensors, bad)


def read_latents(part: Part[LatentsIdentity], rows: IntArray) -> LatentRows:
    """Read (n,) rows, in any order. Raises CacheError."""
    shape = (len(rows), *part.identity.shape)
    mean, good = np.empty(shape, np.float32), np.empty(len(rows), np.bool_)
    std = np.empty(shape, np.float32) if part.identity.posterior == "sample" else None
    for shard, places in _by_shard(part.identity, rows):
        with part.open(shard) as file:
            for place in places:
                row = int(rows[place]) - part.identity.rows(shard).start
                mean[place] = file.rows("mean", row, row + 1)[0]
                good[place] = file.rows("good", row, row + 1)[0]
                if std is not None:
                    std[place] = file.rows("std", row, row + 1)[0]
    return LatentRows(mean, std, good)


def bad_rows(part: Part[LatentsIdentity], shard: int) -> dict[int, str]:
    """Return a shard's rows whose images could not be decoded, and why. Raises CacheError."""
    with part.open(shard) as file:
        return file.note


def write_text(part: Part[TextIdentity], shard: int, features: Sequence[FloatArray]) -> None:
    """Write a shard of text, atomically: (tokens, width) of each caption, without its padding.

    Raises:
        CacheError: a number that float16 can't hold.
        StorageError: the file can't be written.
    """
    offsets = np.cumsum([0, *map(len, features)], dtype=np.int64)
    tokens = to_half(np.concatenate(features), f"{part.identity.encoder}: text features")
    write_shard(part.file(shard), {"offsets": offsets, "tokens": tokens}, {})


def read_text(part: Part[TextIdentity], rows: IntArray) -> FloatArray:
    """Read (n, tokens, width) features of (n,) rows, zeros after their ends. Raises CacheError."""
    identity = part.identity
    features = np.zeros((len(rows), identity.tokens, identity.width), np.float32)
    for shard, places in _by_shard(identity, rows):
        with part.open(shard) as file:
            for place in places:
                row = int(rows[place]) - identity.rows(shard).start
                start, stop = map(int, file.rows("offsets", row, row + 2))
                tokens = file.rows("tokens", start, min(stop, start + identity.tokens))
                features[place, : len(tokens)] = tokens
    return features


def _by_shard(
    identity: LatentsIdentity | TextIdentity, rows: IntArray
) -> Iterator[tuple[int, IntArray]]:
    """Yield each shard that holds some of the rows, and their places: it is opened once."""
    shards = rows // identity.shard_rows
    order = np.argsort(shards, kind="stable")
    found, begin = np.unique(shards[order], return_index=True)
    # Of no rows, `split` makes one empty piece and there is no shard to go with it.
    yield from zip(found.tolist(), np.split(order, begin[1:]), strict=False)
