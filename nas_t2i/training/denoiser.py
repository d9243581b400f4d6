"""One call for every family: (latents, steps, text) to a prediction of the latents' shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_t2i.arch.spec import Arch
from nas_t2i.streams import derive_seed


class Denoiser(nn.Module):
    """A diffusers backbone behind the one signature that training and sampling use."""

    def __init__(self, model: nn.Module, latent_channels: int) -> None:
        super().__init__()
        self.model = model
        self._channels = latent_channels

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Predict (N, C, H, W) at latents `x`, (N,) integer steps `t`, (N, tokens, width) text."""
        out: Tensor = self.model(x, timestep=t, encoder_hidden_states=text, return_dict=False)[0]
        # PixArt's further channels are a learned variance, which this objective does not train.
        return out[:, : self._channels]


def build_denoiser(arch: Arch, *, latent_size: int, latent_channels: int, seed: int) -> Denoiser:
    """Build `arch` for square latents of that side, its weights drawn from (seed, "init")."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        model = arch.build(latent_size)
    return Denoiser(model, latent_channels)
