"""TIFA as a metric: asks, reads and counts, a share of the captions on each rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.inputs.prompts import Prompt
from nas_t2i.evaluation.metric import Resources, origin_part
from nas_t2i.evaluation.result import MetricResult
from nas_t2i.evaluation.tifa.mapping.exact import ExactMapping
from nas_t2i.evaluation.tifa.run import Looked, ask, count, details_of, result
from nas_t2i.evaluation.tifa.types import Detail, Mapping, Question, VqaModel
from nas_t2i.protocol.evaluation import EvaluationSettings, MetricSettings

# What a TIFA result has beside the keys that every metric has.
_MORE = ("answerer", "mapping", "question_details")


@dataclass(frozen=True)
class TifaResult(MetricResult):
    """A TIFA with what became of every question, for TIFA's own layout."""

    details: list[Detail] = field(default_factory=list)


class TifaScorer:
    """Asks questions about images. What the log has the answer to is not asked again."""

    def __init__(
        self,
        questions: Sequence[Question],
        vqa_model: VqaModel,
        mapping: Mapping,
        settings: MetricSettings | EvaluationSettings | None = None,
        *,
        keep_answers: bool = True,
    ) -> None:
        """`keep_answers`: whether answers go to the log; those from a file are there already."""
        self._questions, self._vqa_model, self._mapping = questions, vqa_model, mapping
        self._origin = "" if settings is None else origin_part(settings)
        self._keep_answers = keep_answers

    def prepare(self, resources: Resources) -> None:
        """Nothing is needed besides the images."""

    def score(
        self,
        images: ImageSet,
        prompts: Sequence[Prompt],  # noqa: ARG002  the questions say which captions
        resources: Resources,
    ) -> TifaResult:
        """Return the TIFA of the images that the questions are about; see `Scorer.score`."""
        ids = list(dict.fromkeys(question["id"] for question in self._questions))
        unmatched = images.unmatched(ids, "caption")
        share = resources.ranks.share(len(ids))
        own = set(ids[share.start : share.stop])
        questions = [question for question in self._questions if question["id"] in own]
        log = resources.log if self._keep_answers else AnswerLog(None)
        looked, details = Looked({}, {}, [], images.provenance), []
        if questions:
            looked = ask(
                questions,
                images,
                self._vqa_model,
                log,
                lambda done, of: resources.report("tifa", done, of),
            )
            identity = self._vqa_model.identity
            details = details_of(questions, looked, identity, self._mapping, log)
        gathered = [detail for part in resources.ranks.gather(details) for detail in part]
        parts = (self._vqa_model.identity, self._mapping.identity, self._origin)
        whole = Looked({}, {}, unmatched, images.provenance)
        outcome = count(self._questions, gathered, whole, parts, log.notes)
        plain = result(outcome)
        notes = list(outcome.notes)
        if isinstance(self._mapping, ExactMapping) and any(
            detail.mapped is not None and detail.mapped.how == "none" for detail in gathered
        ):
            notes.append(
                "TIFA's own code takes such an answer for the choice nearest in meaning: "
                "--mapping embedding"
            )
        return TifaResult(
            metric="tifa",
            score=outcome.score,
            better="larger",
            signature=outcome.signature,
            prompts=outcome.prompts,
            missing=outcome.missing,
            notes=notes,
            more={key: plain[key] for key in _MORE},
            details=outcome.details,
        )
