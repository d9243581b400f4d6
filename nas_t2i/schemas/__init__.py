"""JSON Schemas of the files that people write, for completion in their editors.

The files beside this one are what `schema` returns, kept so that a YAML file can point to them. The
schema of a space is built from the families' own classes, that of a budget from `Budget`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from nas_t2i import plugins
from nas_t2i.arch.axes import ATTENTION, Axis, axes_of
from nas_t2i.arch.catalog import CATALOG
from nas_t2i.arch.space_file import SpaceKeys

Kind = Literal["space", "budget"]
JsonSchema = dict[str, Any]

# Draft 7 is what YAML language servers know best.
_DRAFT = "http://json-schema.org/draft-07/schema#"


def schema(kind: Kind) -> JsonSchema:
    """Return the JSON Schema of a search-space or a budget file."""
    return _space_schema() if kind == "space" else _budget_schema()


def schema_text(kind: Kind) -> str:
    """Return the same as the text of a file."""
    return json.dumps(schema(kind), indent=2) + "\n"


def _budget_schema() -> JsonSchema:
    from nas_t2i.protocol.budget import Budget

    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Budget.model_json_schema()}


def _space_schema() -> JsonSchema:
    keys = SpaceKeys.model_json_schema(ref_template="#/definitions/{model}")
    properties: JsonSchema = {
        name: {key: value for key, value in field.items() if key not in ("anyOf", "default")}
        for name, field in keys["properties"].items()
    }
    properties["family"]["enum"] = list(_families())
    properties["parameters"]["type"] = "object"
    properties["include"]["items"] = {
        "anyOf": [
            {"enum": list(CATALOG)},
            *({"$ref": f"#/definitions/{family}_architecture"} for family in _families()),
        ]
    }
    builder = _SpaceDefinitions(dict(keys["$defs"]))
    for family in _families():
        builder.add_family(family)
    return {
        "$schema": _DRAFT,
        "title": "nas-t2i search space",
        "description": "Which architectures may be tried. See docs/search-spaces.md.",
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "anyOf": [{"required": ["family", "parameters"]}, {"required": ["include"]}],
        "dependencies": {"family": ["parameters"], "parameters": ["family"]},
        "properties": properties,
        "allOf": [
            {
                "if": {"properties": {"family": {"const": family}}, "required": ["family"]},
                "then": {
                    "properties": {"parameters": {"$ref": f"#/definitions/{family}_parameters"}}
                },
            }
            for family in _families()
        ],
        "definitions": dict(sorted(builder.definitions.items())),
    }


def _families() -> tuple[str, ...]:
    """Return the built-in families: a schema in an editor does not know what else is installed."""
    return plugins.builtin_names("families")


class _SpaceDefinitions:
    """Collects definitions, each kind of value once, so that the schema stays readable."""

    def __init__(self, definitions: JsonSchema) -> None:
        self.definitions = definitions

    def add_family(self, family: str) -> None:
        """Define the parameters of a family's spaces, and an architecture spelled out."""
        axes = axes_of(family)
        self._define(f"{family}_parameters", self._parameters(axes, free=True))
        whole = self._parameters(axes, free=False)
        whole["properties"] = {
            "name": {"type": "string", "minLength": 1},
            "family": {"const": family},
            **whole["properties"],
        }
        whole["required"] = ["family", *whole["required"]]
        self._define(f"{family}_architecture", whole)

    def _define(self, name: str, definition: JsonSchema) -> JsonSchema:
        """Return a reference to the definition."""
        self.definitions[name] = definition
        return {"$ref": f"#/definitions/{name}"}

    def _parameters(self, axes: Mapping[str, Axis], *, free: bool) -> JsonSchema:
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [axis.name for axis in axes.values() if axis.required],
            "properties": {
                # Beside a reference, draft 7 ignores everything else.
                axis.name: {"description": axis.description, "allOf": [self._value(axis, free)]}
                for axis in axes.values()
            },
        }

    def _value(self, axis: Axis, free: bool) -> JsonSchema:
        """What the parameter may be: fixed only, or also a choice or a range."""
        kind = "_".join(str(part) for part in axis.leaf.values())
        scalar: JsonSchema = axis.leaf
        if axis.name == ATTENTION:
            kind, scalar = "rate", {"enum": [2**level for level in range(8)]}
        is_count = scalar.get("type") == "integer"
        leaf = self._define(kind, scalar)
        if axis.form == "value":
            return self._free(kind, leaf, ranged=is_count) if free else leaf
        item = self._free(kind, leaf, ranged=is_count) if free else leaf
        name = f"{axis.form}_of_{'free_' if free else ''}{kind}"
        values: list[JsonSchema] = [{"type": "array", "items": item}]
        if axis.form == "per_rate":
            by_rate = {"patternProperties": {"^[0-9]+$": item}, "additionalProperties": False}
            values.append({"type": "object", "minProperties": 1, **by_rate})
            if free:
                values.append(leaf)
        fixed = self._define(name, {"anyOf": values})
        return self._free(name, fixed, ranged=axis.form == "per_rate") if free else fixed

    def _free(self, kind: str, fixed: JsonSchema, *, ranged: bool) -> JsonSchema:
        named = {"type": "object", "minProperties": 1, "additionalProperties": fixed}
        listed = {"type": "array", "minItems": 1, "uniqueItems": True, "items": fixed}
        options = [fixed, _only("choice", {"anyOf": [listed, named]})]
        if ranged:
            numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}
            options.append(_only("range", {"description": "[lo, hi, step]", **numbers}))
        return self._define(f"free_{kind}", {"anyOf": options})


def _only(key: str, value: JsonSchema) -> JsonSchema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [key],
        "properties": {key: value},
    }
