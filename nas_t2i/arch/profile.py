"""Arch -> Profile: parameters, GMACs, the share of attention, by level.

The model is built on torch's meta device, where tensors have shapes and no memory, and called once.
A function mode sees every torch function of that call. What fvcore has a count for is counted by
fvcore's own handles from the shapes of inputs and outputs; so the numbers are fvcore's, without the
weights, the arithmetic and the tracing. The few functions that make up most of a denoiser are not
even run: their output's shape is known.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nas_t2i.arch.catalog import name_of
from nas_t2i.arch.spec import Arch
from nas_t2i.records import LevelProfile, Profile

with warnings.catch_warnings():
    # On import fvcore scripts a loss function, which torch deprecates; nothing here uses it.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS as FVCORE_HANDLES
    from fvcore.nn.jit_analysis import _IGNORED_OPS as FVCORE_IGNORED

MID, OUTSIDE = "mid", "outside"
SDPA = "scaled_dot_product_attention"


@dataclass(frozen=True, slots=True)
class Part:
    """Where in the model something runs: the level, and whether inside an attention module."""

    level: str
    attention: bool


@dataclass(frozen=True)
class Count:
    """Exact counts of one forward pass at batch 1, in whole numbers.

    ``macs`` has multiply-adds by part and fvcore's name of the operator; those of
    ``scaled_dot_product_attention``, which fvcore leaves out, stand beside the others.
    """

    params: Mapping[str, int]
    macs: Mapping[tuple[Part, str], int]
    uncounted: Mapping[str, int]

    def total(
        self,
        *,
        sdpa: bool = True,
        attention_only: bool = False,
        levels: Iterable[str] | None = None,
        without: Iterable[str] = (),
    ) -> int:
        """Sum multiply-adds: with or without SDPA, of attention only, of some levels only."""
        wanted = None if levels is None else set(levels)
        unwanted = set(without)
        return sum(
            macs
            for (part, operator), macs in self.macs.items()
            if (sdpa or operator != SDPA)
            and (part.attention or not attention_only)
            and (wanted is None or part.level in wanted)
            and part.level not in unwanted
        )


def profile(
    arch: Arch, *, latent_size: int = 32, text_tokens: int = 77, name: str | None = None
) -> Profile:
    """Profile one denoising forward pass at batch 1: exact, without weights in memory.

    Args:
        arch: the architecture.
        latent_size: side of the square latent in latent pixels (32 is 256 px with an 8x codec).
        text_tokens: tokens of the text.
        name: name in the result; default: the paper's name of the architecture, or its label.

    Raises:
        ArchError: latents of that side do not fit the architecture.
    """
    counted = count(arch, latent_size=latent_size, text_tokens=text_tokens)
    macs, attention = counted.total(), counted.total(attention_only=True)
    return Profile(
        name=name_of(arch) if name is None else name,
        arch_id=arch.arch_id,
        family=arch.FAMILY,
        params=sum(counted.params.values()),
        gmacs=macs / 1e9,
        gmacs_paper=counted.total(sdpa=False) / 1e9,
        attention_gmacs=attention / 1e9,
        attention_gmacs_paper=counted.total(sdpa=False, attention_only=True) / 1e9,
        attention_gmacs_paper_no_mid=counted.total(sdpa=False, attention_only=True, without=[MID])
        / 1e9,
        attention_share=attention / macs,
        uncounted_ops=dict(sorted(counted.uncounted.items())),
        latent_size=latent_size,
        text_tokens=text_tokens,
        levels=[
            LevelProfile(
                level=level,
                params=params,
                gmacs=counted.total(levels=[level]) / 1e9,
                attention_gmacs=counted.total(levels=[level], attention_only=True) / 1e9,
            )
            for level, params in sorted(counted.params.items(), key=_level_order)
        ],
    )


def count(arch: Arch, *, latent_size: int = 32, text_tokens: int = 77) -> Count:
    """Count parameters and multiply-adds of one forward pass at batch 1.

    Raises:
        ArchError: latents of that side do not fit the architecture.
    """
    with torch.no_grad(), torch.device("meta"):
        model = arch.build(latent_size).eval()
        levels = _Levels(model)
        params: Counter[str] = Counter()
        for name, parameter in model.named_parameters():
            params[levels.of(name)] += parameter.numel()
        latent_channels, text_dim = _input_widths(arch)
        latents = torch.empty(1, latent_channels, latent_size, latent_size)
        timestep = torch.empty(1)
        text = torch.empty(1, text_tokens, text_dim)
    counter = _Counter()
    _follow(model, levels, counter)
    # The device context is a function mode too: outside it, a call costs one mode less.
    with torch.no_grad(), counter:
        arch.call(model, latents, timestep, text)
    return Count(params=params, macs=counter.macs, uncounted=counter.uncounted)


def _input_widths(arch: Arch) -> tuple[int, int]:
    """Return the channels of the latents and the width of a text token."""
    data = arch.model_dump(include={"latent_channels", "text_dim"})
    return data["latent_channels"], data["text_dim"]


# ---- where: levels and attention modules --------------------------------------------------------

_BLOCK = re.compile(r"(?:(down_blocks|up_blocks|transformer_blocks)\.(\d+)|(mid_block))(?=\.|$)")
# UNets keep their attention modules in lists of that name: whole Transformer2DModels (projections,
# self- and cross-attention, feed-forward), or IF's Attention. In a plain transformer every block is
# attention in that sense.
_ATTENTION = re.compile(r".*\.attentions\.\d+|transformer_blocks\.\d+")


class _Levels:
    """Names the level of every module of a model by the module's name.

    "1x", "2x", ...: the down-sampling rate that a UNet's block (its down- or up-sampler included)
    or a transformer's patches work at; "mid"; "outside" for what frames them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._n_up = len(getattr(model, "up_blocks", ()))
        self._patch = int(getattr(model, "config", {}).get("patch_size", 1))

    def of(self, name: str) -> str:
        match = _BLOCK.match(name)
        if match is None:
            return OUTSIDE
        kind, index, mid = match.groups()
        if mid:
            return MID
        if kind == "transformer_blocks":
            return f"{self._patch}x"
        level = int(index) if kind == "down_blocks" else self._n_up - 1 - int(index)
        return f"{2**level}x"


