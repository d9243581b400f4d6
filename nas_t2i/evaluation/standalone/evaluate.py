"""Metrics of images, from a request to a result file.

The order: every file is read (`make_plan`), every model loaded, and only then is anything drawn or
scored, so that what is wrong is told in the first minute and not after a night.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from nas_t2i.environment import describe_environment
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.image_metrics import make_image_metric
from nas_t2i.evaluation.inputs.image_folder import default_folder, draw_images, drawing_of
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.metric_result import MetricResult, Report
from nas_t2i.evaluation.metrics.common.fid_run import Extractor, reference_statistics, score_fid
from nas_t2i.evaluation.metrics.common.frechet import FeatureStatistics
from nas_t2i.evaluation.metrics.common.image_scores import score_images
from nas_t2i.evaluation.metrics.common.per_image import ImageMetric
from nas_t2i.evaluation.sampling.checkpoint import Painter, load_painter
from nas_t2i.evaluation.standalone.request import Plan, Request
from nas_t2i.evaluation.tifa.mapping.registry import make_mapping
from nas_t2i.evaluation.tifa.run import TifaOutcome, ask, result, score
from nas_t2i.evaluation.tifa.types import Detail, Mapping, VqaModel
from nas_t2i.evaluation.vqa import MODELS, make_vqa_model
from nas_t2i.protocol.budget import Budget

RESULT_VERSION = 1
# What tifa_run's own result has beside the keys that every metric has here.
_TIFA_KEYS = ("answerer", "mapping", "question_details")
_MOST_TOLD = 3  # images of which a note says what is wrong


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    results: list[MetricResult]
    details: list[Detail]  # of TIFA's questions, for TIFA's own layout
    images: dict[str, Any]  # where the images are from; plain JSON
    notes: list[str]

    @property
    def complete(self) -> bool:
        """Whether every metric has a score."""
        return all(result.score is not None for result in self.results)


@dataclass(frozen=True)
class _Models:
    painter: Painter | None
    vqa_model: VqaModel | None
    mapping: Mapping | None
    image_metrics: dict[str, ImageMetric]
    extractor: Extractor | None


def evaluate(
    plan: Plan, log_file: Path | None, cache: Path, device: str, report: Report
) -> Evaluation:
    """Draw the images if need be, and score them by every metric of the plan.

    `log_file` holds answers and scores as they come (None: memory); `cache` holds what can be made
    again: drawn images, features.

    Raises:
        UserError: a model that can't be used, images without prompts, a file that can't be
            written.
    """
    with AnswerLog(log_file if _logs_anything(plan) else None) as log:
        models = _load_models(plan, cache, device)
        reference = _reference(plan, models.extractor, cache, report)
        images, told = _images(plan, models.painter, cache, report)
        return _score_all(plan, models, reference, images, told, log, cache, report)


def result_data(evaluation: Evaluation, plan: Plan) -> dict[str, Any]:
    """Return an evaluation as plain JSON data: what ``nas-t2i evaluate -o`` writes."""
    return {
        "version": RESULT_VERSION,
        "kind": "evaluation",
        "images": evaluation.images,
        "results": [result.plain() for result in evaluation.results],
        "notes": evaluation.notes,
        "environment": describe_environment(torch.get_num_threads()).model_dump(mode="json"),
        "config": _plain(plan.request),
    }


def _is_recorded(plan: Plan) -> bool:
    return plan.vqa.startswith("recorded:")


def _logs_anything(plan: Plan) -> bool:
    asked = "tifa" in plan.request.metrics and not _is_recorded(plan)
    return asked or bool(plan.image_metrics)


def _load_models(plan: Plan, cache: Path, device: str) -> _Models:
    request = plan.request
    vqa_model = mapping = extractor = None
    if "tifa" in request.metrics:
        vqa_model = _vqa_model(plan, device)
        mapping = make_mapping(plan.mapping, device)
    if "fid" in request.metrics:
        # Here, because it needs packages of its own.
        from nas_t2i.evaluation.metrics.common.inception import InceptionFeatures

        extractor = InceptionFeatures(request.fid.inception, side=request.fid.side, device=device)
    image_metrics = {
        name: make_image_metric(settings, device) for name, settings in plan.image_metrics.items()
    }
    painter = None if plan.checkpoint is None else load_painter(plan.checkpoint, cache, device)
    return _Models(painter, vqa_model, mapping, image_metrics, extractor)


def _vqa_model(plan: Plan, device: str) -> VqaModel:
    tifa = plan.request.tifa
    by_likelihood = plan.mapping == "likelihood" and plan.vqa.partition(":")[0] in MODELS
    return make_vqa_model(
        plan.vqa,
        revision=tifa.revision,
        device=device,
        dtype=tifa.dtype,
        likelihood=tifa.likelihood if by_likelihood else None,
        choices_in_prompt=tifa.choices_in_prompt,
        batch=plan.request.batch,
        new_tokens=tifa.new_tokens,
        recorded_model=tifa.recorded_model,
    )


def _reference(
    plan: Plan, extractor: Extractor | None, cache: Path, report: Report
) -> FeatureStatistics | None:
    fid = plan.request.fid
    if extractor is None or fid.reference is None:
        return None
    found = reference_statistics(fid.reference, extractor, cache / "features", report)
    if fid.save_reference is not None:
        found.save(fid.save_reference)
    return found


def _images(
    plan: Plan, painter: Painter | None, cache: Path, report: Report
) -> tuple[ImageSet, dict[str, Any]]:
    """Return the images, drawn if need be, and where they are from."""
    request = plan.request
    if painter is None:
        assert plan.images is not None
        source = request.source or request.images
        told: dict[str, Any] = {"source": str(source), "drawn": None}
        images = plan.images
    else:
        assert plan.checkpoint is not None
        drawing = drawing_of(painter, plan.prompts)
        folder = request.pictures or default_folder(cache, drawing)
        file = draw_images(painter, plan.prompts, folder, report)
        images = ImageSet.from_map(file, size=request.size, blank_counts=request.blank_counts)
        told = {
            "source": str(request.source),
            "model": plan.checkpoint.told,
            "drawn": drawing,
            "folder": str(folder),
        }
    return images, {**told, "rule": images.rule, "count": len(images.ids)}


def _score_all(
    plan: Plan,
    models: _Models,
    reference: FeatureStatistics | None,
    images: ImageSet,
    told: dict[str, Any],
    log: AnswerLog,
    cache: Path,
    report: Report,
) -> Evaluation:
    results: list[MetricResult] = []
    details: list[Detail] = []
    for name in plan.request.metrics:
        if name == "tifa":
            found, details = _tifa(plan, models, images, log, report)
        elif name == "fid":
            assert models.extractor is not None and reference is not None
            ids = [prompt.id for prompt in plan.prompts] or images.ids
            found = score_fid(ids, images, models.extractor, reference, cache / "features", report)
        else:
            metric, batch = models.image_metrics[name], plan.request.batch
            found = score_images(name, metric, plan.prompts, images, log, report, batch)
        results.append(_drawn_so(found, models.painter))
    heard = {note for found in results for note in found.notes}
    notes = plan.notes + [note for note in log.notes if note not in heard]
    # Where the path of a map leads, for example.
    for image, problem in list(images.problems.items())[:_MOST_TOLD]:
        notes.append(f"image {image!r} {problem.reason}: {problem.detail}")
    return Evaluation(results, details, told, notes)


def _tifa(
    plan: Plan, models: _Models, images: ImageSet, log: AnswerLog, report: Report
) -> tuple[MetricResult, list[Detail]]:
    vqa_model, mapping = models.vqa_model, models.mapping
    assert vqa_model is not None and mapping is not None
    if _is_recorded(plan):
        # These answers are in a file already; kept a second time they would outlive its changes.
        log = AnswerLog(None)
    looked = ask(plan.questions, images, vqa_model, log, lambda done, of: report("tifa", done, of))
    outcome = score(plan.questions, looked, vqa_model.identity, mapping, log)
    return _tifa_result(outcome, plan), outcome.details


def _tifa_result(outcome: TifaOutcome, plan: Plan) -> MetricResult:
    whole = result(outcome)
    notes = list(outcome.notes)
    mapped = [detail.mapped for detail in outcome.details if detail.mapped is not None]
    if plan.mapping == "exact" and any(one.how == "none" for one in mapped):
        notes.append(
            "TIFA's own code takes such an answer for the choice nearest in meaning: "
            "--mapping embedding"
        )
    return MetricResult(
        metric="tifa",
        score=outcome.score,
        better="larger",
        prompts=outcome.prompts,
        missing=outcome.missing,
        notes=notes,
        more={key: whole[key] for key in _TIFA_KEYS},
    )


def _drawn_so(found: MetricResult, painter: Painter | None) -> MetricResult:
    """Return a result whose signature says how its images were drawn, if they were drawn here."""
    if painter is None or found.score is None:
        return found
    signature = f"{found.score.signature}|drawn={painter.how}"
    score = found.score.model_copy(update={"signature": signature})
    return dataclasses.replace(found, score=score)


def _plain(request: Request) -> dict[str, Any]:
    """Return a request as plain JSON; a budget by its name and id."""

    def plain(value: Any) -> Any:
        if isinstance(value, Budget):
            return {"name": value.name, "budget_id": value.budget_id}
        return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)

    loaded: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(request), default=plain))
    return loaded
