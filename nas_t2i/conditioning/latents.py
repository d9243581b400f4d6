"""Latent codecs: images to the tensors a denoiser works on, and back.

`Codec` is what the rest of the program asks of one, `make_codec` makes the one that a budget names.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nas_t2i.data.embedded.shapes import BACKGROUND
from nas_t2i.errors import ConfigError
from nas_t2i.protocol.budget import AutoencoderKL
from nas_t2i.protocol.budget import PixelUnshuffle as PixelUnshuffleSettings

CodecSettings = PixelUnshuffleSettings | AutoencoderKL


class Moments(NamedTuple):
    """What an image's latent is drawn from, in scaled units: (N, C, h, w) float32 each."""

    mean: Tensor
    std: Tensor | None  # None: the latent is the mean


class Codec(Protocol):
    """What the rest of the program asks of a codec."""

    @property
    def channels(self) -> int:
        """Latent channels."""

    @property
    def downsampling(self) -> int:
        """Image side over latent side."""

    @property
    def fingerprint(self) -> str:
        """What the latents depend on: equal fingerprints, equal latents up to rounding."""

    def moments(self, images: Tensor) -> Moments:
        """Encode (N, 3, H, W) uint8 images."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to (N, 3, H, W) uint8 images."""


def make_codec(settings: CodecSettings, device: str = "cpu") -> Codec:
    """Return the latent codec of a budget.

    A learned one is frozen and runs on `device`; the lossless one works wherever its input is.

    Raises:
        ConfigError: the autoencoder's files are missing, damaged, or of another kind.
    """
    if isinstance(settings, PixelUnshuffleSettings):
        return PixelUnshuffle(settings.factor, BACKGROUND, settings.scale)
    from nas_t2i.conditioning.codecs.common.autoencoder import Autoencoder

    return Autoencoder(settings, device)


def codec_geometry(settings: CodecSettings) -> tuple[int, int]:
    """Return (latent channels, down-sampling per side) from the codec's config, without weights.

    Raises:
        ConfigError: there is no such autoencoder, or its config can't be used.
    """
    if isinstance(settings, PixelUnshuffleSettings):
        return 3 * settings.factor**2, settings.factor
    from nas_t2i.conditioning.codecs.common.autoencoder import autoencoder_geometry

    return autoencoder_geometry(settings)


def codec_fingerprint(settings: CodecSettings) -> str:
    """Return the fingerprint of `make_codec`'s codec, without loading its weights.

    The weights' files are read once for their hash, and downloaded if they have to be.

    Raises:
        ConfigError: the autoencoder's files are missing, damaged, or of another kind.
    """
    if isinstance(settings, PixelUnshuffleSettings):
        return make_codec(settings).fingerprint
    from nas_t2i.conditioning.codecs.common.autoencoder import autoencoder_fingerprint

    return autoencoder_fingerprint(settings)


def check_images(images: Tensor, downsampling: int) -> None:
    """Raise unless these are (N, 3, H, W) uint8 images that a codec can take.

    Raises:
        ConfigError: sides that are no multiples of `downsampling`; the resolution is a setting.
        ValueError: another shape or type.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"expected (N, 3, H, W) uint8 images, got {tuple(images.shape)} {images.dtype}"
        )
    height, width = images.shape[2:]
    if height % downsampling or width % downsampling:
        raise ConfigError(
            "data.resolution",
            f"got images of {width} x {height} pixels",
            expected=f"sides in multiples of {downsampling}, the latents' down-sampling",
        )


class PixelUnshuffle:
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
