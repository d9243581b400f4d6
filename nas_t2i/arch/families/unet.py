"""The UNet of Stable Diffusion 2 and SDXL, and everything between and around them."""

from __future__ import annotations

from typing import ClassVar

from nas_t2i.arch.families.common.levels import LevelledUNet
from nas_t2i.arch.spec import JsonDict, invalid


class UNet(LevelledUNet):
    """Residual blocks with transformers (self-, cross-attention, feed-forward) at some levels.

    diffusers' ``UNet2DConditionModel`` with linear projections, ``CrossAttn*Block2D`` at the levels
    with attention and plain blocks at the others. SD2 is ``channel_mult=[1, 2, 4, 4]``,
    ``transformer_depth=[1, 1, 1, 0]``; SDXL is ``[1, 2, 4]``, ``[0, 2, 10]``. The time embedding is
    4 x channels wide. No pooled text, size or crop conditioning.
    """

    FAMILY: ClassVar[str] = "unet"

    def _check_family(self) -> None:
        deepest = self.transformer_depth[-1]
        # diffusers reads one number for the deepest level and the mid block; only where the deepest
        # level has no attention of its own is the mid block's free.
        if deepest and self.mid_depth not in (0, deepest):
            problem = (
                f"got {self.mid_depth}; expected 0 or {deepest}, the transformer_depth of the "
                "deepest level"
            )
            raise invalid(self.FAMILY, ("mid_depth",), self.mid_depth, problem)

    def diffusers_config(self, latent_size: int) -> tuple[str, JsonDict]:
        """Return ``UNet2DConditionModel`` and its arguments; see `Arch.diffusers_config`."""
        self._check_latents(latent_size)
        attends = [depth > 0 for depth in self.transformer_depth]
        down = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends]
        up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends]
        # Where a level has no attention its two numbers are read by nothing, except the last
        # level's, which the mid block reads.
        layers = [max(depth, 1) for depth in self.transformer_depth]
        layers[-1] = max(self.transformer_depth[-1], self.mid_depth, 1)
        return "UNet2DConditionModel", {
            "sample_size": latent_size,
            "in_channels": self.latent_channels,
            "out_channels": self.latent_channels,
            "block_out_channels": list(self.widths),
            "layers_per_block": self.res_blocks,
            "down_block_types": down,
            "mid_block_type": "UNetMidBlock2DCrossAttn" if self.mid_depth else "UNetMidBlock2D",
            "up_block_types": up[::-1],
            "transformer_layers_per_block": layers,
            # In this class ``attention_head_dim`` is the number of heads.
            "attention_head_dim": [max(1, width // self.head_dim) for width in self.widths],
            "cross_attention_dim": self.text_dim,
            "use_linear_projection": True,
            "norm_num_groups": self.norm_groups,
        }
