"""Held-out R^2: how well a denoiser predicts its target on pairs that no trial trains on.

R^2 = 1 - (squared error of the prediction) / (mean square of the target): 0 for a model that
predicts zero, 1 for a perfect one. Noise, time step and caption of a pair are the same for every
model, so that two models are compared pair by pair. It needs no image to be drawn and no VQA model
to be trusted; it says nothing about how well images follow their captions.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from nas_t2i.evaluation.evaluator import Evaluator, Measured, RungInputs
from nas_t2i.evaluation.metric import Metric, RankedBy, Scorer
from nas_t2i.evaluation.sampling.ddim import Denoiser
from nas_t2i.evaluation.sampling.generate import Images, draw
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.data import PairsData, ShapesData
from nas_t2i.records import Score
from nas_t2i.statistics import mean_over_prompts
from nas_t2i.training import noise
from nas_t2i.training.batches import noised
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.feeds.samples import Samples
from nas_t2i.training.ranks import Ranks


class HeldOutEvaluation(RankedBy):
    """How well noise is told from image on pairs that no trial trains on.

    Held-out R^2 is one minus the squared error of the prediction over the mean square of its
    target, with the noise and the time step of a pair the same for every model.
    """

    DISPLAY_NAME: ClassVar[str] = "held-out R\u00b2"

    metric: Literal["heldout_r2"]
    prompts: int = Field(ge=2, description="held-out pairs, the same for every trial")
    seed: int = Field(ge=0, description="seed of their noise, time steps and captions")
    pictures: int = Field(ge=0, description="drawn at each rung, for people to look at")

    @property
    def images(self) -> int:
        """How many images are drawn at a rung."""
        return self.pictures

    @property
    def forward_passes(self) -> int:
        """The held-out pairs are seen once each, beside what is drawn."""
        return self.prompts + super().forward_passes

    def check_data(self, data: ShapesData | PairsData) -> None:
        """Held-out pairs are held out of users' pairs only."""
        if isinstance(data, ShapesData):
            raise ValueError(
                "evaluation: got the metric 'heldout_r2', which needs held-out pairs; expected "
                "'tifa' with the data 'shapes'"
            )

    def load(self, rung: RungInputs) -> Evaluator:
        """Return what scores on the held-out pairs; there is no model to load."""
        return HeldOut(rung.budget, self, rung.inputs)


class HeldOutR2(Metric):
    """Held-out R^2 as the metric that is ranked by; beside another there are no images to score."""

    DISPLAY_NAME: ClassVar[str] = HeldOutEvaluation.DISPLAY_NAME
    RANKED: ClassVar[type[RankedBy] | None] = HeldOutEvaluation
    BESIDE: ClassVar[bool] = False

    def load(self, device: str = "cpu") -> Scorer:  # noqa: ARG002  nothing is loaded
        """Raise TypeError: it is measured on a denoiser, not on images."""
        raise TypeError("held-out R^2 is no metric of images")


class HeldOut:
    """Scores a denoiser on the budget's held-out pairs."""

    def __init__(self, budget: Budget, settings: HeldOutEvaluation, inputs: Inputs) -> None:
        self._budget, self._settings, self._inputs = budget, settings, inputs
        self._samples, self._captions = inputs.make_feed(0).held_out(settings.seed)
        count = len(self._captions)
        shape = tuple(self._samples.x0.shape)
        self._eps = noise.draw_noise(settings.seed, 0, shape, "held-out noise")
        self._t = noise.draw_timesteps(settings.seed, 0, count, purpose="held-out time step")
        used = "|".join(f"{part}={name}" for part, name in sorted(inputs.fingerprints.items()))
        self._signature = (
            f"heldout_r2|prediction={budget.objective.prediction}|n={count}|seed={settings.seed}|"
            + hashlib.sha256(used.encode()).hexdigest()[:12]
        )

    def measure(self, denoiser: Denoiser, ranks: Ranks) -> Measured:
        """Return the held-out R^2 of a denoiser, and a few images to look at."""
        own = self._errors(denoiser, ranks)
        errors, powers = np.concatenate(ranks.gather(own), axis=1)
        per_pair = 1 - errors / powers.mean()
        mean = mean_over_prompts(per_pair.tolist())
        score = Score(
            metric="heldout_r2",
            value=mean.value,
            stderr=mean.stderr,
            n=mean.n,
            signature=self._signature,
            per_prompt=[round(value, 6) for value in per_pair.tolist()],
        )
        shown = self._captions[: self._settings.pictures]
        return Measured(score, self._draw(denoiser, len(shown), ranks), shown)

    @torch.inference_mode()
    def _errors(self, denoiser: Denoiser, ranks: Ranks) -> np.ndarray:
        """(2, own pairs) float64: squared error of the prediction, square of the target; means."""
        own = ranks.share(len(self._captions))
        parts = []
        for first in range(own.start, own.stop, self._settings.sampler.batch):
            rows = slice(first, min(first + self._settings.sampler.batch, own.stop))
            batch = noised(
                Samples(self._samples.x0[rows], self._samples.text[rows]),
                self._eps[rows],
                self._t[rows],
                self._budget.objective,
                ranks.device,
            )
            output = denoiser(batch.noisy, batch.t, batch.text)
            error = (output - batch.target).double().square().mean(dim=(1, 2, 3))
            power = batch.target.double().square().mean(dim=(1, 2, 3))
            parts.append(torch.stack([error, power]).cpu().numpy())
        return np.concatenate(parts, axis=1) if parts else np.empty((2, 0))

    def _draw(self, denoiser: Denoiser, count: int, ranks: Ranks) -> Images:
        if not count:
            return np.empty((0, 1, 1, 3), dtype=np.uint8)
        return draw(denoiser, self._samples.text[:count], self._budget, self._inputs, ranks)
