"""Reads a search-space file; every mistake is named with its line and column.

docs/search-spaces.md describes the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from nas_t2i.arch.axes import ATTENTION, DEPTH, LEVELS, SIZES, Axis, axes_of, is_rate
from nas_t2i.arch.catalog import lookup
from nas_t2i.arch.choices import Choice, Fixed, Items, Node, PerRate, Scalar, choices_in
from nas_t2i.arch.families import arch_from_document, document_family
from nas_t2i.arch.limits import Limits
from nas_t2i.arch.spec import Arch
from nas_t2i.arch.survey import Survey
from nas_t2i.errors import ArchError, did_you_mean
from nas_t2i.yaml_files import (
    Document,
    Key,
    Path_,
    describe,
    parse_model,
)

_MOST_OPTIONS = 10_000


class SpaceKeys(BaseModel):
    """The keys of a search-space file. What is inside `parameters` depends on the family."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the name of the space in tables"
    )
    family: str | None = Field(default=None, description="architecture family, one a file")
    parameters: dict[str | int, Any] | None = Field(
        default=None, description="what each parameter of the family may be"
    )
    include: list[Any] = Field(
        default_factory=list, description="architectures that are always evaluated"
    )
    limits: Limits = Field(
        default_factory=Limits, description="bounds, the hard ones checked before anything is built"
    )


@dataclass(frozen=True)
class SpaceFile:
    """What a search-space file says, checked value by value."""

    document: Document
    name: str
    family: str  # "" for a plain list of included architectures
    axes: Mapping[str, Node]  # parameter -> what it may be; depths last, they depend on the others
    included: tuple[tuple[str, Arch], ...]
    limits: Limits
    places: Places

    def check_use(self, survey: Survey) -> None:
        """Report what is written down and no architecture of the space can use.

        Raises:
            ConfigError: nothing can be built at all, or with some value of a choice, or a depth or
                a rate of attention is never used.
        """
        if not survey.kinds:
            key, _, problem = survey.first_problem.partition(": ")
            axis = re.split(r"[.\[]", key)[0]
            path: Path_ = ("parameters", axis) if axis in self.axes else ("parameters",)
            self.document.fail(path, f"nothing can be built: {problem or key}")
        for choice in (choice for node in self.axes.values() for choice in choices_in(node)):
            self._check_labels(choice, survey)
        for rate, path in self.places.depth_rates.items():
            if rate not in survey.attention_rates:
                self.document.fail(
                    path,
                    f"a depth that is never used: no level at rate {rate} ever has attention",
                    expected=f"0, or {rate} in {ATTENTION} and a level for it in {LEVELS}",
                )
        for rate, path in self.places.attention_rates.items():
            if rate not in survey.level_rates:
                self.document.fail(
                    path,
                    f"got the rate {rate}, which no level has",
                    expected=f"one of {', '.join(map(str, sorted(survey.level_rates)))}",
                )

    def _check_labels(self, choice: Choice, survey: Survey) -> None:
        usable = [label for label in choice.options if (choice.name, label) in survey.usable]
        if choice.name in self.places.ranges and usable:
            return
        for label in choice.options:
            # Without a reason it was never asked for, which the rates explain.
            reason = survey.unusable.get((choice.name, label))
            if label not in usable and reason is not None:
                path = self.places.labels[choice.name, label]
                self.document.fail(path, f"nothing can be built with {describe(label)}: {reason}")


@dataclass(frozen=True)
class Places:
    """Where in the file things stand that only the whole space can tell to be of use."""

    labels: dict[tuple[str, Scalar], Path_] = field(default_factory=dict)
    ranges: set[str] = field(default_factory=set)  # parameters that are a range
    depth_rates: dict[int, Path_] = field(default_factory=dict)  # with a depth that may be above 0
    attention_rates: dict[int, Path_] = field(default_factory=dict)


def read_space_file(document: Document) -> SpaceFile:
    """Read and check the data of a search-space file.

    Raises:
        ConfigError: one line, ``file:line:column: key path: what came; what was expected``.
    """
    keys = parse_model(document, SpaceKeys)
    if (keys.family is None) != (keys.parameters is None):
        there, missing = ("family", "parameters")
        if keys.family is None:
            there, missing = missing, there
        document.fail((there,), f"the key {missing!r} is missing", expected="both, or neither")
    if keys.family is None and not keys.include:
        document.fail((), "no architecture", expected="'family' and 'parameters', or 'include'")
    reader = _Reader(document)
    return SpaceFile(
        document=document,
        name=keys.name,
        family=keys.family or "",
        axes=reader.axes(keys.family, keys.parameters or {}) if keys.family is not None else {},
        included=_included(document, keys.include),
        limits=keys.limits,
        places=reader.places,
    )


