"""OpenCLIP text towers: an architecture by name or config file, weights by tag or file.

Of a CLIP checkpoint only the text tower is built and read; the image tower never exists here.
Captions are cut at the tower's context length, 77 tokens with the start and the end of the text.

Stable Diffusion 2 conditions on ViT-H-14 (``laion2b_s32b_b79k``) with ``layer: penultimate`` and
``padding: keep``: the output of the last block but one, through the tower's final norm. Stable
Diffusion 1 takes the last layer of OpenAI's ViT-L-14.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_t2i.conditioning.text_tower import TextTower, Tokens
from nas_t2i.conditioning.weights import (
    DTYPES,
    digest_of,
    fingerprint_of,
    one_line,
    read_json,
    read_tensors,
)
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.files import expand_path
from nas_t2i.protocol.budget import OpenClipText

_MODEL = "text.model"
_CHECKPOINT = "text.checkpoint"
_FILES = (".safetensors", ".pt", ".pth", ".bin")
# The image tower that open_clip's classes insist on: it is built without memory and dropped.
_NO_PICTURES = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 16}
# Where the text tower's tensors lie in a checkpoint: the classes CLIP and CustomTextCLIP, the
# latter CoCa too, as they are and as they are saved in distributed training.
_PREFIXES = ("", "text.", "module.", "module.text.")


def openclip_geometry(settings: OpenClipText) -> tuple[int, int]:
    """Return (tokens, features a token) of a text tower. Raises ConfigError."""
    architecture = _architecture(settings)
    return architecture.text.context_length, architecture.text.width


def openclip_fingerprint(settings: OpenClipText) -> str:
    """Return `OpenClipEncoder.fingerprint` without building the tower. Raises ConfigError."""
    architecture = _architecture(settings)
    return _fingerprint(settings, architecture, _weights_file(settings, architecture))


class OpenClipEncoder(TextTower):
    """A frozen OpenCLIP text tower.

    Raises:
        ConfigError: no such architecture or tag; weights that are missing, damaged or of another
            architecture; or an architecture with another tokenizer than OpenCLIP's own.
    """

    def __init__(self, settings: OpenClipText, device: str = "cpu") -> None:
        from open_clip import SimpleTokenizer

        self._architecture = _architecture(settings)
        text = self._architecture.text
        super().__init__(text.context_length, text.width, settings.padding, device)
        self._settings = settings
        self._file = _weights_file(settings, self._architecture)
        self._block = text.layers - (1 if settings.layer == "last" else 2)
        self._tokenizer = SimpleTokenizer(
            context_length=text.context_length, **(text.tokenizer_kwargs or {})
        )
        tower = _load_tower(self._architecture, self._file)
        self._tower = tower.to(self._device, DTYPES[settings.precision])

    @cached_property
    def fingerprint(self) -> str:
        """What the features depend on: the tower, its weights' bytes, and the settings."""
        return _fingerprint(self._settings, self._architecture, self._file)

    def _tokenize(self, texts: list[str]) -> Tokens:
        ids = self._tokenizer(texts)
        # The last one: a caption may spell out the end-of-text token itself.
        from_the_end = ids.flip(1).eq(self._tokenizer.eot_token_id).int().argmax(dim=1)
        return Tokens(ids, self.tokens - from_the_end)

    def _features(self, tokens: Tokens) -> Tensor:
        out = self._tower.forward_intermediates(
            tokens.ids,
            indices=[self._block],
            stop_early=True,
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NLC",
        )
        features: Tensor = out["text_intermediates"][0]
        return features


@dataclass(frozen=True)
class _Architecture:
    name: str  # as the budget has it, for messages
    embed_dim: int
    text: Any  # open_clip.CLIPTextCfg
    quick_gelu: bool

    @property
    def facts(self) -> dict[str, Any]:
        """All that decides what the tower computes, its weights aside."""
        return {"text": vars(self.text), "quick_gelu": self.quick_gelu}


