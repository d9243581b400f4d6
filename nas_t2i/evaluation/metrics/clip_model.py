"""Whole OpenCLIP models, both towers, and the score that is a cosine of their embeddings.

An architecture comes by name or config file, weights by tag or file, as for the text encoder
(`nas_t2i.conditioning.openclip`). Arithmetic is float32.
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

from nas_t2i.conditioning.weights import one_line, read_json, read_tensors
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.evaluation.metrics.image_metric import (
    WEIGHTS,
    batches,
    check_tensors,
    weights_digest,
    weights_file,
)
from nas_t2i.files import expand_path

_PICTURE_KEYS = ("mean", "std", "interpolation", "resize_mode")
# Scale and bias turn cosines into probabilities of a batch; a mask is no weight.
_UNUSED = {"logit_scale", "logit_bias", "attn_mask"}


@dataclass(frozen=True)
class Pictures:
    """How a model wants its pictures: pixels of 0 to 1, less `mean`, over `std`."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str  # bicubic or bilinear
    resize_mode: str  # shortest (then a centre crop), longest (then padding) or squash


class ClipModel:
    """A frozen CLIP model.

    `model` is an OpenCLIP architecture, or a config that ends in ``.json`` (a model config, or an
    ``open_clip_config.json`` as it lies on a hub); `checkpoint` is a pretrained tag of it, or a
    file. `where` is the name of the metric, for messages.

    Raises:
        ConfigError: no such architecture or tag; weights that are missing, damaged or of another
            architecture; or an architecture without OpenCLIP's own text tower and tokenizer.
    """

    def __init__(self, model: str, checkpoint: str, where: str, device: str = "cpu") -> None:
        from open_clip import SimpleTokenizer

        architecture = _architecture(model, where)
        file = _weights(architecture, checkpoint, where)
        text = architecture.text
        self._tokenizer = SimpleTokenizer(
            context_length=text.context_length, **(text.tokenizer_kwargs or {})
        )
        self._device = torch.device(device)
        self._model = _load(architecture, file).to(self._device)
        self.pictures = _pictures(architecture, checkpoint)
        self.facts = {
            "model": Path(model).stem if model.endswith(".json") else model,
            "architecture": architecture.digest,
            "weights": weights_digest(file),
        }

    @torch.no_grad()
    def cosines(self, pixels: Tensor, texts: list[str]) -> Tensor:
        """Return (N,) cosines of the embeddings of (N, 3, size, size) pictures and N texts."""
        image = self._model.encode_image(pixels.to(self._device), normalize=True)
        text = self._model.encode_text(self._tokenizer(texts).to(self._device), normalize=True)
        cosines: Tensor = (image.double() * text.double()).sum(dim=-1).cpu()
        return cosines


