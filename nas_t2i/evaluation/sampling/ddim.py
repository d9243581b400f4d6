"""DDIM sampling with classifier-free guidance (Song et al. 2021; Ho and Salimans 2022).

Deterministic (eta 0), with diffusers' `DDIMScheduler` set as for LDM: leading time-step spacing
with an offset of 1, the last step going to t = 0 rather than to a clean image, no clipping. The
noise of a prompt depends on the seed and on the prompt's index alone.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nas_t2i.evaluation.sampling.kv_cache import sampling_attention
from nas_t2i.training.noise import NoiseSchedule, Prediction, draw_noise, to_x0_eps


class Denoiser(Protocol):
    """A trained backbone."""

    def __call__(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Prediction (N, C, H, W) at latents ``x``, (N,) steps ``t``, (N, tokens, width) text."""


def ddim_timesteps(train_steps: int, steps: int) -> list[int]:
    """The ``steps`` time steps visited, noisiest first."""
    if not 1 <= steps < train_steps:
        raise ValueError(f"sampling steps must be in 1..{train_steps - 1}, got {steps}")
    ratio = train_steps // steps
    return [i * ratio + 1 for i in reversed(range(steps))]


def ddim_step(
    schedule: NoiseSchedule,
    prediction: Prediction,
    output: Tensor,
    x: Tensor,
    t: int,
    steps: int,
) -> Tensor:
    """Latents at the step after ``t`` of ``steps``, from the model's output at ``x``."""
    here = torch.tensor([t])
    x0, eps = to_x0_eps(schedule, prediction, output, x, here)
    # Below zero the chain ends at t = 0 (set_alpha_to_one=False).
    there = (here - schedule.steps // steps).clamp(min=0)
    return schedule.signal(there, x) * x0 + schedule.noise(there, x) * eps


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    text: Tensor,
    null_text: Tensor,
    *,
    latent_shape: tuple[int, int, int],
    schedule: NoiseSchedule,
    prediction: Prediction,
    steps: int,
    guidance: float,
    seed: int,
    batch: int = 128,
    start: int = 0,
) -> Tensor:
    """Latents (N, C, H, W) for text (N, tokens, width), guided away from ``null_text``.

    ``null_text`` is (tokens, width); ``latent_shape`` is (C, H, W). Prompt i of ``text`` has the
    index ``start + i``. With guidance 1 the unconditional half is not computed.
    """
    done = []
    for first in range(0, len(text), batch):
        cond = text[first : first + batch]
        both = cond
        if guidance != 1.0:
            both = torch.cat([cond, null_text.to(cond).expand_as(cond)])
        x = draw_noise(seed, start + first, (len(cond), *latent_shape), "sampling").to(cond)
        with sampling_attention(denoiser, conditional=len(cond)):
            for t in ddim_timesteps(schedule.steps, steps):
                times = torch.full((len(both),), t, device=x.device)
                output = denoiser(x if guidance == 1.0 else torch.cat([x, x]), times, both)
                if guidance != 1.0:
                    with_text, without = output.chunk(2)
                    output = without + guidance * (with_text - without)
                x = ddim_step(schedule, prediction, output, x, t, steps)
        done.append(x)
    return torch.cat(done) if done else text.new_empty((0, *latent_shape))
