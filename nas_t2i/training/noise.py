"""The LDM noise schedule and what follows from it: noisy latents, targets, loss weights.

x_t = a_t x_0 + s_t eps with a_t^2 + s_t^2 = 1 and a_t^2 the running product of (1 - beta). Betas
are the squares of 1000 evenly spaced numbers between sqrt(0.00085) and sqrt(0.012) ("scaled
linear"; Rombach et al. 2022). Time steps are integers 0 .. 999, t = 0 is the least noisy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor

from nas_t2i.streams import normal_rows, uniform_rows

Prediction = Literal["epsilon", "v", "sample"]
Weighting = Literal["uniform", "min_snr", "min_snr_plus_one"]


@dataclass(frozen=True)
class NoiseSchedule:
    """Signal and noise of each time step."""

    alphas_cumprod: Tensor  # (steps,) float64: a_t^2

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return int(self.alphas_cumprod.shape[0])

    def signal(self, t: Tensor, like: Tensor) -> Tensor:
        """a_t of the (N,) steps, shaped to multiply ``like`` and of its type."""
        return _spread(self.alphas_cumprod[t.cpu()].sqrt(), like)

    def noise(self, t: Tensor, like: Tensor) -> Tensor:
        """s_t of the (N,) steps, shaped to multiply ``like`` and of its type."""
        return _spread((1 - self.alphas_cumprod[t.cpu()]).sqrt(), like)

    def snr(self, t: Tensor) -> Tensor:
        """(N,) float64 signal-to-noise ratio a_t^2 / s_t^2."""
        a2 = self.alphas_cumprod[t.cpu()]
        return a2 / (1 - a2)


@cache
def ldm_schedule(
    steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> NoiseSchedule:
    """The scaled-linear schedule."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    return NoiseSchedule(alphas_cumprod=torch.cumprod(1 - betas, dim=0))


def add_noise(schedule: NoiseSchedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t of latents ``x0`` with noise ``eps`` (same shape) at (N,) integer steps ``t``."""
    return schedule.signal(t, x0) * x0 + schedule.noise(t, x0) * eps


def target(
    schedule: NoiseSchedule, prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor
) -> Tensor:
    """What a model of the given prediction type should output."""
    if prediction == "epsilon":
        return eps
    if prediction == "sample":
        return x0
    _check(prediction)
    return schedule.signal(t, x0) * eps - schedule.noise(t, x0) * x0


def to_x0_eps(
    schedule: NoiseSchedule, prediction: Prediction, output: Tensor, x: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """A model's output at noisy latents ``x`` as estimates of (x0, eps)."""
    a, s = schedule.signal(t, x), schedule.noise(t, x)
    if prediction == "epsilon":
        return (x - s * output) / a, output
    if prediction == "sample":
        return output, (x - a * output) / s
    _check(prediction)
    return a * x - s * output, a * output + s * x


def loss_weight(
    schedule: NoiseSchedule,
    prediction: Prediction,
    t: Tensor,
    weighting: Weighting = "uniform",
    gamma: float = 5.0,
) -> Tensor:
    """(N,) float32 factor of the squared error of a prediction at steps ``t``.

    ``uniform`` is 1 whatever is predicted (LDM's). ``min_snr`` weighs the error of x0 by
    min(SNR, gamma) (Hang et al. 2023, arXiv 2303.09556); ``min_snr_plus_one`` adds 1, which keeps
    the noisiest steps, where the caption decides most, from vanishing. The error of epsilon is the
    SNR times that of x0, the error of v is SNR + 1 times it.
    """
    snr = schedule.snr(t)
    if weighting == "uniform":
        return torch.ones_like(snr, dtype=torch.float32)
    if weighting not in get_args(Weighting):
        raise ValueError(f"weighting must be one of {get_args(Weighting)}, got {weighting!r}")
    weight = snr.clamp(max=gamma) + (1.0 if weighting == "min_snr_plus_one" else 0.0)
    if prediction == "epsilon":
        weight = weight / snr
    elif prediction == "v":
        weight = weight / (snr + 1)
    else:
        _check(prediction)
    return weight.to(torch.float32)


def draw_noise(seed: int, start: int, shape: tuple[int, ...], purpose: str = "noise") -> Tensor:
    """Standard normal noise of ``shape`` (N, ...) for the global samples ``start .. start + N``."""
    width = 1
    for size in shape[1:]:
        width *= size
    return torch.from_numpy(normal_rows(seed, purpose, start, shape[0], width)).reshape(shape)


def draw_timesteps(
    seed: int, start: int, count: int, steps: int = 1000, purpose: str = "timestep"
) -> Tensor:
    """(count,) int64 uniform steps 0 .. steps - 1 for the global samples ``start ..``."""
    u = uniform_rows(seed, purpose, start, count, 1)[:, 0]
    return torch.from_numpy((u * steps).astype("int64"))


def draw_drops(
    seed: int, start: int, count: int, probability: float, purpose: str = "caption_drop"
) -> Tensor:
    """(count,) bool: which of the global samples ``start ..`` lose their caption."""
    return torch.from_numpy(uniform_rows(seed, purpose, start, count, 1)[:, 0] < probability)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    shape = (-1,) + (1,) * (like.ndim - 1)
    return values.to(dtype=like.dtype, device=like.device).view(shape)


def _check(prediction: str) -> None:
    if prediction not in get_args(Prediction):
        raise ValueError(f"prediction must be one of {get_args(Prediction)}, got {prediction!r}")