def _included(document: Document, entries: list[Any]) -> tuple[tuple[str, Arch], ...]:
    """Look up or build the included architectures; each may stand there once."""
    included: list[tuple[str, Arch]] = []
    for i, entry in enumerate(entries):
        at: Path_ = ("include", i)
        if isinstance(entry, str):
            try:
                name, arch = entry, lookup(entry)
            except ArchError as error:
                document.fail(at, str(error))
        elif isinstance(entry, dict):
            name, arch = _inline(document, at, entry)
        else:
            document.fail(at, f"got {describe(entry)}", expected="a catalogue name or a mapping")
        for j, (other_name, other) in enumerate(included):
            if other_name == name:
                document.fail(at, f"the name {name!r} again", expected=f"not that of include[{j}]")
            if other.arch_id == arch.arch_id:
                document.fail(at, f"{name} is the same architecture as include[{j}], {other_name}")
        included.append((name, arch))
    return tuple(included)


def _inline(document: Document, at: Path_, entry: dict[Key, Any]) -> tuple[str, Arch]:
    name = entry.get("name")
    if "name" in entry and not (isinstance(name, str) and name):
        document.fail((*at, "name"), f"got {describe(name)}", expected="a text")
    # The family knows no names: read the entry from a copy of the document without it.
    arch_only = {key: value for key, value in entry.items() if key != "name"}
    entries = list(document.data["include"])
    entries[cast(int, at[-1])] = arch_only
    without_name = Document(
        document.file, {**document.data, "include": entries}, document.positions
    )
    arch = arch_from_document(without_name, at)
    return name or arch.label(), arch


