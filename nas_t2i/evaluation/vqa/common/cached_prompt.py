"""Prompts that a decoder has read, kept as its attention cache, to be continued many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas_t2i.evaluation.vqa.common.decoding import Continued

# (n, k) tokens, an attention cache that grows by them, the position of the first of them
# -> (n, k, vocabulary) logits of the token after each.
Forward = Callable[[Tensor, Any, int], Tensor]


@dataclass(frozen=True)
class CachedPrompt:
    """n prompts of equal length."""

    cache: Any  # transformers' DynamicCache; never changed once it is here
    last: Tensor  # (n, 1, vocabulary): logits of the token after the prompt
    length: int  # text tokens of a prompt

    def extended(self, forward: Forward, rows: Tensor, tokens: Tensor) -> CachedPrompt:
        """Return the prompts of `rows` (m,) with (m, k) more tokens at their end."""
        if not tokens.shape[1]:
            return CachedPrompt(_of_rows(self.cache, rows), self.last[rows], self.length)
        cache = _of_rows(self.cache, rows)
        logits = forward(tokens, cache, self.length)
        return CachedPrompt(cache, logits[:, -1:], self.length + tokens.shape[1])

    def continued(self, forward: Forward, rows: Tensor, tokens: Tensor) -> Continued:
        """Go on from the prompts of `rows` (m,) with (m, k) tokens; k may be 0."""
        cache, logits, position = _of_rows(self.cache, rows), self.last[rows], self.length
        if tokens.shape[1]:
            logits = torch.cat([logits, forward(tokens, cache, position)], dim=1)
            position += tokens.shape[1]

        def step(latest: Tensor) -> Tensor:
            nonlocal position
            position += 1
            return forward(latest, cache, position - 1)[:, -1]

        return Continued(logits, step)


def _of_rows(cache: Any, rows: Tensor) -> Any:
    """Return a new cache with copies of those rows."""
    return type(cache)([(layer.keys[rows], layer.values[rows]) for layer in cache.layers])
