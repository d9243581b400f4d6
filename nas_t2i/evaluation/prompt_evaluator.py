"""Draws prompts with a denoiser and hands the images to a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas_t2i.evaluation.evaluator import Measured, RungInputs
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.inputs.prompts import Prompt
from nas_t2i.evaluation.inputs.provenance import Drawn
from nas_t2i.evaluation.metric import Resources, Scorer
from nas_t2i.evaluation.result import MetricResult
from nas_t2i.evaluation.sampling.ddim import Denoiser
from nas_t2i.evaluation.sampling.generate import Images, draw
from nas_t2i.evaluation.sampling.prompt_features import encode_prompts
from nas_t2i.records import Score
from nas_t2i.training.ranks import Ranks


class PromptEvaluator:
    """Scores a denoiser by a metric of the images that it draws for prompts."""

    def __init__(self, prompts: Sequence[Prompt], scorer: Scorer, rung: RungInputs) -> None:
        self._prompts, self._scorer, self._rung = prompts, scorer, rung
        self._captions = [prompt.caption for prompt in prompts]
        self._text = encode_prompts(self._captions, rung.inputs)

    def measure(self, denoiser: Denoiser, ranks: Ranks) -> Measured:
        """Return the metric of images of the prompts."""
        images = draw(denoiser, self._text, self._rung.budget, self._rung.inputs, ranks)
        return Measured(self.score(images, ranks), images, self._captions)

    def score(self, images: Images, ranks: Ranks) -> Score:
        """Return the metric of (prompts, H, W, 3) images."""
        return score_at_rung(self._scorer, images, self._prompts, self._rung, ranks)


def score_at_rung(
    scorer: Scorer, images: Images, prompts: Sequence[Prompt], rung: RungInputs, ranks: Ranks
) -> Score:
    """Return a metric's score of images (N, H, W, 3) as a model in training drew them."""
    drawn = Drawn.by(rung.budget.evaluation)
    images_of = ImageSet.at_rung([prompt.id for prompt in prompts], images, drawn)
    resources = Resources(log=rung.log, ranks=ranks)
    return _on_record(scorer.score(images_of, prompts, resources))


def _on_record(result: MetricResult) -> Score:
    """Return the score; one that is no number where nothing could be scored, which is on record."""
    if result.score is not None:
        return result.score
    return Score(
        metric=result.metric,
        value=math.nan,
        stderr=math.nan,
        n=0,
        n_missing=len(result.missing),
        signature=result.signature,
        better=result.better,
    )