def _follow(model: nn.Module, levels: _Levels, counter: _Counter) -> None:
    """Let the counter know which block and which attention module is running."""
    for name, module in model.named_modules():
        match = _BLOCK.fullmatch(name)
        attention = _ATTENTION.fullmatch(name) is not None
        if match is None and not attention:
            continue
        part = Part(levels.of(name), attention)

        def enter(_module: nn.Module, _inputs: Any, part: Part = part) -> None:
            counter.parts.append(part)

        def leave(_module: nn.Module, _inputs: Any, _outputs: Any) -> None:
            counter.parts.pop()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)


def _level_order(item: tuple[str, int]) -> tuple[int, int]:
    level = item[0]
    if level in (MID, OUTSIDE):
        return (1, [MID, OUTSIDE].index(level))
    return (0, int(level.removesuffix("x")))


# ---- how much: fvcore's handles on the shapes of one call ---------------------------------------


class _Value:
    """A value of a call as fvcore's handles read it from a jit graph: a shape or a constant."""

    def __init__(self, value: Any) -> None:
        self._value = value

    # The names are those of torch._C.Value.
    def isCompleteTensor(self) -> bool:  # noqa: N802
        return isinstance(self._value, Tensor)

    def type(self) -> _Value:
        return self

    def sizes(self) -> list[int]:
        return list(self._value.shape)

    def toIValue(self) -> Any:  # noqa: N802
        return self._value

    def node(self) -> _Value:
        return self

    def inputs(self) -> list[_Value]:
        return [_Value(item) for item in self._value]


