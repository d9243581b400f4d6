"""Writes the small files that docs/metrics.md scores: what other programs would have made.

    python examples/evaluate/make_files.py examples/evaluate

Six prompts of the embedded data set with their questions, in TIFA's layout; six pictures, the
fourth of them of another prompt; and the answers that some model gave, in the layout of TIFA's own
results. All are in the repository as this wrote them.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from nas_t2i.data import shapes
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.image_set import ImageSet
from nas_t2i.evaluation.mapping import ExactMapping
from nas_t2i.evaluation.tifa_files import write_reference
from nas_t2i.evaluation.tifa_run import ask, score
from nas_t2i.evaluation.vqa import Answer, make_answerer

COUNT, SIDE = 6, 64
WRONG = (3, 0)  # the picture of one prompt is that of another one


class Talkative:
    """The pixel reader, which answers one question in words that are none of the choices."""

    identity = "talkative"

    def __init__(self):
        self._reader = make_answerer("shapes")

    def answer(self, image, questions):
        """Answer all questions about one picture."""
        answers = self._reader.answer(image, questions)
        return [Answer(f"{a.text} of them") if a.text == "two" else a for a in answers]


def main(folder: Path) -> None:
    """Write the files to a folder."""
    scenes = shapes.sample_scenes(7, "example", COUNT)
    ids = [f"shapes_{i}" for i in range(COUNT)]
    captions = shapes.captions(scenes)
    pictures = shapes.render(scenes)
    pictures[WRONG[0]] = pictures[WRONG[1]]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for name, picture in zip(ids, pictures, strict=True):
        large = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        large.save(folder / "pictures" / f"{name}.png")
    questions = shapes.questions(scenes, ids)
    prompts = [{"id": i, "caption": c} for i, c in zip(ids, captions, strict=True)]
    dump(folder / "prompts.json", prompts)
    dump(folder / "questions.json", questions)
    dump(folder / "images.json", {name: f"pictures/{name}.png" for name in ids})
    images = ImageSet.from_arrays(ids, np.asarray(pictures))
    log, answerer = AnswerLog(None), Talkative()
    looked = ask(questions, images, answerer, log)
    found = score(questions, looked, answerer.identity, ExactMapping(), log)
    write_reference(folder / "result.json", found.details)


def dump(file: Path, data: object) -> None:
    """Write JSON."""
    file.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
