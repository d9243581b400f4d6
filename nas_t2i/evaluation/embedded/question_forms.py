"""What the embedded benchmark's questions ask for, and the guess of who sees no answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nas_t2i.data.embedded.shapes import COLORS, PLURALS, SHAPES
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.tifa.types import Question


class IsThere(NamedTuple):
    """Is there an object of this colour and shape?"""

    color: int  # indices into COLORS and SHAPES, here and below
    shape: int


class WhatColor(NamedTuple):
    """What colour do the objects of a shape have?"""

    shape: int


class WhatShape(NamedTuple):
    """What shape do the objects of a colour have?"""

    color: int


class HowMany(NamedTuple):
    """How many objects of a shape are there?"""

    shape: int


class Where(NamedTuple):
    """Where are the objects of one shape, seen from those of another?"""

    shape: int
    seen_from: int


Form = IsThere | WhatColor | WhatShape | HowMany | Where

_INDEX = {name: i for names in (COLORS, SHAPES, PLURALS) for i, name in enumerate(names)}
_COLOR = "({})".format("|".join(COLORS))
_SHAPE = "({})".format("|".join(sorted(SHAPES + PLURALS, key=len, reverse=True)))
_PATTERNS: tuple[tuple[type[Form], re.Pattern[str]], ...] = (
    (IsThere, re.compile(rf"Is there a {_COLOR} {_SHAPE}\?")),
    (WhatColor, re.compile(rf"What color (?:is|are) the {_SHAPE}\?")),
    (WhatShape, re.compile(rf"What shape (?:is|are) the {_COLOR} objects?\?")),
    (HowMany, re.compile(rf"How many {_SHAPE} are there\?")),
    (Where, re.compile(rf"Where (?:is|are) the {_SHAPE}, seen from the {_SHAPE}\?")),
)


def parse_question(question: str) -> Form:
    """Return what a question of the embedded benchmark asks for.

    Raises:
        ConfigError: it is no question of the embedded benchmark.
    """
    for form, pattern in _PATTERNS:
        if match := pattern.fullmatch(question):
            return form(*(_INDEX[word] for word in match.groups()))
    raise ConfigError(
        f"question {question!r}",
        "not a question of the embedded benchmark",
        hint="other questions need another VQA model",
    )


def check_embedded(questions: Sequence[Question]) -> None:
    """Raise ConfigError for a question that the embedded benchmark does not ask."""
    for question in questions:
        parse_question(question["question"])


def guess(image: npt.NDArray[np.uint8], question: str, choices: int) -> int:
    """Return the number of a choice, drawn from a hash of the image and the question."""
    digest = hashlib.blake2b(question.encode(), digest_size=8)
    digest.update(image.tobytes())
    return int.from_bytes(digest.digest(), "little") % choices
