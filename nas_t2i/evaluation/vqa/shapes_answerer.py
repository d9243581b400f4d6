"""The embedded benchmark's pixel reader as one that is shown a picture at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from nas_t2i.data.shapes import SIZE, Question
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.vqa import Answer, shapes


class ShapesAnswerer:
    """Answers the questions of the embedded benchmark, as `nas_t2i.evaluation.vqa.shapes` does."""

    identity = f"shapes-v{shapes.VERSION}"

    def answer(self, image: Image.Image, questions: list[Question]) -> list[Answer]:
        """Answer all questions about one picture, in order.

        Raises:
            ConfigError: a question that the embedded benchmark does not ask.
        """
        pictures = shrunk(np.asarray(image.convert("RGB"))[None])
        rows = np.zeros(len(questions), dtype=np.int64)
        try:
            return [Answer(text) for text in shapes.answer(pictures, rows, questions)]
        except ValueError as error:
            raise ConfigError(
                "vqa", f"shapes was asked what is {error}", expected="a VQA model for photographs"
            ) from None


def shrunk(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return pictures (N, H, W, 3) at the benchmark's size, each pixel the mean of a patch."""
    if pictures.shape[1:3] == (SIZE, SIZE):
        return pictures
    channels_first = torch.tensor(pictures).permute(0, 3, 1, 2).float()
    small = functional.interpolate(channels_first, (SIZE, SIZE), mode="area")
    out: npt.NDArray[np.uint8] = small.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(out)
