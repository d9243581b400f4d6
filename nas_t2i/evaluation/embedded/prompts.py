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
    mixture, left_out = _drawn(data)
    scenes = shapes.sample_scenes(seed, "evaluation prompts", count, mixture=mixture)
    ids = [str(i) for i in range(len(scenes))]
    questions = questions_about(scenes, ids, left_out=left_out)
    return Prompts(scenes, shapes.captions(scenes), questions)


def _drawn(data: ShapesData | PairsData) -> tuple[shapes.Mixture, int]:
    """Return the mixture of scenes that is trained on, and how many pairs training leaves out.

    The prompts have those pairs as often as all others. Where no scenes are trained on, they are
    the usual ones.
    """
    if isinstance(data, ShapesData):
        mixture = shapes.Mixture(data.two_objects, data.two_groups, data.three_objects)
        return mixture, data.left_out_pairs
    for source in data.sources:
        if isinstance(source, ShapesSource):
            return shapes.Mixture(source.two_objects, source.two_groups), 0
    return shapes.Mixture(), 0
