"""The prompts of the embedded benchmark, with their questions."""

from __future__ import annotations

from dataclasses import dataclass

from nas_t2i.data.embedded import shapes
from nas_t2i.data.sources.shapes import ShapesSource
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.data import PairsData, ShapesData


@dataclass(frozen=True)
class Prompts:
    """The prompts of a budget with their questions, in TIFA's layout."""

    scenes: shapes.Scenes
    captions: list[str]
    questions: list[Question]  # ids are the numbers of the prompts


def make_prompts(budget: Budget) -> Prompts:
    """Draw the evaluation prompts of `budget`: a function of the budget alone."""
    return _draw(budget.data, budget.evaluation.seed, budget.evaluation.prompts)


def embedded_questions(data: ShapesData | PairsData, seed: int, count: int) -> list[Question]:
    """Return the questions about the first `count` embedded prompts of a seed."""
    return _draw(data, seed, count).questions


def _draw(data: ShapesData | PairsData, seed: int, count: int) -> Prompts:
    scenes = shapes.sample_scenes(seed, "evaluation prompts", count, mixture=_mixture(data))
    questions = questions_about(scenes, [str(i) for i in range(len(scenes))])
    return Prompts(scenes, shapes.captions(scenes), questions)


def _mixture(data: ShapesData | PairsData) -> shapes.Mixture:
    """Return the mixture of scenes that is trained on; the usual one where none is."""
    sources = [data] if isinstance(data, ShapesData) else data.sources
    for source in sources:
        if isinstance(source, ShapesData | ShapesSource):
            return shapes.Mixture(source.two_objects, source.two_groups)
    return shapes.Mixture()
