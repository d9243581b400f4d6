"""What a plug-in of each kind must keep to, as checks that anyone can run on theirs.

``nas-t2i plugins --check NAME`` runs them, and so do the project's own tests on the built-in ones.
A check is a name and what is wrong; "" means that it was kept.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from nas_t2i.errors import ConfigError, UserError
from nas_t2i.plugins import Plugin
from nas_t2i.yaml_files import Document, config_error

# The key of a budget that names a plug-in; of the other kinds the name stands alone.
KEYS = {
    "data_sources": "source",
    "text_encoders": "encoder",
    "codecs": "codec",
    "metrics": "metric",
    "stopping": "rule",
}
# Kinds that have no settings but what stands behind their name, and what that is called here.
ARGUMENTS = {"vqa": "argument", "trackers": "where"}


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    problem: str = ""  # "" where the contract is kept


def check(plugin: Plugin, settings: Mapping[str, Any]) -> list[Check]:
    """Run the contract of a plug-in's kind; `settings` are those of `completed`.

    Raises:
        UserError: settings that the plug-in needs are missing, or are not what it takes.
    """
    subject = make(plugin, settings)
    module = importlib.import_module(f"nas_t2i.contracts.{plugin.kind.name}")
    checks: Iterator[Check] = module.checks(subject)
    return list(_until_it_breaks(checks))


def completed(plugin: Plugin, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings to check a plug-in with: its own example's, and those `given`."""
    return {**getattr(plugin.cls, "EXAMPLE", {}), **given}


def make(plugin: Plugin, settings: Mapping[str, Any]) -> Any:
    """Return what a contract is checked on: the plug-in with settings, the keys beside its name.

    Raises:
        UserError: as `check`.
    """
    if plugin.kind.name in ARGUMENTS:
        return _by_argument(plugin, settings, ARGUMENTS[plugin.kind.name])
    data = dict(settings)
    if plugin.kind.name in KEYS:
        data[KEYS[plugin.kind.name]] = plugin.name
    model: type[BaseModel] = plugin.cls
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _readable(plugin, data, error) from None


def _by_argument(plugin: Plugin, settings: Mapping[str, Any], argument: str) -> Any:
    takes = plugin.cls.TAKES
    for key in settings:
        if key != argument or not takes:
            expected = f"{argument}={takes}" if takes else "no setting"
            raise ConfigError(_named(plugin), f"got the key {key!r}", expected=expected)
    if takes and argument not in settings:
        raise _missing(plugin, {argument: takes})
    return plugin.cls(str(settings.get(argument, "")))


def _readable(plugin: Plugin, data: dict[str, Any], error: ValidationError) -> UserError:
    details = error.errors(include_url=False)
    keys = [".".join(map(str, found["loc"])) for found in details if found["type"] == "missing"]
    # A misspelt key also leaves a missing one: that is not the mistake.
    if keys and all(found["type"] != "extra_forbidden" for found in details):
        return _missing(plugin, dict.fromkeys(keys, "VALUE"))
    report = config_error(Document("", data, {}), plugin.cls, error)
    where = report.where
    text = str(report).removeprefix(f"{where}: ")
    key_path = where if isinstance(where, str) else where.key_path
    return ConfigError(_named(plugin), ": ".join(filter(None, (key_path, text))))


def _missing(plugin: Plugin, keys: Mapping[str, str]) -> ConfigError:
    what = f"the key {next(iter(keys))!r} is missing"
    if len(keys) > 1:
        what = f"the keys {', '.join(map(repr, keys))} are missing"
    options = " ".join(f"--set {key}={value}" for key, value in keys.items())
    return ConfigError(_named(plugin), what, expected=options)


def _named(plugin: Plugin) -> str:
    return f"{plugin.kind.word} {plugin.name!r}"


def _until_it_breaks(checks: Iterable[Check]) -> Iterator[Check]:
    """Pass checks on; an exception is the last one, for what comes after it can't be said."""
    try:
        yield from checks
    except UserError:
        raise
    except Exception as error:
        yield Check("no exception", f"{type(error).__name__}: {' '.join(str(error).split())}")
