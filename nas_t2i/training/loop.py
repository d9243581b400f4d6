"""The training loop, readable in one sitting.

Everything random is a pure function of (seed, purpose, global sample number), so a run takes the
same steps whatever its number of ranks and its micro-batch, and a run that is cut and resumed from
a checkpoint takes the very steps of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from nas_t2i.errors import RecordError, StorageError
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.data import ShapesData
from nas_t2i.training.batches import Ahead, MicroBatch, make_batch
from nas_t2i.training.denoiser import Denoiser
from nas_t2i.training.engine import Engine
from nas_t2i.training.feeds.samples import Feed
from nas_t2i.training.ranks import Ranks
from nas_t2i.training.saved_state import check_same


class DivergedError(Exception):
    """A loss or gradient that is not finite."""

    def __init__(self, step: int, last_finite_loss: float) -> None:
        super().__init__(
            f"non-finite loss or gradient at step {step}; last finite loss {last_finite_loss:.4g}"
        )


class _Taken:
    """What a step gave, on its way from the device."""

    def __init__(self, step: int, values: Tensor) -> None:
        self.step = step
        self._values = values.to("cpu", non_blocking=True)  # to pinned memory
        self._copied = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def read(self) -> tuple[float, float]:
        """Wait for the step; return the mean loss and the norm of the gradient."""
        if self._copied is not None:
            self._copied.synchronize()
        loss, gradient_norm = self._values.tolist()
        return loss, gradient_norm


class Trainer:
    """One model in training. `step` counts finished optimiser steps."""

    def __init__(
        self,
        denoiser: Denoiser,
        feed: Feed,
        budget: Budget,
        seed: int,
        ranks: Ranks,
        micro_batch: int | None = None,
    ) -> None:
        """Take a denoiser on the ranks' device; `micro_batch` None is the rank's whole batch."""
        self.denoiser, self.budget, self.seed = denoiser, budget, seed
        self.step = 0
        self.seconds = 0.0  # spent in train_to, over all sessions
        self.ranks = ranks
        self._feed = feed
        self._own_batch = budget.training.batch // ranks.size
        self._micro = micro_batch or self._own_batch
        self._names = [name for name, _ in denoiser.named_parameters()]
        self._engine = Engine(denoiser, budget.training, budget.execution, ranks, self._micro)
        if budget.execution.cuda_graphs:
            # Not earlier: the engine may move weights. Not later: a thread will make batches.
            batch = self._make_batches(0)[0]
            denoiser.record(batch.noisy, batch.t, batch.text)
        averaged = self._engine.shards if budget.training.ema_decay else []
        self._average = [shard.clone() for shard in averaged]
        self._losses: list[float] = []  # since the last rung
        self._unread: _Taken | None = None
        # A device's queue must not run dry: there, a step is read while the next one computes.
        self._reads_late = ranks.device.type != "cpu"
        in_memory = isinstance(budget.data, ShapesData) and ranks.device.type == "cpu"
        self._batches = self._make_batches if in_memory else Ahead(self._make_batches, ranks.device)

    def train_to(self, step: int, after_step: Callable[[int, float], None]) -> None:
        """Train until `step` steps are done; `after_step(step, loss)` runs after each.

        On a CUDA device it is the loss of the step before.

        Raises:
            DivergedError: a loss or gradient norm is not finite. The weights are then unusable.
        """
        begin, before = time.perf_counter(), self.seconds
        while self.step < step:
            taken = self._take_step()
            self._update_average()
            self.step += 1
            self._settle()
            self._unread = taken
            if not self._reads_late or self.step == step:
                self._settle()
            self.seconds = before + time.perf_counter() - begin
            after_step(self.step, self._losses[-1] if self._losses else math.nan)

    def _settle(self) -> None:
        """Read what the last step gave, if that was not done yet; see `train_to` for errors."""
        if self._unread is None:
            return
        taken, self._unread = self._unread, None
        loss, gradient_norm = taken.read()
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise DivergedError(taken.step, self._losses[-1] if self._losses else math.nan)
        self._losses.append(loss)

    def _take_step(self) -> _Taken:
        """Return the mean loss of the global batch and the norm of its gradient, to be read."""
        batches = self._batches(self.step)
        losses = []
        for batch in batches:
            loss = self._loss(batch)
            self._engine.backward(loss)
            losses.append(loss.detach())
            if batch is not batches[-1]:
                self._engine.micro_step()
        gradient_norm = self._engine.step()
        mean = self.ranks.sum(torch.stack(losses).mean() / self.ranks.size)
        return _Taken(self.step + 1, torch.stack([mean, gradient_norm]))

    def _make_batches(self, step: int) -> list[MicroBatch]:
        """Return this rank's micro-batches of a step, in the order of their sample numbers."""
        first = step * self.budget.training.batch + self.ranks.rank * self._own_batch
        return [
            make_batch(
                self._feed,
                self.budget.objective,
                self.seed,
                first + offset,
                self._micro,
                self.ranks.device,
            )
            for offset in range(0, self._own_batch, self._micro)
        ]

    def _loss(self, batch: MicroBatch) -> Tensor:
        """Return the mean weighted squared error of a micro-batch's predictions, a scalar."""
        prediction = self._engine.module(batch.noisy, batch.t, batch.text)
        error: Tensor = (prediction - batch.target).square().mean(dim=(1, 2, 3))
        return (batch.weight * error).mean()

    def _update_average(self) -> None:
        if not self._average:
            return
        # The average starts short, or the random initial weights would stay in it for long.
        decay = min(self.budget.training.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._average, self._engine.shards, 1 - decay)

    def take_mean_loss(self) -> float:
        """Return the mean loss of the steps since the last call, and start anew."""
        mean = sum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses = []
        return mean

    def averaged_weights(self) -> AbstractContextManager[Denoiser]:
        """Lend a denoiser with the averaged weights, whole and in evaluation mode, on every rank.

        With an `ema_decay` of 0 they are the raw weights.
        """
        return self._engine.lend(self._average if self._average else self._engine.shards)

    def state_dict(self) -> dict[str, Any] | None:
        """What this rank must save for the next step and the clock; None: nothing of its own.

        Raises:
            DivergedError: the last step's loss or gradient norm is not finite.
        """
        self._settle()
        training, first = self.budget.training, self.ranks.is_first
        if training.zero_stage == 0 and not first:
            return None  # every rank has what the first one has
        own_weights = first or training.zero_stage == 3
        return {
            "step": self.step,
            "seconds": self.seconds,
            "losses": self._losses,
            "ranks": self.ranks.size,
            "zero_stage": training.zero_stage,
            "shapes": self._engine.shapes,
            "names": self._names,
            "weights": self._engine.shards if own_weights else [],
            "average": self._average if own_weights else [],
            "engine": self._engine.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, first: dict[str, Any], own: dict[str, Any] | None = None) -> None:
        """Take up where `state_dict` left off: the first rank's state and this rank's own.

        Raises:
            StorageError: the state was written by another number of ranks or ZeRO stage.
        RecordError: it is of another architecture, or does not fit.
        """
        own = own or first
        shapes = dict(zip(self._names, self._engine.shapes, strict=True))
        where = "the checkpoint"
        check_same(dict(zip(first["names"], first["shapes"], strict=True)), shapes, where)
        was = (first["ranks"], first["zero_stage"])
        now = (self.ranks.size, self.budget.training.zero_stage)
        if was != now and (was[1], now[1]) != (0, 0):
            raise StorageError(
                f"the checkpoint was written by {was[0]} rank(s) at ZeRO stage {was[1]}; this run "
                f"has {now[0]} at stage {now[1]}: go on with as many as it began with"
            )
        self.step, self.seconds = first["step"], first["seconds"]
        self._losses = list(first["losses"])
        whole = own if own["weights"] else first
        try:
            for average, saved in zip(self._average, whole["average"], strict=True):
                average.copy_(saved)
            self._engine.load_state_dict(own["engine"], whole["weights"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            problem = str(error).partition("\n")[0]
            raise RecordError(f"{where} does not fit this trial: {problem}") from None
