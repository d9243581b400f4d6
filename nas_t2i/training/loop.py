"""The training loop, readable in one sitting.

Everything random is a pure function of (seed, purpose, global sample index), so a run that is cut
and resumed from a checkpoint takes the very steps of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nas_t2i.protocol.budget import Budget
from nas_t2i.training import noise
from nas_t2i.training.denoiser import Denoiser
from nas_t2i.training.engine import Engine
from nas_t2i.training.inputs import Inputs, draw_pairs


class DivergedError(Exception):
    """A loss or gradient that is not finite."""

    def __init__(self, step: int, last_finite_loss: float) -> None:
        super().__init__(
            f"non-finite loss or gradient at step {step}; last finite loss {last_finite_loss:.4g}"
        )


class Trainer:
    """One model in training. `step` counts finished optimiser steps."""

    def __init__(self, denoiser: Denoiser, inputs: Inputs, budget: Budget, seed: int) -> None:
        self.denoiser, self.inputs, self.budget, self.seed = denoiser, inputs, budget, seed
        self.step = 0
        self.seconds = 0.0  # spent in train_to, over all sessions
        self._schedule = noise.ldm_schedule()
        self._engine = Engine(denoiser, budget.training)
        self._weights: list[Tensor] = list(denoiser.parameters())
        self._average = [weight.detach().clone() for weight in self._weights]
        self._losses: list[float] = []  # since the last rung

    def train_to(self, step: int, after_step: Callable[[int, float], None]) -> None:
        """Train until `step` steps are done; `after_step(step, loss)` runs after each.

        Raises:
            DivergedError: a loss or gradient norm is not finite. The weights are then unusable.
        """
        begin, before = time.perf_counter(), self.seconds
        while self.step < step:
            loss = self._loss(self.step)
            gradient_norm = self._engine.step(loss)
            value = loss.item()
            if not (math.isfinite(value) and math.isfinite(gradient_norm)):
                raise DivergedError(self.step + 1, self._losses[-1] if self._losses else math.nan)
            self._update_average()
            self._losses.append(value)
            self.step += 1
            self.seconds = before + time.perf_counter() - begin
            after_step(self.step, value)

    def _loss(self, step: int) -> Tensor:
        """Return the loss of one batch, a scalar: the weighted squared error of the prediction."""
        objective, batch = self.budget.objective, self.budget.training.batch
        first = step * batch  # the global index of the batch's first sample
        pairs = draw_pairs(self.budget, self.seed, step, len(self.inputs.latents))
        x0 = self.inputs.latents[pairs]
        text = self.inputs.text[self.inputs.caption_of[pairs]]
        dropped = noise.draw_drops(self.seed, first, batch, objective.caption_drop)
        text = torch.where(dropped[:, None, None], self.inputs.null_text, text)
        eps = noise.draw_noise(self.seed, first, tuple(x0.shape))
        t = noise.draw_timesteps(self.seed, first, batch, self._schedule.steps)

        prediction = self._engine.module(noise.add_noise(self._schedule, x0, eps, t), t, text)
        target = noise.target(self._schedule, objective.prediction, x0, eps, t)
        weight = noise.loss_weight(
            self._schedule, objective.prediction, t, objective.weighting, objective.snr_clip
        )
        error: Tensor = (prediction - target).square().mean(dim=(1, 2, 3))
        return (weight * error).mean()

    def _update_average(self) -> None:
        # The average starts short, or the random initial weights would stay in it for long.
        decay = min(self.budget.training.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._average, [w.detach() for w in self._weights], 1 - decay)

    def take_mean_loss(self) -> float:
        """Return the mean loss of the steps since the last call, and start anew."""
        mean = sum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses = []
        return mean

    @contextmanager
    def averaged_weights(self) -> Iterator[Denoiser]:
        """Lend the denoiser with its averaged weights, in evaluation mode."""
        raw = [weight.detach().clone() for weight in self._weights]
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self._average)
        self.denoiser.eval()
        try:
            yield self.denoiser
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, raw)
            self.denoiser.train()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, and the clock."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "losses": self._losses,
            "weights": self.denoiser.state_dict(),
            "average": self._average,
            "engine": self._engine.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where `state_dict` left off."""
        self.step, self.seconds, self._losses = state["step"], state["seconds"], state["losses"]
        self.denoiser.load_state_dict(state["weights"])
        self._average = state["average"]
        self._engine.load_state_dict(state["engine"])
