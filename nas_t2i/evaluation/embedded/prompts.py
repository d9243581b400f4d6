"""The prompts of the embedded benchmark, with their questions."""

from __future__ import annotations

from dataclasses import dataclass

from nas_t2i.data.embedded import shapes
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.protocol.budget import Budget, ShapesData, ShapesSource


@dataclass(frozen=True)
class Prompts:
    """The prompts of a budget with their questions, in TIFA's layout."""

    scenes: shapes.Scenes
    captions: list[str]
    questions: list[Question]  # ids are the numbers of the prompts


def make_prompts(budget: Budget) -> Prompts:
    """Draw the evaluation prompts of `budget`: a function of the budget alone."""
    settings = budget.evaluation
    scenes = shapes.sample_scenes(
        settings.seed, "evaluation prompts", settings.prompts, mixture=_mixture(budget)
    )
    questions = questions_about(scenes, [str(i) for i in range(len(scenes))])
    return Prompts(scenes, shapes.captions(scenes), questions)


def _mixture(budget: Budget) -> shapes.Mixture:
    """Return the mixture of scenes that is trained on; the usual one where none is."""
    sources = [budget.data] if isinstance(budget.data, ShapesData) else budget.data.sources
    for source in sources:
        if isinstance(source, ShapesData | ShapesSource):
            return shapes.Mixture(source.two_objects, source.two_groups)
    return shapes.Mixture()
