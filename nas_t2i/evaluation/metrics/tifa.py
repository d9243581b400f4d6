"""TIFA: is what the captions say in the images? Ranked by, or beside another metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.embedded.prompts import embedded_questions
from nas_t2i.evaluation.evaluator import Evaluator, RungInputs
from nas_t2i.evaluation.inputs.prompts import Prompt
from nas_t2i.evaluation.metric import Content, Metric, RankedBy
from nas_t2i.evaluation.prompt_evaluator import PromptEvaluator
from nas_t2i.evaluation.tifa.files import questions_part, read_questions
from nas_t2i.evaluation.tifa.mapping.registry import check_mapping, make_mapping
from nas_t2i.evaluation.tifa.scorer import TifaScorer
from nas_t2i.evaluation.tifa.scoring import no_image_baseline
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.evaluation.vqa import (
    check_answerable,
    embedded_names,
    find_vqa,
    is_embedded,
    make_vqa_model,
)
from nas_t2i.files import expand_path
from nas_t2i.protocol.data import PairsData, ShapesData

_QUESTIONS = "evaluation.questions"
_VQA = "evaluation.vqa"


class TifaEvaluation(RankedBy):
    """TIFA of images drawn for the embedded prompts, or for the captions of a question file."""

    DISPLAY_NAME: ClassVar[str] = "TIFA"

    metric: Literal["tifa"]
    vqa: str = Field(
        description="who answers: shapes, learned or learned3, of the embedded prompts; "
        "blip:MODEL, vilt:MODEL, git:MODEL or blip2:MODEL, a local folder or a hub id"
    )
    questions: str | None = Field(
        default=None,
        description="a file in TIFA's layout, of whose captions the first `prompts` are drawn; "
        "~ and $NAME are expanded; null: the embedded prompts",
    )
    mapping: str = Field(
        default="exact", description="how answers are read: exact, embedding, embedding:MODEL"
    )

    @field_validator("mapping")
    @classmethod
    def _of_a_budget(cls, mapping: str) -> str:
        return _budget_mapping(mapping)

    def check_data(self, data: ShapesData | PairsData) -> None:  # noqa: ARG002  any data will do
        """The embedded prompts have VQA models of their own."""
        if self.questions is None and not is_embedded(self.vqa):
            raise ValueError(
                f"evaluation.vqa: got {self.vqa!r} for the embedded prompts; expected "
                f"{' or '.join(embedded_names())}, or a file of questions"
            )

    def asked(self, data: ShapesData | PairsData) -> list[Question]:
        """Return the questions: those about the first `prompts` captions.

        Raises:
            ConfigError: no such file, or fewer captions in it.
        """
        if self.questions is None:
            return embedded_questions(data, self.seed, self.prompts)
        return first_questions(self.questions, self.prompts)

    def check(self, data: ShapesData | PairsData) -> None:
        """Check the questions, the mapping and the VQA model; loads no large model."""
        _check(self.asked(data), self.vqa, self.mapping)

    def chance(self, data: ShapesData | PairsData) -> float | None:
        """Return what is scored without a look at the images."""
        return no_image_baseline(self.asked(data))

    def content(self, data: ShapesData | PairsData) -> Content | None:
        """Return the digest of the questions in a file."""
        if self.questions is None:
            return None
        return Content(questions_part(self.asked(data)), self.questions)

    @property
    def asks_a_model(self) -> bool:
        """The embedded VQA models are faster than a log is written."""
        return not is_embedded(self.vqa)

    def load(self, rung: RungInputs) -> Evaluator:
        """Return what draws the captions and asks the questions."""
        questions = self.asked(rung.budget.data)
        # Loaded before anything is trained: a model that is missing is reported at once.
        scorer = _scorer(self, questions, self.vqa, self.mapping, rung.inputs.device)
        return PromptEvaluator(prompts_of(questions), scorer, rung)


class TifaMetric(Metric):
    """TIFA of images drawn for the captions of a question file, beside held-out R^2."""

    DISPLAY_NAME: ClassVar[str] = "TIFA"
    RANKED: ClassVar[type[RankedBy] | None] = TifaEvaluation

    metric: Literal["tifa"]
    vqa: str = Field(description="who answers, as in an evaluation by TIFA")
    questions: str = Field(description="a file in TIFA's layout; ~ and $NAME are expanded")
    prompts: int = Field(ge=2, description="the first so many captions of the file are drawn")
    mapping: str = Field(default="exact", description="how answers are read")

    @field_validator("mapping")
    @classmethod
    def _of_a_budget(cls, mapping: str) -> str:
        return _budget_mapping(mapping)

    @property
    def draws_its_own(self) -> bool:
        """The captions of its questions are drawn for it."""
        return True

    def check(self) -> None:
        """Check the questions, the mapping and the VQA model; loads no large model."""
        _check(self._asked(), self.vqa, self.mapping)

    def own_prompts(self) -> list[Prompt]:
        """Return the captions that the questions are about."""
        return prompts_of(self._asked())

    def content(self) -> Content | None:
        """Return the digest of the questions."""
        return Content(questions_part(self._asked()), self.questions)

    def load(self, device: str = "cpu") -> TifaScorer:
        """Load the VQA model and the mapping."""
        return _scorer(self, self._asked(), self.vqa, self.mapping, device)

    def _asked(self) -> list[Question]:
        return first_questions(self.questions, self.prompts)


def first_questions(file: str, prompts: int) -> list[Question]:
    """Return the questions of a file about its first `prompts` captions, each once.

    Raises:
        ConfigError: no such file, or fewer captions in it.
    """
    path: Path = expand_path(file, _QUESTIONS)
    questions = read_questions(path)
    captions = list(dict.fromkeys(question["id"] for question in questions))
    if len(captions) < prompts:
        raise ConfigError(
            str(path), f"{len(captions)} captions", expected=f"{prompts}, the prompts"
        )
    wanted = set(captions[:prompts])
    asked = {(q["id"], q["question"]): q for q in questions if q["id"] in wanted}
    return list(asked.values())


def prompts_of(questions: Sequence[Question]) -> list[Prompt]:
    """Return the captions that questions are about, in order of first appearance."""
    captions = {question["id"]: question["caption"] for question in questions}
    return [Prompt(name, caption) for name, caption in captions.items()]


def _scorer(
    settings: TifaEvaluation | TifaMetric,
    questions: list[Question],
    vqa: str,
    mapping: str,
    device: str,
) -> TifaScorer:
    model = make_vqa_model(vqa, device=device)
    return TifaScorer(questions, model, make_mapping(mapping, device), settings)


def _check(questions: list[Question], vqa: str, mapping: str) -> None:
    check_mapping(mapping)
    check_answerable(vqa, questions)
    kind = find_vqa(vqa)
    if not kind.LOOKS:
        raise ConfigError(_VQA, f"got {vqa!r}", expected="one that looks at the images")
    kind.check(_VQA)


def _budget_mapping(mapping: str) -> str:
    if mapping == "likelihood":
        raise ValueError(
            "got 'likelihood'; expected 'exact', 'embedding' or 'embedding:MODEL' in a budget"
        )
    return mapping
