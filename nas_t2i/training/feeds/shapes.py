"""The embedded data set as training reads it: rendered and encoded once, held in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas_t2i.data.embedded import shapes
from nas_t2i.protocol.conditioning import Codec, TextEncoder
from nas_t2i.protocol.data import ShapesData
from nas_t2i.streams import derive_seed, uniform_rows
from nas_t2i.training.feeds.samples import Samples

_DATA_SEED = 0  # the embedded data set is one data set, whatever a trial's seed
_OPENING = 0.1  # share of the scenes, easiest first, that a curriculum starts with


@dataclass(frozen=True)
class EncodedShapes:
    """The data set's pairs, easiest first."""

    latents: Tensor  # (pairs, C, h, w) float32
    text: Tensor  # (distinct captions, tokens, width) float32
    caption_of: Tensor  # (pairs,) int64, row of `text`
    null_text: Tensor  # (tokens, width), the empty caption


def encode_shapes(
    data: ShapesData, encoder: TextEncoder, codec: Codec, *, shuffle_captions: bool = False
) -> EncodedShapes:
    """Render, caption and encode the training set.

    `shuffle_captions` is a control: every image gets another image's caption, so that nothing
    can be learnt from the text.
    """
    scenes = shapes.sample_scenes(_DATA_SEED, "train", data.scenes, mixture=mixture(data))
    scenes = scenes.take(np.argsort(scenes.difficulty, kind="stable"))
    captions = shapes.captions(scenes)
    if shuffle_captions:
        generator = np.random.default_rng(derive_seed(_DATA_SEED, "shuffled captions"))
        captions = [captions[i] for i in generator.permutation(len(captions))]
    distinct = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    images = torch.from_numpy(shapes.render(scenes)).permute(0, 3, 1, 2).contiguous()
    return EncodedShapes(
        latents=codec.moments(images).mean,
        text=encoder.encode(list(distinct)),
        caption_of=torch.tensor([distinct[caption] for caption in captions]),
        null_text=encoder.encode([""])[0],
    )


def mixture(data: ShapesData) -> shapes.Mixture:
    """Return the data set's mixture of scene kinds."""
    return shapes.Mixture(data.two_objects, data.two_groups)


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

    def samples(self, first: int, count: int) -> Samples:
        """Return the global samples ``first .. first + count``."""
        rows = self.rows(first, count)
        return Samples(self._pairs.latents[rows], self._pairs.text[self._pairs.caption_of[rows]])

    def held_out(self, seed: int) -> tuple[Samples, list[str]]:
        """Nothing is held out: a budget of shapes is scored on drawn images."""
        raise NotImplementedError("the embedded data set holds no pairs out")
