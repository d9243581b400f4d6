"""CLIP score: the cosine of an image's and its prompt's CLIP embeddings.

The score is the raw cosine, as in the papers whose figures are around 0.2 to 0.3. Others mean
something else by the name, and say so by options here: CLIPScore (Hessel et al., "CLIPScore: A
Reference-free Evaluation Metric for Image Captioning", 2021) is ``prefix="A photo depicts "``,
``scale=2.5``, ``clamp=True``; ``scale=100`` is the unit of some libraries. A negative cosine is
clamped by image, before any mean. Every option is part of the metric's identity: scores of two
models, or by two rules, are not comparable.
"""

from __future__ import annotations

from typing import Any

from nas_t2i.evaluation.metrics.common.clip_model import ClipModel, CosineMetric, Images
from nas_t2i.evaluation.metrics.common.per_image import ImageMetric, identity_of

_NAME = "clip_score"


def make_clip_score(
    model: str,
    checkpoint: str,
    *,
    prefix: str = "",
    scale: float = 1.0,
    clamp: bool = False,
    device: str = "cpu",
) -> ImageMetric:
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
