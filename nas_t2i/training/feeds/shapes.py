"""The embedded data set as training reads it: rendered and encoded once, held in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas_t2i.data.embedded import shapes
from nas_t2i.data.embedded.training_set import DATA_SEED, mixture
from nas_t2i.data.order import permute
from nas_t2i.errors import ConfigError
from nas_t2i.protocol.conditioning import Codec, TextEncoder
from nas_t2i.protocol.data import ShapesData
from nas_t2i.streams import derive_seed, uniform_rows
from nas_t2i.training.feeds.samples import HeldOut, Samples

_PIECE = 1 << 20  # samples whose rows are worked out at once
_TRIES = 64  # that many scenes are drawn for each that is held out, at most
_OPENING = 0.1  # share of the scenes, easiest first, that a curriculum starts with

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EncodedShapes:
    """The data set's pairs, easiest first."""

    latents: Tensor  # (pairs, C, h, w) float32
    text: Tensor  # (distinct captions, tokens, width) float32
    caption_of: Tensor  # (pairs,) int64, row of `text`
    nouns: IntArray  # (pairs,) different nouns of each caption
    null_text: Tensor  # (tokens, width), the empty caption
    held_out: HeldOut  # in the order of their draw


def encode_shapes(
    data: ShapesData,
    encoder: TextEncoder,
    codec: Codec,
    *,
    held_out: int = 0,
    shuffle_captions: bool = False,
) -> EncodedShapes:
    """Render, caption and encode the training set, and so many scenes that are held out of it.

    `shuffle_captions` is a control: every image gets another image's caption, so that nothing
    can be learnt from the text. Held-out scenes keep their own.

    Raises:
        ConfigError: there are too few scenes outside the training set.
    """
    scenes = shapes.sample_scenes(DATA_SEED, "train", data.scenes, mixture=mixture(data))
    scenes = scenes.take(np.argsort(scenes.difficulty, kind="stable"))
    captions, nouns = shapes.captions(scenes), shapes.nouns(scenes)
    rendered = shapes.render(scenes)
    other_scenes = _held_out_scenes(data, held_out, set(_pixels(rendered)))
    if shuffle_captions:
        generator = np.random.default_rng(derive_seed(DATA_SEED, "shuffled captions"))
        others = generator.permutation(len(captions))
        captions, nouns = [captions[i] for i in others], nouns[others]
    distinct = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    return EncodedShapes(
        latents=_latents(rendered, codec),
        text=encoder.encode(list(distinct)),
        caption_of=torch.tensor([distinct[caption] for caption in captions]),
        nouns=nouns,
        null_text=encoder.encode([""])[0],
        held_out=_encoded(other_scenes, encoder, codec),
    )


def _held_out_scenes(data: ShapesData, count: int, trained: set[bytes]) -> shapes.Scenes:
    """Return `count` scenes of their own stream, none of whose images is `trained` on.

    Many simple scenes are: of what is drawn, those are passed over.
    """
    drawn = count
    while True:
        scenes = shapes.sample_scenes(DATA_SEED, "held out", drawn, mixture=mixture(data))
        others = np.flatnonzero([p not in trained for p in _pixels(shapes.render(scenes))])
        if len(others) >= count:
            return scenes.take(others[:count])
        if drawn >= count * _TRIES:
            raise ConfigError(
                "data.scenes",
                f"got {data.scenes}, among which are all but {len(others)} of {drawn} further "
                "scenes",
                expected=f"fewer, so that {count} can be held out, or signals: null",
            )
        drawn *= 2


def _pixels(images: shapes.Images) -> list[bytes]:
    return [image.tobytes() for image in images]


def _latents(images: shapes.Images, codec: Codec) -> Tensor:
    return codec.moments(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()).mean


def _encoded(scenes: shapes.Scenes, encoder: TextEncoder, codec: Codec) -> HeldOut:
    captions = shapes.captions(scenes)
    text = encoder.encode(captions or [""])[: len(captions)]
    return HeldOut(Samples(_latents(shapes.render(scenes), codec), text), captions)


class ShapesFeed:
    """One trial's stream of the embedded pairs: drawn with replacement, in an order of its seed."""

    def __init__(
        self, pairs: EncodedShapes, seed: int, *, batch: int, curriculum_steps: float
    ) -> None:
        self._pairs, self._seed = pairs, seed
        self._batch, self._curriculum_steps = batch, curriculum_steps

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        channels, height, width = self._pairs.latents.shape[1:]
        return channels, height, width

    @property
    def null_text(self) -> Tensor:
        """(tokens, width) features of the empty caption."""
        return self._pairs.null_text

    def rows(self, first: int, count: int) -> Tensor:
        """(count,) int64 rows of the samples ``first ..``.

        With a curriculum, the share of the scenes that may be drawn opens linearly with the
        optimiser steps, easiest first.
        """
        open_share: np.ndarray | float = 1.0
        if self._curriculum_steps:
            steps = (first + np.arange(count)) // self._batch
            progress = steps / self._curriculum_steps
            open_share = np.minimum(1.0, _OPENING + (1.0 - _OPENING) * progress)
        draws = uniform_rows(self._seed, "order", first, count, 1)[:, 0]
        return torch.from_numpy((draws * len(self._pairs.latents) * open_share).astype(np.int64))

    def image_noun_pairs_seen(self, count: int) -> int:
        """Image-noun pairs whose image is among the first `count` samples."""
        seen = np.zeros(len(self._pairs.nouns), dtype=bool)
        for start in range(0, count, _PIECE):
            seen[self.rows(start, min(_PIECE, count - start)).numpy()] = True
        return int(self._pairs.nouns[seen].sum())

    def samples(self, first: int, count: int) -> Samples:
        """Return the global samples ``first .. first + count``."""
        rows = self.rows(first, count)
        return Samples(self._pairs.latents[rows], self._pairs.text[self._pairs.caption_of[rows]])

    def held_out(self, seed: int, count: int | None = None) -> HeldOut:
        """Return scenes that no trial trains on: all, or `count` drawn among them by `seed`."""
        samples, captions = self._pairs.held_out
        if count is None:
            return self._pairs.held_out
        rows = permute(np.arange(count), len(captions), seed, "drawn of the held out")
        chosen = torch.from_numpy(rows)
        return HeldOut(
            Samples(samples.x0[chosen], samples.text[chosen]), [captions[row] for row in rows]
        )
