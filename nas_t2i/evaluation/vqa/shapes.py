"""The embedded benchmark's pixel reader as one that is shown an image at a time."""

from __future__ import annotations

import numpy as np
from PIL import Image

from nas_t2i.data.embedded.shapes import SIZE
from nas_t2i.evaluation.embedded import pixels as shapes
from nas_t2i.evaluation.tifa.types import Answer, Question


class ShapesVqa:
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
