"""Signals: three smooth quantities on held-out pairs, measured at every rung.

With e(c) the weighted squared error of a prediction (the training loss of one pair: mean over the
latent, times the objective's weight) when the denoiser is told the caption c:

- held-out loss: mean over pairs of e(own caption); in the unit of the training loss
- text gain: log(mean e(empty caption) / mean e(own caption)); nats
- caption gain: log(mean e(another pair's caption) / mean e(own caption)); nats

A gain is 0 where the text can't reach the prediction, and log 2 where the own caption halves the
loss. It is the log-ratio estimator of survey sampling: its standard error over pairs is that of
the mean of e(c) / mean e(c) - e(own) / mean e(own) (the delta method; Cochran, Sampling
Techniques, 1977, chapter 6), and so each pair contributes the gain plus its own such difference.

Pairs, noise, time steps (stratified: as many in each part of the schedule) and the other captions
are the same for every model, so that two models are compared pair by pair.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.result import Report
from nas_t2i.evaluation.sampling.ddim import Denoiser
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import Estimate, Signal
from nas_t2i.streams import uniform_rows
from nas_t2i.training import noise
from nas_t2i.training.batches import noised
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.feeds.samples import Samples
from nas_t2i.training.ranks import Ranks

NOISE_LEVELS = 4  # parts of the schedule, of as many time steps each

FloatArray = npt.NDArray[np.float64]
Name = Literal["heldout_loss", "text_gain", "caption_gain"]
_NAMES: tuple[Name, ...] = ("heldout_loss", "text_gain", "caption_gain")


class Kept(NamedTuple):
    """Where a model's errors are kept batch by batch, for a run that is stopped to go on from."""

    log: AnswerLog
    model: str  # digest of all that decides its predictions
    report: Report


class Signals:
    """Measures a denoiser on a budget's held-out pairs.

    Raises:
        UserError: the pairs can't be read.
    """

    def __init__(self, budget: Budget, inputs: Inputs) -> None:
        assert budget.signals is not None
        self._budget = budget
        seed, count = budget.signals.seed, budget.signal_pairs
        feed = inputs.make_feed(0)
        (x0, text), captions = feed.held_out(seed, count)
        others = torch.tensor(other_captions(captions))
        self._x0 = x0
        self._texts = (text, feed.null_text.expand_as(text), text[others])
        self._eps = noise.draw_noise(seed, 0, tuple(x0.shape), "signal noise")
        self._t = stratified_steps(seed, count, noise.ldm_schedule().steps)
        used = "|".join(f"{part}={name}" for part, name in sorted(inputs.fingerprints.items()))
        objective = budget.objective
        self._signature = (
            f"signals|prediction={objective.prediction}|weighting={objective.weighting}|"
            f"clip={objective.snr_clip:g}|n={count}|seed={seed}|"
            + hashlib.sha256(used.encode()).hexdigest()[:12]
        )

    def measure(
        self, denoiser: Denoiser, ranks: Ranks, kept: Kept | None = None
    ) -> dict[str, Signal]:
        """Return the signals by name; all ranks together, each with whole weights.

        They are the same on every rank, and for any number of ranks up to rounding. What was
        `kept` of the same model is not measured again.
        """
        errors = np.concatenate(ranks.gather(self._errors(denoiser, ranks, kept)), axis=1)
        return signals(errors, self._t.numpy(), noise.ldm_schedule().steps, self._signature)

    def _errors(self, denoiser: Denoiser, ranks: Ranks, kept: Kept | None = None) -> FloatArray:
        """Return the weighted errors of this rank's pairs by caption: (3, own pairs)."""
        own = ranks.share(len(self._t))
        parts = [np.empty((len(self._texts), 0))]
        for first in range(own.start, own.stop, self._budget.evaluation.sampler.batch):
            rows = slice(first, min(first + self._budget.evaluation.sampler.batch, own.stop))
            if kept is None:
                parts.append(self._errors_of(rows, denoiser, ranks.device))
                continue
            kept.report("signals", first, own.stop)
            key = (kept.model, f"signals of pairs {rows.start}-{rows.stop - 1}", self._signature)
            known = kept.log.get(*key)
            if known is None:
                errors = self._errors_of(rows, denoiser, ranks.device)
                if np.isfinite(errors).all():
                    kept.log.put(*key, errors.tolist())
            else:
                errors = np.array(known)
            parts.append(errors)
        if kept is not None:
            kept.report("signals", own.stop, own.stop)
        return np.concatenate(parts, axis=1)

    @torch.inference_mode()
    def _errors_of(self, rows: slice, denoiser: Denoiser, device: torch.device) -> FloatArray:
        """Return the weighted errors of some pairs by caption: (3, pairs).

        Each caption has a pass of its own: where the text can't reach the prediction, the three
        errors of a pair are then the same to the last bit.
        """
        batch = noised(
            Samples(self._x0[rows], self._texts[0][rows]),
            self._eps[rows],
            self._t[rows],
            self._budget.objective,
            device,
        )
        by_caption = []
        for text in self._texts:
            output = denoiser(batch.noisy, batch.t, text[rows].to(device))
            error = (output - batch.target).double().square().mean(dim=(1, 2, 3))
            by_caption.append(batch.weight.double() * error)
        errors: FloatArray = torch.stack(by_caption).cpu().numpy()
        return errors