@dataclass
class CosineMetric:
    """An `ImageMetric`: the cosine of picture and prompt, by some model.

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
        """Return one score a picture. Raises ValueError where prompts are more or fewer."""
        scores: list[float] = []
        for pixels, texts in batches(images, prompts, self.pixels):
            cosines = self.model.cosines(pixels, [self.prefix + text for text in texts])
            if self.clamp:
                cosines = cosines.clamp(min=0.0)
            scores += (self.scale * cosines).tolist()
        return scores


@dataclass(frozen=True)
class _Architecture:
    name: str  # as the caller has it
    config: dict[str, Any]  # OpenCLIP's model config
    picture_keys: dict[str, Any]  # of a hub's config file, where it has them
    text: Any  # open_clip.CLIPTextCfg

    @property
    def digest(self) -> str:
        """Of all that decides what the model computes, its weights aside."""
        text = json.dumps(self.config, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _architecture(name: str, where: str) -> _Architecture:
    from open_clip import CLIPTextCfg

    config, picture_keys = _config(name, where)
    try:
        text = CLIPTextCfg(**config["text_cfg"])
        config["vision_cfg"]["image_size"] = int(config["vision_cfg"].get("image_size", 224))
        config["embed_dim"] = int(config["embed_dim"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            name,
            f"not an OpenCLIP model config ({type(error).__name__}: {one_line(error)})",
            expected="embed_dim, vision_cfg and text_cfg as open_clip has them",
        ) from None
    other = text.hf_model_name or text.hf_tokenizer_name
    if other or "multimodal_cfg" in config:
        problem = f"reads captions by {other!r}" if other else "writes captions too"
        raise ConfigError(
            f"{where}.model",
            f"got {name!r}, which {problem}",
            expected="an architecture with OpenCLIP's own text tower and tokenizer",
        )
    return _Architecture(name, config, picture_keys, text)


def _config(name: str, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    import open_clip

    if name.endswith(".json"):
        whole = read_json(expand_path(name, f"{where}.model"))
        return dict(whole.get("model_cfg", whole)), dict(whole.get("preprocess_cfg", {}))
    known = open_clip.list_models()
    if name not in known:
        raise ConfigError(
            f"{where}.model",
            f"got {name!r}, which is no OpenCLIP architecture",
            expected="a name such as 'ViT-L-14', or a config that ends in .json",
            hint=did_you_mean(name, known),
        )
    return dict(open_clip.get_model_config(name)), {}


def _pictures(architecture: _Architecture, checkpoint: str) -> Pictures:
    """Return what the tag says, or the config file, or all tags of the architecture, or CLIP's."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture.name)
    if checkpoint in tags:
        tags = [checkpoint]
    said = [_picture_keys(open_clip.get_pretrained_cfg(architecture.name, tag)) for tag in tags]
    default = {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    agreed = said[0] if said and all(keys == said[0] for keys in said) else {}
    keys = {**default, **agreed, **_picture_keys(architecture.picture_keys)}
    keys.update(mean=_colour(keys["mean"]), std=_colour(keys["std"]))
    return Pictures(size=architecture.config["vision_cfg"]["image_size"], **keys)


def _picture_keys(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _PICTURE_KEYS if config.get(key) is not None}


def _colour(value: float | Iterable[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if isinstance(value, Iterable) else (float(value),) * 3


def _weights(architecture: _Architecture, checkpoint: str, where: str) -> Path:
    """Return the checkpoint's file, downloaded if it has to be. Raises ConfigError."""
    import open_clip

    key = f"{where}.checkpoint"
    if checkpoint.endswith(WEIGHTS):
        return weights_file(checkpoint, key)
    name = architecture.name
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not open_clip.is_pretrained_cfg(name, checkpoint):
        raise ConfigError(
            key,
            f"got {checkpoint!r}, which is no pretrained tag of {name}",
            expected=", ".join([*tags, f"a file that ends in {', '.join(WEIGHTS)}"]),
            hint=did_you_mean(checkpoint, tags),
        )
    pretrained = open_clip.get_pretrained_cfg(name, checkpoint)
    quick_gelu = bool(pretrained.get("quick_gelu", False))
    if quick_gelu != bool(architecture.config.get("quick_gelu", False)):
        # open_clip warns and goes on, with embeddings that the weights were not trained for.
        raise ConfigError(
            f"{where}.model",
            f"got {name!r} for the tag {checkpoint!r}, whose weights were trained with "
            f"{'QuickGELU' if quick_gelu else 'GELU'}",
            expected=f"{name}-quickgelu" if quick_gelu else name.removesuffix("-quickgelu"),
        )
    try:
        return Path(open_clip.download_pretrained(pretrained))
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            key,
            f"the weights {checkpoint!r} of {name} can't be downloaded ({one_line(error)})",
            hint=f"or name a file that ends in {', '.join(WEIGHTS)}",
        ) from None


def _load(architecture: _Architecture, file: Path) -> Any:
    """Return the frozen model, float32, on the CPU. Raises ConfigError."""
    model = _empty(architecture)
    expected = {
        _bare(name): value for name, value in model.state_dict().items() if name not in _UNUSED
    }
    tensors = read_tensors(file, lambda names: [n for n in names if _bare(n) not in _UNUSED])
    found = {_bare(name): value for name, value in tensors.items()}
    check_tensors(file, found, expected, f"the OpenCLIP architecture {architecture.name}")
    # Copied: what was read may still be mapped to the file, and the file may be written over.
    state = {
        name: found[_bare(name)].to(value.dtype, copy=True)
        for name, value in model.state_dict().items()
        if name not in _UNUSED
    }
    model.load_state_dict(state, strict=False, assign=True)
    model.logit_scale = model.logit_bias = None  # left without memory, and nobody asks for them
    return model.eval().requires_grad_(False)


def _empty(architecture: _Architecture) -> Any:
    """Return the model with its shapes, but no memory for the weights of OpenCLIP's own towers."""
    from open_clip import CustomTextCLIP

    config = architecture.config
    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    # Towers of timm may hold tables that are in no checkpoint: those are made for good.
    device = "cpu" if vision.get("timm_model_name") else "meta"
    try:
        with torch.device(device):
            model = CustomTextCLIP(
                config["embed_dim"],
                vision,
                architecture.text,
                quick_gelu=bool(config.get("quick_gelu", False)),
            )
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            architecture.name, f"no model can be built of it ({one_line(error)})"
        ) from None
    if model.text.attn_mask is not None:
        model.text.register_buffer("attn_mask", model.text.build_causal_mask(), persistent=False)
    return model


def _bare(name: str) -> str:
    # The same tensors lie under other names in CLIP and in CustomTextCLIP, and again as they are
    # saved in distributed training.
    return name.removeprefix("module.").removeprefix("text.")
