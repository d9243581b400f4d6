"""What the training loop reads: pairs of latent and text features, by their global number."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Samples(NamedTuple):
    """Encoded pairs, float32, on the CPU or on the encoders' device."""

    x0: Tensor  # (n, C, h, w)
    text: Tensor  # (n, tokens, width)


class HeldOut(NamedTuple):
    """Pairs that no trial trains on."""

    samples: Samples
    captions: list[str]


class Feed(Protocol):
    """The samples of one trial: number n is a pure function of the trial's seed and of n."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""

    @property
    def null_text(self) -> Tensor:
        """(tokens, width) features of the empty caption."""

    def image_noun_pairs_seen(self, count: int) -> int | None:
        """Image-noun pairs whose image is among the first `count` samples; None: not counted."""

    def samples(self, first: int, count: int) -> Samples:
        """Return the global samples ``first .. first + count``."""

    def held_out(self, seed: int, count: int | None = None) -> HeldOut:
        """Return pairs that no trial trains on: all, or `count` drawn among them by `seed`."""
