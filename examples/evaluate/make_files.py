"""Writes the small files that docs/metrics.md scores: what other programs would have made.

    python examples/evaluate/make_files.py examples/evaluate

Six prompts of the embedded data set with their questions, in TIFA's layout; six images, the
fourth of them of another prompt; and the answers that some model gave, in the layout of TIFA's own
results. All are in the repository as this wrote them.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from nas_t2i.data.embedded import shapes
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.tifa.files import write_reference
from nas_t2i.evaluation.tifa.mapping.exact import ExactMapping
from nas_t2i.evaluation.tifa.run import ask, score
from nas_t2i.evaluation.tifa.types import Answer
from nas_t2i.evaluation.vqa import make_vqa_model

COUNT, SIDE = 6, 64
WRONG = (3, 0)  # the image of one prompt is that of another one


class Talkative:
    """The pixel reader, which answers one question in words that are none of the choices."""

    identity = "talkative"

    def __init__(self):
        self._reader = make_vqa_model("shapes")

    def answer(self, image, questions):
        """Answer all questions about one image."""
        answers = self._reader.answer(image, questions)
        return [Answer(f"{a.text} of them") if a.text == "two" else a for a in answers]


def main(folder: Path) -> None:
    """Write the files to a folder."""
    scenes = shapes.sample_scenes(7, "example", COUNT)
    ids = [f"shapes_{i}" for i in range(COUNT)]
    captions = shapes.captions(scenes)
    images = shapes.render(scenes)
    images[WRONG[0]] = images[WRONG[1]]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, image in zip(ids, images, strict=True):
        large = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        large.save(folder / "images" / f"{name}.png")
    questions = questions_about(scenes, ids)
    prompts = [{"id": i, "caption": c} for i, c in zip(ids, captions, strict=True)]
    dump(folder / "prompts.json", prompts)
    dump(folder / "questions.json", questions)
    dump(folder / "images.json", {name: f"images/{name}.png" for name in ids})
    image_set = ImageSet.from_arrays(ids, np.asarray(images))
    log, vqa_model = AnswerLog(None), Talkative()
    looked = ask(questions, image_set, vqa_model, log)
    found = score(questions, looked, vqa_model.identity, ExactMapping(), log)
    write_reference(folder / "result.json", found.details)


def dump(file: Path, data: object) -> None:
    """Write JSON."""
    file.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
