"""The metric ``sharpness``: how much an image changes from pixel to pixel."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from nas_t2i.evaluation.metrics.common.per_image import ImageModel, PerImageMetric


class Sharpness(PerImageMetric):
    """Variance of the Laplacian of the grey image; larger is sharper."""

    DISPLAY_NAME: ClassVar[str] = "sharpness"

    step: int = Field(default=1, ge=1, description="pixels between the neighbours compared")

    def load_model(self, device: str) -> ImageModel:  # noqa: ARG002
        """Return the model; there is nothing to load."""
        return Laplacian(self.step)


class Laplacian:
    """Scores one image and its prompt, which it does not read."""

    name = "sharpness"

    def __init__(self, step: int) -> None:
        self._step = step
        # What makes two scores comparable: part of every signature.
        self.identity = f"laplacian-v1; step={step}"

    def score(self, images: list[Image.Image], prompts: list[str]) -> list[float]:  # noqa: ARG002
        """Return a score an image."""
        return [self._one(np.asarray(image.convert("L"), dtype=np.float64)) for image in images]

    def _one(self, grey: np.ndarray) -> float:
        shifts = [(axis, shift) for axis in (0, 1) for shift in (-self._step, self._step)]
        around = sum(np.roll(grey, shift, axis) for axis, shift in shifts)
        return float((around - 4 * grey).var())
