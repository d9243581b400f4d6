"""Paths as people write them in a budget: ``~``, ``$NAME``, ``{0000..0123}`` and ``*``."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.files import expand_path, expand_variables

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::|://)")
# Kinds of URL that fsspec reads from this machine, whatever they look like; memory:// holds only
# what this process put there.
_LOCAL_KINDS = {"file", "local", "dir", "git", "reference", "jupyter", "data", "dask"}
_MOST_NAMES = 1_000_000  # more is a slip of the keyboard


def is_url(text: str) -> bool:
    """Whether that names something that has to be downloaded."""
    return _URL.match(text) is not None


def expand_braces(text: str, where: str) -> list[str]:
    """Every name that ``{0000..0123}`` and ``{a,b}`` stand for, in the order written.

    Raises:
        ConfigError: braces around something else, a range backwards, or over a million names.
    """
    names = [""]
    end = 0
    for match in _BRACES.finditer(text):
        before, end = text[end : match.start()], match.end()
        choices = _choices(match[1], text, where)
        if len(names) * len(choices) > _MOST_NAMES:
            raise ConfigError(where, f"got {text!r}", expected=f"at most {_MOST_NAMES} names")
        names = [name + before + choice for name in names for choice in choices]
    return [name + text[end:] for name in names]


def _choices(inner: str, text: str, where: str) -> list[str] | tuple[str, ...]:
    if bounds := _RANGE.fullmatch(inner):
        low, high = int(bounds[1]), int(bounds[2])
        padded = any(bound != str(int(bound)) for bound in bounds.groups())
        width = max(map(len, bounds.groups())) if padded else 0
        if low <= high < low + _MOST_NAMES:
            return [f"{number:0{width}}" for number in range(low, high + 1)]
    elif "," in inner:
        return inner.split(",")
    raise ConfigError(
        where,
        f"got {{{inner}}} in {text!r}",
        expected="an ascending range such as {0000..0123}, or names such as {a,b}",
    )


def find_files(text: str, where: str) -> list[str]:
    """The files and URLs that one line of a budget names; what a ``*`` finds is sorted.

    Raises:
        ConfigError: nothing is there, or a folder is.
    """
    found: list[str] = []
    expanded = expand_variables(text, where)
    if not is_url(expanded):
        expanded = str(expand_path(text, where))
    else:
        _check_remote(expanded, where)
    for name in expand_braces(expanded, where):
        found += [name] if is_url(name) else _local_files(name, where)
    return found


def _check_remote(url: str, where: str) -> None:
    """Raise ConfigError for a URL of a file on this machine: paths are read, and say what they are.

    ``zip://a.tar::file:///b.zip`` is a chain of URLs: each link counts.
    """
    links = url.split("::")
    kinds = [link.partition("://")[0].lower() for link in links]
    if any(kind in _LOCAL_KINDS for kind in kinds) or "://" not in links[-1]:
        path = links[-1].partition("://")[2]
        raise ConfigError(
            where,
            f"got {url!r}, which names a file of this machine",
            expected="a path for that, or a URL of another machine",
            hint=f"did you mean {path!r}?" if kinds == ["file"] else "",
        )


def _local_files(name: str, where: str) -> list[str]:
    path = Path(name)
    if path.is_file():
        return [name]
    if path.is_dir():
        raise ConfigError(
            where, f"{name} is a folder", expected="tar files", hint=f"did you mean {name}/*.tar?"
        )
    if glob.has_magic(name):
        matches = [match for match in glob.glob(name, recursive=True) if Path(match).is_file()]  # noqa: PTH207
        if matches:
            return sorted(matches)
        raise ConfigError(where, f"got {name!r}, which no file matches", expected="tar files")
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise ConfigError(
        where,
        f"{name}: no such file",
        expected="a tar file",
        hint=did_you_mean(path.name, siblings),
    )
