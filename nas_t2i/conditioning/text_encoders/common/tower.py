"""What the pretrained text encoders have in common: batches, padding, float32 out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from nas_t2i.protocol.conditioning import Padding

# Of one forward pass, which bounds its memory: 212 captions of 77 tokens.
_TOKENS_AT_ONCE = 2**14


class Tokens(NamedTuple):
    """Tokenised captions."""

    ids: Tensor  # (N, tokens) int64, padded at the end
    lengths: Tensor  # (N,) int64, tokens up to and with the end of the text


class TextTower(ABC):
    """A frozen text encoder; the kinds say how to tokenise and what the features of tokens are."""

    def __init__(self, tokens: int, width: int, padding: Padding, device: str) -> None:
        self.tokens = tokens
        self.width = width
        self._padding = padding
        self._device = torch.device(device)

    @abstractmethod
    def _tokenize(self, texts: list[str]) -> Tokens:
        """Tokenise, cut and pad."""

    @abstractmethod
    def _features(self, tokens: Tokens) -> Tensor:
        """(N, tokens, width) of tokens that are on the device already."""

    @torch.no_grad()  # not inference mode: a backbone keeps the features for its backward pass
    def encode(self, texts: list[str]) -> Tensor:
        """(N, tokens, width) float32 features, on the encoder's device."""
        features = torch.empty(len(texts), self.tokens, self.width, device=self._device)
        batch = max(1, _TOKENS_AT_ONCE // self.tokens)
        for start in range(0, len(texts), batch):
            tokens = Tokens(*(t.to(self._device) for t in self._tokenize(texts[start:][:batch])))
            features[start : start + batch] = self._features(tokens)
            if self._padding == "zero":
                place = torch.arange(self.tokens, device=self._device)
                features[start : start + batch][place >= tokens.lengths[:, None]] = 0.0
        return features

    def lengths(self, texts: list[str]) -> list[int]:
        """For each text, the first position from which all its features are zero."""
        if self._padding == "keep" or not texts:
            return [self.tokens] * len(texts)
        return [int(length) for length in self._tokenize(texts).lengths]
