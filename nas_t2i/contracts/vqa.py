"""What a VQA model keeps to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from nas_t2i.contracts import Check
from nas_t2i.data.embedded import shapes
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.vqa.common.base import Options, Vqa

_SIDE = 64


def checks(kind: Vqa) -> Iterator[Check]:
    """Check a kind of VQA model; the model is loaded and asked about two images."""
    model = kind.load(Options())
    identity = model.identity
    fine = isinstance(identity, str) and identity and not set("\n|") & set(identity)
    yield Check("its identity is a line without bars", "" if fine else f"got {identity!r:.60}")
    yield Check("its identity lasts", "" if kind.load(Options()).identity == identity else "no")
    scenes = shapes.sample_scenes(0, "contract", 2)
    images = [Image.fromarray(np.asarray(array)) for array in shapes.render(scenes)]
    larger = [image.resize((_SIDE, _SIDE), Image.Resampling.NEAREST) for image in images]
    for number, image in enumerate(larger):
        name = str(number)
        questions = [q for q in questions_about(scenes, ["0", "1"]) if q["id"] == name]
        together = list(model.answer(image, questions))
        enough = len(together) == len(questions)
        yield Check("an answer a question", "" if enough else f"got {len(together)}")
        alone = [model.answer(image, [question])[0] for question in questions]
        texts = [answer and answer.text for answer in together]
        same = texts == [answer and answer.text for answer in alone]
        yield Check("answers do not depend on the other questions", "" if same else "they do")
        unanswered = [{**question, "answer": "?"} for question in questions]
        again = [answer and answer.text for answer in model.answer(image, unanswered)]  # type: ignore[arg-type]
        yield Check("the gold answer is not read", "" if again == texts else "it is")
