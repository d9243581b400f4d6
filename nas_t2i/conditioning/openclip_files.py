"""OpenCLIP architectures, by name or config file, and their weights, by tag or file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas_t2i.conditioning.weights import local_file, one_line
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.files import expand_path, read_json

_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
_ANY_FILE = f"a file that ends in {', '.join(_WEIGHTS)}"


@dataclass(frozen=True)
class Architecture:
    """What OpenCLIP knows of a model."""

    name: str  # as the user has it
    config: dict[str, Any]  # OpenCLIP's model config
    preprocess: dict[str, Any]  # how images are prepared, where a hub's config file says so
    text: Any  # open_clip.CLIPTextCfg

    @property
    def quick_gelu(self) -> bool:
        """Whether the towers have OpenAI's approximation of GELU."""
        return bool(self.config.get("quick_gelu", False))

    def tokenizer(self) -> Any:
        """Return a function of a list of texts to (N, context length) int64 tokens."""
        from open_clip import SimpleTokenizer

        return SimpleTokenizer(
            context_length=self.text.context_length, **(self.text.tokenizer_kwargs or {})
        )


def find_architecture(name: str, where: str, *, text_only: bool = False) -> Architecture:
    """Return OpenCLIP's architecture `name`, or that of a config that ends in ``.json``.

    The file is a model config, or an ``open_clip_config.json`` as it lies on a hub. `where` is the
    name of the part, for messages. With `text_only` the image tower doesn't count.

    Raises:
        ConfigError: no such architecture or file, no such config, or an architecture without
            OpenCLIP's own text tower and tokenizer.
    """
    from open_clip import CLIPTextCfg

    whole = _read(name, where)
    try:
        config = dict(whole["model_cfg"])
        preprocess = dict(whole.get("preprocess_cfg") or {})
        text = CLIPTextCfg(**config["text_cfg"])
        config["embed_dim"] = int(config["embed_dim"])
        if not text_only:
            vision = config["vision_cfg"]
            vision["image_size"] = int(vision.get("image_size", 224))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        keys = "embed_dim and text_cfg" if text_only else "embed_dim, vision_cfg and text_cfg"
        raise ConfigError(
            name,
            f"not an OpenCLIP model config ({type(error).__name__}: {one_line(error)})",
            expected=f"{keys} as open_clip has them",
        ) from None
    other = text.hf_model_name or text.hf_tokenizer_name
    if other or ("multimodal_cfg" in config and not text_only):
        problem = f"reads captions by {other!r}" if other else "writes captions too"
        raise ConfigError(
            f"{where}.model",
            f"got {name!r}, which {problem}",
            expected="an architecture with OpenCLIP's own text tower and tokenizer",
            hint="the encoder 'transformers' reads CLIP and T5 from a hub" if text_only else "",
        )
    return Architecture(name, config, preprocess, text)


def find_weights(architecture: Architecture, checkpoint: str, where: str) -> Path:
    """Return the file of a pretrained tag, downloaded if it has to be, or of a path.

    Raises:
        ConfigError: no such file or tag, a tag of weights that were trained with another activation
            than the architecture has, or a download that fails.
    """
    import open_clip

    key = f"{where}.checkpoint"
    if checkpoint.endswith(_WEIGHTS):
        return local_file(checkpoint, key, _WEIGHTS)
    _check_tag(architecture, checkpoint, where)
    name = architecture.name
    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, checkpoint)))
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            key,
            f"the weights {checkpoint!r} of {name} can't be downloaded ({one_line(error)})",
            hint=f"or name {_ANY_FILE}",
        ) from None


def empty_model(architecture: Architecture, vision: Mapping[str, Any]) -> Any:
    """Return the model with its shapes, but no memory for the weights of OpenCLIP's own towers.

    `vision` is the config of its image tower.

    Raises:
        ConfigError: no model can be built of the config.
    """
    from open_clip import CustomTextCLIP

    # Towers of timm may hold tables that are in no checkpoint: those are made for good.
    device = "cpu" if vision.get("timm_model_name") else "meta"
    try:
        with torch.device(device):
            model = CustomTextCLIP(
                architecture.config["embed_dim"],
                {**vision, "timm_model_pretrained": False},
                architecture.text,
                quick_gelu=architecture.quick_gelu,
            )
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            architecture.name, f"no model can be built of it ({one_line(error)})"
        ) from None
    # The mask is made, not read.
    if model.text.attn_mask is not None:
        model.text.register_buffer("attn_mask", model.text.build_causal_mask(), persistent=False)
    return model


def bare_name(name: str) -> str:
    """Return a tensor's name without what tells the forms of a checkpoint apart."""
    # The same tensors lie under other names in CLIP and in CustomTextCLIP, and again as they are
    # saved in distributed training.
    return name.removeprefix("module.").removeprefix("text.")


def _read(name: str, where: str) -> dict[str, Any]:
    """Return what a hub's config file says: ``model_cfg`` and maybe ``preprocess_cfg``."""
    import open_clip

    if name.endswith(".json"):
        whole = read_json(expand_path(name, f"{where}.model"))
        return whole if "model_cfg" in whole else {**whole, "model_cfg": whole}
    known = open_clip.list_models()
    if name not in known:
        raise ConfigError(
            f"{where}.model",
            f"got {name!r}, which is no OpenCLIP architecture",
            expected="a name such as 'ViT-H-14', or a config that ends in .json",
            hint=did_you_mean(name, known),
        )
    return {"model_cfg": open_clip.get_model_config(name)}


def _check_tag(architecture: Architecture, tag: str, where: str) -> None:
    import open_clip

    name = architecture.name
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        raise ConfigError(
            f"{where}.checkpoint",
            f"got {tag!r}, but {name!r} has no pretrained tags",
            expected=_ANY_FILE,
        )
    if not open_clip.is_pretrained_cfg(name, tag):
        raise ConfigError(
            f"{where}.checkpoint",
            f"got {tag!r}, which is no pretrained tag of {name}",
            expected=f"{', '.join(tags)}, or {_ANY_FILE}",
            hint=did_you_mean(tag, tags),
        )
    quick_gelu = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    if quick_gelu != architecture.quick_gelu:
        # open_clip warns and goes on, with embeddings that the weights were not trained for.
        twin = f"{name}-quickgelu" if quick_gelu else name.removesuffix("-quickgelu")
        raise ConfigError(
            f"{where}.model",
            f"got {name!r} for the tag {tag!r}, whose weights were trained with "
            f"{'QuickGELU' if quick_gelu else 'GELU'}",
            expected=f"{twin!r}" if twin in open_clip.list_models() else "",
        )
