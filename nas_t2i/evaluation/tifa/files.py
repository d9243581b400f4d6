"""TIFA's files as its authors publish them: prompts, questions, results.

Layouts (Hu et al. 2023, arXiv 2303.11897, release v1.0), all JSON:

- prompts: ``[{id, caption, coco_val_id?}]``
- questions: ``[{id, caption, question, choices, answer, element_type, element, coco_val_id?}]``
- result: ``{tifa_average, tifa_stdev, accuracy_by_type, question_details, caption_scores}``, where
  ``question_details[id][question]`` is the row of the question with ``free_form_vqa``,
  ``multiple_choice_vqa`` and ``scores`` (1 or 0)

Our own result (`nas_t2i.evaluation.tifa.run`) has the same ``question_details`` and more beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.evaluation.inputs.json_rows import Row, load_object, load_rows, row_id
from nas_t2i.evaluation.tifa.types import Answer, Detail, Question, exact_match, normalized
from nas_t2i.files import write_json
from nas_t2i.yaml_files import Key, describe

ELEMENT_TYPES = (
    "object",
    "animal/human",
    "food",
    "activity",
    "attribute",
    "counting",
    "color",
    "material",
    "spatial",
    "location",
    "shape",
    "other",
)
_MOST_TOLD = 3  # lines about one kind of oddity

Say = Callable[[str], None]


def _silent(_: str) -> None:
    pass


def read_questions(file: str | Path, say: Say = _silent) -> list[Question]:
    """Read a file of questions, in its order; other keys of a row are kept.

    What is odd but can be scored is given to `say`, with its line: an element type that is none of
    TIFA's, an answer that is none of the choices, choices that leave none, a question that the
    caption has already. The published file has such rows.

    Raises:
        ConfigError: with file and line: not such a file, a key is missing or not text, choices that
            are no list of text or empty, an id with two captions.
    """
    rows = load_rows(file, "a list of questions, each with id, caption, question, choices, answer")
    if not rows:
        raise ConfigError(str(file), "no questions in the list", expected="one or more")
    questions = [_question(row) for row in rows]
    first: dict[str, int] = {}
    for number, (row, question) in enumerate(zip(rows, questions, strict=True)):
        name = question["id"]
        before = first.setdefault(name, number)
        if questions[before]["caption"] != question["caption"]:
            line = rows[before].where("caption").line
            row.fail(
                ("caption",),
                f"the id {name!r} has another caption on line {line}",
                expected="one caption an id",
            )
    _tell_oddities(rows, questions, say)
    return questions


def _question(row: Row) -> Question:
    name = row_id(row)
    for key in ("caption", "question"):
        row.text_at(key)
    for key in ("answer", "element_type", "element"):
        row.text_at(key, blank=True)
    if "choices" not in row.data:
        row.fail((), "the key 'choices' is missing")
    choices = row.data["choices"]
    if not isinstance(choices, list) or not choices:
        row.fail(("choices",), f"got {describe(choices)}", expected="a list of text")
    for number in range(len(choices)):
        row.text_at("choices", number, blank=True)
    question: Question = {**row.data, "id": name}  # type: ignore[typeddict-item]
    return question


def _tell_oddities(rows: list[Row], questions: list[Question], say: Say) -> None:
    """Tell what is odd about questions: of each kind the first few places, and how many more."""
    found: defaultdict[str, list[tuple[Row, str]]] = defaultdict(list)
    asked: set[tuple[str, str]] = set()
    types: set[str] = set()
    for row, question in zip(rows, questions, strict=True):
        answer, choices, kind = question["answer"], question["choices"], question["element_type"]
        if (question["id"], question["question"]) in asked:
            found["is asked of this caption already; the first time counts"].append(
                (row, "question")
            )
        asked.add((question["id"], question["question"]))
        if exact_match(answer, choices) is None:
            found["is none of the choices; the question can't be answered right"].append(
                (row, "answer")
            )
        if len({normalized(choice) for choice in choices}) < max(2, len(choices)):
            found["leaves no choice, or has one twice"].append((row, "choices"))
        if kind not in ELEMENT_TYPES and kind not in types:
            hint = did_you_mean(kind, ELEMENT_TYPES)
            found[f"is no element type of TIFA's{hint and '; ' + hint}"].append(
                (row, "element_type")
            )
        types.add(kind)
    for problem, places in found.items():
        for row, key in places[:_MOST_TOLD]:
            say(f"{row.where(key)}: {describe(row.data[key])} {problem}")
        if len(places) > _MOST_TOLD:
            say(f"... and {len(places) - _MOST_TOLD} more: {places[0][1]} {problem}")


def questions_digest(questions: Sequence[Question]) -> str:
    """Return a hash of questions with their choices and answers, in order."""
    text = json.dumps(list(questions), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def questions_part(questions: Sequence[Question]) -> str:
    """Return the part of a TIFA's signature that says what was asked."""
    return f"questions={questions_digest(questions)}"


