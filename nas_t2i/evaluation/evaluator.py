"""What is measured at a rung: a budget's evaluator draws and scores with a denoiser it is lent.

Every rank evaluates its share of the prompts; the score is the same for any number of ranks up to
rounding, because noise belongs to the prompt and not to the batch.
"""

from __future__ import annotations

from typing import Protocol

from nas_t2i.evaluation.drawing import Measured
from nas_t2i.evaluation.heldout import HeldOut
from nas_t2i.evaluation.image_metrics import check_image_metric
from nas_t2i.evaluation.question_tifa import (
    QuestionTifa,
    check_questions,
    read_evaluation_questions,
)
from nas_t2i.evaluation.sampling import Denoiser
from nas_t2i.evaluation.tifa import blind_level
from nas_t2i.protocol.budget import Budget, HeldOutEvaluation
from nas_t2i.training.inputs import Inputs
from nas_t2i.training.ranks import Ranks


class Evaluator(Protocol):
    """The budget's way to score a denoiser."""

    def measure(self, denoiser: Denoiser, ranks: Ranks) -> Measured:
        """Score a denoiser; all ranks together, each with whole weights."""


def make_evaluator(budget: Budget, inputs: Inputs) -> Evaluator:
    """Return the evaluator that the budget names."""
    if isinstance(budget.evaluation, HeldOutEvaluation):
        return HeldOut(budget, inputs)
    return QuestionTifa(budget, inputs)


def check_evaluation(budget: Budget) -> None:
    """Check what the trials of a budget are evaluated with, before any of them is trained.

    Of large models only local folders and files are looked for.

    Raises:
        UserError: questions, a mapping, an answerer or a metric that can't be used.
    """
    if not isinstance(budget.evaluation, HeldOutEvaluation):
        check_questions(budget)
    for settings in budget.evaluation.metrics:
        check_image_metric(settings)


def chance_level(budget: Budget) -> float | None:
    """Return what an uninformed model scores, None where there is no such level."""
    if isinstance(budget.evaluation, HeldOutEvaluation):
        return None
    return blind_level(read_evaluation_questions(budget))
