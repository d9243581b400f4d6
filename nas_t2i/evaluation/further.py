"""Further metrics of what is drawn at a rung, on record beside the ranked one."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.image_metrics import check_image_metric, make_image_metric
from nas_t2i.evaluation.inputs.images import image_digest
from nas_t2i.evaluation.inputs.prompts import Prompt, prompts_digest
from nas_t2i.evaluation.metrics.common.fid_run import Extractor, summed
from nas_t2i.evaluation.metrics.common.frechet import FeatureStatistics, distance_with_error
from nas_t2i.evaluation.metrics.common.image_scores import PromptedImage, logged_scores
from nas_t2i.evaluation.metrics.common.per_image import ImageMetric, weights_file
from nas_t2i.evaluation.question_tifa import QuestionTifa, by_tifa, check_questions
from nas_t2i.evaluation.sampling.ddim import Denoiser
from nas_t2i.evaluation.sampling.generate import Measured
from nas_t2i.files import expand_path
from nas_t2i.protocol.budget import (
    Budget,
    FidMetric,
    FurtherMetric,
    ImageMetricSettings,
    TifaMetric,
)
from nas_t2i.records import Score
from nas_t2i.statistics import mean_over_prompts
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import Ranks


def check_further(budget: Budget) -> None:
    """Check that the files which further metrics name are there; no model is loaded.

    Raises:
        ConfigError: one of them is not, or is of another kind.
    """
    for metric in budget.evaluation.metrics:
        if isinstance(metric, TifaMetric):
            check_questions(by_tifa(budget, metric))
        elif isinstance(metric, FidMetric):
            _reference(metric)
            if metric.inception is not None:
                weights_file(metric.inception, "fid.inception")
        else:
            check_image_metric(metric)


class FurtherMetrics:
    """The budget's further metrics; a model is loaded when it is first needed, and kept.

    A score of an image, or an answer, that `log` has is not made again.

    Raises:
        ConfigError: as `check_further`.
    """

    def __init__(self, budget: Budget, inputs: Inputs, log: AnswerLog) -> None:
        check_further(budget)
        self._budget, self._inputs, self._log = budget, inputs, log
        self._settings = budget.evaluation.metrics
        self._loaded: dict[str, ImageMetric] = {}
        self._tifa: QuestionTifa | None = None
        self._extractor: Extractor | None = None

    def measure(
        self, denoiser: Denoiser, measured: Measured, step: int, ranks: Ranks
    ) -> dict[str, Score]:
        """Return the scores at a rung, by metric; all ranks together, each with whole weights.

        TIFA draws its own captions with the denoiser; the others score what was `measured`.
        """
        last = step == self._budget.rungs[-1]
        wanted = [metric for metric in self._settings if last or metric.at == "every_rung"]
        scores = [self._score(metric, denoiser, measured, ranks) for metric in wanted]
        return {score.metric: score for score in scores}

    def _score(
        self, metric: FurtherMetric, denoiser: Denoiser, measured: Measured, ranks: Ranks
    ) -> Score:
        if isinstance(metric, TifaMetric):
            if self._tifa is None:
                self._tifa = QuestionTifa(by_tifa(self._budget, metric), self._inputs, self._log)
            return self._tifa.measure(denoiser, ranks).score
        if isinstance(metric, FidMetric):
            return self._fid(metric, measured, ranks)
        return self._image_score(metric, measured, ranks)

    def _fid(self, metric: FidMetric, measured: Measured, ranks: Ranks) -> Score:
        if self._extractor is None:
            # Here, because it needs packages of its own.
            from nas_t2i.evaluation.metrics.common.inception import InceptionFeatures

            self._extractor = InceptionFeatures(
                metric.inception, side=metric.side, device=str(ranks.device)
            )
        extractor, reference = self._extractor, _reference(metric, self._extractor.identity)
        own = ranks.share(len(measured.images))
        images = [Image.fromarray(measured.images[i]) for i in own]
        rows = np.concatenate(ranks.gather(extractor.features(images).astype(np.float32)))
        told = (math.nan, math.nan)
        if ranks.is_first:
            told = distance_with_error(summed([rows], extractor, "of a rung"), reference)
        value, stderr = ranks.agree(told)
        return Score(
            metric="fid",
            value=value,
            stderr=stderr,
            n=len(rows),
            signature=(
                f"fid|model={extractor.identity}|reference={reference.images},n={reference.n}"
                f"|n={len(rows)}|{self._drawn_as(measured)}"
            ),
        )

    def _image_score(
        self, settings: ImageMetricSettings, measured: Measured, ranks: Ranks
    ) -> Score:
        if settings.metric not in self._loaded:
            self._loaded[settings.metric] = make_image_metric(settings, str(ranks.device))
        metric = self._loaded[settings.metric]
        own = ranks.share(len(measured.captions))
        rows = slice(own.start, own.stop)
        images = [Image.fromarray(image) for image in measured.images[rows]]
        prompted = [
            PromptedImage(image, image_digest(image), caption)
            for image, caption in zip(images, measured.captions[rows], strict=True)
        ]
        scores = logged_scores(metric, prompted, self._log)
        per_prompt = np.concatenate(ranks.gather(np.array(scores, dtype=np.float64)))
        mean = mean_over_prompts(per_prompt)
        return Score(
            metric=metric.name,
            value=mean.value,
            stderr=mean.stderr,
            n=mean.n,
            signature=f"{metric.name}|model={metric.identity}|{self._drawn_as(measured)}",
            per_prompt=[round(value, 6) for value in per_prompt.tolist()],
        )

    def _drawn_as(self, measured: Measured) -> str:
        """Return the part of a signature that says which images were scored."""
        sampler, seed = self._budget.evaluation.sampler, self._budget.evaluation.seed
        prompts = [Prompt(str(i), caption) for i, caption in enumerate(measured.captions)]
        return (
            f"prompts={prompts_digest(prompts)}|ddim{sampler.steps}"
            f"|guidance={sampler.guidance:g}|seed={seed}"
        )


def _reference(metric: FidMetric, extractor: str | None = None) -> FeatureStatistics:
    return FeatureStatistics.load(
        expand_path(metric.reference, "fid.reference"), extractor=extractor
    )
