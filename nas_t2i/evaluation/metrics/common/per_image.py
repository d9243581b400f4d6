"""Metrics that score one image and its prompt at a time: every image once, whatever interrupts."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from PIL import Image

from nas_t2i.errors import StorageError, named, number_of
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.inputs.images import ImageSet, Problem
from nas_t2i.evaluation.inputs.prompts import Prompt, prompts_digest
from nas_t2i.evaluation.inputs.provenance import signature
from nas_t2i.evaluation.metric import Metric, Resources, origin_part
from nas_t2i.evaluation.result import MetricResult, missing_notes
from nas_t2i.records import Score
from nas_t2i.statistics import mean_over_prompts

_NO_NUMBER = "no finite score"


class ImageModel(Protocol):
    """A loaded model that scores one image and its prompt."""

    name: str  # of the score, in records
    identity: str  # weights, options, resize rule, dtype, libraries: what makes scores comparable

    def score(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        """Score RGB images of any size, one prompt each; a score depends on its pair only.

        Which images share a pass moves a score in its last float32 digits, no more.

        Raises:
            ValueError: not one prompt an image.
        """
        ...


class PerImageMetric(Metric):
    """A metric that is the mean of a score of each image: give its settings and `load_model`."""

    @abstractmethod
    def load_model(self, device: str) -> ImageModel:
        """Load what scores images. Raises as `Metric.load`."""

    def load(self, device: str = "cpu") -> PerImageScorer:
        """Load the metric; see `Metric.load`."""
        return PerImageScorer(self, self.load_model(device))


class PerImageScorer:
    """Scores each prompt's image, unless the log has its score already.

    An image that is a problem, or whose score is no finite number, is left out and counted.
    """

    def __init__(self, settings: Metric, model: ImageModel) -> None:
        self._settings, self.model = settings, model

    def prepare(self, resources: Resources) -> None:
        """Nothing is needed besides the images."""

    def score(
        self, images: ImageSet, prompts: Sequence[Prompt], resources: Resources
    ) -> MetricResult:
        """Return the mean score; see `Scorer.score`."""
        unknown = images.unmatched(dict.fromkeys(prompt.id for prompt in prompts), "prompt")
        own = resources.ranks.share(len(prompts))
        found = _Found({}, {})
        for first in range(own.start, own.stop, resources.batch):
            resources.report(self._settings.metric, first - own.start, len(own))
            chunk = prompts[first : min(first + resources.batch, own.stop)]
            self._score_chunk(chunk, images, resources.log, found)
        resources.report(self._settings.metric, len(own), len(own))
        for part in resources.ranks.gather(found):
            found.values.update(part.values)
            found.missing.update(part.missing)
        notes = missing_notes(found.missing)
        if unknown:
            notes.append(f"{number_of(len(unknown), 'image')} without a prompt: {named(unknown)}")
        return self._result(found, images, prompts, notes)

    def _score_chunk(
        self, prompts: Sequence[Prompt], images: ImageSet, log: AnswerLog, found: _Found
    ) -> None:
        readable: list[tuple[Prompt, PromptedImage]] = []
        for prompt in prompts:
            image = images.read(prompt.id)
            if isinstance(image, Problem):
                found.missing[prompt.id] = image.reason
            else:
                prompted = PromptedImage(image, images.digest(prompt.id), prompt.caption)
                readable.append((prompt, prompted))
        scores = logged_scores(self.model, [prompted for _, prompted in readable], log)
        for (prompt, _), score in zip(readable, scores, strict=True):
            if math.isfinite(score):
                found.values[prompt.id] = score
            else:
                found.missing[prompt.id] = _NO_NUMBER

    def _result(
        self, found: _Found, images: ImageSet, prompts: Sequence[Prompt], notes: list[str]
    ) -> MetricResult:
        scored = [prompt.id for prompt in prompts if prompt.id in found.values]
        provenance, model = images.provenance, self.model
        signed = signature(
            model.name,
            f"model={model.identity}",
            f"prompts={prompts_digest(prompts)}",
            provenance.images_part,
            provenance.drawn_part,
            origin_part(self._settings),
        )
        values = [found.values[name] for name in scored]
        score = None
        if values:
            mean = mean_over_prompts(values)
            score = Score(
                metric=model.name,
                value=mean.value,
                stderr=mean.stderr,
                n=mean.n,
                n_missing=len(found.missing),
                signature=signed,
                better=self._settings.BETTER,
                per_prompt=[round(value, 6) for value in values],
            )
        return MetricResult(
            metric=self._settings.metric,
            score=score,
            better=self._settings.BETTER,
            signature=signed,
            prompts=scored,
            missing={p.id: found.missing[p.id] for p in prompts if p.id in found.missing},
            notes=notes,
            more={"model": model.identity},
        )


class _Found(NamedTuple):
    """Scores, and why there is none, by prompt id."""

    values: dict[str, float]
    missing: dict[str, str]


class PromptedImage(NamedTuple):
    """What a model scores."""

    image: Image.Image
    digest: str  # of the image
    prompt: str


def logged_scores(
    model: ImageModel, images: Sequence[PromptedImage], log: AnswerLog
) -> list[float]:
    """Return a score an image, in order; those the log lacks are made, and logged if finite.

    Raises:
        StorageError: the log can't be written, or holds something else under an image's key.
    """
    keys = [(image.digest, prompt_key(image.prompt), model.identity) for image in images]
    scores = {i: value for i, key in enumerate(keys) if (value := log.get(*key)) is not None}
    for value in scores.values():
        if not isinstance(value, float):
            raise StorageError(f"{log.file}: got {value!r:.60} for the score of an image")
    fresh = [i for i in range(len(keys)) if i not in scores]
    if fresh:
        made = model.score([images[i].image for i in fresh], [images[i].prompt for i in fresh])
        for i, score in zip(fresh, map(float, made), strict=True):
            scores[i] = score
            if math.isfinite(score):
                log.put(*keys[i], score)
    return [scores[i] for i in range(len(keys))]


def prompt_key(prompt: str) -> str:
    """Return a digest of a prompt, for the log."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:20]
