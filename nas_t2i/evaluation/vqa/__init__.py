"""Visual question answering back ends, one file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from nas_t2i.environment import cache_dir
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.evaluation.tifa.types import Question, VqaModel
from nas_t2i.files import expand_path

MODELS = ("blip", "vilt", "git", "blip2")  # kinds that are loaded from a folder or a hub
_ALONE = ("shapes", "learned")  # kinds that need no more than their name


def make_vqa_model(
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
) -> VqaModel:
    """Return the VQA model that `name` says.

    - ``recorded:FILE``: answers in a result file; `recorded_model` says whose, if the file doesn't
    - ``shapes``, ``learned``: of the embedded benchmark
    - ``blip:MODEL``, ``vilt:MODEL``, ``git:MODEL``, ``blip2:MODEL``: MODEL is a local folder or a
      hub id, and the other arguments are as in `nas_t2i.evaluation.vqa.common.model.Options`

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
        from nas_t2i.evaluation.vqa.recorded import RecordedVqa

        return RecordedVqa(expand_path(model, "vqa"), recorded_model)
    if kind == "shapes":
        from nas_t2i.evaluation.vqa.shapes import ShapesVqa

        return ShapesVqa()
    if kind == "learned":
        from nas_t2i.evaluation.vqa.learned import make_learned

        return make_learned(cache_dir())
    if kind in MODELS:
        from nas_t2i.evaluation.vqa.common.model import Options
        from nas_t2i.evaluation.vqa.transformers_vqa import load_vqa_model

        options = Options(
            revision=revision,
            device=device,
            dtype=dtype,
            likelihood=likelihood,
            choices_in_prompt=choices_in_prompt,
            batch=batch,
            new_tokens=new_tokens,
        )
        return load_vqa_model(kind, model, options)
    raise ConfigError(
        "vqa",
        f"got {name!r}",
        expected=", ".join(["recorded:FILE", *_ALONE, *(f"{kind}:MODEL" for kind in MODELS)]),
        hint=did_you_mean(kind, ("recorded", *_ALONE, *MODELS)),
    )


def check_answerable(name: str, questions: Sequence[Question]) -> None:
    """Check that an embedded VQA model knows the questions; a model may be asked anything.

    Raises:
        ConfigError: it does not.
    """
    if name in _ALONE:
        from nas_t2i.evaluation.embedded.question_forms import parse_question

        for question in questions:
            parse_question(question["question"])
