"""Strict reading of YAML and JSON: every key knows its line, duplicates are errors.

Scalars follow the YAML 1.2 core schema (``3e-4`` is a number, ``no`` is a string), because the
YAML 1.1 rules of PyYAML's own resolver surprise people in configuration files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nas_t2i.errors import ConfigError, Where, did_you_mean
from nas_t2i.untrusted.regular_files import read_regular

Key = str | int
Path_ = tuple[Key, ...]
_MOST_DIGITS = 300  # far above any setting; int() itself gives up at 4300
_MOST_BYTES = 1 << 20  # read with every place in it, which takes 10 s; the largest here has 4 kB
_MOST_VALUES = 100_000  # an alias repeats its value: ten lines can name a billion of them
ModelT = TypeVar("ModelT", bound=BaseModel)


class _CoreSchemaLoader(yaml.SafeLoader):
    """A safe loader with the scalar rules of YAML 1.2's core schema."""


_CoreSchemaLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
):
    _CoreSchemaLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(_pattern),
        list(_first) + ([""] if _tag == "null" else []),
    )


@dataclass(frozen=True)
class Document:
    """The plain data of one file (or one inline text), and where each value stands in it."""

    file: str
    data: Any
    positions: Mapping[Path_, tuple[int, int]]

    def where(self, path: Sequence[Key]) -> Where:
        """Return the place of `path`, or of its nearest parent when it has none."""
        known = tuple(path)
        while known and known not in self.positions:
            known = known[:-1]
        line, column = self.positions.get(known, (1, 1))
        return Where(self.file, line, column, dotted(self._as_written(path)))

    def _as_written(self, path: Sequence[Key]) -> Iterator[Key]:
        """Yield the keys of `path`, numbers that are keys of a mapping as text: ``depth.4``."""
        data = self.data
        for key in path:
            in_list = isinstance(data, list)
            yield key if in_list else str(key)
            inside = isinstance(data, dict) and key in data
            inside = inside or (in_list and isinstance(key, int) and 0 <= key < len(data))
            data = data[key] if inside else None

    def fail(
        self, path: Sequence[Key], problem: str, *, expected: str = "", hint: str = ""
    ) -> NoReturn:
        """Raise a ConfigError that names the place of `path`."""
        raise ConfigError(self.where(path), problem, expected=expected, hint=hint)


