"""The embedded benchmark's second answerer: a network that learned from pictures and labels.

The first one (`shapes`) fits the renderer's own outlines; this one has seen distorted pictures and
their answers, and shares nothing with the renderer but its pictures. Each form of question has a
head of its own; its probabilities are the likelihoods of the choices. What is left over (the belief
that there is nothing of the kind to tell about) goes to one choice drawn from a hash of the picture
and the question: an answer without evidence is a guess, deterministic, and right as often as
chance.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas_t2i.data.shapes import COLORS, NUMBERS, PLACES, PLURALS, SHAPES, SIZE, Question
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.vqa import Answer
from nas_t2i.evaluation.vqa.learned_data import PAIRS
from nas_t2i.evaluation.vqa.learned_model import (
    Beliefs,
    Eye,
    LearnedSettings,
    Saying,
    load_or_train,
)

VERSION = 1  # raise when an answer may change though the weights do not: part of the identity

_NOUNS = {name: i for names in (SHAPES, PLURALS) for i, name in enumerate(names)}
_SHAPE = "({})".format("|".join(sorted(_NOUNS, key=len, reverse=True)))
_COLOR = "({})".format("|".join(COLORS))
_THERE = re.compile(rf"Is there a {_COLOR} {_SHAPE}\?")
_WHAT_COLOR = re.compile(rf"What color (?:is|are) the {_SHAPE}\?")
_WHAT_SHAPE = re.compile(rf"What shape (?:is|are) the {_COLOR} objects?\?")
_NUMBER = re.compile(rf"How many {_SHAPE} are there\?")
_PLACE = re.compile(rf"Where (?:is|are) the {_SHAPE}, seen from the {_SHAPE}\?")
_FLOOR = 1e-6  # smallest probability that is told: a likelihood is finite
_OPPOSITE = (1, 0, 3, 2)  # index into PLACES


class LearnedAnswerer:
    """Answers the questions of the embedded benchmark about pictures of any size.

    Pictures are shrunk to the benchmark's size, each pixel the mean of a patch.
    """

    def __init__(self, eye: Eye) -> None:
        self._eye = eye
        self.identity = f"learned-v{VERSION}:{eye.settings.key[:8]}:{eye.digest}:{SIZE}px:fp32"

    def answer(self, image: Image.Image, questions: Sequence[Question]) -> list[Answer]:
        """Answer all questions about one picture, in order.

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

        The same as one picture at a time.

        Raises:
            ConfigError: as `answer`.
        """
        beliefs = self._eye.look(images)
        return [
            _answer(Beliefs(*(part[row] for part in beliefs)), images[row], question)
            for row, question in zip(rows.tolist(), questions, strict=True)
        ]


def make_learned(
    cache: Path, settings: LearnedSettings | None = None, say: Saying | None = None
) -> LearnedAnswerer:
    """The answerer whose weights are in ``cache``; trained first (a minute or two) if missing.

    Raises:
        StorageError: the cache can't be written.
    """
    return LearnedAnswerer(load_or_train(cache, settings, say))


def _answer(belief: Beliefs, image: npt.NDArray[np.uint8], question: Question) -> Answer:
    text, choices = question["question"], question["choices"]
    told = _told(belief, text)
    chances = [told.get(choice, 0.0) for choice in choices]
    chances[_guess(image, text, len(choices))] += max(0.0, 1.0 - sum(chances))
    best = max(range(len(choices)), key=chances.__getitem__)
    return Answer(choices[best], tuple(math.log(max(chance, _FLOOR)) for chance in chances))


def _told(belief: Beliefs, question: str) -> dict[str, float]:
    """Probabilities of answers; what they lack of 1 is that there is nothing to tell."""
    if match := _THERE.fullmatch(question):
        there = float(belief.there[_NOUNS[match[2]], COLORS.index(match[1])])
        return {"yes": there, "no": 1.0 - there}
    if match := _WHAT_COLOR.fullmatch(question):
        shape = _NOUNS[match[1]]
        some = 1.0 - belief.number[shape, 0]
        return dict(zip(COLORS, (some * belief.color[shape]).tolist(), strict=True))
    if match := _WHAT_SHAPE.fullmatch(question):
        color = COLORS.index(match[1])
        return dict(zip(SHAPES, (belief.seen[color] * belief.shape[color]).tolist(), strict=True))
    if match := _NUMBER.fullmatch(question):
        return dict(zip(NUMBERS, belief.number[_NOUNS[match[1]], 1:].tolist(), strict=True))
    if match := _PLACE.fullmatch(question):
        first, second = _NOUNS[match[1]], _NOUNS[match[2]]
        if first == second:
            return {}
        both = (1.0 - belief.number[first, 0]) * (1.0 - belief.number[second, 0])
        places = belief.place[PAIRS.index((min(first, second), max(first, second)))]
        if first > second:
            places = places[list(_OPPOSITE)]
        return dict(zip(PLACES, (both * places).tolist(), strict=True))
    raise ConfigError(
        f"question {question!r}",
        "not a question of the embedded benchmark",
        hint="other questions need another VQA model",
    )


def _guess(image: npt.NDArray[np.uint8], question: str, choices: int) -> int:
    digest = hashlib.blake2b(question.encode(), digest_size=8)
    digest.update(image.tobytes())
    return int.from_bytes(digest.digest(), "little") % choices
