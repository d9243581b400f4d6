"""The family ``act_unet``: a UNet whose residual blocks have another activation."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from nas_t2i.arch.families.unet import UNet
from nas_t2i.arch.spec import JsonDict, invalid

ACTIVATIONS = ("silu", "gelu", "mish")


class ActUNet(UNet):
    """`nas_t2i.arch.families.unet.UNet` with a choice of activation; diffusers' is always SiLU."""

    FAMILY: ClassVar[str] = "act_unet"

    activation: str = Field(default="gelu", description="of the residual blocks")

    @model_validator(mode="after")
    def _known_activation(self) -> ActUNet:
        if self.activation not in ACTIVATIONS:
            problem = f"got {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}"
            raise invalid(self.FAMILY, ("activation",), self.activation, problem)
        return self

    def label(self) -> str:
        """Return the UNet's label, and the activation."""
        return f"{super().label()}-{self.activation}"

    def diffusers_config(self, latent_size: int) -> tuple[str, JsonDict]:
        """Return ``UNet2DConditionModel`` and its arguments, with the activation."""
        class_name, config = super().diffusers_config(latent_size)
        return class_name, {**config, "act_fn": self.activation}
