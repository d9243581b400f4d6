"""TIFA at a rung by any VQA model: on the embedded prompts, or on a question file of the user's."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from nas_t2i.conditioning.weights import local_folder
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.embedded.prompts import make_prompts
from nas_t2i.evaluation.inputs.images import image_digest
from nas_t2i.evaluation.sampling.ddim import Denoiser
from nas_t2i.evaluation.sampling.generate import Images, Measured, draw
from nas_t2i.evaluation.sampling.prompt_features import encode_prompts
from nas_t2i.evaluation.tifa.files import questions_digest, read_questions
from nas_t2i.evaluation.tifa.mapping.registry import check_mapping, make_mapping
from nas_t2i.evaluation.tifa.run import answers_about
from nas_t2i.evaluation.tifa.scoring import blind_level, score_of_marks
from nas_t2i.evaluation.tifa.types import Detail, Question
from nas_t2i.evaluation.vqa import MODELS, check_answerable, make_vqa_model
from nas_t2i.files import expand_path
from nas_t2i.protocol.budget import Budget, TifaEvaluation, TifaMetric
from nas_t2i.records import Score
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import Ranks

_WHERE = "evaluation.questions"


def read_evaluation_questions(budget: Budget) -> list[Question]:
    """Return the questions of a budget's TIFA: those about the first `prompts` captions.

    Raises:
        ConfigError: no such file, or fewer captions in it.
    """
    settings = budget.evaluation
    assert isinstance(settings, TifaEvaluation)
    if settings.questions is None:
        return make_prompts(budget).questions
    file: Path = expand_path(settings.questions, _WHERE)
    questions = read_questions(file)
    captions = list(dict.fromkeys(question["id"] for question in questions))
    if len(captions) < settings.prompts:
        raise ConfigError(
            str(file), f"{len(captions)} captions", expected=f"{settings.prompts}, the prompts"
        )
    wanted = set(captions[: settings.prompts])
    asked = {(q["id"], q["question"]): q for q in questions if q["id"] in wanted}
    return list(asked.values())


def captions_of(questions: list[Question]) -> dict[str, str]:
    """Return the captions that questions are about, by id, in order of first appearance."""
    return {question["id"]: question["caption"] for question in questions}


def check_questions(budget: Budget) -> None:
    """Check a budget's questions, mapping and VQA model; loads no large model.

    Raises:
        ConfigError: one of them can't be used.
    """
    settings = budget.evaluation
    assert isinstance(settings, TifaEvaluation)
    check_mapping(settings.mapping)
    check_answerable(settings.vqa, read_evaluation_questions(budget))
    kind, _, model = settings.vqa.partition(":")
    if kind == "recorded":
        raise ConfigError(
            "evaluation.vqa", f"got {settings.vqa!r}", expected="one that looks at the images"
        )
    if kind in MODELS and model:
        local_folder(model, None, "evaluation.vqa")
    else:  # quickly made, or an error
        make_vqa_model(settings.vqa)


def by_tifa(budget: Budget, metric: TifaMetric) -> Budget:
    """Return the budget with its further metric TIFA as what it is evaluated by."""
    evaluation = TifaEvaluation(
        metric="tifa",
        vqa=metric.vqa,
        prompts=metric.prompts,
        seed=budget.evaluation.seed,
        sampler=budget.evaluation.sampler,
        questions=metric.questions,
        mapping=metric.mapping,
    )
    return budget.model_copy(update={"evaluation": evaluation})


def signature_part(questions: list[Question]) -> str:
    """Return the part of a TIFA's signature, between bars, that says what was asked."""
    return f"questions={questions_digest(questions)}"


class QuestionTifa:
    """Draws the captions of the questions with a denoiser, and asks about the images.

    Every image is scored, a blank one too: it is what the model drew. What `log` has the answer
    to is not asked again.
    """

    def __init__(self, budget: Budget, inputs: Inputs, log: AnswerLog) -> None:
        settings = budget.evaluation
        assert isinstance(settings, TifaEvaluation)
        self._budget, self._settings, self._inputs = budget, settings, inputs
        self._log = log
        self.questions = read_evaluation_questions(budget)
        self._captions = captions_of(self.questions)
        self._chance = blind_level(self.questions)
        self._text = encode_prompts(list(self._captions.values()), inputs)
        # Loaded before anything is trained: a model that is missing is told at once.
        self._vqa_model = make_vqa_model(settings.vqa, device=inputs.device)
        self._mapping = make_mapping(settings.mapping, inputs.device)

    def measure(self, denoiser: Denoiser, ranks: Ranks) -> Measured:
        """Return the TIFA of images of the captions."""
        images = draw(denoiser, self._text, self._budget, self._inputs, ranks)
        return Measured(self.score(images, ranks), images, list(self._captions.values()))

    def score(self, images: Images, ranks: Ranks) -> Score:
        """Return the TIFA of (captions, H, W, 3) images; each rank asks about its share."""
        own = ranks.share(len(images))
        by_caption: dict[str, list[Question]] = {name: [] for name in self._captions}
        for question in self.questions:
            by_caption[question["id"]].append(question)
        asked = list(by_caption.values())
        told = [(row, self._marks(images, row, asked[row])) for row in range(own.start, own.stop)]
        marks = dict(pair for part in ranks.gather(told) for pair in part)
        sampler = self._settings.sampler
        return score_of_marks(
            [question for questions in asked for question in questions],
            [mark for row in range(len(asked)) for mark in marks[row]],
            chance=self._chance,
            signature=(
                f"tifa|vqa={self._vqa_model.identity}|mapping={self._mapping.identity}"
                f"|{signature_part(self.questions)}"
                f"|ddim{sampler.steps}|guidance={sampler.guidance:g}|seed={self._settings.seed}"
            ),
        )

    def _marks(self, images: Images, row: int, questions: list[Question]) -> list[bool]:
        image = Image.fromarray(images[row])
        answers = answers_about(image, image_digest(image), questions, self._vqa_model, self._log)
        return [
            answer is not None
            and Detail(question, answer, self._mapping.map(answer, question["choices"])).correct
            for question, answer in zip(questions, answers, strict=True)
        ]
