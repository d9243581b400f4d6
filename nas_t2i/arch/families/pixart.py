"""PixArt-alpha: a plain transformer over patches of the latent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from nas_t2i.arch.families.common.bounds import (
    MOST_DEPTH,
    MOST_PATCH,
    LatentChannels,
    TextWidth,
    Width,
)
from nas_t2i.arch.spec import Arch, JsonDict, ProxyRule, invalid
from nas_t2i.errors import ArchError


class PixArt(Arch):
    """Transformer blocks with self-attention, cross-attention to the text and feed-forward.

    diffusers' ``PixArtTransformer2DModel`` without additional (size) conditions. It predicts noise
    and its variance ("learned sigma"): twice the latent's channels come out. Without a caption
    embedding the text tokens enter the cross-attention as they are, which diffusers builds from
    ``caption_channels=None``; the text must then be as wide as the model.
    """

    FAMILY: ClassVar[str] = "pixart"
    EXAMPLE: ClassVar[Mapping[str, Any]] = {"hidden": 64, "depth": 1, "heads": 4}

    hidden: Width = Field(description="width of the transformer")
    depth: int = Field(ge=1, le=MOST_DEPTH, description="number of transformer blocks")
    heads: Width = Field(default=16, description="attention heads of a block")
    patch: int = Field(
        default=2, ge=1, le=MOST_PATCH, description="side of a patch, in latent pixels"
    )
    caption_embedding: bool = Field(
        default=True, description="a two-layer projection of the text to the model's width"
    )
    text_dim: TextWidth = Field(default=1024, description="width of a text token's embedding")
    latent_channels: LatentChannels = Field(default=4, description="channels of the latents")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden % self.heads:
            problem = f"got {self.hidden}; expected a multiple of heads = {self.heads}"
            raise invalid(self.FAMILY, ("hidden",), self.hidden, problem)
        if self.hidden % 4:
            # Sine and cosine of two coordinates share the width.
            problem = f"got {self.hidden}; expected a multiple of 4, for the position embedding"
            raise invalid(self.FAMILY, ("hidden",), self.hidden, problem)
        if not self.caption_embedding and self.hidden != self.text_dim:
            problem = (
                f"got false with hidden {self.hidden} and text_dim {self.text_dim}; expected true, "
                "or equal widths"
            )
            raise invalid(self.FAMILY, ("caption_embedding",), False, problem)
        return self

    def label(self) -> str:
        """Return e.g. ``pixart-h1152-d28``, then whatever is not the default."""
        text = f"pixart-h{self.hidden}-d{self.depth}"
        fields = type(self).model_fields
        for short, name in (
            ("n", "heads"),
            ("p", "patch"),
            ("t", "text_dim"),
            ("z", "latent_channels"),
        ):
            if getattr(self, name) != fields[name].default:
                text += f"-{short}{getattr(self, name)}"
        return text if self.caption_embedding else f"{text}-nocap"

    def diffusers_config(self, latent_size: int) -> tuple[str, JsonDict]:
        """Return ``PixArtTransformer2DModel`` and its arguments; see `Arch.diffusers_config`."""
        if latent_size < self.patch or latent_size % self.patch:
            raise ArchError(
                f"latent_size: got {latent_size}; expected a multiple of patch = {self.patch}"
            )
        return "PixArtTransformer2DModel", {
            "sample_size": latent_size,
            "patch_size": self.patch,
            "in_channels": self.latent_channels,
            "out_channels": 2 * self.latent_channels,
            "num_layers": self.depth,
            "num_attention_heads": self.heads,
            "attention_head_dim": self.hidden // self.heads,
            "cross_attention_dim": self.hidden,
            "caption_channels": self.text_dim if self.caption_embedding else None,
            # Unset, diffusers would add them at one latent size and not at the others.
            "use_additional_conditions": False,
        }

    def proxy(self, rule: ProxyRule, *, latent_channels: int, text_dim: int) -> Self:
        """Return the proxy: narrower and shallower by `rule`, patches as they are.

        A model without caption embedding gets one where the proxy's text has another width.
        """
        hidden = rule.scale_channels(self.hidden)
        if hidden % rule.head_dim:
            raise ArchError(
                f"proxy of {self.label()}: hidden: got {hidden}; expected a multiple of the rule's "
                f"head_dim = {rule.head_dim}"
            )
        data = {
            "hidden": hidden,
            "depth": -(-self.depth // rule.transformer_depth_divisor),
            "heads": hidden // rule.head_dim,
            "patch": self.patch,
            "caption_embedding": self.caption_embedding or hidden != text_dim,
            "text_dim": text_dim,
            "latent_channels": latent_channels,
        }
        return self.from_data(data, origin=f"proxy of {self.label()}")
