"""Lossless latents: each square of pixels becomes one latent position with all their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from nas_t2i.conditioning.codecs.common.images import check_images
from nas_t2i.data.embedded.shapes import BACKGROUND
from nas_t2i.protocol.conditioning import CodecSettings, Moments


class PixelUnshuffle(CodecSettings):
    """Lossless latents: factor x factor pixels become channels."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"factor": 2, "scale": 1.0}

    codec: Literal["pixel_unshuffle"]
    factor: int = Field(ge=1, description="down-sampling per side")
    scale: float = Field(gt=0, description="latent units per 127.5 grey levels")

    def geometry(self) -> tuple[int, int]:
        """Return (latent channels, down-sampling per side)."""
        return 3 * self.factor**2, self.factor

    def fingerprint(self) -> str:
        """Return the codec's fingerprint."""
        return self.load().fingerprint

    def load(self, device: str = "cpu") -> PixelUnshuffleCodec:  # noqa: ARG002  where its input is
        """Return the codec."""
        return PixelUnshuffleCodec(self.factor, BACKGROUND, self.scale)


class PixelUnshuffleCodec:
    """Lossless: each square of pixels becomes one latent position with all their values.

    The background colour is subtracted, so that an empty image is zero, and one unit of latent
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
        self.fingerprint = f"pixel_unshuffle-{factor}-{scale!r}-" + "-".join(map(str, background))
        self._background = torch.tensor(background, dtype=torch.float32).view(1, 3, 1, 1)

    @property
    def channels(self) -> int:
        """Latent channels."""
        return 3 * self.factor**2

    @property
    def downsampling(self) -> int:
        """Image side over latent side."""
        return self.factor

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 to (N, 3 f^2, H / f, W / f) float32."""
        check_images(images, self.factor)
        background = self._background.to(images.device)
        centered = (images.to(torch.float32) - background) * (self.scale / 127.5)
        return functional.pixel_unshuffle(centered, self.factor)

    def moments(self, images: Tensor) -> Moments:
        """Encode images; nothing is drawn."""
        return Moments(self.encode(images), None)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, 3 f^2, h, w) float to (N, 3, h f, w f) uint8, clipped."""
        centered = functional.pixel_shuffle(latents.to(torch.float32), self.factor)
        background = self._background.to(latents.device)
        return (centered * (127.5 / self.scale) + background).round().clamp(0, 255).to(torch.uint8)
