"""The VQA models in the format of transformers, by name."""

from __future__ import annotations

from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.evaluation.vqa.blip import BlipVqa
from nas_t2i.evaluation.vqa.blip2 import Blip2Vqa
from nas_t2i.evaluation.vqa.common.model import Options, PretrainedVqaModel
from nas_t2i.evaluation.vqa.git import GitVqa
from nas_t2i.evaluation.vqa.vilt import ViltVqa

_CLASSES: dict[str, type[PretrainedVqaModel]] = {
    kind.name: kind for kind in (BlipVqa, ViltVqa, GitVqa, Blip2Vqa)
}
KINDS = tuple(_CLASSES)


def load_vqa_model(kind: str, model: str, options: Options | None = None) -> PretrainedVqaModel:
    """Load a frozen VQA model.

    `kind` is one of `KINDS`; `model` a local folder or a hub id.

    Raises:
        ConfigError: no such kind or model; a file is missing, damaged, or of another kind.
        MissingExtraError: the package transformers is not installed.
    """
    if kind not in _CLASSES:
        raise ConfigError(
            "vqa",
            f"got the kind of model {kind!r}",
            expected=", ".join(KINDS),
            hint=did_you_mean(kind, KINDS),
        )
    return _CLASSES[kind](model, options or Options())
