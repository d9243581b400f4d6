"""Visual question answering: VQA models, a module a kind, found by their names.

No module of a kind imports this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_t2i import plugins
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.evaluation.tifa.types import Question, VqaModel
from nas_t2i.evaluation.vqa.common.base import WHERE, Options, Vqa

_KIND = "vqa"


def find_vqa(name: str, folder: Path | None = None) -> Vqa:
    """Return the kind of VQA model that ``NAME``, ``NAME:ARGUMENT`` or ``module:Class`` says.

    Raises:
        ConfigError: no such kind; or an argument too many or too few.
        PluginError: a plug-in that can't be used.
    """
    kind, colon, argument = name.partition(":")
    if kind in plugins.names(_KIND):
        cls = plugins.find(_KIND, kind).cls
    elif plugins.is_known(_KIND, name) and (folder is not None or plugins.was_used(_KIND, name)):
        cls, colon, argument = plugins.find(_KIND, name, folder).cls, "", ""
    else:
        raise ConfigError(
            WHERE,
            f"got {name!r}",
            expected=", ".join(forms()),
            hint=did_you_mean(kind, plugins.names(_KIND)),
        )
    if bool(cls.TAKES) != bool(argument) or (colon and not cls.TAKES):
        raise ConfigError(WHERE, f"got {name!r}", expected=_form(kind, cls))
    found: Vqa = cls(argument)
    return found


def forms() -> list[str]:
    """Return how each built-in kind is named, for messages."""
    return [_form(name, plugins.find(_KIND, name).cls) for name in plugins.builtin_names(_KIND)]


def make_vqa_model(name: str, **options: Any) -> VqaModel:
    """Load the VQA model that `name` says; `options` are those of `Options`.

    Raises:
        ConfigError: no such kind, file or model.
        MissingExtraError: the packages of the kind are not installed.
    """
    return find_vqa(name).load(Options(**options))


def check_answerable(name: str, questions: Sequence[Question]) -> None:
    """Raise ConfigError where the VQA model that `name` says can't answer the questions."""
    find_vqa(name).check_questions(questions)


def _form(name: str, cls: type[Vqa]) -> str:
    return f"{name}:{cls.TAKES}" if cls.TAKES else name


def is_embedded(name: str) -> bool:
    """Whether `name` is a VQA model of the embedded benchmark; no model is looked for."""
    return name in embedded_names()


def embedded_names() -> list[str]:
    """Return the names of the built-in VQA models that answer embedded questions only."""
    names = plugins.builtin_names(_KIND)
    return [name for name in names if plugins.find(_KIND, name).cls.EMBEDDED]
