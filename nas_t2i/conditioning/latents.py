"""Latent codecs: pictures to the tensors a denoiser works on, and back.

A codec has the attributes ``channels`` and ``downsampling`` and the methods ``encode`` and
``decode``; `Codec` is that contract, which a learned autoencoder can meet as well.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Codec(Protocol):
    """What the rest of the program asks of a codec."""

    @property
    def channels(self) -> int:
        """Latent channels."""

    @property
    def downsampling(self) -> int:
        """Picture side over latent side."""

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 pictures to (N, channels, H / downsampling, W / ...) float32."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to (N, 3, H, W) uint8 pictures."""


class PixelUnshuffle:
    """Lossless: each square of pixels becomes one latent position with all their values.

    The background colour is subtracted, so that an empty picture is zero, and one unit of latent
    is ``127.5 / scale`` grey levels.
    """

    def __init__(
        self,
        factor: int = 2,
        background: tuple[int, int, int] = (0, 0, 0),
        scale: float = 1.0,
    ) -> None:
        if factor < 1 or scale <= 0:
            raise ValueError(f"factor must be >= 1 and scale > 0, got {factor} and {scale}")
        self.factor = factor
        self.scale = scale
        self._background = torch.tensor(background, dtype=torch.float32).view(1, 3, 1, 1)

    @property
    def channels(self) -> int:
        """Latent channels."""
        return 3 * self.factor**2

    @property
    def downsampling(self) -> int:
        """Picture side over latent side."""
        return self.factor

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 to (N, 3 f^2, H / f, W / f) float32."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"expected (N, 3, H, W) uint8 pictures, got {tuple(images.shape)} {images.dtype}"
            )
        background = self._background.to(images.device)
        centered = (images.to(torch.float32) - background) * (self.scale / 127.5)
        return functional.pixel_unshuffle(centered, self.factor)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, 3 f^2, h, w) float to (N, 3, h f, w f) uint8, clipped."""
        centered = functional.pixel_shuffle(latents.to(torch.float32), self.factor)
        background = self._background.to(latents.device)
        return (centered * (127.5 / self.scale) + background).round().clamp(0, 255).to(torch.uint8)
