"""Plug-ins: what stands behind a name in a YAML file, and where it comes from.

A name is one of three things, looked up in this order:

- ``module:Class``: a class of ``module.py`` beside the file in which the name is written
- a built-in: a module of that name in the kind's own package (its ``home``), which holds one class
- an entry point of that name in the group ``nas_t2i.KIND`` of an installed distribution

Looking a name up imports its own module and nothing else. What does not come with nas-t2i has an
`Origin` with a version or a digest of its source: it is part of records, so that a ranking says by
whose code it was made, and a study does not go on with other code than it began with.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict

from nas_t2i.errors import UserError, did_you_mean

_BESIDE = re.compile(r"([A-Za-z_]\w*):([A-Za-z_]\w*)")


class PluginError(UserError):
    """A plug-in that does not load, clashes with another one, or is not what its kind has to be."""


@dataclass(frozen=True)
class Kind:
    """A kind of plug-in."""

    name: str  # of the kind; the group of its entry points is ``nas_t2i.NAME``
    word: str  # for people
    home: str  # the package of the built-in ones
    base: str  # ``module:Class`` that every plug-in of the kind derives from
    recorded: bool = True  # whether scores depend on it: else it is no part of records

    @property
    def group(self) -> str:
        """The group of entry points."""
        return f"nas_t2i.{self.name}"

    def base_class(self) -> type[Any]:
        """Return the class that a plug-in of this kind derives from."""
        module, _, name = self.base.partition(":")
        loaded: type[Any] = getattr(importlib.import_module(module), name)
        return loaded


KINDS = {
    kind.name: kind
    for kind in (
        Kind("families", "family", "nas_t2i.arch.families", "nas_t2i.arch.spec:Arch"),
        Kind("data_sources", "data source", "nas_t2i.data.sources", "nas_t2i.protocol.data:Source"),
        Kind(
            "text_encoders",
            "text encoder",
            "nas_t2i.conditioning.text_encoders",
            "nas_t2i.protocol.conditioning:TextEncoderSettings",
        ),
        Kind(
            "codecs",
            "latent codec",
            "nas_t2i.conditioning.codecs",
            "nas_t2i.protocol.conditioning:CodecSettings",
        ),
        Kind(
            "vqa", "VQA model", "nas_t2i.evaluation.vqa", "nas_t2i.evaluation.vqa.common.base:Vqa"
        ),
        Kind("metrics", "metric", "nas_t2i.evaluation.metrics", "nas_t2i.evaluation.metric:Metric"),
        Kind(
            "stopping",
            "stopping rule",
            "nas_t2i.search.stopping",
            "nas_t2i.protocol.search:StoppingRule",
        ),
        Kind(
            "trackers",
            "tracker",
            "nas_t2i.tracking.trackers",
            "nas_t2i.tracking.tracker:Tracker",
            recorded=False,
        ),
    )
}


class Origin(BaseModel):
    """Where a plug-in comes from that is not built in; part of records and of trials' configs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    name: str  # as written in YAML
    distribution: str = ""  # "" for a file
    version: str = ""  # of the distribution
    file: str = ""  # "" for a distribution
    digest: str = ""  # of the file, sha256, 20 digits

    @property
    def text(self) -> str:
        """The distribution and its version, or the file and its digest."""
        if self.distribution:
            return f"{self.distribution} {self.version}"
        return f"{Path(self.file).name} sha256:{self.digest}"


@dataclass(frozen=True)
class Plugin:
    """A plug-in that was found."""

    kind: Kind
    name: str
    cls: type[Any]
    origin: Origin | None  # None: built in

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        return "built-in" if self.origin is None else self.origin.text


_used: dict[tuple[str, str], Plugin] = {}  # those from outside that this process looked up


def find(kind: str, name: str, folder: Path | None = None) -> Plugin:
    """Return the plug-in behind a name.

    Args:
        kind: one of `KINDS`.
        name: as written in YAML.
        folder: where the YAML file lies, for a ``module:Class`` beside it; None: the name is not
            from a file, and only what was looked up or restored before is known.

    Raises:
        PluginError: no such name, or one that does not load, clashes or breaks the contract.
    """
    of = KINDS[kind]
    if beside := _BESIDE.fullmatch(name):
        if folder is None and (kind, name) in _used:
            return _used[kind, name]
        return _keep(_from_file(of, name, beside[1], beside[2], folder))
    if (kind, name) in _used:
        return _used[kind, name]
    offers = [point for point in _entry_points(of.group) if point.name == name]
    if name in builtin_names(kind):
        if offers:
            raise PluginError(
                f"{of.word} {name!r} of {_from(offers[0])}: the name is taken by nas-t2i itself; "
                "expected another one"
            )
        return Plugin(of, name, _builtin(kind, name), None)
    if not offers:
        raise PluginError(unknown(kind, name))
    if len(offers) > 1:
        raise PluginError(
            f"{of.word} {name!r}: offered by {' and by '.join(map(_from, offers))}; expected one "
            "of them to be uninstalled"
        )
    return _keep(_from_entry_point(of, offers[0]))


def names(kind: str) -> list[str]:
    """Return the names of a kind, built-in ones first; nothing is imported."""
    outside = [point.name for point in _entry_points(KINDS[kind].group)]
    return [*builtin_names(kind), *sorted(set(outside) - set(builtin_names(kind)))]


def is_known(kind: str, name: object) -> bool:
    """Whether `name` may be looked up: one of `names`, or the form ``module:Class``."""
    return isinstance(name, str) and (name in names(kind) or bool(_BESIDE.fullmatch(name)))


def was_used(kind: str, name: str) -> bool:
    """Whether this process looked up that name and found it outside."""
    return (kind, name) in _used


