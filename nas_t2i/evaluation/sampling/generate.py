"""Images drawn by a denoiser for given texts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nas_t2i.evaluation.sampling.ddim import Denoiser, sample
from nas_t2i.protocol.budget import Budget
from nas_t2i.training import noise
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import Ranks

Images = npt.NDArray[np.uint8]


def draw(denoiser: Denoiser, text: Tensor, budget: Budget, inputs: Inputs, ranks: Ranks) -> Images:
    """Return the images of all texts (N, tokens, width), (N, H, W, 3), on every rank.

    The noise of a prompt is a function of the evaluation's seed and the prompt's number.
    """
    settings = budget.evaluation
    own = ranks.share(len(text))
    latents = sample(
        denoiser,
        text[own.start : own.stop].to(ranks.device),
        inputs.null_text.to(ranks.device),
        latent_shape=inputs.latent_shape,
        schedule=noise.ldm_schedule(),
        prediction=budget.objective.prediction,
        steps=settings.sampler.steps,
        guidance=settings.sampler.guidance,
        seed=settings.seed,
        batch=settings.sampler.batch,
        start=own.start,
    )
    images = inputs.codec.decode(latents).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(np.concatenate(ranks.gather(images)))
