"""How long a training step and an image take on this machine, measured on a few."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from nas_t2i.arch.spec import Arch
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.signals import SIGNAL_PASSES
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.feeds.inputs import latent_geometry

_REPEATS = 3
_MOST_IMAGES = 32  # timed at once; a larger batch is counted as so many of these


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine, with the budget's number of threads."""

    step: float  # one optimiser step
    evaluation: float  # drawing all evaluation prompts once
    signals: float = 0.0  # the held-out pairs' three forward passes, at every rung


def measure_speed(arch: Arch, budget: Budget) -> Speed:
    """Time a few training steps and forward passes of `arch` on random inputs (about a second)."""
    geometry, training = latent_geometry(budget), budget.training
    device, own_batch = training.device, training.batch // budget.execution.ranks
    batch = min(own_batch, _MOST_IMAGES)
    threads = torch.get_num_threads()
    torch.set_num_threads(budget.training.threads)
    try:
        model = build_denoiser(
            arch,
            latent_size=geometry.size,
            latent_channels=geometry.channels,
            seed=0,
            precision=training.precision,
        ).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        side = geometry.size
        x = torch.zeros(batch, geometry.channels, side, side, device=device)
        t = torch.zeros(batch, dtype=torch.int64, device=device)
        text = torch.zeros(batch, geometry.tokens, geometry.text_width, device=device)

        def step() -> None:
            loss = model(x, t, text).square().mean()
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()

        @torch.inference_mode()
        def forward() -> None:
            model(x, t, text)

        step_seconds, forward_seconds = median(run_seconds(step)), median(run_seconds(forward))
    finally:
        torch.set_num_threads(threads)
    one = forward_seconds / batch / budget.execution.ranks  # an image of a pass of all ranks
    return Speed(
        step_seconds * own_batch / batch,
        one * budget.evaluation.forward_passes,
        one * SIGNAL_PASSES * budget.signal_pairs,
    )


def run_seconds(
    call: Callable[[], object], *, least: int = _REPEATS, seconds: float = 0.0
) -> list[float]:
    """Return how long each run of `call` took, the device's work included, after a warm-up.

    There are `least` runs, and more until `seconds` are over.
    """
    call()
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        _finish()
        begin = time.perf_counter()
        call()
        _finish()
        times.append(time.perf_counter() - begin)
    return times


def _finish() -> None:
    """Wait for what the device was given to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
