"""Metrics of single images over a whole set: every image scored once, whatever interrupts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from nas_t2i.errors import StorageError
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.inputs.images import ImageSet, Problem
from nas_t2i.evaluation.inputs.prompts import Prompt, prompts_digest
from nas_t2i.evaluation.metric_result import MetricResult, Report, missing_notes
from nas_t2i.evaluation.metrics.common.per_image import ImageMetric
from nas_t2i.evaluation.tifa.run import named, number_of, strangers
from nas_t2i.records import Score
from nas_t2i.statistics import mean_over_prompts

_NO_NUMBER = "no finite score"


def score_images(
    name: str,
    metric: ImageMetric,
    prompts: Sequence[Prompt],
    images: ImageSet,
    log: AnswerLog,
    report: Report,
    batch: int = 32,
) -> MetricResult:
    """Score each prompt's image with a metric, unless the log has its score already.

    `name` is the metric as it was asked for; `batch` images are scored and logged at a time. An
    image that is a problem is left out and counted.

    Raises:
        ConfigError: no image has the id of a prompt.
        StorageError: the log can't be written, or holds something else under an image's key.
    """
    unknown = strangers(images.ids, dict.fromkeys(p.id for p in prompts), "prompt")
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for first in range(0, len(prompts), batch):
        report(name, first, len(prompts))
        chunk = prompts[first : first + batch]
        _score_chunk(metric, chunk, images, log, values, missing)
    report(name, len(prompts), len(prompts))
    notes = missing_notes(missing)
    if unknown:
        notes.append(f"{number_of(len(unknown), 'image')} without a prompt: {named(unknown)}")
    scored = [prompt.id for prompt in prompts if prompt.id in values]
    return MetricResult(
        metric=name,
        score=_score(metric, [values[i] for i in scored], len(missing), prompts, images.rule),
        better="larger",
        prompts=scored,
        missing={prompt.id: missing[prompt.id] for prompt in prompts if prompt.id in missing},
        notes=notes,
        more={"model": metric.identity},
    )


class PromptedImage(NamedTuple):
    """What a metric scores."""

    image: Image.Image
    digest: str  # of the image
    prompt: str


def logged_scores(
    metric: ImageMetric, images: Sequence[PromptedImage], log: AnswerLog
) -> list[float]:
    """Return a score an image, in order; those the log lacks are made, and logged if finite.

    Raises:
        StorageError: the log can't be written, or holds something else under an image's key.
    """
    keys = [(image.digest, prompt_key(image.prompt), metric.identity) for image in images]
    scores = {i: value for i, key in enumerate(keys) if (value := log.get(*key)) is not None}
    for value in scores.values():
        if not isinstance(value, float):
            raise StorageError(f"{log.file}: got {value!r:.60} for the score of an image")
    fresh = [i for i in range(len(keys)) if i not in scores]
    if fresh:
        made = metric.score([images[i].image for i in fresh], [images[i].prompt for i in fresh])
        for i, score in zip(fresh, map(float, made), strict=True):
            scores[i] = score
            if math.isfinite(score):
                log.put(*keys[i], score)
    return [scores[i] for i in range(len(keys))]


def prompt_key(prompt: str) -> str:
    """Return a digest of a prompt, for the log."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:20]


def _score_chunk(
    metric: ImageMetric,
    prompts: Sequence[Prompt],
    images: ImageSet,
    log: AnswerLog,
    values: dict[str, float],
    missing: dict[str, str],
) -> None:
    """Add the prompts of one chunk to `values` or to `missing`."""
    readable: list[tuple[Prompt, PromptedImage]] = []
    for prompt in prompts:
        image = images.read(prompt.id)
        if isinstance(image, Problem):
            missing[prompt.id] = image.reason
        else:
            prompted = PromptedImage(image, images.digest(prompt.id), prompt.caption)
            readable.append((prompt, prompted))
    scores = logged_scores(metric, [image for _, image in readable], log)
    for (prompt, _), score in zip(readable, scores, strict=True):
        if math.isfinite(score):
            values[prompt.id] = score
        else:
            missing[prompt.id] = _NO_NUMBER


def _score(
    metric: ImageMetric, values: list[float], missing: int, prompts: Sequence[Prompt], rule: str
) -> Score | None:
    if not values:
        return None
    mean = mean_over_prompts(values)
    return Score(
        metric=metric.name,
        value=mean.value,
        stderr=mean.stderr,
        n=mean.n,
        n_missing=missing,
        signature=(
            f"{metric.name}|model={metric.identity}|prompts={prompts_digest(prompts)}|images={rule}"
        ),
        per_prompt=[round(value, 6) for value in values],
    )