def signals(
    errors: FloatArray, t: npt.NDArray[np.int64], steps: int, signature: str
) -> dict[str, Signal]:
    """Return the signals of weighted errors (3, pairs): own, empty, another pair's caption.

    `t` are the pairs' time steps, (pairs,) in ``0 .. steps - 1``.
    """
    edges = [level * steps // NOISE_LEVELS for level in range(NOISE_LEVELS + 1)]
    levels = {
        f"{low}-{high - 1}": np.flatnonzero((t >= low) & (t < high))
        for low, high in pairwise(edges)
    }
    found: dict[str, Signal] = {}
    for name in _NAMES:
        per_pair = _contributions(name, errors)
        whole = _estimate(per_pair)
        assert whole.stderr is not None
        found[name] = Signal(
            name=name,
            value=whole.value,
            stderr=whole.stderr,
            n=len(t),
            by_noise={
                level: _estimate(_contributions(name, errors[:, at]))
                for level, at in levels.items()
                if len(at)
            },
            signature=signature,
            per_pair=[float(f"{value:.6g}") for value in per_pair],
        )
    return found


def _contributions(name: Name, errors: FloatArray) -> FloatArray:
    """Return what each pair contributes to a signal: their mean is the signal."""
    own: FloatArray = errors[0]
    if name == "heldout_loss":
        return own
    told = errors[1 if name == "text_gain" else 2]
    with np.errstate(divide="ignore", invalid="ignore"):  # a loss of 0 is told as no number
        gain = np.log(told.mean() / own.mean())
        contribution: FloatArray = gain + told / told.mean() - own / own.mean()
    return contribution


def _estimate(values: FloatArray) -> Estimate:
    n = len(values)
    stderr = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    return Estimate(value=float(values.mean()), stderr=stderr)


def stratified_steps(seed: int, count: int, steps: int) -> Tensor:
    """Return (count,) int64 time steps, one drawn in each of `count` equal parts of the schedule.

    The pairs stand in an order of chance already, so that the first may have the least noise.
    """
    u = uniform_rows(seed, "signal time step", 0, count, 1)[:, 0]
    places = (np.arange(count) + u) / count * steps
    return torch.from_numpy(np.minimum(places.astype(np.int64), steps - 1))


def other_captions(captions: Sequence[str]) -> list[int]:
    """Return for each pair the next one, around the end, that has another caption.

    Where all captions are the same there is none, and a pair is told its own.
    """
    count = len(captions)
    return [
        next((j for k in range(1, count) if captions[j := (i + k) % count] != captions[i]), i)
        for i in range(count)
    ]
