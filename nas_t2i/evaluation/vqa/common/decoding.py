"""Greedy decoding, and how likely a given text is, for batches of rows of equal length.

A library's own generation reads a checkpoint's generation settings (beams, penalties, sampling),
which differ from release to release. This does one thing, the same for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor

# (n, 1) tokens, the latest of each row -> (n, vocabulary) logits of the token after them.
Step = Callable[[Tensor], Tensor]


class Continued(NamedTuple):
    """What a model makes of rows whose prompt is followed by k given tokens."""

    logits: Tensor  # (n, k + 1, vocabulary): of the token after the prompt, and after each token
    step: Step  # goes on from there


def greedy(start: Continued, ends: Sequence[int], limit: int) -> list[list[int]]:
    """Return the likeliest next tokens of each row, up to one of `ends`, at most `limit`."""
    logits, chosen = start.logits[:, -1], []
    done = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    stops = torch.tensor(ends, device=logits.device)
    while True:
        tokens = logits.argmax(dim=-1)
        chosen.append(tokens)
        done |= torch.isin(tokens, stops)
        if len(chosen) == limit or bool(done.all()):
            break
        logits = start.step(tokens[:, None])
    # Rows that ended early went on with the others; what came after their end is dropped.
    rows = torch.stack(chosen, dim=1).tolist()
    return [list(takewhile(lambda token: token not in ends, row)) for row in rows]


def log_likelihood(logits: Tensor, tokens: Tensor) -> Tensor:
    """(n,) float32: sum of the log-probabilities of (n, k) tokens under (n, k, V) logits."""
    log_probabilities = logits.float().log_softmax(dim=-1)
    return log_probabilities.gather(-1, tokens[..., None])[..., 0].sum(dim=-1)


def equal_batches(keys: Iterable[object], size: int) -> list[list[int]]:
    """Return positions in batches of at most `size`, those of a batch having equal keys."""
    groups: dict[object, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return [
        group[first : first + size]
        for group in groups.values()
        for first in range(0, len(group), size)
    ]
