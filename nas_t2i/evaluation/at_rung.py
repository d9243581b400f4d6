"""What is measured at a rung: a budget's evaluator draws and scores with a denoiser it is lent.

Every rank evaluates its share of the prompts; the score is the same for any number of ranks up to
rounding, because noise belongs to the prompt and not to the batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.further import check_further
from nas_t2i.evaluation.heldout import HeldOut
from nas_t2i.evaluation.question_tifa import (
    QuestionTifa,
    check_questions,
    read_evaluation_questions,
)
from nas_t2i.evaluation.sampling.ddim import Denoiser
from nas_t2i.evaluation.sampling.generate import Measured
from nas_t2i.evaluation.tifa.scoring import blind_level
from nas_t2i.protocol.budget import EMBEDDED_VQA, Budget, HeldOutEvaluation
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import Ranks


class Evaluator(Protocol):
    """The budget's way to score a denoiser."""

    def measure(self, denoiser: Denoiser, ranks: Ranks) -> Measured:
        """Score a denoiser; all ranks together, each with whole weights."""


def make_evaluator(budget: Budget, inputs: Inputs, log: AnswerLog | None = None) -> Evaluator:
    """Return the evaluator that the budget names; `log` keeps the answers of a VQA model."""
    if isinstance(budget.evaluation, HeldOutEvaluation):
        return HeldOut(budget, inputs)
    if log is None or not _asks_a_model(budget):
        log = AnswerLog(None)
    return QuestionTifa(budget, inputs, log)


def open_log(budget: Budget, folder: Path, ranks: Ranks) -> AnswerLog:
    """Return the log of a trial's answers and scores of single images, one file a rank.

    There is a file only if a model is asked anything.

    Raises:
        StorageError: the file can't be opened or read.
    """
    needed = budget.evaluation.metrics or _asks_a_model(budget)
    return AnswerLog(folder / f"answers-{ranks.rank}.jsonl" if needed else None)


def _asks_a_model(budget: Budget) -> bool:
    """Whether answers cost something: the embedded VQA models are faster than a log is written."""
    evaluation = budget.evaluation
    return evaluation.metric == "tifa" and evaluation.vqa not in EMBEDDED_VQA


def check_evaluation(budget: Budget) -> None:
    """Check what the trials of a budget are evaluated with, before any of them is trained.

    Of large models only local folders and files are looked for.

    Raises:
        UserError: questions, a mapping, a VQA model or a metric that can't be used.
    """
    if not isinstance(budget.evaluation, HeldOutEvaluation):
        check_questions(budget)
    check_further(budget)


def chance_level(budget: Budget) -> float | None:
    """Return what an uninformed model scores, None where there is no such level."""
    if isinstance(budget.evaluation, HeldOutEvaluation):
        return None
    return blind_level(read_evaluation_questions(budget))
