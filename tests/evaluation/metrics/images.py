"""Images for the metrics: colour noise, smooth enough to survive a resize."""

from __future__ import annotations

import numpy as np
from PIL import Image


def make_image(seed: int, width: int = 40, height: int = 32) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BILINEAR)


def make_images(count: int) -> list[Image.Image]:
    """Images of several shapes."""
    return [make_image(seed, 33 + 7 * (seed % 3), 30 + 5 * (seed % 4)) for seed in range(count)]
