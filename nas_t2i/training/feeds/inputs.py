"""What every trial of a budget is made of besides its denoiser: pairs, text encoder, codec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from nas_t2i.conditioning.codecs.pixel_unshuffle import PixelUnshuffle
from nas_t2i.data.embedded import shapes
from nas_t2i.data.embedded.training_set import training_set
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.conditioning import Codec, TextEncoder
from nas_t2i.protocol.data import PairsData, ShapesData
from nas_t2i.training.feeds.pairs import PairsInputs, check_pairs, pairs_fingerprint
from nas_t2i.training.feeds.samples import Feed
from nas_t2i.training.feeds.shapes import ShapesFeed, encode_shapes


@dataclass(frozen=True)
class Geometry:
    """The shapes that a denoiser sees."""

    channels: int  # of a latent
    size: int  # side of a square latent
    tokens: int  # of an encoded caption
    text_width: int  # features of a token


def latent_geometry(budget: Budget) -> Geometry:
    """Return the shapes of a budget's latents and text, without making any.

    Raises:
        ConfigError: a model of the budget is missing, or its latents don't fit the resolution.
    """
    channels, downsampling = budget.latents.geometry()
    side = shapes.SIZE if isinstance(budget.data, ShapesData) else budget.data.resolution
    tokens, width = budget.text.geometry()
    return Geometry(channels, side // downsampling, tokens, width)


def may_be_shared(budget: Budget) -> bool:
    """Whether processes that are forked from one may share what it made of a budget.

    Pairs from files are opened by each: descriptors and reading threads are its own. What lies on a
    device can't be shared.
    """
    on_cpu = budget.text.EMBEDDED and isinstance(budget.latents, PixelUnshuffle)
    return isinstance(budget.data, ShapesData) and (budget.training.device == "cpu" or on_cpu)


class Inputs:
    """What a budget's trials are made of; a model is loaded when it is first asked for.

    Training from a cache needs none of them, and no large one should take a device's memory for
    nothing.

    Raises:
        UserError: data, models or a cache that can't be used.
    """

    def __init__(
        self,
        budget: Budget,
        cache_dir: Path,
        *,
        shuffle_captions: bool = False,
        device: str = "cpu",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`shuffle_captions` is a control: every image gets another image's caption."""
        self._budget, self.cache_dir, self.device = budget, cache_dir, device
        data = budget.data
        if isinstance(data, PairsData):
            pairs = PairsInputs(
                budget,
                cache_dir,
                lambda: self.encoder,
                lambda: self.codec,
                shuffle_captions=shuffle_captions,
                say=say,
            )
            self._make_feed: Callable[[int], Feed] = pairs.make_feed
            self.latent_shape, self.null_text = pairs.latent_shape, pairs.null_text
            self.fingerprints, self.training_set = pairs.fingerprints, pairs.training_set
            return
        encoded = encode_shapes(
            data,
            self.encoder,
            self.codec,
            held_out=budget.held_out,
            shuffle_captions=shuffle_captions,
        )
        training = budget.training
        self._make_feed = partial(
            ShapesFeed,
            encoded,
            batch=training.batch,
            curriculum_steps=data.curriculum * training.steps,
        )
        self.latent_shape, self.null_text = self.make_feed(0).latent_shape, encoded.null_text
        self.training_set = training_set(data)
        self.fingerprints = {
            "data": "shapes",
            "text": self.encoder.fingerprint,
            "latents": self.codec.fingerprint,
        }

    @cached_property
    def encoder(self) -> TextEncoder:
        """The frozen text encoder."""
        return self._budget.text.load(self.cache_dir, self.device)

    @cached_property
    def codec(self) -> Codec:
        """The frozen latent codec."""
        return self._budget.latents.load(self.device)

    def make_feed(self, seed: int) -> Feed:
        """Return the stream of samples of the trial with this seed."""
        return self._make_feed(seed)


def input_fingerprints(budget: Budget, cache_dir: Path) -> dict[str, str]:
    """Return the `Inputs.fingerprints` of a budget's trials; no model is loaded.

    Raises:
        UserError: data, models or a cache that can't be used.
    """
    data = budget.data
    return {
        "data": data.source
        if isinstance(data, ShapesData)
        else pairs_fingerprint(budget, cache_dir),
        "text": budget.text.fingerprint(),
        "latents": budget.latents.fingerprint(),
    }


def check_inputs(budget: Budget, cache_dir: Path, say: Callable[[str], None]) -> None:
    """Make what the trials of a budget share, once, and check that it can be used.

    Raises:
        UserError: data, models or a cache that can't be used.
    """
    latent_geometry(budget)
    budget.text.check(cache_dir)
    if isinstance(budget.data, PairsData):
        check_pairs(budget, cache_dir, say)
