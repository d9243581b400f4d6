"""TIFA on the embedded prompts, answered by looking at the pixels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_t2i.data import shapes
from nas_t2i.evaluation.drawing import Measured, Pictures, draw
from nas_t2i.evaluation.prompt_text import encode_prompts
from nas_t2i.evaluation.sampling import Denoiser
from nas_t2i.evaluation.tifa import tifa_score
from nas_t2i.evaluation.vqa import shapes as shapes_vqa
from nas_t2i.evaluation.vqa.shapes_answerer import shrunk
from nas_t2i.protocol.budget import Budget, ShapesData, ShapesSource
from nas_t2i.records import Score
from nas_t2i.training.inputs import Inputs
from nas_t2i.training.ranks import Ranks


@dataclass(frozen=True)
class Prompts:
    """The prompts of a budget with their questions, in TIFA's layout."""

    scenes: shapes.Scenes
    captions: list[str]
    questions: list[shapes.Question]
    rows: npt.NDArray[np.int64]  # the prompt that each question is about
    chance: shapes_vqa.Chance
    signature: str  # what two scores must share to be comparable


def make_prompts(budget: Budget) -> Prompts:
    """Draw the evaluation prompts of `budget`: a function of the budget alone."""
    settings = budget.evaluation
    scenes = shapes.sample_scenes(
        settings.seed, "evaluation prompts", settings.prompts, mixture=_mixture(budget)
    )
    questions = shapes.questions(scenes, [str(i) for i in range(len(scenes))])
    sampler = settings.sampler
    digest = hashlib.sha256(json.dumps(questions, sort_keys=True).encode()).hexdigest()[:12]
    return Prompts(
        scenes=scenes,
        captions=shapes.captions(scenes),
        questions=questions,
        rows=np.array([int(question["id"]) for question in questions]),
        chance=shapes_vqa.chance_level(questions),
        signature=(
            f"tifa|vqa=shapes-v{shapes_vqa.VERSION}|questions={digest}"
            f"|ddim{sampler.steps}|guidance={sampler.guidance:g}|seed={settings.seed}"
        ),
    )


def _mixture(budget: Budget) -> shapes.Mixture:
    """Return the mixture of scenes that is trained on; the usual one where none is."""
    sources = [budget.data] if isinstance(budget.data, ShapesData) else budget.data.sources
    for source in sources:
        if isinstance(source, ShapesData | ShapesSource):
            return shapes.Mixture(source.two_objects, source.two_groups)
    return shapes.Mixture()


class ShapesTifa:
    """Draws the budget's prompts with a denoiser and scores the pictures."""

    def __init__(self, budget: Budget, inputs: Inputs) -> None:
        self.prompts = make_prompts(budget)
        self._budget, self._inputs = budget, inputs
        self._text = encode_prompts(self.prompts.captions, inputs)

    def measure(self, denoiser: Denoiser, ranks: Ranks) -> Measured:
        """Return the TIFA of pictures of the prompts."""
        pictures = draw(denoiser, self._text, self._budget, self._inputs, ranks)
        return Measured(self.score(pictures), pictures, self.prompts.captions)

    def score(self, pictures: Pictures) -> Score:
        """Return the TIFA of (prompts, H, W, 3) pictures, in the order of the prompts."""
        answers = shapes_vqa.answer(shrunk(pictures), self.prompts.rows, self.prompts.questions)
        return tifa_score(
            self.prompts.questions,
            answers,
            chance=self.prompts.chance.tifa,
            signature=self.prompts.signature,
        )
