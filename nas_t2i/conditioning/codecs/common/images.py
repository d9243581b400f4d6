"""What images a latent codec can take."""

from __future__ import annotations

import torch
from torch import Tensor

from nas_t2i.errors import ConfigError


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
