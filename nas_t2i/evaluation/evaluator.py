"""What scores a denoiser at a rung, and what it is given and gives.

Every rank evaluates its share; the score is the same for any number of ranks up to rounding,
because noise belongs to the prompt and not to the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.sampling.ddim import Denoiser
from nas_t2i.evaluation.sampling.generate import Images
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import Score
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import Ranks


@dataclass(frozen=True)
class RungInputs:
    """What the rungs of a trial are evaluated with."""

    budget: Budget
    inputs: Inputs
    log: AnswerLog  # answers and scores of images; what it has is not made again


@dataclass(frozen=True)
class Measured:
    """What an evaluation gave, the same on every rank."""

    score: Score
    images: Images  # (N, H, W, 3), as many as the budget draws
    captions: list[str]  # of the images


class Evaluator(Protocol):
    """A way to score a denoiser."""

    def measure(self, denoiser: Denoiser, ranks: Ranks) -> Measured:
        """Score a denoiser; all ranks together, each with whole weights."""
