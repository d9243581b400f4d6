"""CLIP score: the cosine of an image's and its prompt's CLIP embeddings.

The score is the raw cosine, as in the papers whose figures are around 0.2 to 0.3. Others mean
something else by the name, and say so by options here: CLIPScore (Hessel et al., "CLIPScore: A
Reference-free Evaluation Metric for Image Captioning", 2021) is ``prefix="A photo depicts "``,
``scale=2.5``, ``clamp=True``; ``scale=100`` is the unit of some libraries. A negative cosine is
clamped by image, before any mean. Every option is part of the metric's identity: scores of two
models, or by two rules, are not comparable.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from nas_t2i.evaluation.metrics.common.clip_model import ClipModel, CosineMetric, Images
from nas_t2i.evaluation.metrics.common.per_image import ImageModel, PerImageMetric
from nas_t2i.evaluation.metrics.common.weights import WEIGHTS, identity_of, weights_file

_NAME = "clip_score"


class ClipMetric(PerImageMetric):
    """CLIP score: the cosine of an image's and its prompt's OpenCLIP embeddings."""

    DISPLAY_NAME: ClassVar[str] = "CLIP score"
    SCORES: ClassVar[dict[str, str]] = {_NAME: "CLIP score"}

    metric: Literal["clip"]
    model: str = Field(description="an architecture, for example ViT-L-14, or a config .json")
    checkpoint: str = Field(description="a pretrained tag, or a weights file (.safetensors, .pt)")
    prefix: str = Field(default="", description="put before every prompt")
    scale: float = Field(default=1.0, gt=0, description="of the cosine")
    clamp: bool = Field(default=False, description="an image's negative cosine counts as 0")

    def check(self) -> None:
        """Check the file of weights; a pretrained tag is looked up when it is loaded."""
        if self.checkpoint.endswith(WEIGHTS):
            weights_file(self.checkpoint, "clip.checkpoint")

    def load_model(self, device: str) -> ImageModel:
        """Load the OpenCLIP model."""
        return make_clip_score(
            self.model,
            self.checkpoint,
            prefix=self.prefix,
            scale=self.scale,
            clamp=self.clamp,
            device=device,
        )


def make_clip_score(
    model: str,
    checkpoint: str,
    *,
    prefix: str = "",
    scale: float = 1.0,
    clamp: bool = False,
    device: str = "cpu",
) -> ImageModel:
    """Make the CLIP score of an OpenCLIP model: ``scale * cosine``, -scale to scale.

    `model` is an architecture or a config that ends in ``.json``, `checkpoint` a tag or a file, as
    in `ClipModel`. Images are resized as the checkpoint's own evaluation does.

    Raises:
        ConfigError: no such model or checkpoint, or they don't fit together.
    """
    clip = ClipModel(model, checkpoint, "clip", device)
    facts = {
        **clip.facts,
        "prefix": repr(prefix),
        "scale": f"{scale:g}",
        "clamp": "at zero" if clamp else "none",
        "resize": f"{clip.images.resize_mode} {clip.images.interpolation} {clip.images.size}",
        "mean": clip.images.mean,
        "std": clip.images.std,
        "dtype": "float32",
    }
    identity = identity_of(_NAME, facts, "open_clip_torch", "torch", "torchvision", "pillow")
    return CosineMetric(_NAME, identity, clip, _transform(clip.images), prefix, scale, clamp)


def _transform(images: Images) -> Any:
    import open_clip

    return open_clip.image_transform(
        images.size,
        is_train=False,
        mean=images.mean,
        std=images.std,
        resize_mode=images.resize_mode,
        interpolation=images.interpolation,
    )
