"""What is measured at a rung: a budget's evaluator draws and scores with a denoiser it is lent.

Every rank evaluates its share of the prompts; the score is the same for any number of ranks up to
rounding, because noise belongs to the prompt and not to the batch.
"""

from __future__ import annotations

from typing import Protocol

from nas_t2i.evaluation.drawing import Measured
from nas_t2i.evaluation.heldout import HeldOut
from nas_t2i.evaluation.sampling import Denoiser
from nas_t2i.evaluation.shapes_tifa import ShapesTifa, make_prompts
from nas_t2i.protocol.budget import Budget
from nas_t2i.training.inputs import Inputs
from nas_t2i.training.ranks import Ranks


class Evaluator(Protocol):
    """The budget's way to score a denoiser."""

    def measure(self, denoiser: Denoiser, ranks: Ranks) -> Measured:
        """Score a denoiser; all ranks together, each with whole weights."""


def make_evaluator(budget: Budget, inputs: Inputs) -> Evaluator:
    """Return the evaluator that the budget names."""
    if budget.evaluation.metric == "tifa":
        return ShapesTifa(budget, inputs)
    return HeldOut(budget, inputs)


def chance_level(budget: Budget) -> float | None:
    """Return what an uninformed model scores, None where there is no such level."""
    if budget.evaluation.metric == "tifa":
        return make_prompts(budget).chance.tifa
    return None
