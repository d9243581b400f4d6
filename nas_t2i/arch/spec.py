"""Arch: what is searched. A value with a canonical form and a stable id; no torch."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import nn

JsonDict = dict[str, Any]


class ProxyRule(BaseModel):
    """How a budget shrinks an architecture to the narrower stand-in that it trains.

    Pure arithmetic on the architecture's own numbers, so that the order of widths and depths is
    kept: ``channels -> max(multiple, round(channels / divisor / multiple) * multiple)`` and
    ``depth -> ceil(depth / divisor)`` (0 stays 0).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    channel_divisor: int = Field(ge=1, description="full channels (or hidden width) / this")
    channel_multiple: int = Field(ge=1, description="channels are rounded to a multiple of this")
    head_dim: int = Field(ge=1, description="channels per attention head of the stand-in")
    norm_groups: int = Field(ge=1, description="groups of every group norm of the stand-in")
    depth_divisor: int = Field(ge=1, description="UNet transformer depth / this, rounded up")
    res_block_divisor: int = Field(ge=1, description="residual blocks a level / this, rounded up")
    transformer_depth_divisor: int = Field(
        ge=1, description="depth of a pure transformer (PixArt) / this, rounded up"
    )

    def scale_channels(self, channels: int) -> int:
        """Return the stand-in's width for a full width, both in channels."""
        steps = round(channels / self.channel_divisor / self.channel_multiple)
        return max(1, steps) * self.channel_multiple


class Arch(BaseModel):
    """One denoising backbone: a family and its parameters, frozen, with defaults filled in.

    Families subclass it (``nas_t2i.arch.families``), validate their own parameters in the
    constructor and name the diffusers class and config that they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    FAMILY: ClassVar[str]

    def canonical(self) -> JsonDict:
        """Return the architecture as plain JSON: family first, every parameter, none unused."""
        return {"family": self.FAMILY, **self.model_dump(mode="json")}

    @property
    def arch_id(self) -> str:
        """A stable id, e.g. ``unet-1f3a9c2b7d10``: equal architectures have equal ids."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return f"{self.FAMILY}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def label(self) -> str:
        """Return a short readable name, e.g. ``unet-C320-m1.2.4-TD0.4.6``."""
        raise NotImplementedError

    def diffusers_config(self, latent_size: int) -> tuple[str, JsonDict]:
        """Return (diffusers class name, constructor arguments) for square latents of that side."""
        raise NotImplementedError

    def build(self, latent_size: int) -> nn.Module:
        """Build the randomly initialised diffusers model (imports torch and diffusers)."""
        import diffusers

        class_name, config = self.diffusers_config(latent_size)
        model: nn.Module = getattr(diffusers, class_name).from_config(config)
        return model

    def proxy(self, rule: ProxyRule, *, latent_channels: int, text_dim: int) -> Self:
        """Return the stand-in that a budget trains: narrower by `rule`, for its latents and text.

        Raises:
            ArchError: the rule gives no buildable model (the message names rule and numbers).
        """
        raise NotImplementedError
