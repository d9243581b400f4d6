"""JSON files of many rows, read fast, with the line of every row and key for messages.

`nas_t2i.yaml_files` knows the place of every value too, but takes minutes for the 26,000 questions
of a benchmark: here places are looked for only where there is something to say about them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nas_t2i.errors import ConfigError, Where, did_you_mean
from nas_t2i.untrusted.json_text import whole_number
from nas_t2i.untrusted.regular_files import MEGABYTE, read_regular
from nas_t2i.yaml_files import Key, describe, dotted

_MOST_BYTES = 2048 * MEGABYTE  # the annotations of COCO have 450
_SPACE = re.compile(r"[ \t\r\n]*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # JSON spells what is no Unicode, too


@dataclass(frozen=True)
class Text:
    """The text of a file, and where a position in it is."""

    file: str
    content: str

    def where(self, position: int, path: tuple[Key, ...] = ()) -> Where:
        """Return the line and column of a position, with a key path for people."""
        line = self.content.count("\n", 0, position) + 1
        column = position - self.content.rfind("\n", 0, position)
        return Where(self.file, line, column, dotted(path))


@dataclass(frozen=True)
class Row:
    """One JSON object of a file."""

    data: dict[str, Any]
    path: tuple[Key, ...]  # of the object in the file: its number in a list
    text: Text
    start: int  # position of its opening brace

    def where(self, *path: Key) -> Where:
        """Return the place of the value at `path` inside, or of its nearest known parent."""
        position, value = self.start, self.data
        for key in path:
            places = _members(self.text, position) if isinstance(value, dict) else {}
            if key not in places:
                break
            position, value = places[str(key)], value[str(key)]
        return self.text.where(position, (*self.path, *path))

    def fail(
        self, path: tuple[Key, ...], problem: str, *, expected: str = "", hint: str = ""
    ) -> NoReturn:
        """Raise a ConfigError that names the place of `path`."""
        raise ConfigError(self.where(*path), problem, expected=expected, hint=hint)

    def text_at(self, *path: Key, blank: bool = False) -> str:
        """Return the text at `path`; what holds it is known to be there.

        Raises:
            ConfigError: missing, not text, or nothing but white space (unless `blank`).
        """
        value: Any = self.data
        for key in path[:-1]:
            value = value[key]
        key = path[-1]
        if isinstance(value, dict) and key not in value:
            hint = did_you_mean(str(key), [name for name in value if isinstance(name, str)])
            self.fail(path[:-1], f"the key {key!r} is missing", hint=hint)
        text = value[key]
        if not isinstance(text, str):
            self.fail(path, f"got {describe(text)}", expected="text")
        if not blank and not text.strip():
            self.fail(path, f"got {describe(text)}", expected="some text")
        return text


def load_rows(file: str | Path, expected: str) -> list[Row]:
    """Read a file that is one JSON list of objects; `expected` says of what, for messages.

    Raises:
        ConfigError: missing, unreadable, not UTF-8, malformed, no list, an item that is no object,
            an object with the same key twice.
    """
    text = _read(file)
    position = _skip(text, 0)
    if not text.content.startswith("[", position):
        value, _ = _value(text, position)
        raise ConfigError(text.where(position), f"got {describe(value)}", expected=expected)
    rows = []
    for number, (start, value) in enumerate(_items(text, position)):
        if not isinstance(value, dict):
            place = text.where(start, (number,))
            raise ConfigError(place, f"got {describe(value)}", expected="a mapping of keys")
        rows.append(Row(value, (number,), text, start))
    return rows


def load_object(file: str | Path, expected: str) -> Row:
    """Read a file that is one JSON object; `expected` says which, for messages.

    Raises:
        ConfigError: as `load_rows`.
    """
    text = _read(file)
    start = _skip(text, 0)
    value, end = _value(text, start)
    if not isinstance(value, dict):
        raise ConfigError(text.where(start), f"got {describe(value)}", expected=expected)
    _finish(text, end)
    return Row(value, (), text, start)


def _read(file: str | Path) -> Text:
    path = Path(file)
    try:
        return Text(str(path), read_regular(path, _MOST_BYTES).decode("utf-8-sig"))
    except FileNotFoundError:
        siblings = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings)
        raise ConfigError(str(path), "no such file", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(str(path), f"can't be read: {error.strerror}") from None


class _TwiceError(ValueError):
    """An object has a key twice."""


class _NoNumberError(ValueError):
    """A number that JSON does not know."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for n, key in enumerate(keys) if key in keys[:n]))
    return data


def _no_number(name: str) -> NoReturn:
    raise _NoNumberError(name)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_number, parse_int=whole_number
)
# For looking up places in what has been read already.
_PLAIN = json.JSONDecoder()


def _value(text: Text, position: int) -> tuple[Any, int]:
    """The value that starts at a position, and the position after it."""
    try:
        value, end = _DECODER.raw_decode(text.content, position)
    except json.JSONDecodeError as error:
        raise _malformed(text, error.pos, error.msg) from None
    except _TwiceError as error:
        raise ConfigError(
            text.where(position), f"the key {error.args[0]!r} twice", expected="each key once"
        ) from None
    except _NoNumberError as error:
        raise ConfigError(
            text.where(position), f"got {error}, which is no JSON", expected="a finite number"
        ) from None
    except RecursionError:
        raise ConfigError(text.where(position), "lists or mappings nested too deeply") from None
    except ValueError as error:
        raise ConfigError(text.where(position), str(error)) from None
    if _HALF.search(text.content, position, end):
        _check_unicode(value, text.where(position))
    return value, end


def _check_unicode(value: Any, where: Where) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        problem = f"half of a character, {error.object[error.start]!a}"
        raise ConfigError(where, problem, expected="text that UTF-8 can spell") from None


def _malformed(text: Text, position: int, problem: str) -> ConfigError:
    return ConfigError(text.where(position), f"not whole JSON ({problem})")


def _skip(text: Text, position: int) -> int:
    match = _SPACE.match(text.content, position)
    assert match is not None  # it matches nothing at all, too
    return match.end()


def _items(text: Text, position: int) -> Iterator[tuple[int, Any]]:
    """The values of the list that starts at a position, each with its own position."""
    position = _skip(text, position + 1)
    if not text.content.startswith("]", position):
        while True:
            value, end = _value(text, position)
            yield position, value
            end = _skip(text, end)
            if text.content.startswith("]", end):
                position = end
                break
            if not text.content.startswith(",", end):
                raise _malformed(text, end, "Expecting ',' or ']'")
            position = _skip(text, end + 1)
    _finish(text, position + 1)


def _finish(text: Text, position: int) -> None:
    end = _skip(text, position)
    if end < len(text.content):
        raise _malformed(text, end, "Extra data")


def _members(text: Text, position: int) -> dict[str, int]:
    """The positions of the values of the object that starts at a position; it is well-formed."""
    places: dict[str, int] = {}
    position = _skip(text, position + 1)
    while not text.content.startswith("}", position):
        key, end = _PLAIN.raw_decode(text.content, position)
        start = _skip(text, _skip(text, end) + 1)
        places[key] = start
        _, end = _PLAIN.raw_decode(text.content, start)
        end = _skip(text, end)
        position = _skip(text, end + 1) if text.content.startswith(",", end) else end
    return places


def row_id(row: Row) -> str:
    """The id of a row; a number is taken for its digits, as in the names of files."""
    name = row.data.get("id")
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)
    return row.text_at("id")
