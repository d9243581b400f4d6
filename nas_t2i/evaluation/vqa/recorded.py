"""Answers that were given before, read from a result file: TIFA's own layout or ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar

from PIL import Image

from nas_t2i.evaluation.tifa.files import read_result
from nas_t2i.evaluation.tifa.types import Answer, Question
from nas_t2i.evaluation.vqa.common.base import WHERE, Options, Vqa
from nas_t2i.files import expand_path


class RecordedAnswers:
    """Answers a question as a result file does; it does not look at the image.

    The file knows questions by the id of their prompt and their text, so that it is only good for
    the images that it was made with. `model` says who gave the answers where the file does not;
    without it two files are taken for the answers of two models, which do not compare.

    Raises:
        ConfigError: with file and line: no result file.
    """

    def __init__(self, file: str | Path, model: str = "") -> None:
        recorded = read_result(file)
        self._answers, self._choices = recorded.answers, recorded.choices
        self.identity = recorded.vqa_model or (f"recorded {model}" if model else "")
        if not self.identity:
            content = json.dumps(sorted([*key, said.text] for key, said in self._answers.items()))
            self.identity = f"recorded-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def answer(self, image: Image.Image, questions: list[Question]) -> list[Answer | None]:  # noqa: ARG002
        """Return the recorded answers, None where the file has none.

        Likelihoods are of the choices that were asked then; without those there are none.
        """
        return [self._answer(asked) for asked in questions]

    def _answer(self, asked: Question) -> Answer | None:
        key = asked["id"], asked["question"]
        said = self._answers.get(key)
        if said is not None and self._choices.get(key) != asked["choices"]:
            return Answer(said.text)
        return said


class RecordedVqa(Vqa):
    """The answers in a result file, TIFA's or ours."""

    TAKES: ClassVar[str] = "FILE"
    LOOKS: ClassVar[bool] = False
    READS: ClassVar[frozenset[str]] = frozenset({"--recorded-model"})

    def load(self, options: Options) -> RecordedAnswers:
        """Read the file; see `Vqa.load`."""
        return RecordedAnswers(expand_path(self.argument, WHERE), options.recorded_model)

    def tells_likelihoods(self) -> bool:
        """Whether the file has them."""
        return bool(read_result(expand_path(self.argument, WHERE)).choices)
