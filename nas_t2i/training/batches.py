"""From samples to what the denoiser is trained on: noise, time steps, dropped captions, targets.

Everything is a function of (seed, global sample number): the same for any number of ranks and any
micro-batch, and after a resume.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from nas_t2i.protocol.training import Objective
from nas_t2i.training import noise
from nas_t2i.training.feeds.samples import Feed, Samples


class MicroBatch(NamedTuple):
    """Everything that one forward and backward pass reads."""

    noisy: Tensor  # (n, C, h, w) x_t
    t: Tensor  # (n,) int64
    text: Tensor  # (n, tokens, width), captions partly replaced by the empty one
    target: Tensor  # (n, C, h, w)
    weight: Tensor  # (n,) of each squared error


def make_batch(
    feed: Feed, objective: Objective, seed: int, first: int, count: int, device: torch.device
) -> MicroBatch:
    """Return the global samples ``first .. first + count`` of a trial, ready for the denoiser."""
    samples = feed.samples(first, count)
    dropped = noise.draw_drops(seed, first, count, objective.caption_drop)
    dropped = dropped.to(samples.text.device)
    text = torch.where(dropped[:, None, None], feed.null_text, samples.text)
    eps = noise.draw_noise(seed, first, tuple(samples.x0.shape))
    t = noise.draw_timesteps(seed, first, count, noise.ldm_schedule().steps)
    return noised(Samples(samples.x0, text), eps, t, objective, device)


def noised(
    samples: Samples, eps: Tensor, t: Tensor, objective: Objective, device: torch.device
) -> MicroBatch:
    """Return samples with the given noise (their latents' shape) at the given (n,) time steps."""
    schedule = noise.ldm_schedule()
    x0, eps = samples.x0, eps.to(samples.x0)
    batch = MicroBatch(
        noisy=noise.add_noise(schedule, x0, eps, t),
        t=t,
        text=samples.text,
        target=noise.target(schedule, objective.prediction, x0, eps, t),
        weight=noise.loss_weight(
            schedule, objective.prediction, t, objective.weighting, objective.snr_clip
        ),
    )
    return MicroBatch(*(_sent(part, device) for part in batch))


def _sent(part: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; only from pinned memory does its copy not wait for the queue."""
    if device.type == "cuda" and not part.is_cuda:
        part = part.pin_memory()
    return part.to(device, non_blocking=True)


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Ahead:
    """Makes the next step's batches in a thread while the current step computes.

    On a CUDA device they are copied on a stream of their own, beside the current step.
    """

    def __init__(self, make: Callable[[int], list[MicroBatch]], device: torch.device) -> None:
        self._make_batches = make
        self._stream = _new_stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._coming: tuple[int, Future[list[MicroBatch]]] | None = None

    def __call__(self, step: int) -> list[MicroBatch]:
        """Return the batches of a step; an error of the thread that made them is raised here."""
        coming, self._coming = self._coming, None
        if coming is not None and coming[0] == step:
            batches = coming[1].result()
        else:
            batches = self._make(step)
        if self._stream is not None:
            current = torch.cuda.current_stream(self._stream.device)
            current.wait_stream(self._stream)
            for part in (part for batch in batches for part in batch):
                part.record_stream(current)
        self._coming = (step + 1, self._thread.submit(self._make, step + 1))
        return batches

    def _make(self, step: int) -> list[MicroBatch]:
        if self._stream is None:
            return self._make_batches(step)
        with torch.cuda.stream(self._stream):
            return self._make_batches(step)
