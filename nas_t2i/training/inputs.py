"""What every trial of a budget trains on: latents, text features, and the order they come in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas_t2i.conditioning.latents import Codec, PixelUnshuffle
from nas_t2i.conditioning.shapes_text import (
    TOKENS,
    ShapesTextEncoder,
    TextSettings,
    load_or_train,
)
from nas_t2i.data import shapes
from nas_t2i.protocol.budget import Budget
from nas_t2i.streams import derive_seed, uniform_rows

_DATA_SEED = 0  # the embedded data set is one data set, whatever a trial's seed
_OPENING = 0.1  # share of the scenes, easiest first, that a curriculum starts with


@dataclass(frozen=True)
class Inputs:
    """Encoded pairs, easiest first, and the frozen parts that made them."""

    latents: Tensor  # (pairs, C, h, w) float32
    text: Tensor  # (distinct captions, tokens, width) float32
    caption_of: Tensor  # (pairs,) int64, row of `text`
    null_text: Tensor  # (tokens, width), the empty caption
    encoder: ShapesTextEncoder
    codec: Codec

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        channels, height, width = self.latents.shape[1:]
        return channels, height, width


def make_codec(budget: Budget) -> Codec:
    """Return the budget's latent codec."""
    return PixelUnshuffle(budget.latents.factor, shapes.BACKGROUND, budget.latents.scale)


def make_encoder(budget: Budget, cache_dir: Path) -> ShapesTextEncoder:
    """Return the budget's frozen text encoder, trained once and cached."""
    text = budget.text
    settings = TextSettings(width=text.width, steps=text.steps, seed=text.seed)
    return load_or_train(cache_dir, settings)


@dataclass(frozen=True)
class Geometry:
    """The shapes that a denoiser sees."""

    channels: int  # of a latent
    size: int  # side of a square latent
    tokens: int  # of an encoded caption


def latent_geometry(budget: Budget) -> Geometry:
    """Return the shapes of a budget's latents and text, without making any."""
    codec = make_codec(budget)
    return Geometry(codec.channels, shapes.SIZE // codec.downsampling, TOKENS)


def mixture(budget: Budget) -> shapes.Mixture:
    """Return the budget's mixture of scene kinds."""
    return shapes.Mixture(budget.data.two_objects, budget.data.two_groups)


def make_inputs(budget: Budget, cache_dir: Path, *, shuffle_captions: bool = False) -> Inputs:
    """Render, caption and encode the training set of `budget`.

    `shuffle_captions` is a control: every picture gets another picture's caption, so that nothing
    can be learnt from the text.
    """
    scenes = shapes.sample_scenes(_DATA_SEED, "train", budget.data.scenes, mixture=mixture(budget))
    scenes = scenes.take(np.argsort(scenes.difficulty, kind="stable"))
    captions = shapes.captions(scenes)
    if shuffle_captions:
        generator = np.random.default_rng(derive_seed(_DATA_SEED, "shuffled captions"))
        captions = [captions[i] for i in generator.permutation(len(captions))]
    distinct = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
    codec, encoder = make_codec(budget), make_encoder(budget, cache_dir)
    pictures = torch.from_numpy(shapes.render(scenes)).permute(0, 3, 1, 2).contiguous()
    return Inputs(
        latents=codec.encode(pictures),
        text=encoder.encode(list(distinct)),
        caption_of=torch.tensor([distinct[caption] for caption in captions]),
        null_text=encoder.encode([""])[0],
        encoder=encoder,
        codec=codec,
    )


def draw_pairs(budget: Budget, seed: int, step: int, pairs: int) -> Tensor:
    """Rows of the pairs of optimiser step `step`, (batch,) int64: drawn with replacement.

    With a curriculum, the share of the scenes that may be drawn opens linearly, easiest first.
    """
    batch, curriculum = budget.training.batch, budget.data.curriculum
    open_share = 1.0
    if curriculum:
        progress = step / (curriculum * budget.training.steps)
        open_share = min(1.0, _OPENING + (1.0 - _OPENING) * progress)
    draws = uniform_rows(seed, "order", step * batch, batch, 1)[:, 0]
    return torch.from_numpy((draws * pairs * open_share).astype(np.int64))
