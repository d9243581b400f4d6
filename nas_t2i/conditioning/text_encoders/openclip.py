"""OpenCLIP text towers: an architecture by name or config file, weights by tag or file.

Of a CLIP checkpoint only the text tower is built and read; the image tower never exists here.
Captions are cut at the tower's context length, 77 tokens with the start and the end of the text.

Stable Diffusion 2 conditions on ViT-H-14 (``laion2b_s32b_b79k``) with ``layer: penultimate`` and
``padding: keep``: the output of the last block but one, through the tower's final norm. Stable
Diffusion 1 takes the last layer of OpenAI's ViT-L-14.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from nas_t2i.conditioning.openclip_files import (
    Architecture,
    bare_name,
    empty_model,
    find_architecture,
    find_weights,
)
from nas_t2i.conditioning.text_encoders.common.tower import TextTower, Tokens
from nas_t2i.conditioning.weights import DTYPES, by, digest_of, fingerprint_of, read_tensors
from nas_t2i.errors import ConfigError
from nas_t2i.protocol.conditioning import LAYER, PADDING, Layer, Padding, TextEncoderSettings

_WHERE = "text"
# The image tower that open_clip's classes insist on: it is built without memory and dropped.
_NO_IMAGES = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 16}
# Where the text tower's tensors lie in a checkpoint: the classes CLIP and CustomTextCLIP, the
# latter CoCa too, as they are and as they are saved in distributed training.
_PREFIXES = ("", "text.", "module.", "module.text.")


class OpenClipText(TextEncoderSettings):
    """An OpenCLIP text tower, 77 tokens, frozen; no pooled embedding."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {
        "layer": "last",
        "padding": "zero",
        "precision": "fp32",
    }  # and a model

    encoder: Literal["openclip"]
    model: str = Field(description="architecture name, for example ViT-H-14, or a config .json")
    checkpoint: str = Field(description="a pretrained tag, or a weights file (.safetensors, .pt)")
    layer: Layer = Field(description=LAYER)
    padding: Padding = Field(description=PADDING)
    precision: Literal["fp32", "bf16"] = Field(description="of the tower's arithmetic")

    def geometry(self) -> tuple[int, int]:
        """Return (tokens, features a token); see `TextEncoderSettings.geometry`."""
        return openclip_geometry(self)

    def fingerprint(self) -> str:
        """Return `OpenClipEncoder.fingerprint` without the weights in memory."""
        return openclip_fingerprint(self)

    def load(self, cache_dir: Path, device: str = "cpu") -> OpenClipEncoder:  # noqa: ARG002  nothing is kept
        """Load the tower; see `TextEncoderSettings.load`."""
        return OpenClipEncoder(self, device)


def openclip_geometry(settings: OpenClipText) -> tuple[int, int]:
    """Return (tokens, features a token) of a text tower. Raises ConfigError."""
    architecture = _architecture(settings)
    return architecture.text.context_length, architecture.text.width


def openclip_fingerprint(settings: OpenClipText) -> str:
    """Return `OpenClipEncoder.fingerprint` without building the tower. Raises ConfigError."""
    architecture = _architecture(settings)
    file = find_weights(architecture, settings.checkpoint, _WHERE)
    return _fingerprint(settings, architecture, file)


class OpenClipEncoder(TextTower):
    """A frozen OpenCLIP text tower.

    Raises:
        ConfigError: no such architecture or tag; weights that are missing, damaged or of another
            architecture; or an architecture with another tokenizer than OpenCLIP's own.
    """

    def __init__(self, settings: OpenClipText, device: str = "cpu") -> None:
        self._architecture = _architecture(settings)
        text = self._architecture.text
        super().__init__(text.context_length, text.width, settings.padding, device)
        self._settings = settings
        self._file = find_weights(self._architecture, settings.checkpoint, _WHERE)
        self._block = text.layers - (1 if settings.layer == "last" else 2)
        self._tokenizer = self._architecture.tokenizer()
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


def _architecture(settings: OpenClipText) -> Architecture:
    """Return the architecture that the settings name. Raises ConfigError."""
    architecture = find_architecture(settings.model, _WHERE, text_only=True)
    if settings.layer == "penultimate" and architecture.text.layers < 2:
        raise ConfigError(
            "text.layer", "got 'penultimate' for a tower of one block", expected="'last'"
        )
    return architecture


def _fingerprint(settings: OpenClipText, architecture: Architecture, file: Path) -> str:
    facts = {
        "text": vars(architecture.text),
        "quick_gelu": architecture.quick_gelu,
        "layer": settings.layer,
        "padding": settings.padding,
        "precision": settings.precision,
        # Not by its name: open_clip's files and copies of them are called differently.
        "weights": digest_of(file),
    }
    return fingerprint_of("openclip", facts, [])


def _load_tower(architecture: Architecture, file: Path) -> Any:
    """Return the frozen text tower, float32, on the CPU. Raises ConfigError."""
    tower = empty_model(architecture, _NO_IMAGES).text
    tower.text_projection = None  # it makes the pooled embedding, which nobody asks for
    expected = {name: value.shape for name, value in tower.state_dict().items()}
    tensors = read_tensors(file, lambda names: _tower_names(file, names, set(expected)))
    # Copied: what was read may still be mapped to the file, and the file may be written over.
    state = {bare_name(name): value.to(torch.float32, copy=True) for name, value in tensors.items()}
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise _foreign(file, f"{name} is {by(state[name].shape)}, not {by(shape)}")
    tower.load_state_dict(state, assign=True)
    return tower.eval().requires_grad_(False)


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


def _foreign(file: Path, problem: str) -> ConfigError:
    return ConfigError(
        str(file),
        f"not weights of this text tower: {problem}",
        expected="an OpenCLIP checkpoint of the architecture at text.model",
    )
