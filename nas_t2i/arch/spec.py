"""Arch: what is searched. A value with a canonical form and a stable id; no torch."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from nas_t2i.errors import ArchError
from nas_t2i.yaml_files import Document, Key, config_error

if TYPE_CHECKING:
    from torch import Tensor, nn

JsonDict = dict[str, Any]


class ProxyRule(BaseModel):
    """How a budget shrinks an architecture to the narrower proxy that it trains.

    Pure arithmetic on the architecture's own numbers, so that the order of widths and depths is
    kept: ``channels -> max(multiple, round(channels / divisor / multiple) * multiple)`` and
    ``depth -> ceil(depth / divisor)`` (0 stays 0).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    channel_divisor: int = Field(ge=1, description="full channels (or hidden width) / this")
    channel_multiple: int = Field(ge=1, description="channels are rounded to a multiple of this")
    head_dim: int = Field(ge=1, description="channels per attention head of the proxy")
    norm_groups: int = Field(ge=1, description="groups of every group norm of the proxy")
    depth_divisor: int = Field(ge=1, description="UNet transformer depth / this, rounded up")
    res_block_divisor: int = Field(ge=1, description="residual blocks a level / this, rounded up")
    transformer_depth_divisor: int = Field(
        ge=1, description="depth of a pure transformer (PixArt) / this, rounded up"
    )

    def scale_channels(self, channels: int) -> int:
        """Return the proxy's width for a full width, both in channels."""
        steps = round(channels / self.channel_divisor / self.channel_multiple)
        return max(1, steps) * self.channel_multiple


class Arch(BaseModel, ABC):
    """One denoising backbone: a family and its parameters, frozen, with defaults filled in.

    Families subclass it (``nas_t2i.arch.families``), validate their own parameters in the
    constructor and name the diffusers class and config that they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    FAMILY: ClassVar[str]
    EXAMPLE: ClassVar[Mapping[str, Any]] = {}  # parameters to check its contract with

    @classmethod
    def from_data(cls, data: Mapping[str, Any], origin: str = "") -> Self:
        """Validate plain data (the parameters, without ``family``) into an architecture.

        `origin` names the source in messages: a file, an option, a catalogue entry.

        Raises:
            ArchError: one line, ``origin: key: got X; expected Y``.
        """
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            report = config_error(Document("", dict(data), {}), cls, error)
            # The data came from no file: keep the key path, drop the line and column.
            where = report.where
            text = str(report).removeprefix(f"{where}: ")
            key_path = where if isinstance(where, str) else where.key_path
            raise ArchError(": ".join(p for p in (origin, key_path, text) if p)) from None

    def canonical(self) -> JsonDict:
        """Return the architecture as plain JSON: family first, every parameter, none unused."""
        return {"family": self.FAMILY, **self.model_dump(mode="json")}

    @cached_property
    def arch_id(self) -> str:
        """A stable id, e.g. ``unet-1f3a9c2b7d10``: equal architectures have equal ids."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return f"{self.FAMILY}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, whose id is its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("arch_id", None)
        return copied

    @abstractmethod
    def label(self) -> str:
        """Return a short readable name, e.g. ``unet-C320-m1.2.4-TD0.4.6``."""

    @abstractmethod
    def diffusers_config(self, latent_size: int) -> tuple[str, JsonDict]:
        """Return (diffusers class name, constructor arguments) for square latents of that side.

        Raises:
            ArchError: latents of that side do not fit the architecture.
        """

    def build(self, latent_size: int) -> nn.Module:
        """Build the randomly initialised diffusers model (imports torch and diffusers).

        It is called by `call`.

        Raises:
            ArchError: latents of that side do not fit the architecture.
        """
        import diffusers

        class_name, config = self.diffusers_config(latent_size)
        model: nn.Module = getattr(diffusers, class_name).from_config(config)
        return model

    @staticmethod
    def call(model: nn.Module, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """Predict from latents ``[batch, latent_channels, side, side]``.

        `timestep` is ``[batch]``, `text` ``[batch, tokens, text_dim]``. What comes out is as large
        as the latents, with as many channels or more, of which the first are the prediction. A
        family whose model is called otherwise overrides this.
        """
        out = model(latents, timestep=timestep, encoder_hidden_states=text, return_dict=False)
        prediction: Tensor = out[0]
        return prediction

    @abstractmethod
    def proxy(self, rule: ProxyRule, *, latent_channels: int, text_dim: int) -> Self:
        """Return the proxy that a budget trains: narrower by `rule`, for its latents and text.

        Raises:
            ArchError: the rule gives no buildable model (the message names rule and numbers).
        """


def invalid(title: str, path: tuple[Key, ...], got: object, problem: str) -> ValidationError:
    """Return the error of a check across parameters, placed at `path` as pydantic's own are."""
    custom = PydanticCustomError("value_error", "{error}", {"error": problem})
    return ValidationError.from_exception_data(
        title, [InitErrorDetails(type=custom, loc=path, input=got)]
    )