class _Reader:
    """Reads `parameters`, and remembers where every label and every rate stands."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.places = Places()

    def axes(self, family: str, parameters: Mapping[Key, Any]) -> dict[str, Node]:
        """Return what each parameter may be, depths last: they depend on the others."""
        document_family(self.document, ("family",), family)
        known = axes_of(family)
        for name in parameters:
            if name not in known:
                self.document.fail(
                    ("parameters", name),
                    f"unknown parameter {name!r}",
                    expected="one of " + ", ".join(sorted(known)),
                    hint=did_you_mean(str(name), known),
                )
        for axis in known.values():
            if axis.required and axis.name not in parameters:
                self.document.fail(("parameters",), f"the key {axis.name!r} is missing")
        names = sorted(cast("dict[str, Any]", parameters), key=lambda name: name == DEPTH)
        # A UNet's `mid_depth` must equal the deepest level's depth, so there a depth's size counts.
        sizes = SIZES - {DEPTH} if "mid_depth" in parameters else SIZES
        return {
            name: self._node(
                known[name], ("parameters", name), name, parameters[name], name in sizes
            )
            for name in names
        }

    def _node(self, axis: Axis, path: Path_, name: str, raw: Any, is_size: bool) -> Node:
        """Read one value of `axis`: fixed, a choice, a range, a list or depths per rate."""
        if isinstance(raw, dict) and not (axis.form == "per_rate" and _is_per_rate(raw)):
            return self._free(axis, path, name, raw, is_size)
        if axis.form == "per_rate" and isinstance(raw, (dict, list)):
            return self._per_rate(axis, path, name, raw, is_size)
        if axis.form == "list":
            return self._items(axis, path, name, raw)
        return self._leaf(axis, path, raw)

    def _leaf(self, axis: Axis, path: Path_, raw: Any) -> Fixed:
        if not axis.accepts(raw):
            self.document.fail(path, f"got {describe(raw)}", expected=axis.expected())
        if axis.name == ATTENTION:
            self.places.attention_rates.setdefault(raw, path)
        return Fixed(raw)

    def _items(self, axis: Axis, path: Path_, name: str, raw: Any) -> Node:
        if not isinstance(raw, list):
            expected = "a list, or {choice: [...]} of lists"
            self.document.fail(path, f"got {describe(raw)}", expected=expected)
        if not raw and axis.name == LEVELS:
            self.document.fail(path, "got []", expected="one item a level")
        items = tuple(
            self._item(axis, (*path, i), f"{name}[{i}]", item, is_size=False)
            for i, item in enumerate(raw)
        )
        if all(isinstance(item, Fixed) for item in items):
            return Fixed(raw)
        return Items(items)

    def _item(self, axis: Axis, path: Path_, name: str, raw: Any, *, is_size: bool) -> Node:
        """Read one number inside a list or a mapping of depths."""
        if isinstance(raw, dict):
            scalar = Axis(axis.name, "value", axis.leaf, axis.required, axis.description)
            return self._free(scalar, path, name, raw, is_size)
        return self._leaf(axis, path, raw)

    def _per_rate(
        self, axis: Axis, path: Path_, name: str, raw: dict[Key, Any] | list[Any], is_size: bool
    ) -> Node:
        by_level = isinstance(raw, list)
        values: dict[int, Node] = {}
        for key, value in enumerate(raw) if isinstance(raw, list) else raw.items():
            rate = 2**key if by_level and isinstance(key, int) else _as_rate(key)
            at = (*path, key)
            if not isinstance(rate, int) or not is_rate(rate):
                self.document.fail(
                    at,
                    f"got the rate {describe(rate)}",
                    expected="the down-sampling rate of a level: 1, 2, 4, 8, ...",
                )
            if rate in values:
                self.document.fail(at, f"the rate {rate} again", expected="each rate once")
            values[rate] = self._item(axis, at, f"{name}.{rate}", value, is_size=is_size)
            if values[rate] != Fixed(0):
                self.places.depth_rates.setdefault(rate, at)
        return PerRate(values, len(raw) if by_level else None)

    def _free(
        self, axis: Axis, path: Path_, name: str, raw: dict[Key, Any], is_size: bool
    ) -> Choice:
        """Read ``{choice: [...]}`` or ``{range: [lo, hi, step]}``."""
        expected = "{choice: [...]} or {range: [lo, hi, step]}"
        if axis.form == "per_rate":
            expected += ", or depths by down-sampling rate"
        for key in raw:
            if key not in ("choice", "range"):
                hint = did_you_mean(str(key), ("choice", "range"))
                self.document.fail(
                    (*path, key), f"unknown key {key!r}", expected=expected, hint=hint
                )
        if len(raw) != 1:
            self.document.fail(path, f"got {describe(raw)}", expected=expected)
        if "range" in raw:
            self.places.ranges.add(name)
            options = self._range(axis, (*path, "range"), name, raw["range"])
        else:
            options = self._choice(axis, (*path, "choice"), name, raw["choice"])
        numbers = all(type(label) is int and node == Fixed(label) for label, node in options)
        return Choice(name, dict(options), is_size=is_size and numbers)

    def _choice(self, axis: Axis, path: Path_, name: str, raw: Any) -> list[tuple[Scalar, Node]]:
        if not isinstance(raw, (list, dict)):
            expected = "a list of options, or a mapping of names to options"
            self.document.fail(path, f"got {describe(raw)}", expected=expected)
        if not raw:
            self.document.fail(path, "an empty choice", expected="one option at least")
        options: list[tuple[Scalar, Node]] = []
        for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
            at = (*path, key)
            if isinstance(raw, dict) and not isinstance(key, str):
                self.document.fail(at, f"got the name {key}", expected="a name that is a text")
            if isinstance(value, dict) and value.keys() & {"choice", "range"}:
                self.document.fail(at, f"got {describe(value)}", expected="one level of choices")
            # Nothing inside an option is a size: two options may share some of their sizes.
            node = self._node(axis, at, f"{name}.{key}", value, False)
            label = key if isinstance(raw, dict) else _label(value)
            for other, seen in options:
                if seen == node:
                    self.document.fail(
                        at, f"duplicate choice {describe(label)}", expected="each option once"
                    )
                if other == label:
                    self.document.fail(at, f"two options called {label!r}", expected="two names")
            options.append((label, node))
            self.places.labels[name, label] = at
        return options

    def _range(self, axis: Axis, path: Path_, name: str, raw: Any) -> list[tuple[Scalar, Node]]:
        if axis.form == "list" or axis.leaf["type"] != "integer" or axis.name == ATTENTION:
            expected = "{choice: [...]}; a range is of whole numbers"
            self.document.fail(path, f"got the range {describe(raw)}", expected=expected)
        whole = isinstance(raw, list) and all(
            isinstance(number, int) and not isinstance(number, bool) for number in raw
        )
        if not whole or len(raw) not in (2, 3):
            expected = "[lo, hi] or [lo, hi, step], whole numbers"
            self.document.fail(path, f"got {describe(raw)}", expected=expected)
        low, high, step = [*raw, 1][:3]
        if low > high:
            self.document.fail(path, f"lo {low} is above hi {high}", expected="lo <= hi")
        if step < 1:
            self.document.fail((*path, 2), f"got the step {step}", expected="1 at least")
        numbers = range(low, high + 1, step)
        if len(numbers) > _MOST_OPTIONS:
            self.document.fail(
                path, f"a range of {len(numbers)} values", expected=f"{_MOST_OPTIONS} at most"
            )
        self._leaf(axis, (*path, 0), low)
        self._leaf(axis, (*path, 1), high)
        self.places.labels.update({(name, number): path for number in numbers})
        return [(number, Fixed(number)) for number in numbers]


def _as_rate(key: Key) -> Key:
    """Return a rate written as text as the number it is: JSON has no other keys."""
    return int(key) if isinstance(key, str) and key.isdecimal() else key


def _is_per_rate(raw: dict[Key, Any]) -> bool:
    """Whether a mapping has depths by rate (rather than a choice, a range or a misspelt one)."""
    return any(isinstance(_as_rate(key), int) for key in raw)


def _label(value: Any) -> Scalar:
    """Return the scalar by which an option without a name is known."""
    if isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value, separators=(",", ":"))
