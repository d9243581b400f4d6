"""CLIP and T5 text encoders in the format of transformers, from a folder or a hub.

A folder holds ``config.json``, weights in safetensors and the tokenizer. In a diffusers pipeline
the tokenizer is the folder ``tokenizer`` beside ``text_encoder``; the pipeline's own folder, or its
hub id, means its ``text_encoder``. No code that comes with a model is run.

CLIP gets no attention mask, as in Stable Diffusion: it looks back only, so padding can't touch the
text. T5 looks both ways and gets one. `penultimate` leaves the last block out: the output of the
one before it goes through the encoder's final norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from nas_t2i.conditioning.pretrained import (
    ENCODER,
    TOKENIZER,
    Checkpoint,
    checkpoint_files,
    load_tokenizer,
    load_weights,
    read_checkpoint,
    transformers_library,
)
from nas_t2i.conditioning.text_encoders.common.tower import TextTower, Tokens
from nas_t2i.conditioning.weights import CONFIG, DTYPES, fetch, fingerprint_of, lasting
from nas_t2i.errors import ConfigError
from nas_t2i.files import read_json
from nas_t2i.protocol.conditioning import LAYER, PADDING, Layer, Padding, TextEncoderSettings

_WHERE = "text.model"
_WHAT = "the text encoder 'transformers'"
# By the model_type of config.json. A whole CLIP's config has its text tower's inside.
_CONFIG_CLASSES = {
    "clip_text_model": "CLIPTextConfig",
    "clip": "CLIPTextConfig",
    "t5": "T5Config",
}
_MODEL_CLASSES = {
    "clip_text_model": "CLIPTextModel",
    "clip": "CLIPTextModel",
    "t5": "T5EncoderModel",
}
# What tokenizers of CLIP and T5 are read from; others don't count in a fingerprint.
_TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model")
_FILES = checkpoint_files(_TOKENIZERS)


class TransformersText(TextEncoderSettings):
    """A transformers CLIP or T5 text encoder, frozen."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {
        "tokens": 10,
        "layer": "last",
        "padding": "zero",
        "precision": "fp32",
    }  # and a model

    encoder: Literal["transformers"]
    model: str = Field(description="a local folder or a hub id")
    revision: str | None = Field(default=None, description="of a hub id: branch, tag or commit")
    tokens: int = Field(ge=1, description="longest text, in tokens; longer ones are cut")
    layer: Layer = Field(description=LAYER)
    padding: Padding = Field(description=PADDING)
    precision: Literal["fp32", "bf16"] = Field(description="of the encoder's arithmetic")

    def geometry(self) -> tuple[int, int]:
        """Return (tokens, features a token); see `TextEncoderSettings.geometry`."""
        return transformers_geometry(self)

    def fingerprint(self) -> str:
        """Return `TransformersEncoder.fingerprint` without the weights in memory."""
        return transformers_fingerprint(self)

    def load(self, cache_dir: Path, device: str = "cpu") -> TransformersEncoder:  # noqa: ARG002  nothing is kept
        """Load the tower; see `TextEncoderSettings.load`."""
        return TransformersEncoder(self, device)


def transformers_geometry(settings: TransformersText) -> tuple[int, int]:
    """Return (tokens, features a token). Raises ConfigError, MissingExtraError."""
    model = _find(settings, (CONFIG,))
    return settings.tokens, model.config.hidden_size


def transformers_fingerprint(settings: TransformersText) -> str:
    """Return `TransformersEncoder.fingerprint` without the weights in memory.

    Raises:
        ConfigError: a file is missing, damaged, or of another kind of model.
        MissingExtraError: the package transformers is not installed.
    """
    return _fingerprint(settings, _find(settings, _FILES))


class TransformersEncoder(TextTower):
    """A frozen CLIP or T5 text encoder.

    Raises:
        ConfigError: a file is missing, damaged, or of another kind of model; or more tokens are
            asked for than the model has positions.
        MissingExtraError: the package transformers is not installed.
    """

    def __init__(self, settings: TransformersText, device: str = "cpu") -> None:
        self._found = _find(settings, _FILES)
        super().__init__(settings.tokens, self._found.config.hidden_size, settings.padding, device)
        self._settings = settings
        self._tokenizer = _load_tokenizer(self._found)
        model = _load_model(self._found, settings.layer)
        self._model = model.to(self._device, DTYPES[settings.precision])

    @cached_property
    def fingerprint(self) -> str:
        """What the features depend on: configs, bytes of weights and tokenizer, settings."""
        return _fingerprint(self._settings, self._found)

    def _tokenize(self, texts: list[str]) -> Tokens:
        out = self._tokenizer(
            texts,
            padding="max_length",
            max_length=self.tokens,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return Tokens(out["input_ids"], out["attention_mask"].sum(dim=1))

    def _features(self, tokens: Tokens) -> Tensor:
        mask = None
        if self._found.kind == "t5":
            place = tokens.lengths.new_tensor(range(self.tokens))
            mask = (place < tokens.lengths[:, None]).long()
        features: Tensor = self._model(input_ids=tokens.ids, attention_mask=mask).last_hidden_state
        return features


def _find(settings: TransformersText, files: tuple[str, ...]) -> Checkpoint:
    """Return the model, its config read; fetch `files` of a hub id.

    Raises:
        ConfigError: there is no such model, or it is of another kind, or too short.
        MissingExtraError: the package transformers is not installed.
    """
    transformers_library(_WHAT)  # before anything is downloaded
    folder = _model_folder(settings, files)
    found = read_checkpoint(folder, _WHAT, _CONFIG_CLASSES, _TOKENIZERS)
    config = found.config
    positions = getattr(config, "max_position_embeddings", settings.tokens)
    if settings.tokens > positions:
        raise ConfigError(
            "text.tokens",
            f"got {settings.tokens} for {settings.model!r}",
            expected=f"at most {positions}, the positions that it has",
        )
    if settings.layer == "penultimate" and config.num_hidden_layers < 2:
        raise ConfigError(
            "text.layer", "got 'penultimate' for an encoder of one block", expected="'last'"
        )
    return found


def _model_folder(settings: TransformersText, files: tuple[str, ...]) -> Path:
    wanted = [*files, *(f"{part}/{file}" for part in (ENCODER, TOKENIZER) for file in files)]
    folder = fetch(settings.model, settings.revision, wanted, _WHERE)
    if not (folder / CONFIG).is_file() and (folder / ENCODER / CONFIG).is_file():
        return folder / ENCODER
    return folder


def _fingerprint(settings: TransformersText, found: Checkpoint) -> str:
    facts = {
        "config": lasting(read_json(found.folder / CONFIG)),
        "tokens": settings.tokens,
        "layer": settings.layer,
        "padding": settings.padding,
        "precision": settings.precision,
    }
    files = [*found.weights_files, *found.tokenizer_files]
    return fingerprint_of(f"transformers-{found.kind}", facts, files)


def _load_tokenizer(found: Checkpoint) -> Any:
    tokenizer = load_tokenizer(found, padding_side="right")
    if tokenizer.pad_token_id is None:
        raise ConfigError(str(found.tokenizer_folder), "the tokenizer has no padding token")
    return tokenizer


def _load_model(found: Checkpoint, layer: Layer) -> Any:
    """Return the frozen encoder, in its checkpoint's precision. Raises ConfigError."""
    if layer == "penultimate":
        config = type(found.config).from_dict(found.config.to_dict())
        config.num_hidden_layers -= 1
        found = replace(found, config=config)
    model_class = getattr(transformers_library(_WHAT), _MODEL_CLASSES[found.kind])
    return load_weights(found, model_class, dtype=None)
