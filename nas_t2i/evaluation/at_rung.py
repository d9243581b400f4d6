"""What is measured at a rung: the metric that is ranked by, and the others of the budget."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.evaluator import Evaluator, Measured, RungInputs
from nas_t2i.evaluation.inputs.prompts import Prompt
from nas_t2i.evaluation.metric import Content, Metric, RankedBy, Resources, Scorer
from nas_t2i.evaluation.prompt_evaluator import PromptEvaluator, score_at_rung
from nas_t2i.evaluation.sampling.ddim import Denoiser
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import Score
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import Ranks


class AtRung(NamedTuple):
    """What was measured at a rung, the same on every rank."""

    measured: Measured  # by the metric that is ranked by
    scores: dict[str, Score]  # all, by the names of the scores, the one that is ranked by first


class RungEvaluator:
    """The metrics of a budget's trials; models of additional ones are loaded when first needed.

    A score of an image, or an answer, that `log` has is not made again.

    Raises:
        UserError: what the ranked metric needs can't be used, or a file of another is not there.
    """

    def __init__(self, budget: Budget, inputs: Inputs, log: AnswerLog | None = None) -> None:
        for metric in additional_metrics(budget):
            metric.check()
        self._budget = budget
        ranked = ranked_by(budget)
        kept = log if log is not None and ranked.asks_a_model else AnswerLog(None)
        self.ranked: Evaluator = ranked.load(RungInputs(budget, inputs, kept))
        self._rung = RungInputs(budget, inputs, AnswerLog(None) if log is None else log)
        self._scorers: dict[str, Scorer] = {}
        self._own: dict[str, PromptEvaluator] = {}

    def measure(self, denoiser: Denoiser, step: int, ranks: Ranks) -> AtRung:
        """Score a denoiser at a rung; all ranks together, each with whole weights."""
        measured = self.ranked.measure(denoiser, ranks)
        beside = self.measure_beside(denoiser, measured, step, ranks)
        return AtRung(measured, {measured.score.metric: measured.score, **beside})

    def measure_beside(
        self, denoiser: Denoiser, measured: Measured, step: int, ranks: Ranks
    ) -> dict[str, Score]:
        """Return the additional metrics' scores of what was `measured` at a rung.

        One with prompts of its own has them drawn by the denoiser.
        """
        last = step == self._budget.rungs[-1]
        scores = [
            self._score(metric, denoiser, measured, ranks)
            for metric in additional_metrics(self._budget)
            if last or metric.at == "every_rung"
        ]
        return {score.metric: score for score in scores}

    def _score(self, metric: Metric, denoiser: Denoiser, measured: Measured, ranks: Ranks) -> Score:
        scorer = self._scorer(metric, ranks)
        prompts = metric.own_prompts()
        if prompts is not None:
            if metric.metric not in self._own:
                self._own[metric.metric] = PromptEvaluator(prompts, scorer, self._rung)
            return self._own[metric.metric].measure(denoiser, ranks).score
        # By their numbers: the prompts of held-out pairs have no ids.
        shown = [Prompt(str(i), caption) for i, caption in enumerate(measured.captions)]
        return score_at_rung(scorer, measured.images, shown, self._rung, ranks)

    def _scorer(self, metric: Metric, ranks: Ranks) -> Scorer:
        if metric.metric not in self._scorers:
            scorer = metric.load(str(ranks.device))
            scorer.prepare(Resources(log=self._rung.log, ranks=ranks))
            self._scorers[metric.metric] = scorer
        return self._scorers[metric.metric]


def ranked_by(budget: Budget) -> RankedBy:
    """Return the settings of the metric that a budget's trials are ranked by."""
    assert isinstance(budget.evaluation, RankedBy)
    return budget.evaluation


def additional_metrics(budget: Budget) -> list[Metric]:
    """Return the metrics beside it."""
    return [metric for metric in budget.evaluation.metrics if isinstance(metric, Metric)]


def open_log(budget: Budget, folder: Path, ranks: Ranks) -> AnswerLog:
    """Return the log of a trial's answers and scores of single images, one file a rank.

    There is a file only if a model is asked anything.

    Raises:
        StorageError: the file can't be opened or read.
    """
    needed = budget.evaluation.metrics or ranked_by(budget).asks_a_model
    return AnswerLog(folder / f"answers-{ranks.rank}.jsonl" if needed else None)


def check_evaluation(budget: Budget) -> None:
    """Check what the trials of a budget are evaluated with, before any of them is trained.

    Of large models only local folders and files are looked for.

    Raises:
        UserError: questions, a mapping, a VQA model or a metric that can't be used.
    """
    ranked_by(budget).check(budget.data)
    for metric in additional_metrics(budget):
        metric.check()


def chance_level(budget: Budget) -> float | None:
    """Return what an uninformed model scores, None where there is no such level."""
    return ranked_by(budget).chance(budget.data)


def contents(budget: Budget) -> dict[str, Content]:
    """Return, by metric, the files whose content decides its scores."""
    found = {budget.evaluation.metric: ranked_by(budget).content(budget.data)}
    found |= {metric.metric: metric.content() for metric in additional_metrics(budget)}
    return {name: content for name, content in found.items() if content is not None}
