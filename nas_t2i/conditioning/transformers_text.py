"""CLIP and T5 text encoders in the format of transformers, from a folder or a hub.

A folder holds ``config.json``, weights in safetensors and the tokenizer. In a diffusers pipeline
the tokenizer is the folder ``tokenizer`` beside ``text_encoder``; the pipeline's own folder, or its
hub id, means its ``text_encoder``. No code that comes with a model is run.

CLIP gets no attention mask, as in Stable Diffusion: it looks back only, so padding can't touch the
text. T5 looks both ways and gets one. `penultimate` leaves the last block out: the output of the
one before it goes through the encoder's final norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from nas_t2i.conditioning.text_tower import TextTower, Tokens
from nas_t2i.conditioning.weights import (
    CONFIG,
    DTYPES,
    fetch,
    fingerprint_of,
    lasting,
    one_line,
    read_json,
    weights_files,
    weights_patterns,
)
from nas_t2i.errors import ConfigError, MissingExtraError
from nas_t2i.protocol.budget import TransformersText

_WHERE = "text.model"
_STEM = "model"
_ENCODER, _TOKENIZER = "text_encoder", "tokenizer"
# By the model_type of config.json: the classes of the config and of the model.
_KINDS = {
    "clip_text_model": ("CLIPTextConfig", "CLIPTextModel"),
    "clip": ("CLIPTextConfig", "CLIPTextModel"),
    "t5": ("T5Config", "T5EncoderModel"),
}
# Any of the first is a tokenizer; the others change what it does.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")
_TOKENIZER_SETTINGS = (
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def transformers_geometry(settings: TransformersText) -> tuple[int, int]:
    """Return (tokens, features a token). Raises ConfigError, MissingExtraError."""
    model = _find(settings, files=(CONFIG,))
    return settings.tokens, model.config.hidden_size


def transformers_fingerprint(settings: TransformersText) -> str:
    """Return `TransformersEncoder.fingerprint` without the weights in memory.

    Raises:
        ConfigError: a file is missing, damaged, or of another kind of model.
        MissingExtraError: the package transformers is not installed.
    """
    return _fingerprint(settings, _find(settings, _all_files()))


class TransformersEncoder(TextTower):
    """A frozen CLIP or T5 text encoder.

    Raises:
        ConfigError: a file is missing, damaged, or of another kind of model; or more tokens are
            asked for than the model has positions.
        MissingExtraError: the package transformers is not installed.
    """

    def __init__(self, settings: TransformersText, device: str = "cpu") -> None:
        self._found = _find(settings, _all_files())
        super().__init__(settings.tokens, self._found.config.hidden_size, settings.padding, device)
        self._settings = settings
        self._tokenizer = _load_tokenizer(self._found)
        model = _load_model(self._found, settings)
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


@dataclass(frozen=True)
class _Model:
    """Where a model lies and what its config says."""

    folder: Path
    kind: str  # its model_type
    config: Any  # CLIPTextConfig or T5Config

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder: the model's own, or the one beside it in a pipeline."""
        # text_encoder_2 has its tokenizer in tokenizer_2.
        beside = self.folder.parent / self.folder.name.replace(_ENCODER, _TOKENIZER)
        for folder in (self.folder, beside):
            if any((folder / name).is_file() for name in _TOKENIZER_FILES):
                return folder
        raise ConfigError(
            str(self.folder),
            "no tokenizer in it",
            expected=f"one of {', '.join(_TOKENIZER_FILES)} there or in {str(beside)!r}",
        )


def _all_files() -> tuple[str, ...]:
    return (CONFIG, *weights_patterns(_STEM), *_TOKENIZER_FILES, *_TOKENIZER_SETTINGS)


def _find(settings: TransformersText, files: tuple[str, ...]) -> _Model:
    """Return the model, its config read; fetch `files` of a hub id.

    Raises:
        ConfigError: there is no such model, or it is of another kind, or too short.
        MissingExtraError: the package transformers is not installed.
    """
    transformers = _transformers()
    from huggingface_hub.errors import StrictDataclassError

    folder = _model_folder(settings, files)
    kind = read_json(folder / CONFIG).get("model_type")
    if kind not in _KINDS:
        raise ConfigError(
            str(folder / CONFIG), f"got a model of type {kind!r}", expected=", ".join(_KINDS)
        )
    config_class = getattr(transformers, _KINDS[kind][0])
    with _quiet():
        try:
            config = config_class.from_pretrained(folder, local_files_only=True)
        except (OSError, TypeError, ValueError, StrictDataclassError) as error:
            raise ConfigError(
                str(folder / CONFIG), f"not a config of a {kind} ({one_line(error)})"
            ) from None
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
    return _Model(folder, kind, config)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("the text encoder 'transformers'", "text") from None
    return transformers


def _model_folder(settings: TransformersText, files: tuple[str, ...]) -> Path:
    parts = (_ENCODER, _TOKENIZER)
    wanted = [*files, *(f"{part}/{file}" for part in parts for file in files)]
    folder = fetch(settings.model, settings.revision, wanted, _WHERE)
    if not (folder / CONFIG).is_file() and (folder / _ENCODER / CONFIG).is_file():
        return folder / _ENCODER
    return folder


def _fingerprint(settings: TransformersText, model: _Model) -> str:
    facts = {
        "config": lasting(read_json(model.folder / CONFIG)),
        "tokens": settings.tokens,
        "layer": settings.layer,
        "padding": settings.padding,
        "precision": settings.precision,
    }
    names = (*_TOKENIZER_FILES, *_TOKENIZER_SETTINGS)
    tokenizer = [file for name in names if (file := model.tokenizer / name).is_file()]
    files = [*weights_files(model.folder, _STEM), *tokenizer]
    return fingerprint_of(f"transformers-{model.kind}", facts, files)


def _load_tokenizer(model: _Model) -> Any:
    folder = model.tokenizer
    try:
        with _quiet():
            tokenizer = _transformers().AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, padding_side="right"
            )
    except ImportError:
        raise MissingExtraError(f"the tokenizer in {str(folder)!r}", "text") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            str(folder), f"the tokenizer can't be loaded ({one_line(error)})"
        ) from None
    if tokenizer.pad_token_id is None:
        raise ConfigError(str(folder), "the tokenizer has no padding token")
    return tokenizer


def _load_model(model: _Model, settings: TransformersText) -> Any:
    """Return the frozen encoder, in its checkpoint's precision. Raises ConfigError."""
    files = weights_files(model.folder, _STEM)
    config = model.config
    if settings.layer == "penultimate":
        config = type(config).from_dict(config.to_dict())
        config.num_hidden_layers -= 1
    model_class = getattr(_transformers(), _KINDS[model.kind][1])
    with _quiet():
        loaded, report = model_class.from_pretrained(
            model.folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            # Reported below, as one line.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"])
    others = sorted(str(key[0]) for key in report["mismatched_keys"])
    if missing or others:
        what = f"no {missing[0]}" if missing else f"{others[0]} of another size"
        raise ConfigError(
            str(files[0]),
            f"not weights of the {model.kind} of {CONFIG}: {what} "
            f"({len(missing) + len(others)} such tensors)",
        )
    return loaded.eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report of tensors left out, which is no news: they are meant to be."""
    log = _transformers().utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
