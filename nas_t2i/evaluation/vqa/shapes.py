"""The embedded benchmark's pixel reader as one that is shown an image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from PIL import Image

from nas_t2i.data.embedded.shapes import SIZE
from nas_t2i.evaluation.embedded import pixels as shapes
from nas_t2i.evaluation.embedded.question_forms import check_embedded
from nas_t2i.evaluation.tifa.types import Answer, Question
from nas_t2i.evaluation.vqa.common.base import Options, Vqa


class PixelReader:
    """Answers the embedded benchmark's questions as `nas_t2i.evaluation.embedded.pixels` does.

    Images are shrunk to the benchmark's size, each pixel the mean of a patch.
    """

    identity = f"shapes-v{shapes.VERSION}"

    def answer(self, image: Image.Image, questions: list[Question]) -> list[Answer]:
        """Answer all questions about one image, in order.

        Raises:
            ConfigError: a question that the embedded benchmark does not ask.
        """
        small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)
        rows = np.zeros(len(questions), dtype=np.int64)
        said = shapes.answer(np.asarray(small)[None], rows, questions)
        return [Answer(text) for text in said]


class ShapesVqa(Vqa):
    """The embedded benchmark's pixel reader."""

    EMBEDDED: ClassVar[bool] = True

    def load(self, options: Options) -> PixelReader:  # noqa: ARG002  it has no options
        """Return the reader; there is nothing to load."""
        return PixelReader()

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Raise ConfigError for a question that the embedded benchmark does not ask."""
        check_embedded(questions)
