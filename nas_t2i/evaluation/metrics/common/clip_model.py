"""Whole OpenCLIP models, both towers, and the score that is a cosine of their embeddings.

An architecture comes by name or config file, weights by tag or file, as for the text encoder
(`nas_t2i.conditioning.openclip_files`). Arithmetic is float32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nas_t2i.conditioning.openclip_files import (
    Architecture,
    bare_name,
    empty_model,
    find_architecture,
    find_weights,
)
from nas_t2i.conditioning.weights import read_tensors
from nas_t2i.evaluation.metrics.common.weights import batches, check_tensors, weights_digest

_IMAGE_KEYS = ("mean", "std", "interpolation", "resize_mode")
# Scale and bias turn cosines into probabilities of a batch; a mask is no weight.
_UNUSED = {"logit_scale", "logit_bias", "attn_mask"}


@dataclass(frozen=True)
class Images:
    """How a model wants its images: pixels of 0 to 1, less `mean`, over `std`."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str  # bicubic or bilinear
    resize_mode: str  # shortest (then a centre crop), longest (then padding) or squash


class ClipModel:
    """A frozen CLIP model.

    `model` is an OpenCLIP architecture, or a config that ends in ``.json`` (a model config, or an
    ``open_clip_config.json`` as it lies on a hub); `checkpoint` is a pretrained tag of it, or a
    file. `where` is the metric as settings name it, for messages.

    Raises:
        ConfigError: no such architecture or tag; weights that are missing, damaged or of another
            architecture; or an architecture without OpenCLIP's own text tower and tokenizer.
    """

    def __init__(self, model: str, checkpoint: str, where: str, device: str = "cpu") -> None:
        architecture = find_architecture(model, where)
        file = find_weights(architecture, checkpoint, where)
        self._tokenizer = architecture.tokenizer()
        self._device = torch.device(device)
        self._model = _load(architecture, file).to(self._device)
        self.images = _images(architecture, checkpoint)
        self.facts = {
            "model": Path(model).stem if model.endswith(".json") else model,
            "architecture": _digest(architecture),
            "weights": weights_digest(file),
        }

    @torch.no_grad()
    def cosines(self, pixels: Tensor, texts: list[str]) -> Tensor:
        """Return (N,) cosines of the embeddings of (N, 3, size, size) images and N texts."""
        image = self._model.encode_image(pixels.to(self._device), normalize=True)
        text = self._model.encode_text(self._tokenizer(texts).to(self._device), normalize=True)
        cosines: Tensor = (image.double() * text.double()).sum(dim=-1).cpu()
        return cosines


@dataclass
class CosineMetric:
    """An `ImageModel`: the cosine of image and prompt, by some model.

    The score is ``scale * cosine``, for `clamp` not below 0, of ``prefix + prompt``.
    """

    name: str
    identity: str
    model: ClipModel
    pixels: Callable[[Image.Image], Tensor]  # RGB -> (3, size, size)
    prefix: str = ""
    scale: float = 1.0
    clamp: bool = False

    def score(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        """Return one score an image. Raises ValueError where prompts are more or fewer."""
        scores: list[float] = []
        for pixels, texts in batches(images, prompts, self.pixels):
            cosines = self.model.cosines(pixels, [self.prefix + text for text in texts])
            if self.clamp:
                cosines = cosines.clamp(min=0.0)
            scores += (self.scale * cosines).tolist()
        return scores


def _digest(architecture: Architecture) -> str:
    """Return a digest of all that decides what the model computes, its weights aside."""
    text = json.dumps(architecture.config, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _images(architecture: Architecture, checkpoint: str) -> Images:
    """Return what the tag says, or the config file, or all tags of the architecture, or CLIP's."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture.name)
    if checkpoint in tags:
        tags = [checkpoint]
    said = [_image_keys(open_clip.get_pretrained_cfg(architecture.name, tag)) for tag in tags]
    default = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    agreed = said[0] if said and all(keys == said[0] for keys in said) else {}
    keys = {**default, **agreed, **_image_keys(architecture.preprocess)}
    keys.update(mean=_colour(keys["mean"]), std=_colour(keys["std"]))
    return Images(size=architecture.config["vision_cfg"]["image_size"], **keys)


def _image_keys(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _IMAGE_KEYS if config.get(key) is not None}


def _colour(value: float | Iterable[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if isinstance(value, Iterable) else (float(value),) * 3


def _load(architecture: Architecture, file: Path) -> Any:
    """Return the frozen model, float32, on the CPU. Raises ConfigError."""
    model = empty_model(architecture, architecture.config["vision_cfg"])
    expected = {
        bare_name(name): value for name, value in model.state_dict().items() if name not in _UNUSED
    }
    tensors = read_tensors(file, lambda names: [n for n in names if bare_name(n) not in _UNUSED])
    found = {bare_name(name): value for name, value in tensors.items()}
    check_tensors(file, found, expected, f"the OpenCLIP architecture {architecture.name}")
    # Copied: what was read may still be mapped to the file, and the file may be written over.
    state = {
        name: found[bare_name(name)].to(value.dtype, copy=True)
        for name, value in model.state_dict().items()
        if name not in _UNUSED
    }
    model.load_state_dict(state, strict=False, assign=True)
    model.logit_scale = model.logit_bias = None  # left without memory, and nobody asks for them
    return model.eval().requires_grad_(False)
