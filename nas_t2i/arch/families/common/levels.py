"""What the UNet families share: levels, where attention sits, the checks, the proxy.

Level i works on latents down-sampled by the rate 2**i and is ``channels * channel_mult[i]`` wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from nas_t2i.arch.families.common.bounds import (
    MOST_BLOCKS,
    MOST_DEPTH,
    MOST_LEVELS,
    MOST_RES_BLOCKS,
    MOST_WIDTH,
    LatentChannels,
    TextWidth,
    Width,
)
from nas_t2i.arch.spec import Arch, JsonDict, ProxyRule, invalid
from nas_t2i.errors import ArchError
from nas_t2i.yaml_files import Key, describe

ResBlocks = Annotated[int, Field(ge=1, le=MOST_RES_BLOCKS)]
Depth = Annotated[int, Field(ge=0, le=MOST_DEPTH)]


class LevelledUNet(Arch):
    """A UNet: levels of residual blocks, some of them with attention over image and text.

    ``transformer_depth`` may be written as a list with one depth a level, or as a mapping from the
    level's down-sampling rate (1, 2, 4, ...) to its depth, where a missing rate means 0.
    ``attention_resolutions``, the rates of the levels that hold attention, may be given beside it
    and must then agree with it. A factor common to all of ``channel_mult`` is moved to
    ``channels``.
    """

    EXAMPLE: ClassVar[Mapping[str, Any]] = {
        "channels": 64,
        "channel_mult": [1, 2],
        "transformer_depth": [0, 1],
    }

    channels: Width = Field(description="channels of the first level")
    channel_mult: tuple[Width, ...] = Field(
        max_length=MOST_LEVELS, description="width of each level, in units of channels"
    )
    res_blocks: ResBlocks = Field(
        default=2, description="residual blocks a level on the way down; one more on the way up"
    )
    transformer_depth: tuple[Depth, ...] = Field(
        description="transformer blocks in each attention module, by level; 0: no attention"
    )
    # Filled in before validation: this default is never seen.
    mid_depth: Depth = Field(
        default=0,
        description="the same of the mid block; default: that of the deepest level with attention",
    )
    head_dim: Width = Field(default=64, description="channels of one attention head")
    norm_groups: Width = Field(default=32, description="groups of every group norm")
    text_dim: TextWidth = Field(default=1024, description="width of a text token's embedding")
    latent_channels: LatentChannels = Field(default=4, description="channels of the latents")

    @property
    def rates(self) -> tuple[int, ...]:
        """The down-sampling rate of each level: 1, 2, 4, ..."""
        return tuple(2**level for level in range(len(self.channel_mult)))

    @property
    def widths(self) -> tuple[int, ...]:
        """The channels of each level."""
        return tuple(self.channels * mult for mult in self.channel_mult)

    @property
    def has_attention(self) -> bool:
        """Whether any level, or the mid block, attends to the text."""
        return self.mid_depth > 0 or any(self.transformer_depth)

    def canonical(self) -> JsonDict:
        """Return the canonical form; without attention no head and no text width matters."""
        data = super().canonical()
        if not self.has_attention:
            del data["head_dim"], data["text_dim"]
        return data

    @model_validator(mode="before")
    @classmethod
    def _accept_spellings(cls, data: Any) -> Any:
        """Bring the accepted spellings into the one form that the fields check."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        for key in ("channel_mult", "transformer_depth", "attention_resolutions"):
            if isinstance(data.get(key), list):
                data[key] = tuple(data[key])
        mult, depth = data.get("channel_mult"), data.get("transformer_depth")
        if mult == ():
            raise invalid(
                cls.FAMILY, ("channel_mult",), mult, "got []; expected at least one level"
            )
        if isinstance(mult, tuple) and len(mult) > MOST_LEVELS:
            problem = f"got {len(mult)} levels; expected at most {MOST_LEVELS}"
            raise invalid(cls.FAMILY, ("channel_mult",), mult, problem)
        if isinstance(mult, tuple) and isinstance(depth, Mapping):
            depth = data["transformer_depth"] = cls._depth_by_level(depth, len(mult))
        cls._take_out_common_factor(data)
        if "attention_resolutions" in data:
            allowed = data.pop("attention_resolutions")
            cls._check_attention_resolutions(allowed, mult, depth)
        if data.get("mid_depth") is None:
            data["mid_depth"] = _deepest_depth(depth)
        return data

    @classmethod
    def _take_out_common_factor(cls, data: dict[str, Any]) -> None:
        """Write 160 channels x [2, 4] as 320 x [1, 2]: only the products mean anything."""
        channels: Any = data.get("channels")
        mult: Any = data.get("channel_mult")
        if not isinstance(mult, tuple) or not all(_is_count(m) for m in (channels, *mult)):
            return  # the fields' own checks report what is wrong
        factor = math.gcd(*mult)
        data["channels"] = channels * factor
        data["channel_mult"] = tuple(m // factor for m in mult)

    @classmethod
    def _depth_by_level(cls, depth: Mapping[Any, Any], levels: int) -> tuple[Any, ...]:
        rates = [2**level for level in range(levels)]
        by_level: list[Any] = [0] * levels
        seen: set[Any] = set()
        for key, value in depth.items():
            # JSON has text keys only.
            rate = int(key) if isinstance(key, str) and key.isdecimal() else key
            if isinstance(rate, bool) or rate not in rates:
                problem = f"got the rate {describe(key)}; expected one of {_listed(rates)}"
                raise invalid(cls.FAMILY, ("transformer_depth", key), key, problem)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                problem = f"got {describe(value)}; expected a whole number of at least 0"
                raise invalid(cls.FAMILY, ("transformer_depth", key), value, problem)
            if rate in seen:
                problem = f"the rate {rate} stands twice; expected each rate once"
                raise invalid(cls.FAMILY, ("transformer_depth", key), value, problem)
            seen.add(rate)
            by_level[rates.index(rate)] = value
        return tuple(by_level)

    @classmethod
    def _check_attention_resolutions(cls, allowed: Any, mult: Any, depth: Any) -> None:
        key: tuple[Key, ...] = ("attention_resolutions",)
        if not isinstance(allowed, tuple):
            problem = f"got {describe(allowed)}; expected a list of down-sampling rates"
            raise invalid(cls.FAMILY, key, allowed, problem)
        if not isinstance(mult, tuple) or not isinstance(depth, tuple) or len(mult) != len(depth):
            return  # the fields' own checks report what is wrong
        rates = [2**level for level in range(len(mult))]
        for place, rate in enumerate(allowed):
            at = (*key, place)
            if isinstance(rate, bool) or rate not in rates:
                problem = f"got {describe(rate)}; expected one of the rates {_listed(rates)}"
                raise invalid(cls.FAMILY, at, rate, problem)
            if not depth[rates.index(rate)]:
                problem = (
                    f"got {rate}, but transformer_depth is 0 at rate {rate}; expected a depth of "
                    "at least 1 there, or no such rate here"
                )
                raise invalid(cls.FAMILY, at, rate, problem)
        for rate, level_depth in zip(rates, depth, strict=True):
            if level_depth and rate not in allowed:
                problem = (
                    f"got depth {describe(level_depth)} at rate {rate}, where "
                    f"attention_resolutions {describe(list(allowed))} allow none; expected 0"
                )
                raise invalid(cls.FAMILY, ("transformer_depth",), level_depth, problem)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        levels = len(self.channel_mult)
        if len(self.transformer_depth) != levels:
            problem = (
                f"got {len(self.transformer_depth)} values; expected {levels}, one for each level "
                "of channel_mult"
            )
            raise invalid(self.FAMILY, ("transformer_depth",), self.transformer_depth, problem)
        for level, width in enumerate(self.widths):
            self._check_width(level, width, self.norm_groups, "norm_groups")
            if self.transformer_depth[level]:
                self._check_width(level, width, self.head_dim, "head_dim")
        if self.mid_depth:
            self._check_width(levels - 1, self.widths[-1], self.head_dim, "head_dim")
        self._check_blocks()
        self._check_family()
        return self

    def _check_blocks(self) -> None:
        modules = 2 * self.res_blocks + 1  # of a level: on the way down, and one more up
        transformers = modules * sum(self.transformer_depth) + self.mid_depth
        blocks = modules * len(self.channel_mult) + transformers
        if blocks > MOST_BLOCKS:
            problem = (
                f"got {self.res_blocks}, which makes {blocks} residual and transformer blocks; "
                f"expected at most {MOST_BLOCKS} in all"
            )
            raise invalid(self.FAMILY, ("res_blocks",), self.res_blocks, problem)

    def _check_width(self, level: int, width: int, divisor: int, name: str) -> None:
        if width > MOST_WIDTH:
            problem = (
                f"got {self.channels} channels x {self.channel_mult[level]} = {width}; expected at "
                f"most {MOST_WIDTH}"
            )
            raise invalid(self.FAMILY, ("channels",), self.channels, problem)
        if width % divisor:
            rate = self.rates[level]
            problem = (
                f"got {self.channels} channels x {self.channel_mult[level]} = {width} at rate "
                f"{rate}; expected a multiple of {name} = {divisor}"
            )
            raise invalid(self.FAMILY, ("channels",), self.channels, problem)

    def _check_family(self) -> None:
        """Check what only this family asks for."""

    def label(self) -> str:
        """Return e.g. ``unet-C320-m1.2.4-TD0.2.10``, then whatever is not the default."""
        text = f"{self.FAMILY.replace('_', '-')}-C{self.channels}"
        text += f"-m{_dotted(self.channel_mult)}-TD{_dotted(self.transformer_depth)}"
        fields = type(self).model_fields
        if self.mid_depth != _deepest_depth(self.transformer_depth):
            text += f"-mid{self.mid_depth}"
        for short, name in (
            ("r", "res_blocks"),
            ("h", "head_dim"),
            ("g", "norm_groups"),
            ("t", "text_dim"),
            ("z", "latent_channels"),
        ):
            if name in self.canonical() and getattr(self, name) != fields[name].default:
                text += f"-{short}{getattr(self, name)}"
        return text

    def proxy(self, rule: ProxyRule, *, latent_channels: int, text_dim: int) -> Self:
        """Return the proxy: narrower and shallower by `rule`, levels as they are.

        So is what a subclass has beside these parameters.
        """
        own = type(self).model_fields.keys() - LevelledUNet.model_fields.keys()
        data = {
            **self.model_dump(include=own),
            "channels": rule.scale_channels(self.channels),
            "channel_mult": self.channel_mult,
            "res_blocks": _divided(self.res_blocks, rule.res_block_divisor),
            "transformer_depth": tuple(
                _divided(depth, rule.depth_divisor) for depth in self.transformer_depth
            ),
            "mid_depth": _divided(self.mid_depth, rule.depth_divisor),
            "head_dim": rule.head_dim,
            "norm_groups": rule.norm_groups,
            "text_dim": text_dim,
            "latent_channels": latent_channels,
        }
        return self.from_data(data, origin=f"proxy of {self.label()}")

    def _check_latents(self, latent_size: int) -> None:
        if latent_size < self.rates[-1] or latent_size % self.rates[-1]:
            raise ArchError(
                f"latent_size: got {latent_size}; expected a multiple of {self.rates[-1]}, the "
                f"down-sampling rate of the deepest of {len(self.rates)} levels"
            )


def _deepest_depth(depth: Any) -> Any:
    """Return the depth of the deepest level that has attention, 0 where none has.

    Depths that are no depths are left to the fields' own checks.
    """
    if not isinstance(depth, tuple):
        return 0
    return next((d for d in reversed(depth) if isinstance(d, int) and d > 0), 0)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _divided(count: int, divisor: int) -> int:
    """Divide and round up: 0 stays 0, anything else stays at least 1."""
    return -(-count // divisor)


def _dotted(values: tuple[int, ...]) -> str:
    return ".".join(str(value) for value in values)


def _listed(values: list[int]) -> str:
    return ", ".join(str(value) for value in values)
