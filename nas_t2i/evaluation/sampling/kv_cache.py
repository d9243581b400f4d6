"""The attention of a diffusers model while it samples: the same results, less work.

While a batch is sampled its text stays the same, so the keys and values of cross-attention are
projected at the first step and kept for the others; of the unconditional half, whose images all
have the null text, they are projected for one image. And on the CPU the heads of small models,
a few numbers wide with a few tokens to look at, are taken many at a time: PyTorch's kernel goes
head by head, which costs there several times what the arithmetic does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Split = Callable[[Tensor, int], Tensor]

# Keys and values kept at a time; what would not fit is projected at every step.
_KEPT_BYTES = 2**30
# Up to this product of head width and tokens looked at, a pass over all heads for each of their
# numbers is faster than PyTorch's kernel (benchmarks/sampling_speed.py --attention).
_SMALL_HEAD = 100


@contextmanager
def sampling_attention(denoiser: object, conditional: int) -> Iterator[None]:
    """Let `denoiser` sample one batch with this attention; afterwards it has its own again.

    Inside, every call must have the same text: `conditional` rows, then any number of rows that
    are all the null text. What is no module, compiled, or has attention of another kind than
    diffusers' plain one is left as it is.
    """
    ours = _plain_attentions(denoiser)
    own = [attention.processor for attention in ours]
    room = _Room(_KEPT_BYTES)
    for attention in ours:
        attention.processor = _Processor(attention.processor, conditional, room)
    try:
        yield
    finally:
        for attention, processor in zip(ours, own, strict=True):
            attention.processor = processor


def _plain_attentions(denoiser: object) -> list[Any]:
    """Return the modules that do nothing but project, attend and project."""
    if not isinstance(denoiser, nn.Module):
        return []
    from diffusers.models.attention_processor import Attention, AttnProcessor2_0

    modules = list(denoiser.modules())
    # Compiled code was traced with the attention it has.
    if any(module._compiled_call_impl is not None for module in modules):
        return []
    return [
        module
        for module in modules
        if isinstance(module, Attention)
        and type(module.processor) is AttnProcessor2_0
        and not module.residual_connection
        and module.rescale_output_factor == 1
        and not module.norm_cross
        and all(
            norm is None
            for norm in (module.spatial_norm, module.group_norm, module.norm_q, module.norm_k)
        )
    ]


class _Room:
    """What is left of the memory for keys and values, in bytes."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, *tensors: Tensor) -> bool:
        """Take the room of `tensors` if there is enough."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if size > self._left:
            return False
        self._left -= size
        return True


class _Processor:
    """Takes the place of one attention's `AttnProcessor2_0` for one batch."""

    def __init__(self, plain: Any, conditional: int, room: _Room) -> None:
        self._plain, self._conditional, self._room = plain, conditional, room
        self._text: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """(N, tokens, width) for as much; diffusers names and orders the arguments."""
        if attention_mask is not None or hidden_states.ndim != 3:
            out: Tensor = self._plain(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb
            )
            return out
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.to_q(hidden_states)
        small = (
            query.device.type == "cpu"
            and query.dtype == torch.float32
            and query.shape[-1] // attn.heads * seen.shape[1] <= _SMALL_HEAD
        )
        split: Split = _split_small if small else _split
        if encoder_hidden_states is None:
            key, value = split(attn.to_k(seen), attn.heads), split(attn.to_v(seen), attn.heads)
        else:
            key, value = self._text_keys(attn, seen, split)
        if small:
            out = _join_small(_attend_small(split(query, attn.heads), key, value), len(query))
        else:
            out = functional.scaled_dot_product_attention(split(query, attn.heads), key, value)
            out = out.transpose(1, 2).flatten(2)
        for layer in attn.to_out:  # a projection and a dropout
            out = layer(out)
        return out

    def _text_keys(self, attn: Any, text: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        """Return keys and values of the text of all rows, in the layout that `split` gives."""
        if self._text is not None:
            return self._text
        null_rows = len(text) - self._conditional
        distinct = text[: self._conditional + 1] if null_rows else text
        key, value = (
            split(_repeat_last(project(distinct), null_rows - 1), attn.heads)
            for project in (attn.to_k, attn.to_v)
        )
        if self._room.take(key, value):
            self._text = key, value
        return key, value


def _repeat_last(rows: Tensor, times: int) -> Tensor:
    """Append the last row that many times."""
    if times <= 0:
        return rows
    return torch.cat([rows, rows[-1:].expand(times, *rows.shape[1:])])


def _split(x: Tensor, heads: int) -> Tensor:
    """(N, tokens, heads * width) to (N, heads, tokens, width)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _split_small(x: Tensor, heads: int) -> Tensor:
    """(N, tokens, heads * width) to (tokens, width, N * heads), contiguous."""
    return x.view(*x.shape[:2], heads, -1).permute(1, 3, 0, 2).flatten(2)


def _join_small(x: Tensor, n: int) -> Tensor:
    """(tokens, width, N * heads) to (N, tokens, heads * width)."""
    return x.view(*x.shape[:2], n, -1).permute(2, 0, 3, 1).flatten(2)


def _attend_small(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention in the layout of `_split_small`, one number at a time."""
    width, seen = query.shape[1], key.shape[0]
    query = query * width**-0.5
    scores = query[:, None, 0] * key[None, :, 0]  # (tokens, seen, N * heads)
    for i in range(1, width):
        scores.addcmul_(query[:, None, i], key[None, :, i])
    weights = scores.softmax(1)
    out = weights[:, 0, None] * value[None, 0]
    for i in range(1, seen):
        out.addcmul_(weights[:, i, None], value[None, i])
    return out
