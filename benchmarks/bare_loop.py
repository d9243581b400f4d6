"""A training loop with nothing in it that a step can do without: what ours is measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from nas_t2i.protocol.budget import Budget
from nas_t2i.training import noise
from nas_t2i.training.feeds.samples import Samples


class CachedTensors:
    """Latents and text features in memory: our loop's feed, and the bare loop's whole data set."""

    def __init__(self, latents: Tensor, text: Tensor) -> None:
        self.latents, self.text = latents, text
        self.null_text = torch.zeros_like(text[0])
        self.latent_shape = tuple(latents.shape[1:])

    def samples(self, first: int, count: int) -> Samples:
        """Return rows `first` .. modulo the size."""
        rows = torch.arange(first, first + count) % len(self.latents)
        return Samples(self.latents[rows], self.text[rows])


def bare_loop(
    predict: Callable[[Tensor, Tensor, Tensor], Tensor],
    weights: Iterable[nn.Parameter],
    feed: CachedTensors,
    budget: Budget,
    micro_batch: int | None = None,
) -> Callable[[], float]:
    """Return a function that takes one step and returns its loss.

    The data lie on the weights' device; rows, noise and time steps are drawn there by torch.
    `predict` maps noisy latents, time steps and text to a prediction of the latents' shape.
    """
    settings, objective = budget.training.optimizer, budget.objective
    weights = list(weights)
    average = [weight.detach().clone() for weight in weights] if budget.training.ema_decay else []
    optimizer = torch.optim.AdamW(
        weights,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    micro_batch = micro_batch or budget.training.batch
    micro_batches = budget.training.batch // micro_batch
    schedule = noise.ldm_schedule()
    device = weights[0].device
    latents, text, null = (x.to(device) for x in (feed.latents, feed.text, feed.null_text))
    signal = schedule.alphas_cumprod.sqrt().float().to(device)
    sigma = (1 - schedule.alphas_cumprod).sqrt().float().to(device)
    weight_of = noise.loss_weight(
        schedule,
        objective.prediction,
        torch.arange(schedule.steps),
        objective.weighting,
        objective.snr_clip,
    ).to(device)

    def loss_of_micro_batch() -> Tensor:
        rows = torch.randint(len(latents), (micro_batch,), device=device)
        x0 = latents[rows]
        drop = torch.rand(micro_batch, device=device) < objective.caption_drop
        captions = torch.where(drop[:, None, None], null, text[rows])
        t = torch.randint(schedule.steps, (micro_batch,), device=device)
        eps = torch.randn_like(x0)
        a, s = signal[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)
        target = {"epsilon": eps, "sample": x0}[objective.prediction]
        error = (predict(a * x0 + s * eps, t, captions) - target).square().mean(dim=(1, 2, 3))
        return (weight_of[t] * error).mean() / micro_batches

    def step() -> float:
        optimizer.zero_grad()
        losses = []
        for _ in range(micro_batches):
            loss = loss_of_micro_batch()
            torch.autograd.backward(loss)
            losses.append(loss.detach())
        if settings.grad_clip:
            nn.utils.clip_grad_norm_(weights, settings.grad_clip)
        optimizer.step()
        if average:
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 1 - budget.training.ema_decay)
        return torch.stack(losses).sum().item()

    return step