def _architecture(settings: OpenClipText) -> _Architecture:
    """Return the architecture that the settings name. Raises ConfigError."""
    from open_clip import CLIPTextCfg

    name = settings.model
    config = _config(name)
    try:
        text = CLIPTextCfg(**config["text_cfg"])
        embed_dim = int(config["embed_dim"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            name,
            f"not an OpenCLIP model config ({type(error).__name__}: {one_line(error)})",
            expected="embed_dim and text_cfg as open_clip has them",
        ) from None
    other = text.hf_model_name or text.hf_tokenizer_name
    if other:
        raise ConfigError(
            _MODEL,
            f"got {name!r}, which reads captions by {other!r}",
            expected="an architecture with OpenCLIP's own tower and tokenizer",
            hint="the encoder 'transformers' reads CLIP and T5 from a hub",
        )
    if settings.layer == "penultimate" and text.layers < 2:
        raise ConfigError(
            "text.layer", "got 'penultimate' for a tower of one block", expected="'last'"
        )
    return _Architecture(name, embed_dim, text, bool(config.get("quick_gelu", False)))


def _config(name: str) -> dict[str, Any]:
    import open_clip

    if name.endswith(".json"):
        config = read_json(expand_path(name, _MODEL))
        # open_clip_config.json, as it lies on a hub beside weights, has it under a key.
        return dict(config.get("model_cfg", config))
    known = open_clip.list_models()
    if name not in known:
        raise ConfigError(
            _MODEL,
            f"got {name!r}, which is no OpenCLIP architecture",
            expected="a name such as 'ViT-H-14', or a config that ends in .json",
            hint=did_you_mean(name, known),
        )
    return dict(open_clip.get_model_config(name))


def _weights_file(settings: OpenClipText, architecture: _Architecture) -> Path:
    """Return the checkpoint's file, downloaded if it has to be. Raises ConfigError."""
    checkpoint = settings.checkpoint
    if checkpoint.endswith(_FILES):
        file = expand_path(checkpoint, _CHECKPOINT)
        if not file.is_file():
            names = [p.name for p in file.parent.glob("*") if p.name.endswith(_FILES)]
            raise ConfigError(
                _CHECKPOINT, f"no file {str(file)!r}", hint=did_you_mean(file.name, names)
            )
        return file
    _check_tag(checkpoint, architecture)
    return _download(checkpoint, architecture)


def _check_tag(tag: str, architecture: _Architecture) -> None:
    import open_clip

    name = architecture.name
    tags = open_clip.list_pretrained_tags_by_model(name)
    file = f"a file that ends in {', '.join(_FILES)}"
    if not tags:
        raise ConfigError(
            _CHECKPOINT, f"got {tag!r}, but {name!r} has no pretrained tags", expected=file
        )
    if not open_clip.is_pretrained_cfg(name, tag):
        raise ConfigError(
            _CHECKPOINT,
            f"got {tag!r}, which is no pretrained tag of {name}",
            expected=f"{', '.join(tags)}, or {file}",
            hint=did_you_mean(tag, tags),
        )
    quick_gelu = bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False))
    if quick_gelu != architecture.quick_gelu:
        # open_clip warns and goes on, with features that the weights were not trained for.
        twin = f"{name}-quickgelu" if quick_gelu else name.removesuffix("-quickgelu")
        raise ConfigError(
            _MODEL,
            f"got {name!r} for the tag {tag!r}, whose weights were trained with "
            f"{'QuickGELU' if quick_gelu else 'GELU'}",
            expected=f"{twin!r}" if twin in open_clip.list_models() else "",
        )


def _download(tag: str, architecture: _Architecture) -> Path:
    import open_clip

    try:
        return Path(
            open_clip.download_pretrained(open_clip.get_pretrained_cfg(architecture.name, tag))
        )
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            _CHECKPOINT,
            f"the weights {tag!r} of {architecture.name} can't be downloaded ({one_line(error)})",
            hint=f"or name a file that ends in {', '.join(_FILES)}",
        ) from None


def _fingerprint(settings: OpenClipText, architecture: _Architecture, file: Path) -> str:
    facts = {
        **architecture.facts,
        "layer": settings.layer,
        "padding": settings.padding,
        "precision": settings.precision,
        # Not by its name: open_clip's files and copies of them are called differently.
        "weights": digest_of(file),
    }
    return fingerprint_of("openclip", facts, [])


def _load_tower(architecture: _Architecture, file: Path) -> Any:
    """Return the frozen text tower, float32, on the CPU. Raises ConfigError."""
    tower = _empty_tower(architecture)
    expected = {name: value.shape for name, value in tower.state_dict().items()}
    tensors = read_tensors(file, lambda names: _tower_names(file, names, set(expected)))
    # Copied: what was read may still be mapped to the file, and the file may be written over.
    state = {_bare(name): value.to(torch.float32, copy=True) for name, value in tensors.items()}
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise _foreign(file, f"{name} is {_by(state[name].shape)}, not {_by(shape)}")
    tower.load_state_dict(state, assign=True)
    return tower.eval().requires_grad_(False)


def _empty_tower(architecture: _Architecture) -> Any:
    """Return the text tower with its shapes, but no memory for its weights."""
    from open_clip import CustomTextCLIP

    try:
        with torch.device("meta"):
            tower = CustomTextCLIP(
                architecture.embed_dim,
                _NO_PICTURES,
                architecture.text,
                quick_gelu=architecture.quick_gelu,
            ).text
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            architecture.name, f"no text tower can be built of it ({one_line(error)})"
        ) from None
    tower.text_projection = None  # it makes the pooled embedding, which nobody asks for
    if tower.attn_mask is not None:
        tower.register_buffer("attn_mask", tower.build_causal_mask(), persistent=False)
    return tower


def _tower_names(file: Path, names: set[str], expected: set[str]) -> list[str]:
    """Return the names of a checkpoint that are its text tower. Raises ConfigError."""
    prefix = next((p for p in _PREFIXES if f"{p}token_embedding.weight" in names), None)
    if prefix is None:
        raise _foreign(file, "no token_embedding.weight")
    missing = sorted(name for name in expected if prefix + name not in names)
    if missing:
        raise _foreign(file, f"no {prefix}{missing[0]} ({len(missing)} tensors are missing)")
    blocks = {name for name in names if name.startswith(f"{prefix}transformer.")}
    more = sorted(name for name in blocks if name.removeprefix(prefix) not in expected)
    if more:
        raise _foreign(file, f"{more[0]} ({len(more)} tensors too many)")
    return [prefix + name for name in expected]


def _bare(name: str) -> str:
    return name.removeprefix("module.").removeprefix("text.")


def _foreign(file: Path, problem: str) -> ConfigError:
    return ConfigError(
        str(file),
        f"not weights of this text tower: {problem}",
        expected="an OpenCLIP checkpoint of the architecture at text.model",
    )


def _by(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