def dotted(path: Iterable[Key]) -> str:
    """Write a key path as people do: ``training.rungs[2].step``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else (f".{key}" if text else str(key))
    return text


def load_document(file: str | Path) -> Document:
    """Read one YAML or JSON file.

    Raises:
        ConfigError: missing, unreadable, not UTF-8, malformed, tabs, duplicate keys, no mapping.
    """
    path = Path(file)
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = did_you_mean(path.name, beside)
        raise ConfigError(str(path), "no such file", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(str(path), f"can't be read: {error.strerror}") from None
    if path.suffix == ".json":
        # A tab is plain white space in JSON; inside a string it is not allowed anyway.
        text = text.replace("\t", " ")
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Document:
    """Read YAML text; `file` is the name used in messages. Raises ConfigError as load_document."""
    try:
        root = yaml.compose(text, Loader=_CoreSchemaLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
        line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        if "\t" in line[: len(line) - len(line.lstrip())]:
            raise ConfigError(where, "a tab in the indentation", expected="spaces") from None
        problem = " ".join(p for p in (error.context, error.problem) if p)
        raise ConfigError(where, f"not valid YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position].splitlines() or [""]
        where = Where(file, len(before), len(before[-1]) + 1)
        raise ConfigError(where, f"the control character U+{error.character:04X}") from None
    except yaml.YAMLError as error:
        raise ConfigError(Where(file), f"not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(Where(file), "lists or mappings nested too deeply") from None
    if root is None:
        raise ConfigError(Where(file), "the file is empty", expected="a mapping of keys to values")
    positions: dict[Path_, tuple[int, int]] = {}
    data = _plain(root, (), file, positions, set())
    if not isinstance(data, dict):
        raise ConfigError(
            Where(file, 1, 1), f"got {describe(data)}", expected="a mapping of keys to values"
        )
    return Document(file, data, positions)


def _plain(
    node: yaml.Node,
    path: Path_,
    file: str,
    positions: dict[Path_, tuple[int, int]],
    open_nodes: set[int],
) -> Any:
    place = (node.start_mark.line + 1, node.start_mark.column + 1)
    positions.setdefault(path, place)
    where = Where(file, *place, dotted(path))
    if len(positions) > _MOST_VALUES:
        raise ConfigError(where, "the aliases expand too far", expected="under 100,000 values")
    if id(node) in open_nodes:
        raise ConfigError(where, "an anchor that contains itself")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, where)
    open_nodes = open_nodes | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(n, (*path, i), file, positions, open_nodes) for i, n in enumerate(node.value)
        ]
    assert isinstance(node, yaml.MappingNode)
    data: dict[Key, Any] = {}
    for key_node, value_node in node.value:
        mark = key_node.start_mark
        key_place = Where(file, mark.line + 1, mark.column + 1, dotted(path))
        key = _scalar(key_node, key_place) if isinstance(key_node, yaml.ScalarNode) else None
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise ConfigError(
                key_place, "a key that is no plain name", expected="a name or a number"
            )
        if key in data:
            first = positions[(*path, key)][0]
            raise ConfigError(
                Where(file, mark.line + 1, mark.column + 1, dotted((*path, str(key)))),
                f"duplicate key {key!r} (first on line {first})",
                expected="each key once",
            )
        positions[(*path, key)] = (mark.line + 1, mark.column + 1)
        data[key] = _plain(value_node, (*path, key), file, positions, open_nodes)
    return data


def _scalar(node: yaml.ScalarNode, where: Where) -> str | int | float | bool | None:
    kind = node.tag.rpartition(":")[2]
    text: str = node.value
    if kind == "str":
        return text
    if kind == "int" and len(text) > _MOST_DIGITS:
        raise ConfigError(where, f"a number of {len(text)} digits", expected="a shorter one")
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
    if kind == "bool":
        return text.lower() == "true"
    if kind == "null":
        return None
    raise ConfigError(where, f"the YAML tag {node.tag!r}", expected="plain values, no tags")


def describe(value: Any) -> str:
    """Show a value in a message: short, on one line."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def parse_model(document: Document, model: type[ModelT], data: Any = None) -> ModelT:
    """Validate a document (or `data`, a changed copy of its data) against a pydantic model.

    Raises:
        ConfigError: the first problem by line, with file, line, column and key path.
    """
    try:
        # Names may be of files that lie beside this one.
        context = {"folder": Path(document.file).parent}
        return model.model_validate(document.data if data is None else data, context=context)
    except ValidationError as error:
        raise config_error(document, model, error) from None


def config_error(document: Document, model: type[BaseModel], error: ValidationError) -> ConfigError:
    """Turn pydantic's report into the one line a user reads: the first problem by line."""
    problems: list[tuple[int, int, int, Where, ErrorDetails]] = []
    for detail in _without_echoes(error.errors(include_url=False)):
        path = _real_path(document.data, detail)
        # A validator over several keys starts its message with the key that it blames.
        if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
            path = (*path, str(detail["ctx"]["discriminator"]).strip("'"))
        blamed = re.match(r"(\w+): ", str(detail.get("ctx", {}).get("error", "")))
        if blamed and (*path, blamed[1]) in document.positions:
            path = (*path, blamed[1])
        where = document.where(path)
        # A misspelt key also leaves a missing one: name what is there before what is not.
        line = 0 if detail["type"] == "extra_forbidden" else where.line or 0
        problems.append((line, where.column or 0, len(problems), where, detail))
    _, _, _, where, detail = min(problems, key=lambda p: p[:3])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    problem, expected, hint = _explain(detail, model, document.data)
    return ConfigError(
        where, problem, expected=expected, hint=hint + more if hint else more.strip()
    )


