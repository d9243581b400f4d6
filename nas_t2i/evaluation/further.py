"""Further metrics of the pictures that were drawn at a rung, on record beside the ranked one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.drawing import Measured
from nas_t2i.evaluation.image_metrics import check_image_metric, make_image_metric
from nas_t2i.evaluation.image_scores import PromptedPicture, logged_scores
from nas_t2i.evaluation.image_set import picture_digest
from nas_t2i.evaluation.metric_result import prompts_digest
from nas_t2i.evaluation.metrics.image_metric import ImageMetric
from nas_t2i.evaluation.statistics import mean_over_prompts
from nas_t2i.evaluation.tifa_files import Prompt
from nas_t2i.protocol.budget import Budget, ImageMetricSettings
from nas_t2i.records import Score
from nas_t2i.training.ranks import Ranks


class FurtherMetrics:
    """The budget's further metrics; a model is loaded when it is first needed, and kept.

    A score that `log` has is not made again.

    Raises:
        ConfigError: a metric's file of weights is missing.
    """

    def __init__(self, budget: Budget, log: AnswerLog) -> None:
        self._budget, self._log = budget, log
        self._settings = budget.evaluation.metrics
        self._loaded: dict[str, ImageMetric] = {}
        for settings in self._settings:
            check_image_metric(settings)

    def measure(self, measured: Measured, step: int, ranks: Ranks) -> dict[str, Score]:
        """Return the scores of what was drawn at a rung, by metric; all ranks together."""
        last = step == self._budget.rungs[-1]
        wanted = [metric for metric in self._settings if last or metric.at == "every_rung"]
        scores = [self._score(settings, measured, ranks) for settings in wanted]
        return {score.metric: score for score in scores}

    def _score(self, settings: ImageMetricSettings, measured: Measured, ranks: Ranks) -> Score:
        if settings.metric not in self._loaded:
            self._loaded[settings.metric] = make_image_metric(settings, str(ranks.device))
        metric = self._loaded[settings.metric]
        own = ranks.share(len(measured.captions))
        rows = slice(own.start, own.stop)
        images = [Image.fromarray(picture) for picture in measured.pictures[rows]]
        pictures = [
            PromptedPicture(image, picture_digest(image), caption)
            for image, caption in zip(images, measured.captions[rows], strict=True)
        ]
        scores = logged_scores(metric, pictures, self._log)
        per_prompt = np.concatenate(ranks.gather(np.array(scores, dtype=np.float64)))
        mean = mean_over_prompts(per_prompt)
        sampler, seed = self._budget.evaluation.sampler, self._budget.evaluation.seed
        prompts = [Prompt(str(i), caption) for i, caption in enumerate(measured.captions)]
        return Score(
            metric=metric.name,
            value=mean.value,
            stderr=mean.stderr,
            n=mean.n,
            signature=(
                f"{metric.name}|model={metric.identity}|prompts={prompts_digest(prompts)}"
                f"|ddim{sampler.steps}|guidance={sampler.guidance:g}|seed={seed}"
            ),
            per_prompt=[round(value, 6) for value in per_prompt.tolist()],
        )
