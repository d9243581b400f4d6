"""The UNet of DeepFloyd IF-XL, moved to latent space."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from nas_t2i.arch.families.common.levels import LevelledUNet, ResBlocks
from nas_t2i.arch.spec import JsonDict, invalid

# diffusers gives the norm of the text tokens this many groups, whatever the model's own.
TEXT_NORM_GROUPS = 32
OnOff = Annotated[int, Field(ge=0, le=1)]


class IFUNet(LevelledUNet):
    """Residual blocks with one attention over image and text tokens together at some levels.

    diffusers' ``UNet2DConditionModel`` with ``SimpleCrossAttn*Block2D`` at the levels with
    attention and ``Resnet{Down,Up}sampleBlock2D`` at the others, scale-shift time embedding
    (activated once, for all blocks), GELU, and a group norm of the text tokens. There is no
    feed-forward to repeat: ``transformer_depth`` and ``mid_depth`` are 0 or 1. IF-XL is
    ``channel_mult=[1, 2, 3, 4]``, ``transformer_depth=[1, 1, 1, 0]``, 3 residual blocks.
    """

    FAMILY: ClassVar[str] = "if_unet"

    res_blocks: ResBlocks = Field(
        default=3, description="residual blocks a level on the way down; one more on the way up"
    )
    transformer_depth: tuple[OnOff, ...] = Field(description="1 where the level has attention")
    mid_depth: OnOff = Field(default=0, description="1 where the mid block has attention")

    def _check_family(self) -> None:
        if self.has_attention and self.text_dim % TEXT_NORM_GROUPS:
            problem = (
                f"got {self.text_dim}; expected a multiple of {TEXT_NORM_GROUPS}, the groups of "
                "the text tokens' norm"
            )
            raise invalid(self.FAMILY, ("text_dim",), self.text_dim, problem)

    def diffusers_config(self, latent_size: int) -> tuple[str, JsonDict]:
        """Return ``UNet2DConditionModel`` and its arguments; see `Arch.diffusers_config`."""
        self._check_latents(latent_size)
        attends = [depth > 0 for depth in self.transformer_depth]
        down = ["SimpleCrossAttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attends]
        up = ["SimpleCrossAttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in attends]
        mid = "UNetMidBlock2DSimpleCrossAttn" if self.mid_depth else "UNetMidBlock2D"
        return "UNet2DConditionModel", {
            "sample_size": latent_size,
            "in_channels": self.latent_channels,
            "out_channels": self.latent_channels,
            "block_out_channels": list(self.widths),
            "layers_per_block": self.res_blocks,
            "down_block_types": down,
            "mid_block_type": mid,
            "up_block_types": up[::-1],
            # In these blocks it is what it is called: the channels of one head.
            "attention_head_dim": self.head_dim,
            "cross_attention_dim": self.text_dim,
            "cross_attention_norm": "group_norm",
            "act_fn": "gelu",
            "time_embedding_act_fn": "gelu",
            "resnet_skip_time_act": True,
            "resnet_time_scale_shift": "scale_shift",
            "norm_num_groups": self.norm_groups,
        }