@dataclass(frozen=True)
class RecordedAnswers:
    """The answers in a result file."""

    answers: dict[tuple[str, str], Answer]  # by (id, question)
    choices: dict[tuple[str, str], list[str]]  # of the answers with likelihoods, in their order
    vqa_model: str  # identity of who gave them; "" in TIFA's own layout, which does not say


def read_result(file: str | Path) -> RecordedAnswers:
    """Read the answers of a result file, TIFA's or ours; questions without one are left out.

    Raises:
        ConfigError: with file and line: no result, or an answer that is not text.
    """
    row = load_object(file, "a result of TIFA, with question_details")
    place, data = _tifa_part(row.data)
    details = data.get("question_details")
    if not isinstance(details, dict):
        row.fail((), "no question_details", expected="a result of TIFA")
    answers, choices = {}, {}
    for name, questions in details.items():
        if not isinstance(questions, dict):
            row.fail(
                (*place, "question_details", name),
                f"got {describe(questions)}",
                expected="questions by text",
            )
        for text, detail in questions.items():
            path = (*place, "question_details", name, text)
            if not isinstance(detail, dict):
                row.fail(path, f"got {describe(detail)}", expected="a mapping of keys")
            answer = detail.get("free_form_vqa")
            if answer is None:
                continue
            if not isinstance(answer, str):
                row.fail((*path, "free_form_vqa"), f"got {describe(answer)}", expected="text")
            likelihoods = _likelihoods(row, path, detail)
            answers[name, text] = Answer(answer, likelihoods)
            if likelihoods is not None:
                choices[name, text] = detail["choices"]
    vqa_model = row.text_at(*place, "answerer") if "answerer" in data else ""
    return RecordedAnswers(answers, choices, vqa_model)


def _likelihoods(
    row: Row, path: tuple[Key, ...], detail: dict[str, Any]
) -> tuple[float, ...] | None:
    """Return the log-likelihoods of a row's choices, which our own results have where asked for."""
    given = detail.get("likelihoods")
    if given is None:
        return None
    try:
        likelihoods = tuple(map(float, given))  # -inf is written as text
        fits = len(likelihoods) == len(detail["choices"]) and not any(map(math.isnan, likelihoods))
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        path = (*path, "likelihoods")
        row.fail(path, f"got {describe(given)}", expected="a number for each choice")
    return likelihoods


def _tifa_part(data: dict[str, Any]) -> tuple[tuple[Key, ...], dict[str, Any]]:
    """Return the part of a result that is TIFA's, and its path: among other metrics, or alone."""
    results = data.get("results")
    for number, result in enumerate(results if isinstance(results, list) else []):
        if isinstance(result, dict) and "question_details" in result:
            return ("results", number), result
    return (), data


def write_reference(file: str | Path, details: Iterable[Detail]) -> None:
    """Write a result in the layout of TIFA's own code, with its numbers.

    Captions are scored that have all their answers; details of others are left out, as the layout
    has no place for them. Where TIFA's own code stops, it is so: ``tifa_stdev`` of one caption is
    null; a question asked twice of a caption counts once.

    Raises:
        StorageError: the file can't be written.
    """
    write_json(file, reference_result(details))


def reference_result(details: Iterable[Detail]) -> dict[str, Any]:
    """Return what `write_reference` writes."""
    by_caption: defaultdict[str, list[Detail]] = defaultdict(list)
    for detail in details:
        by_caption[detail.question["id"]].append(detail)
    scored = {
        name: rows for name, rows in by_caption.items() if not any(row.missing for row in rows)
    }
    by_type: defaultdict[str, list[int]] = defaultdict(list)
    for rows in scored.values():
        for row in rows:
            by_type[row.question["element_type"]].append(int(row.correct))
    captions = {
        name: statistics.mean(int(r.correct) for r in rows) for name, rows in scored.items()
    }
    means = list(captions.values())
    return {
        "tifa_average": statistics.mean(means) if means else None,
        "tifa_stdev": statistics.stdev(means) if len(means) > 1 else None,
        "accuracy_by_type": {kind: statistics.mean(correct) for kind, correct in by_type.items()},
        "question_details": {
            name: {row.question["question"]: _reference_row(row) for row in rows}
            for name, rows in scored.items()
        },
        "caption_scores": captions,
    }


def _reference_row(detail: Detail) -> dict[str, Any]:
    assert detail.answer is not None and detail.mapped is not None
    return {
        **detail.question,
        "free_form_vqa": detail.answer.text,
        "multiple_choice_vqa": detail.mapped.choice,
        "scores": int(detail.correct),
    }