@cache
def builtin_names(kind: str) -> tuple[str, ...]:
    """Return the names of the built-in ones: the modules of the kind's package."""
    home = importlib.util.find_spec(KINDS[kind].home)
    assert home is not None and home.submodule_search_locations
    files = (file for d in home.submodule_search_locations for file in Path(d).glob("*.py"))
    return tuple(sorted(file.stem for file in files if file.stem != "__init__"))


def unknown(kind: str, name: object) -> str:
    """Word the error of a name that nothing stands behind."""
    known = names(kind)
    hint = did_you_mean(str(name), known)
    problem = f"{KINDS[kind].word}: got {name!r}; expected one of {', '.join(known)}"
    return "; ".join(part for part in (problem, hint) if part)


def used() -> list[Origin]:
    """Return the origins of what came from outside and was looked up by this process.

    Kinds that no score depends on are left out.
    """
    return [
        plugin.origin
        for _, plugin in sorted(_used.items())
        if plugin.origin is not None and plugin.kind.recorded
    ]


def restore(origins: Iterable[Origin]) -> None:
    """Look up again what another process used, so that names of files are known here too.

    Raises:
        PluginError: one of them is gone, does not load, or is not the code that was used.
    """
    for origin in origins:
        folder = Path(origin.file).parent if origin.file else None
        found = find(origin.kind, origin.name, folder).origin
        if found is None or found.text != origin.text:
            now = "built in" if found is None else found.text
            raise PluginError(
                f"{KINDS[origin.kind].word} {origin.name!r}: {now} now; expected {origin.text}, "
                "with which the study began"
            )


def origin_of(cls: type[Any]) -> Origin | None:
    """Return where a plug-in's class comes from; None: built in."""
    return next((plugin.origin for plugin in _used.values() if plugin.cls is cls), None)


def offered() -> list[tuple[Kind, str, str, EntryPoint | None]]:
    """List what can be named: kind, name, where from, and the entry point of what is outside."""
    rows: list[tuple[Kind, str, str, EntryPoint | None]] = []
    for kind in KINDS.values():
        rows += [(kind, name, "built-in", None) for name in builtin_names(kind.name)]
        rows += [(kind, point.name, _from(point), point) for point in _entry_points(kind.group)]
    return rows


def _keep(plugin: Plugin) -> Plugin:
    _used[plugin.kind.name, plugin.name] = plugin
    # An architecture's canonical form holds its family's own name, wherever the class lies.
    family = getattr(plugin.cls, "FAMILY", None)
    if plugin.kind.name == "families" and isinstance(family, str) and ":" in plugin.name:
        _check_family_name(plugin, family)
        _used[plugin.kind.name, family] = plugin
    return plugin


def _check_family_name(plugin: Plugin, family: str) -> None:
    other = _used.get(("families", family))
    if family in names("families") or (other is not None and other.origin != plugin.origin):
        raise PluginError(f"family {plugin.name!r}: the name {family!r} is taken; expected another")


@cache
def _builtin(kind: str, name: str) -> type[Any]:
    of = KINDS[kind]
    module = importlib.import_module(f"{of.home}.{name}")
    base = of.base_class()
    (cls,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
    ]
    return cls


@cache
def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _from_entry_point(kind: Kind, point: EntryPoint) -> Plugin:
    try:
        cls = point.load()
    except Exception as error:
        raise PluginError(
            f"{kind.word} {point.name!r} of {_from(point)} does not load: {_one_line(error)}"
        ) from error
    _check_class(kind, point.name, cls, _from(point))
    if kind.name == "families" and point.name != cls.FAMILY:
        raise PluginError(
            f"family {point.name!r} of {_from(point)}: FAMILY is {cls.FAMILY!r}; expected the name "
            "of its entry point"
        )
    dist = point.dist
    origin = Origin(
        kind=kind.name,
        name=point.name,
        distribution=dist.name if dist else "?",
        version=dist.version if dist else "?",
    )
    return Plugin(kind, point.name, cls, origin)


def _from_file(kind: Kind, name: str, stem: str, class_name: str, folder: Path | None) -> Plugin:
    if folder is None:
        raise PluginError(f"{kind.word} {name!r}: expected it in a file, beside {stem}.py")
    file = (folder / f"{stem}.py").resolve()
    try:
        source = file.read_bytes()
    except OSError:
        raise PluginError(f"{kind.word} {name!r}: {file}: no such file") from None
    digest = hashlib.sha256(source).hexdigest()[:20]
    try:
        module = _module(file, digest)
        cls = getattr(module, class_name)
    except AttributeError:
        raise PluginError(f"{kind.word} {name!r}: {file} has no {class_name!r}") from None
    except Exception as error:
        raise PluginError(
            f"{kind.word} {name!r}: {file} does not load: {_one_line(error)}"
        ) from error
    _check_class(kind, name, cls, str(file))
    origin = Origin(kind=kind.name, name=name, file=str(file), digest=digest)
    return Plugin(kind, name, cls, origin)


def _module(file: Path, digest: str) -> ModuleType:
    name = f"nas_t2i_plugin_{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_class(kind: Kind, name: str, cls: object, where: str) -> None:
    base = kind.base_class()
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PluginError(
            f"{kind.word} {name!r} of {where}: got {cls!r:.60}; expected a class derived from "
            f"{kind.base.replace(':', '.')}"
        )
    lacking = sorted(getattr(cls, "__abstractmethods__", ()))
    if lacking:
        raise PluginError(
            f"{kind.word} {name!r} of {where}: the class {cls.__name__} lacks {', '.join(lacking)}"
        )


def _from(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
