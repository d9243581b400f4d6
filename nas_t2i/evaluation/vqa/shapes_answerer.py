"""The embedded benchmark's pixel reader as one that is shown a picture at a time."""

from __future__ import annotations

import numpy as np
from PIL import Image

from nas_t2i.data.shapes import SIZE, Question
from nas_t2i.evaluation.vqa import Answer, shapes


class ShapesAnswerer:
    """Answers the questions of the embedded benchmark, as `nas_t2i.evaluation.vqa.shapes` does.

    Pictures are shrunk to the benchmark's size, each pixel the mean of a patch.
    """

    identity = f"shapes-v{shapes.VERSION}"

    def answer(self, image: Image.Image, questions: list[Question]) -> list[Answer]:
        """Answer all questions about one picture, in order.

        Raises:
            ConfigError: a question that the embedded benchmark does not ask.
        """
        small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)
        rows = np.zeros(len(questions), dtype=np.int64)
        said = shapes.answer(np.asarray(small)[None], rows, questions)
        return [Answer(text) for text in said]
