"""How long a training step and a picture take on this machine, measured on a few."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nas_t2i.arch.spec import Arch
from nas_t2i.protocol.budget import Budget
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.inputs import latent_geometry

_REPEATS = 3


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine, with the budget's number of threads."""

    step: float  # one optimiser step
    evaluation: float  # drawing all evaluation prompts once


def measure_speed(arch: Arch, budget: Budget) -> Speed:
    """Time a few training steps and forward passes of `arch` on random inputs (about a second)."""
    geometry, batch = latent_geometry(budget), budget.training.batch
    threads = torch.get_num_threads()
    torch.set_num_threads(budget.training.threads)
    try:
        model = build_denoiser(
            arch, latent_size=geometry.size, latent_channels=geometry.channels, seed=0
        )
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        x = torch.zeros(batch, geometry.channels, geometry.size, geometry.size)
        t = torch.zeros(batch, dtype=torch.int64)
        text = torch.zeros(batch, geometry.tokens, geometry.text_width)

        def step() -> None:
            loss = model(x, t, text).square().mean()
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()

        @torch.inference_mode()
        def forward() -> None:
            model(x, t, text)

        step_seconds, forward_seconds = _median_seconds(step), _median_seconds(forward)
    finally:
        torch.set_num_threads(threads)
    sampler = budget.evaluation.sampler
    passes = sampler.steps * (1 if sampler.guidance == 1 else 2)
    pictures = budget.evaluation.prompts
    return Speed(step_seconds, forward_seconds / batch * pictures * passes)


def _median_seconds(call: Callable[[], None]) -> float:
    call()  # warm-up
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return sorted(times)[_REPEATS // 2]
