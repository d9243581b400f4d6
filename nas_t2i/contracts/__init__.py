"""What a plug-in of each kind must keep to, as checks that anyone can run on theirs.

``nas-t2i plugins --check NAME`` runs them, and so do the project's own tests on the built-in ones.
A check is a name and what is wrong; "" means that it was kept.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from nas_t2i.errors import ConfigError
from nas_t2i.plugins import Plugin

# The key of a budget that names a plug-in; of the other kinds the name stands alone.
KEYS = {
    "data_sources": "source",
    "text_encoders": "encoder",
    "codecs": "codec",
    "metrics": "metric",
    "stopping": "rule",
}


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    problem: str = ""  # "" where the contract is kept


def check(plugin: Plugin, settings: Mapping[str, Any]) -> list[Check]:
    """Run the contract of a plug-in's kind; `settings` are the keys beside its name.

    Raises:
        ConfigError: settings that the plug-in needs are missing, or are not what it takes.
    """
    subject = make(plugin, settings)
    module = importlib.import_module(f"nas_t2i.contracts.{plugin.kind.name}")
    checks: Iterator[Check] = module.checks(subject)
    return list(_until_it_breaks(checks))


def make(plugin: Plugin, settings: Mapping[str, Any]) -> Any:
    """Return what a contract is checked on: the plug-in with settings, or its class.

    Raises:
        ConfigError: as `check`.
    """
    if plugin.kind.name == "families":
        return _family(plugin, settings)
    if plugin.kind.name == "vqa":
        return plugin.cls(str(settings.get("argument", "")))
    data = {KEYS[plugin.kind.name]: plugin.name, **settings}
    model: type[BaseModel] = plugin.cls
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _readable(plugin, error) from None


def _family(plugin: Plugin, settings: Mapping[str, Any]) -> Any:
    return plugin.cls.from_data(dict(settings), origin=f"family {plugin.name!r}")


def _readable(plugin: Plugin, error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f"{plugin.kind.word} {plugin.name!r}"
    if first["type"] == "missing":
        return ConfigError(where, f"the key {key!r} is missing", expected=f"--set {key}=VALUE")
    return ConfigError(where, f"{key}: {first['msg']}")


def _until_it_breaks(checks: Iterable[Check]) -> Iterator[Check]:
    """Pass checks on; an exception is the last one, for what comes after it can't be said."""
    try:
        yield from checks
    except Exception as error:
        yield Check("no exception", f"{type(error).__name__}: {' '.join(str(error).split())}")
