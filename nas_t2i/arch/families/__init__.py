"""Architecture families, one file each: checks its parameters and names its diffusers class.

A family is loaded when it is first named; none imports torch at module level.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError, did_you_mean
from nas_t2i.yaml_files import Document, Key, config_error, describe

# Family name -> (module, class).
FAMILIES: dict[str, tuple[str, str]] = {
    "unet": ("nas_t2i.arch.families.unet", "UNet"),
    "if_unet": ("nas_t2i.arch.families.if_unet", "IFUNet"),
    "pixart": ("nas_t2i.arch.families.pixart", "PixArt"),
}


def family(name: str) -> type[Arch]:
    """Return the class of a family.

    Raises:
        ArchError: no such family; the message lists them and names the nearest.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        hint = did_you_mean(str(name), FAMILIES)
        problem = f"family: got {describe(name)}; expected one of {', '.join(FAMILIES)}"
        raise ArchError("; ".join(part for part in (problem, hint) if part))
    module, class_name = FAMILIES[name]
    loaded: type[Arch] = getattr(importlib.import_module(module), class_name)
    return loaded


def arch_from_dict(data: Mapping[str, Any], origin: str = "") -> Arch:
    """Build an architecture from plain data: ``family`` and the family's parameters.

    Accepts every spelling that a file may use, canonical forms among them. `origin` names the
    source in messages.

    Raises:
        ArchError: one line, ``origin: key: got X; expected Y``.
    """
    try:
        if "family" not in data:
            raise ArchError(f"the key 'family' is missing; expected one of {', '.join(FAMILIES)}")
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
        document.fail(path, "the key 'family' is missing", expected=f"one of {', '.join(FAMILIES)}")
    if not isinstance(data["family"], str) or data["family"] not in FAMILIES:
        document.fail(
            (*path, "family"),
            f"got {describe(data['family'])}",
            expected=f"one of {', '.join(FAMILIES)}",
            hint=did_you_mean(str(data["family"]), FAMILIES),
        )
    cls = family(data["family"])
    try:
        return cls.model_validate({k: v for k, v in data.items() if k != "family"})
    except ValidationError as error:
        raise config_error(document, cls, _below(path, error)) from None


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
