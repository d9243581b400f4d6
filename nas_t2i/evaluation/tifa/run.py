"""TIFA of a set of images: every question asked once, read and counted as often as wanted.

Answers go to a log before anything is made of them (`ask`). Reading them as choices and counting
(`score`) needs the log only: another mapping of the same answers asks nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from nas_t2i.errors import StorageError, named, number_of
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.inputs.images import ImageSet, Problem
from nas_t2i.evaluation.inputs.provenance import Provenance, signature
from nas_t2i.evaluation.tifa.files import questions_part
from nas_t2i.evaluation.tifa.scoring import no_image_baseline, score_correct
from nas_t2i.evaluation.tifa.types import Answer, Detail, Mapping, Question, VqaModel, exact_match
from nas_t2i.records import Score

RESULT_VERSION = 1
_NO_ANSWER = "no answer"

Progress = Callable[[int, int], None]


def _silent(_done: int, _of: int) -> None:
    pass


@dataclass(frozen=True)
class Looked:
    """The images of the captions, each by the digest that answers are kept under."""

    digests: dict[str, str]  # by caption id
    problems: dict[str, Problem]  # by caption id, of images that can't be scored
    unmatched: list[str]  # ids of images that no question is about
    provenance: Provenance


@dataclass(frozen=True)
class TifaOutcome:
    """A TIFA, and everything that it was counted from."""

    score: Score | None  # None: no caption could be scored
    signature: str  # of the score, also where there is none
    prompts: list[str]  # ids of the captions of `score.per_prompt`
    missing: dict[str, str]  # captions without a score: id -> reason
    details: list[Detail]  # of every question, those of a caption together
    notes: list[str]  # what to know when reading the score, one line each
    vqa_model: str  # identities, as in the signature
    mapping: str

    @property
    def missing_by_reason(self) -> Counter[str]:
        """How many captions have no score, by reason."""
        return Counter(self.missing.values())


def ask(
    questions: Sequence[Question],
    images: ImageSet,
    vqa_model: VqaModel,
    log: AnswerLog,
    progress: Progress = _silent,
) -> Looked:
    """Ask every question that the log has no answer to; each answer is logged at once.

    All open questions about one image are asked together. `progress` is called with how many
    captions are done, and of how many.

    Raises:
        ConfigError: no question is about one of the images.
        StorageError: the log can't be written.
    """
    captions = _by_caption(questions)
    unmatched = images.unmatched(captions, "caption")
    looked = Looked({}, {}, unmatched, images.provenance)
    for done, (name, asked) in enumerate(captions.items()):
        progress(done, len(captions))
        image = images.read(name)
        if isinstance(image, Problem):
            looked.problems[name] = image
            continue
        digest = looked.digests[name] = images.digest(name)
        answers_about(image, digest, asked, vqa_model, log)
    progress(len(captions), len(captions))
    return looked


def answers_about(
    image: Image.Image, digest: str, questions: list[Question], vqa_model: VqaModel, log: AnswerLog
) -> list[Answer | None]:
    """Return the answers to questions about an image, in order; those the log lacks are asked.

    Each answer is logged at once; None stands for no answer.

    Raises:
        StorageError: the log can't be written, or holds something else under the key of an answer.
    """
    identity = vqa_model.identity
    fresh = [q for q in questions if log.get(digest, question_key(q), identity) is None]
    if fresh:
        for question, answer in zip(fresh, vqa_model.answer(image, fresh), strict=True):
            if answer is not None:
                log.put(digest, question_key(question), identity, _stored(answer))
    return [_logged(digest, question, identity, log) for question in questions]


def score(
    questions: Sequence[Question], looked: Looked, vqa_model: str, mapping: Mapping, log: AnswerLog
) -> TifaOutcome:
    """Read the answers that the log holds from a VQA model (its identity), and count.

    Raises:
        StorageError: the log holds something else under the key of an answer.
    """
    details = details_of(questions, looked, vqa_model, mapping, log)
    parts = (vqa_model, mapping.identity, "")
    return count(questions, details, looked, parts, log.notes)


def details_of(
    questions: Sequence[Question], looked: Looked, vqa_model: str, mapping: Mapping, log: AnswerLog
) -> list[Detail]:
    """Return what became of every question, those of a caption together. Raises as `score`."""
    captions = _by_caption(questions)
    asked = [question for rows in captions.values() for question in rows]
    return [_detail(question, looked, vqa_model, mapping, log) for question in asked]


def count(
    questions: Sequence[Question],
    details: list[Detail],
    looked: Looked,
    parts: tuple[str, str, str],
    log_notes: Sequence[str],
) -> TifaOutcome:
    """Count what became of the questions.

    A caption whose image is a problem, or one of whose questions has no answer, is not scored. A
    question that a caption has twice counts once, as it stands first. A question whose gold answer
    is none of its choices is wrong, whatever was answered.

    `parts` are the identities of VQA model and mapping, and what comes last in the signature.
    """
    vqa_model, mapping, origin = parts
    missing: dict[str, str] = {}
    for detail in details:
        if detail.missing:
            missing.setdefault(detail.question["id"], detail.missing)
    counted = [detail for detail in details if detail.question["id"] not in missing]
    signed = signature(
        "tifa",
        f"vqa={vqa_model}",
        f"mapping={mapping}",
        # At a rung as the file has them, else grouped by caption: as signatures always had it.
        questions_part(questions if looked.provenance.at_rung else [d.question for d in details]),
        looked.provenance.images_part,
        looked.provenance.drawn_part,
        origin,
    )
    tifa = None
    if counted:
        counted_questions = [detail.question for detail in counted]
        tifa = score_correct(
            counted_questions,
            [detail.correct for detail in counted],
            chance=no_image_baseline(counted_questions),
            signature=signed,
            n_missing=len(missing),
        )
    captions = dict.fromkeys(detail.question["id"] for detail in details)
    repeated = len(questions) - len(details)
    return TifaOutcome(
        score=tifa,
        signature=signed,
        prompts=[name for name in captions if name not in missing],
        missing=missing,
        details=details,
        notes=_notes(details, missing, looked, repeated) + list(log_notes),
        vqa_model=vqa_model,
        mapping=mapping,
    )


def question_key(question: Question) -> str:
    """Return a digest of what an answer depends on besides the image; not the gold answer."""
    asked = [question["id"], question["question"], question["choices"]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:20]


def result(outcome: TifaOutcome) -> dict[str, Any]:
    """Return an outcome as plain JSON data.

    ``score`` is a `nas_t2i.records.Score`, or null; ``prompts`` are the ids of its ``per_prompt``.
    ``question_details`` is laid out as in TIFA's own results, and holds all questions: of those
    without an answer ``missing`` says why and the rest is null; ``scored`` says whether the
    question counts. The standard error of a single caption is unknown: "NaN". ``similarity`` and
    ``margin`` are the mapping's; what was read as "exact" has none.
    """
    details: dict[str, dict[str, Any]] = {}
    for detail in outcome.details:
        name, text = detail.question["id"], detail.question["question"]
        details.setdefault(name, {})[text] = _row(detail, name not in outcome.missing)
    return {
        "version": RESULT_VERSION,
        # NaN as text, as in all records.
        "score": None if outcome.score is None else json.loads(outcome.score.model_dump_json()),
        "answerer": outcome.vqa_model,
        "mapping": outcome.mapping,
        "notes": outcome.notes,
        "prompts": outcome.prompts,
        "missing": {"by_reason": dict(outcome.missing_by_reason), "captions": outcome.missing},
        "question_details": details,
    }


def _row(detail: Detail, scored: bool) -> dict[str, Any]:
    answer, mapped = detail.answer, detail.mapped
    return {
        **detail.question,
        "free_form_vqa": None if answer is None else answer.text,
        "likelihoods": None if answer is None else _stored(answer)["likelihoods"],
        "multiple_choice_vqa": None if mapped is None else mapped.choice,
        "scores": None if mapped is None else int(detail.correct),
        "mapped": None if mapped is None else mapped.how,
        "similarity": None if mapped is None else _finite(mapped.similarity),
        "margin": None if mapped is None else _finite(mapped.margin),
        "missing": detail.missing,
        "scored": scored,
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _by_caption(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """Questions by caption id, in order of first appearance, each once."""
    captions: dict[str, dict[str, Question]] = {}
    for question in questions:
        captions.setdefault(question["id"], {}).setdefault(question["question"], question)
    return {name: list(rows.values()) for name, rows in captions.items()}


def _detail(
    question: Question, looked: Looked, vqa_model: str, mapping: Mapping, log: AnswerLog
) -> Detail:
    name = question["id"]
    if name in looked.problems:
        return Detail(question, missing=looked.problems[name].reason)
    answer = _logged(looked.digests[name], question, vqa_model, log)
    if answer is None:
        return Detail(question, missing=_NO_ANSWER)
    return Detail(question, answer, mapping.map(answer, question["choices"]))


def _stored(answer: Answer) -> dict[str, Any]:
    likelihoods = answer.likelihoods
    return {
        "text": answer.text,
        # A choice that a model can't say has -inf, which is no JSON.
        "likelihoods": None
        if likelihoods is None
        else [x if math.isfinite(x) else str(x) for x in map(float, likelihoods)],
    }


def _logged(digest: str, question: Question, vqa_model: str, log: AnswerLog) -> Answer | None:
    value = log.get(digest, question_key(question), vqa_model)
    if value is None:
        return None
    try:
        text, likelihoods = value["text"], value["likelihoods"]
        if not isinstance(text, str):
            raise TypeError
        return Answer(text, None if likelihoods is None else tuple(map(float, likelihoods)))
    except (KeyError, TypeError, ValueError):
        raise StorageError(
            f"{log.file}: got {json.dumps(value):.60} for an answer to a question"
        ) from None


def _notes(
    details: list[Detail], missing: dict[str, str], looked: Looked, repeated: int
) -> list[str]:
    notes = []
    if repeated:
        notes.append(
            f"{number_of(repeated, 'question')} more than once under a caption: each counts once"
        )
    for reason in Counter(missing.values()):
        names = [name for name, why in missing.items() if why == reason]
        what = "questions without an answer" if reason == _NO_ANSWER else f"image {reason}"
        notes.append(f"{number_of(len(names), 'caption')} not scored, {what}: {named(names)}")
    if missing:
        notes.append("what is not scored is left out, not wrong: compare over common prompts only")
    if looked.unmatched:
        notes.append(
            f"{number_of(len(looked.unmatched), 'image')} without a question: "
            f"{named(looked.unmatched)}"
        )
    counted = [detail for detail in details if detail.question["id"] not in missing]
    lacking = [
        detail.question["id"]
        for detail in counted
        if exact_match(detail.question["answer"], detail.question["choices"]) is None
    ]
    if lacking:
        notes.append(
            f"{number_of(len(lacking), 'question')} with a gold answer that is none of the "
            f"choices, counted as wrong: {named(lacking)}"
        )
    unread = sum(detail.mapped is not None and detail.mapped.how == "none" for detail in counted)
    if unread:
        notes.append(
            f"{number_of(unread, 'answer')} taken for none of the choices, counted as wrong"
        )
    return notes
