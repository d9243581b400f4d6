"""HPSv2: human preference as the cosine by a fine-tuned OpenCLIP ViT-H/14.

Wu et al., "Human Preference Score v2", 2023 (arXiv:2306.09341). The score is the raw cosine; the
tables of its README are 100 times that. Versions v2.0 and v2.1 are different weights whose scores
are not comparable, and only scores of the same prompt are meant to be compared.

An image keeps its proportions: its longer side becomes 224, and black fills the rest. As in the
reference the resize works on float pixels, which it may overshoot, and filling comes before the
normalisation. Bicubic with antialiasing, as torchvision does since 0.17 unless told not to; with
an older one the reference went without. The reference runs in half precision on CUDA, where its
scores are rounded to 3 digits; here the arithmetic is float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.evaluation.metrics.common.clip_model import ClipModel, CosineMetric
from nas_t2i.evaluation.metrics.common.per_image import ImageModel, PerImageMetric
from nas_t2i.evaluation.metrics.common.weights import identity_of, weights_file

_NAME = "hps"
_ARCHITECTURE = "ViT-H-14"
_OFFICIAL = {"v2.0": "HPS_v2_compressed.pt", "v2.1": "HPS_v2.1_compressed.pt"}


class HpsMetric(PerImageMetric):
    """HPSv2: human preference, the cosine by a fine-tuned OpenCLIP ViT-H/14."""

    DISPLAY_NAME: ClassVar[str] = "HPSv2"
    SCORES: ClassVar[dict[str, str]] = {
        "hps_v2.0": "HPSv2 (v2.0)",
        "hps_v2.1": "HPSv2 (v2.1)",
    }

    metric: Literal["hps"]
    checkpoint: str = Field(description="a weights file, for example HPS_v2.1_compressed.pt")
    version: Literal["v2.0", "v2.1"] = Field(
        description="v2.0 or v2.1, of the weights; not comparable"
    )
    model: str = Field(default="ViT-H-14", description="architecture name, or a config .json")

    def check(self) -> None:
        """Check the file of weights."""
        weights_file(self.checkpoint, "hps.checkpoint")

    def load_model(self, device: str) -> ImageModel:
        """Load the fine-tuned OpenCLIP model."""
        return make_hps(self.checkpoint, self.version, model=self.model, device=device)


def make_hps(
    checkpoint: str, version: str, *, model: str = _ARCHITECTURE, device: str = "cpu"
) -> ImageModel:
    """Make HPSv2 of a checkpoint file: a cosine, -1 to 1.

    `version` is "v2.0" or "v2.1", which the weights themselves don't tell. `model` is another
    OpenCLIP architecture than ViT-H-14, or a config that ends in ``.json``.

    Raises:
        ConfigError: no such version; a checkpoint that is missing, damaged, of another
            architecture, or by its name of the other version.
    """
    if version not in _OFFICIAL:
        raise ConfigError(
            f"{_NAME}.version",
            f"got {version!r}",
            expected=" or ".join(map(repr, _OFFICIAL)),
            hint=did_you_mean(version, _OFFICIAL),
        )
    file = weights_file(checkpoint, f"{_NAME}.checkpoint")
    _check_name(file, version)
    clip = ClipModel(model, checkpoint, _NAME, device)
    size = clip.images.size
    facts = {
        **clip.facts,
        "version": version,
        "scale": "1 (raw cosine)",
        "resize": f"letterbox bicubic antialias {size}, filled with 0",
        "mean": clip.images.mean,
        "std": clip.images.std,
        "dtype": "float32",
    }
    name = f"{_NAME}_{version}"
    identity = identity_of(name, facts, "open_clip_torch", "torch", "torchvision")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.images.mean, clip.images.std))
    return CosineMetric(name, identity, clip, lambda image: (letterbox(image, size) - mean) / std)


def letterbox(image: Image.Image, size: int) -> Tensor:
    """Return an RGB image as (3, size, size) of 0 to 1, padded with 0 to a square.

    Of an odd number of rows or columns of padding the odd one is at the bottom or at the right.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F  # noqa: N812

    pixels: Tensor = F.to_tensor(image)
    height, width = pixels.shape[1:]
    if max(height, width) == size == min(height, width):
        return pixels
    scale = size / max(height, width)
    sides = [max(1, round(side * scale)) for side in (height, width)]
    pixels = F.resize(pixels, sides, InterpolationMode.BICUBIC, antialias=True)
    down, right = size - sides[0], size - sides[1]
    filled: Tensor = F.pad(
        pixels, [right // 2, down // 2, right - right // 2, down - down // 2], fill=0
    )
    return filled


def _check_name(file: Path, version: str) -> None:
    other = next((v for v, name in _OFFICIAL.items() if v != version and name == file.name), None)
    if other:
        raise ConfigError(
            f"{_NAME}.version", f"got {version!r} for {file.name}", expected=f"{other!r}"
        )
