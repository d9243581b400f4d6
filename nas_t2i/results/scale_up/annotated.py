"""YAML with a comment behind a value: read from a file, written into another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from nas_t2i.errors import ConfigError
from nas_t2i.yaml_files import Document, Path_, parse_document

_COLUMN = 29  # where comments begin, if what is before them leaves room
_WIDEST = 100  # characters of an item of a list that stands on one line
_COMMENT = re.compile(r"\s#\s?(.*)$")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")
_PLAIN = re.compile(r"[A-Za-z0-9$/_.+-][A-Za-z0-9$/_.+-]*")


def heading(text: str) -> list[str]:
    """Return the comment that a file begins with, by lines, without what is for editors alone."""
    found = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# yaml-language-server"):
            found.append(line.removeprefix("#").strip())
    return found


def comments(document: Document, text: str) -> dict[Path_, str]:
    """Return the comments that stand behind values, by the key path of the first on their line."""
    first: dict[int, Path_] = {}
    for path, (at, _) in document.positions.items():
        if path and (at not in first or len(path) < len(first[at])):
            first[at] = path
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        comment = _COMMENT.search(_QUOTED.sub(lambda match: "x" * len(match[0]), line))
        if comment and number in first:
            found[first[number]] = line[comment.start(1) :].strip()
    return found


def written(data: Mapping[str, Any], notes: Mapping[Path_, str]) -> str:
    """Return plain data as YAML with notes behind what they are of; it reads back as it was."""
    text = "\n".join(_block(data, (), "", notes)) + "\n"
    assert parse_document(text, "what was written").data == data
    return text


def _block(
    data: Mapping[Any, Any], path: Path_, indent: str, notes: Mapping[Path_, str]
) -> Iterator[str]:
    for key, value in data.items():
        at = (*path, key)
        name = f"{indent}{_scalar(key)}:"
        if isinstance(value, dict) and value:
            yield _noted(name, notes.get(at))
            yield from _block(value, at, indent + "  ", notes)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield _noted(name, notes.get(at))
            for number, item in enumerate(value):
                yield from _item(item, (*at, number), indent + "  ", notes)
        else:
            yield _noted(f"{name} {_flow(value)}", notes.get(at))


def _item(value: Any, path: Path_, indent: str, notes: Mapping[Path_, str]) -> Iterator[str]:
    """Yield an item of a list: on one line where it fits and nothing inside has a note."""
    line = f"{indent}- {_flow(value)}"
    inside = any(at[: len(path)] == path and at != path for at in notes)
    if not isinstance(value, dict) or not value or (len(line) <= _WIDEST and not inside):
        yield _noted(line, notes.get(path))
        return
    for number, text in enumerate(_block(value, path, indent + "  ", notes)):
        yield text if number else f"{indent}- {text.lstrip()}"


def _noted(line: str, note: str | None) -> str:
    return f"{line:{_COLUMN - 2}}  # {note}" if note else line


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value):
        try:
            if parse_document(f"value: {value}", "").data == {"value": value}:
                return value
        except ConfigError:
            pass
    return json.dumps(value, ensure_ascii=False)