def _linear(x: Tensor, weight: Tensor, _bias: Tensor | None = None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _attend(query: Tensor, _key: Tensor, value: Tensor, *_args: Any, **_options: Any) -> Tensor:
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


def _same_shape(x: Tensor, *_args: Any, **_options: Any) -> Tensor:
    return x.new_empty(x.shape)


def _broadcast(x: Tensor, other: Tensor | float) -> Tensor:
    if not isinstance(other, Tensor) or other.shape == x.shape:
        return x.new_empty(x.shape)
    shape = torch.broadcast_shapes(x.shape, other.shape)  # type: ignore[no-untyped-call]
    return x.new_empty(shape)


# On the meta device these take 0.1 to 0.8 ms a call, nearly all the time of a forward pass. Only
# the shape of their results matters here, so dense tensors of that shape will do.
_SHORTCUTS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.linear: _linear,
    F.scaled_dot_product_attention: _attend,
    F.layer_norm: _same_shape,
    F.group_norm: _same_shape,
    F.gelu: _same_shape,
    F.silu: _same_shape,
    Tensor.add: _broadcast,
    Tensor.mul: _broadcast,
    Tensor.div: _broadcast,
}

# Python's name of a function -> the jit operator's, where the two differ.
_JIT_NAMES = {
    "conv1d": "_convolution",
    "conv2d": "_convolution",
    "conv3d": "_convolution",
    "__getitem__": "slice",
    "float": "to",
}


class _Counter(TorchFunctionMode):
    """Counts every torch function called while active, in the part that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [Part(OUTSIDE, attention=False)]
        self.macs: Counter[tuple[Part, str]] = Counter()
        self.uncounted: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run (or skip) one function on meta tensors and count it."""
        kwargs = kwargs or {}
        call: Callable[..., Any] = _SHORTCUTS.get(func, func)
        output = call(*args, **kwargs)
        # Anything else (a shape, a device, a number of elements) is no operator on data.
        if isinstance(output, Tensor):
            self._count(_jit_name(func, kwargs), args, kwargs, output)
        return output

    def _count(
        self, operator: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> None:
        handle = FVCORE_HANDLES.get(operator)
        if handle is not None:
            inputs = [_Value(a) for a in _jit_inputs(operator, args, kwargs)]
            counted = handle(inputs, [_Value(output)])
            simple = operator.removeprefix("aten::")
            by_name = counted if isinstance(counted, Counter) else {simple: counted}
            for name, macs in by_name.items():
                self.macs[self.parts[-1], name] += int(macs)
        elif operator not in FVCORE_IGNORED:
            self.uncounted[operator] += 1
        if operator == f"aten::{SDPA}":
            self.macs[self.parts[-1], SDPA] += _attention_macs(*args[:3])


def _attention_macs(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Count softmax(Q K^T) V, two products: Q [..., L, E] with K [..., S, E], V [..., S, Ev]."""
    queries = query.shape[:-1].numel()
    return queries * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _jit_name(func: Callable[..., Any], kwargs: Mapping[str, Any]) -> str:
    """Return the name that fvcore would find this function under, e.g. ``aten::add``."""
    name = func.__name__
    if name == "interpolate":
        return f"aten::upsample_{kwargs.get('mode', 'nearest')}2d"
    return f"aten::{_JIT_NAMES.get(name, name)}"


def _jit_inputs(operator: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Arrange a call's arguments as fvcore's handle for the operator expects them."""
    if operator == "aten::_convolution":
        transposed = False
        return [*args[:2], None, None, None, None, transposed, *[None] * 6]
    if operator == "aten::einsum":
        return [args[0], list(args[1:])]
    if operator in ("aten::group_norm", "aten::layer_norm") and "weight" in kwargs:
        return [*args[:2], kwargs["weight"]]
    return list(args)
