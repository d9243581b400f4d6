"""Visual question answering back ends, one file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from PIL import Image

from nas_t2i.data.shapes import Question
from nas_t2i.environment import cache_dir
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.files import expand_path

MODELS = ("blip", "vilt", "git", "blip2")  # kinds that are loaded from a folder or a hub
_ALONE = ("shapes", "learned")  # kinds that need no more than their name


class Answer(NamedTuple):
    """What a model answered to one question."""

    text: str  # free-form, as the model said it
    likelihoods: tuple[float, ...] | None = None  # log-likelihood of each choice, where asked for


class Answerer(Protocol):
    """A model that answers questions about a picture, always the same way."""

    identity: str  # model, hash of its weights, preprocessing, precision: what answers depend on

    def answer(self, image: Image.Image, questions: list[Question]) -> Sequence[Answer | None]:
        """Answer all questions about one RGB picture, in order; None where there is no answer.

        Only the text and the choices of a question decide its answer, never the gold answer.
        """


def make_answerer(
    name: str,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: Literal["fp32", "bf16"] = "fp32",
    likelihood: Literal["sum", "mean"] | None = None,
    choices_in_prompt: bool = False,
    batch: int = 32,
    new_tokens: int = 50,
    recorded_model: str = "",
) -> Answerer:
    """Return the answerer that `name` says.

    - ``recorded:FILE``: answers in a result file; `recorded_model` says whose, if the file doesn't
    - ``shapes``, ``learned``: of the embedded benchmark
    - ``blip:MODEL``, ``vilt:MODEL``, ``git:MODEL``, ``blip2:MODEL``: MODEL is a local folder or a
      hub id, and the other arguments are as in `nas_t2i.evaluation.vqa.model_answerer.Options`

    Raises:
        ConfigError: no such kind, file or model.
        MissingExtraError: the packages of the kind are not installed.
    """
    kind, colon, model = name.partition(":")
    if (kind in _ALONE and colon) or (kind in ("recorded", *MODELS) and not model):
        takes = kind if kind in _ALONE else f"{kind}:{'FILE' if kind == 'recorded' else 'MODEL'}"
        raise ConfigError("vqa", f"got {name!r}", expected=takes)
    # Here, because those modules need this one, and a model's needs packages of its own.
    if kind == "recorded":
        from nas_t2i.evaluation.vqa.recorded import RecordedAnswerer

        return RecordedAnswerer(expand_path(model, "vqa"), recorded_model)
    if kind == "shapes":
        from nas_t2i.evaluation.vqa.shapes_answerer import ShapesAnswerer

        return ShapesAnswerer()
    if kind == "learned":
        from nas_t2i.evaluation.vqa.learned import make_learned

        return make_learned(cache_dir())
    if kind in MODELS:
        from nas_t2i.evaluation.vqa.model_answerer import Options
        from nas_t2i.evaluation.vqa.transformers_vqa import load_answerer

        options = Options(
            revision=revision,
            device=device,
            dtype=dtype,
            likelihood=likelihood,
            choices_in_prompt=choices_in_prompt,
            batch=batch,
            new_tokens=new_tokens,
        )
        return load_answerer(kind, model, options)
    raise ConfigError(
        "vqa",
        f"got {name!r}",
        expected=", ".join(["recorded:FILE", *_ALONE, *(f"{kind}:MODEL" for kind in MODELS)]),
        hint=did_you_mean(kind, ("recorded", *_ALONE, *MODELS)),
    )


def check_answerable(name: str, questions: Sequence[Question]) -> None:
    """Check that an embedded answerer knows the questions; a model may be asked anything.

    Raises:
        ConfigError: it does not.
    """
    if name in _ALONE:
        from nas_t2i.evaluation.vqa.shapes_questions import parse_question

        for question in questions:
            parse_question(question["question"])
