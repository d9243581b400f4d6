"""Text encoders: captions to the features that a denoiser attends to.

An encoder is frozen, and gives one vector a token; nothing is pooled. `TextEncoder` is what the
rest of the program asks of one, `make_text_encoder` makes the one that a budget names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor

from nas_t2i.conditioning.text_encoders.common.shapes import TOKENS, TextSettings, load_or_train
from nas_t2i.protocol.budget import OpenClipText, ShapesText, TransformersText

EncoderSettings = OpenClipText | TransformersText | ShapesText


class TextEncoder(Protocol):
    """What the rest of the program asks of a text encoder."""

    @property
    def tokens(self) -> int:
        """Tokens of an encoded caption."""

    @property
    def width(self) -> int:
        """Features of a token."""

    @property
    def fingerprint(self) -> str:
        """What the features depend on: equal fingerprints, equal features up to rounding."""

    def encode(self, texts: list[str]) -> Tensor:
        """(N, tokens, width) float32 features, on the encoder's device."""

    def lengths(self, texts: list[str]) -> list[int]:
        """For each text, the first position from which all its features are zero."""


def make_text_encoder(
    settings: EncoderSettings, cache_dir: Path, device: str = "cpu"
) -> TextEncoder:
    """Return the frozen text encoder of a budget.

    The embedded one is trained once and kept in `cache_dir`; it always runs on the CPU, which
    gives the same features everywhere. The others run on `device`.

    Raises:
        ConfigError: the encoder's files are missing, damaged, or of another kind.
        MissingExtraError: a transformers encoder without the package transformers.
    """
    if isinstance(settings, ShapesText):
        return load_or_train(cache_dir, _shapes_settings(settings))
    if isinstance(settings, OpenClipText):
        from nas_t2i.conditioning.text_encoders.common.openclip import OpenClipEncoder

        return OpenClipEncoder(settings, device)
    from nas_t2i.conditioning.text_encoders.common.transformers import TransformersEncoder

    return TransformersEncoder(settings, device)


def text_geometry(settings: EncoderSettings) -> tuple[int, int]:
    """Return (tokens, features a token) from the encoder's config, without its weights.

    Raises:
        ConfigError: there is no such encoder, or its config can't be used.
        MissingExtraError: a transformers encoder without the package transformers.
    """
    if isinstance(settings, ShapesText):
        return TOKENS, settings.width
    if isinstance(settings, OpenClipText):
        from nas_t2i.conditioning.text_encoders.common.openclip import openclip_geometry

        return openclip_geometry(settings)
    from nas_t2i.conditioning.text_encoders.common.transformers import transformers_geometry

    return transformers_geometry(settings)


def text_fingerprint(settings: EncoderSettings) -> str:
    """Return the fingerprint of `make_text_encoder`'s encoder, without loading its weights.

    The weights' files are read once for their hash, and downloaded if they have to be.

    Raises:
        ConfigError: the encoder's files are missing, damaged, or of another kind.
        MissingExtraError: a transformers encoder without the package transformers.
    """
    if isinstance(settings, ShapesText):
        return _shapes_settings(settings).key
    if isinstance(settings, OpenClipText):
        from nas_t2i.conditioning.text_encoders.common.openclip import openclip_fingerprint

        return openclip_fingerprint(settings)
    from nas_t2i.conditioning.text_encoders.common.transformers import transformers_fingerprint

    return transformers_fingerprint(settings)


def _shapes_settings(settings: ShapesText) -> TextSettings:
    return TextSettings(width=settings.width, steps=settings.steps, seed=settings.seed)
