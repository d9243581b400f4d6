"""Architecture families, one file each: checks its parameters and names its diffusers class.

A family is loaded when it is first named; none imports torch at module level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from nas_t2i import plugins
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError, did_you_mean
from nas_t2i.yaml_files import Document, Key, config_error, describe

_KIND = "families"


def family(name: str, folder: Path | None = None) -> type[Arch]:
    """Return the class of a family; `folder` is where a file lies that names ``module:Class``.

    Raises:
        ArchError: no such family; the message lists them and names the nearest.
        PluginError: a family from outside that can't be used.
    """
    if not plugins.is_known(_KIND, name) and not plugins.was_used(_KIND, str(name)):
        raise ArchError(_unknown(name))
    found: type[Arch] = plugins.find(_KIND, name, folder).cls
    return found


def family_names() -> list[str]:
    """Return the names of all families; none is loaded."""
    return plugins.names(_KIND)


def _unknown(name: object) -> str:
    hint = did_you_mean(str(name), family_names())
    problem = f"family: got {describe(name)}; expected one of {', '.join(family_names())}"
    return "; ".join(part for part in (problem, hint) if part)


def arch_from_dict(data: Mapping[str, Any], origin: str = "") -> Arch:
    """Build an architecture from plain data: ``family`` and the family's parameters.

    Accepts every spelling that a file may use, canonical forms among them. `origin` names the
    source in messages.

    Raises:
        ArchError: one line, ``origin: key: got X; expected Y``.
    """
    try:
        if "family" not in data:
            raise ArchError(
                f"the key 'family' is missing; expected one of {', '.join(family_names())}"
            )
        cls = family(data["family"])
    except ArchError as error:
        raise ArchError(f"{origin}: {error}" if origin else str(error)) from None
    return cls.from_data({k: v for k, v in data.items() if k != "family"}, origin)


def arch_from_document(document: Document, path: Sequence[Key] = ()) -> Arch:
    """Build an architecture from the part of a file at `path` (default: the whole file).

    Raises:
        ConfigError: one line, ``file:line:column: key path: got X; expected Y``.
    """
    path = tuple(path)
    data: Any = document.data
    for key in path:
        data = data[key]
    if not isinstance(data, dict):
        document.fail(path, f"got {describe(data)}", expected="an architecture: a mapping")
    if "family" not in data:
        document.fail(
            path, "the key 'family' is missing", expected=f"one of {', '.join(family_names())}"
        )
    cls = document_family(document, (*path, "family"), data["family"])
    try:
        return cls.model_validate({k: v for k, v in data.items() if k != "family"})
    except ValidationError as error:
        raise config_error(document, cls, _below(path, error)) from None


def document_family(document: Document, path: tuple[Key, ...], name: object) -> type[Arch]:
    """Return the class of the family that a file names at `path`.

    Raises:
        ConfigError: one line, ``file:line:column: key path: got X; expected Y``.
    """
    try:
        return family(name, Path(document.file).parent)  # type: ignore[arg-type]
    except ArchError:
        names = family_names()
        document.fail(
            path,
            f"got {describe(name)}",
            expected=f"one of {', '.join(names)}",
            hint=did_you_mean(str(name), names),
        )
    except plugins.PluginError as error:
        document.fail(path, str(error))


def _below(path: tuple[Key, ...], error: ValidationError) -> ValidationError:
    """Return the same report with every location moved below `path`."""
    details = []
    for detail in error.errors(include_url=False):
        context = detail.get("ctx", {})
        kind: str | PydanticCustomError = detail["type"]
        if kind == "value_error":
            # Reports of checks across parameters are custom errors, which pydantic keeps as such.
            kind = PydanticCustomError("value_error", "{error}", {"error": str(context["error"])})
        details.append(
            InitErrorDetails(
                type=kind, loc=(*path, *detail["loc"]), input=detail["input"], ctx=context
            )
        )
    return ValidationError.from_exception_data(error.title, details)