def _without_echoes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drop the complaint that a list is too short because an item of it is bad."""
    kept = []
    for detail in details:
        loc = detail["loc"]
        inside = [d for d in details if d is not detail and d["loc"][: len(loc)] == loc]
        if detail["type"] != "too_short" or not inside:
            kept.append(detail)
    return kept


def _real_path(data: Any, detail: ErrorDetails) -> Path_:
    """Drop the parts of a pydantic location that name a union member and no key of the data."""
    loc = detail["loc"]
    absent = detail["type"] in ("missing", "extra_forbidden")
    path: list[Key] = []
    for part in loc:
        in_list = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if in_list or (isinstance(data, dict) and part in data):
            path.append(part)
            data = data[part]
        elif absent and part == loc[-1] and isinstance(data, dict):
            path.append(part)
    return tuple(path)


# Where pydantic speaks of Python, and people write YAML.
_EXPECTED = {
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "string_pattern_mismatch": "text that matches {pattern}",
    "float_type": "a number",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}


def _explain(detail: ErrorDetails, model: type[BaseModel], data: Any) -> tuple[str, str, str]:
    kind, got = detail["type"], describe(detail.get("input"))
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        names = _field_names(model, detail["loc"][:-1], data)
        key = str(detail["loc"][-1])
        return f"unknown key {key!r}", "one of " + ", ".join(names), did_you_mean(key, names)
    if kind == "union_tag_not_found":
        return f"the key {context['discriminator']} is missing", "", ""
    if kind == "missing" and isinstance(detail["loc"][-1], int):
        return f"got {got}", f"at least {detail['loc'][-1] + 1} items", ""
    if kind == "missing":
        return f"the key {str(detail['loc'][-1])!r} is missing", "", ""
    if kind == "value_error":
        message = str(context.get("error", detail["msg"]))
        problem, _, expected = message.partition("; expected ")
        return re.sub(r"^\w+: ", "", problem), expected, ""
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        expected = str(context.get("expected") or context.get("expected_tags"))
        names = re.findall(r"'([^']*)'", expected)
        value = context.get("tag", detail.get("input"))
        return f"got {describe(value)}", expected, did_you_mean(str(value), names)
    if kind in _EXPECTED:
        return f"got {got}", _EXPECTED[kind].format(**context), ""
    message = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"got {got}", message[:1].lower() + message[1:], ""


def _field_names(model: type[BaseModel], loc: Sequence[Key], data: Any) -> list[str]:
    """Return the keys allowed at a location: follow the fields' annotations down to their model."""
    current: Any = model
    metadata: Sequence[Any] = ()
    for part in loc:
        data = _inside(data, part)
        for option in _models_in(current, metadata, None):
            if isinstance(part, str) and part in option.model_fields:
                field = option.model_fields[part]
                current, metadata = field.annotation, field.metadata
                break
        named = _models_in(current, metadata, data)
        if len(named) == 1:
            current, metadata = named[0], ()
    options = _models_in(current, metadata, data)
    return sorted({name for option in options for name in option.model_fields})


def _inside(data: Any, key: Key) -> Any:
    """Return the value under a key of a mapping or a list, None where there is none."""
    if isinstance(data, dict):
        return data.get(key)
    inside = isinstance(data, list) and isinstance(key, int) and key < len(data)
    return data[key] if inside else None


def _models_in(annotation: Any, metadata: Sequence[Any], data: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation offers for `data`.

    A marker in its metadata may choose by the data which one it is: the layers above mark so what
    is set by plug-ins (`class_for`).
    """
    for marker in metadata:
        if hasattr(marker, "class_for"):
            chosen = marker.class_for(data)
            return [] if chosen is None else [chosen]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = getattr(annotation, "__metadata__", ())
    found: list[type[BaseModel]] = []
    for argument in getattr(annotation, "__args__", ()):
        found += _models_in(argument, inner, data)
    return found
