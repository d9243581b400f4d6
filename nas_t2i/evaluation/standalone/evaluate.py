"""Metrics of images and signals of denoisers, from a request to a result file.

The order: every file is read (`make_plan`), every model loaded, and only then is anything drawn or
scored, so that what is wrong is reported in the first minute and not after a night.
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
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.metric import Resources, Scorer
from nas_t2i.evaluation.metrics.fid import FidScorer
from nas_t2i.evaluation.result import MetricResult, Report
from nas_t2i.evaluation.sampling.checkpoint import Painter, load_painter, load_trained
from nas_t2i.evaluation.sampling.image_folder import default_folder, draw_images, drawing_of
from nas_t2i.evaluation.standalone.request import Plan, Request
from nas_t2i.evaluation.standalone.signals import measure_signals
from nas_t2i.evaluation.tifa.mapping.registry import make_mapping
from nas_t2i.evaluation.tifa.scorer import TifaResult, TifaScorer
from nas_t2i.evaluation.tifa.types import Detail
from nas_t2i.evaluation.vqa import find_vqa, make_vqa_model
from nas_t2i.protocol.budget import Budget

RESULT_VERSION = 1
_MOST_SHOWN = 3  # images of which a note says what is wrong


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


def evaluate(
    plan: Plan, log_file: Path | None, cache: Path, device: str, report: Report
) -> Evaluation:
    """Draw the images if need be, and score them by every metric of the plan; measure its signals.

    `log_file` holds answers, scores and errors as they come (None: memory); `cache` holds what can
    be made again: drawn images, features.

    Raises:
        UserError: a model that can't be used, images without prompts, a file that can't be
            written.
    """
    with AnswerLog(log_file if _logs_anything(plan) else None) as log:
        resources = Resources(log=log, report=report, cache=cache, batch=plan.request.batch)
        scorers = _load_scorers(plan, device)
        trained = None if plan.checkpoint is None else load_trained(plan.checkpoint, device)
        draws = trained is not None and plan.request.of_images
        painter = load_painter(trained, cache) if trained is not None and draws else None
        for scorer in scorers.values():
            scorer.prepare(resources)
            if isinstance(scorer, FidScorer) and plan.request.save_reference is not None:
                scorer.reference.save(plan.request.save_reference)
        found: dict[str, MetricResult] = {}
        if trained is not None and plan.request.signals:
            found = measure_signals(plan.request.signals, trained, cache, resources)
        images, origin = _images(plan, painter, cache, report)
        if images is not None:
            for name, scorer in scorers.items():
                found[name] = scorer.score(images, plan.prompts, resources)
        results = [found[name] for name in plan.request.metrics]
        return _evaluation(plan, results, images, origin, log)


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


def _logs_anything(plan: Plan) -> bool:
    metrics = plan.request.metrics
    return any(name not in ("tifa", "fid") for name in metrics) or (
        "tifa" in metrics and find_vqa(plan.vqa).LOOKS
    )


def _load_scorers(plan: Plan, device: str) -> dict[str, Scorer]:
    return {
        name: _tifa_scorer(plan, device)
        if name == "tifa"
        else plan.request.settings[name].load(device)
        for name in plan.request.of_images
    }


def _tifa_scorer(plan: Plan, device: str) -> TifaScorer:
    tifa, kind = plan.request.tifa, find_vqa(plan.vqa)
    by_likelihood = plan.mapping == "likelihood" and "--likelihood" in kind.READS
    vqa_model = make_vqa_model(
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
    mapping = make_mapping(plan.mapping, device)
    # Recorded answers are in a file already; kept a second time they would outlive its changes.
    return TifaScorer(plan.questions, vqa_model, mapping, keep_answers=kind.LOOKS)


def _images(
    plan: Plan, painter: Painter | None, cache: Path, report: Report
) -> tuple[ImageSet | None, dict[str, Any]]:
    """Return the images, drawn if need be, and where they are from; None: nothing scores any."""
    request = plan.request
    if not request.of_images:
        assert plan.checkpoint is not None
        model = plan.checkpoint.origin
        return None, {"source": str(request.source), "model": model, "drawn": None, "count": 0}
    if painter is None:
        assert plan.images is not None
        source = request.source or request.images
        origin: dict[str, Any] = {"source": str(source), "drawn": None}
        images = plan.images
    else:
        assert plan.checkpoint is not None
        drawing = drawing_of(painter, plan.prompts)
        folder = request.save_images or default_folder(cache, drawing)
        file = draw_images(painter, plan.prompts, folder, report)
        images = ImageSet.from_map(file, size=request.size, blank_counts=request.blank_counts)
        images = images.drawn_by(painter.drawn, painter.facts["weights"])
        origin = {
            "source": str(request.source),
            "model": plan.checkpoint.origin,
            "drawn": drawing,
            "folder": str(folder),
        }
    return images, {**origin, "rule": images.provenance.rule, "count": len(images.ids)}


def _evaluation(
    plan: Plan,
    results: list[MetricResult],
    images: ImageSet | None,
    origin: dict[str, Any],
    log: AnswerLog,
) -> Evaluation:
    details = [d for result in results if isinstance(result, TifaResult) for d in result.details]
    of_results = {note for result in results for note in result.notes}
    notes = plan.notes + [note for note in log.notes if note not in of_results]
    # Where the path of a map leads, for example.
    problems = {} if images is None else images.problems
    for image, problem in list(problems.items())[:_MOST_SHOWN]:
        notes.append(f"image {image!r} {problem.reason}: {problem.detail}")
    return Evaluation(results, details, origin, notes)


def _plain(request: Request) -> dict[str, Any]:
    """Return a request as plain JSON; a budget by its name and id."""

    def plain(value: Any) -> Any:
        if isinstance(value, Budget):
            return {"name": value.name, "budget_id": value.budget_id}
        return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)

    loaded: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(request), default=plain))
    return loaded
