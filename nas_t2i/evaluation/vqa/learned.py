"""The embedded benchmark's second VQA model: a network that learned from images and labels.

The first one (`shapes`) fits the renderer's own outlines; this one has seen distorted images and
their answers, and shares nothing with the renderer but its images. Each form of question has a
head of its own; its probabilities are the likelihoods of the choices. What is left over (the belief
that there is nothing of the kind) goes to one choice drawn from a hash of the image
and the question: an answer without evidence is a guess, deterministic, and right as often as
chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas_t2i.data.embedded.shapes import COLORS, NUMBERS, PLACES, SHAPES, SIZE
from nas_t2i.environment import cache_dir
from nas_t2i.evaluation.embedded.learned_data import PAIRS
from nas_t2i.evaluation.embedded.learned_model import (
    Beliefs,
    LearnedSettings,
    Saying,
    ShapesNetwork,
    load_or_train,
)
from nas_t2i.evaluation.embedded.question_forms import (
    Form,
    HowMany,
    IsThere,
    WhatColor,
    WhatShape,
    Where,
    check_embedded,
    guess,
    parse_question,
)
from nas_t2i.evaluation.tifa.types import Answer, Question
from nas_t2i.evaluation.vqa.common.base import Options, Vqa

VERSION = 1  # raise when an answer may change though the weights do not: part of the identity

_FLOOR = 1e-6  # smallest probability: a likelihood is finite
_OPPOSITE = (1, 0, 3, 2)  # index into PLACES


class LearnedReader:
    """Answers the questions of the embedded benchmark about images of any size.

    Images are shrunk to the benchmark's size, each pixel the mean of a patch.
    """

    def __init__(self, network: ShapesNetwork) -> None:
        self._network = network
        trained = f"{network.settings.key[:8]}:{network.digest}"
        self.identity = f"learned-v{VERSION}:{trained}:{SIZE}px:fp32"

    def answer(self, image: Image.Image, questions: Sequence[Question]) -> list[Answer]:
        """Answer all questions about one image, in order.

        Only a question's text and choices are read.

        Raises:
            ConfigError: a question that the embedded benchmark does not ask.
        """
        small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)
        rows = np.zeros(len(questions), dtype=np.int64)
        return self.answer_all(np.asarray(small)[None], rows, questions)

    def answer_all(
        self,
        images: npt.NDArray[np.uint8],
        rows: npt.NDArray[np.int64],
        questions: Sequence[Question],
    ) -> list[Answer]:
        """Answer ``questions``; question i is about ``images[rows[i]]``, (N, SIZE, SIZE, 3).

        The same as one image at a time.

        Raises:
            ConfigError: as `answer`.
        """
        beliefs = self._network.look(images)
        return [
            _answer(Beliefs(*(part[row] for part in beliefs)), images[row], question)
            for row, question in zip(rows.tolist(), questions, strict=True)
        ]


def make_learned(
    cache: Path, settings: LearnedSettings | None = None, say: Saying | None = None
) -> LearnedReader:
    """The VQA model of ``settings``: the shipped one by default; others are kept in ``cache``, and
    trained first (a minute or two) if missing there.

    Raises:
        StorageError: the cache can't be written.
    """
    return LearnedReader(load_or_train(cache, settings, say))


def _answer(belief: Beliefs, image: npt.NDArray[np.uint8], question: Question) -> Answer:
    text, choices = question["question"], question["choices"]
    chance_of = _chances(belief, parse_question(text))
    chances = [chance_of.get(choice, 0.0) for choice in choices]
    chances[guess(image, text, len(choices))] += max(0.0, 1.0 - sum(chances))
    best = max(range(len(choices)), key=chances.__getitem__)
    return Answer(choices[best], tuple(math.log(max(chance, _FLOOR)) for chance in chances))


def _chances(belief: Beliefs, asked: Form) -> dict[str, float]:
    """Probabilities of answers; what they lack of 1 is that there is nothing of the kind."""
    match asked:
        case IsThere(color, shape):
            there = float(belief.there[shape, color])
            return {"yes": there, "no": 1.0 - there}
        case WhatColor(shape):
            some = 1.0 - belief.number[shape, 0]
            return dict(zip(COLORS, (some * belief.color[shape]).tolist(), strict=True))
        case WhatShape(color):
            shapes = belief.seen[color] * belief.shape[color]
            return dict(zip(SHAPES, shapes.tolist(), strict=True))
        case HowMany(shape):
            return dict(zip(NUMBERS, belief.number[shape, 1:].tolist(), strict=True))
        case Where(first, second):
            if first == second:
                return {}
            both = (1.0 - belief.number[first, 0]) * (1.0 - belief.number[second, 0])
            places = belief.place[PAIRS.index((min(first, second), max(first, second)))]
            if first > second:
                places = places[list(_OPPOSITE)]
            return dict(zip(PLACES, (both * places).tolist(), strict=True))


class LearnedVqa(Vqa):
    """The embedded benchmark's learned reader."""

    EMBEDDED: ClassVar[bool] = True
    LIKELIHOODS: ClassVar[bool] = True

    def load(self, options: Options) -> LearnedReader:  # noqa: ARG002  it has no options
        """Load the shipped network; see `Vqa.load`."""
        return make_learned(cache_dir())

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Raise ConfigError for a question that the embedded benchmark does not ask."""
        check_embedded(questions)
