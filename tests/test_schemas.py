"""The shipped files, and the JSON Schemas that editors complete them from."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nas_t2i import plugins
from nas_t2i.arch.axes import axes_of
from nas_t2i.arch.space import load_space
from nas_t2i.schemas import Kind, schema, schema_text
from nas_t2i.yaml_files import load_document, parse_document
from tests.bad_inputs.cases import CASES

ROOT = Path(__file__).parents[1]
KINDS: dict[Kind, str] = {"space": "search_spaces", "budget": "budgets"}
SHIPPED = [(kind, file) for kind in KINDS for file in sorted((ROOT / KINDS[kind]).glob("*.yaml"))]


def problems(kind: Kind, data: Any) -> list[str]:
    content = schema(kind)
    validator = jsonschema.validators.validator_for(content)
    validator.check_schema(content)
    # An editor sees JSON: all keys are texts.
    as_json = json.loads(json.dumps(data))
    return [error.message for error in validator(content).iter_errors(as_json)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_beside_the_code_are_current(kind: Kind) -> None:
    file = ROOT / "nas_t2i" / "schemas" / f"{kind}.json"
    mend = f"nas-t2i schema {kind} -o nas_t2i/schemas/{kind}.json"
    assert file.read_text() == schema_text(kind), f"out of date; run: {mend}"


@pytest.mark.parametrize(("kind", "file"), SHIPPED, ids=lambda value: getattr(value, "name", value))
def test_shipped_files_point_to_their_schema_and_fit_it(kind: Kind, file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema=../nas_t2i/schemas/{kind}.json"
    data = load_document(file).data
    assert problems(kind, data) == []
    assert problems(kind, {**data, "nmae": 1}) != []
    assert data["name"] == file.stem


def test_the_shipped_spaces_are_what_they_say() -> None:
    counts = {
        "comparison": 9,
        "extremes": 8,
        "sdxl": 60,
        "sd2": 378,
        "if_xl": 243,
        "unet": 388_752,
        "pixart": 56,
        "paper_table1": 16,
        "paper_table2": 5,
    }
    for name, count in counts.items():
        space = load_space(ROOT / "search_spaces" / f"{name}.yaml")
        assert space.count_is_exact
        assert space.count() == count
        # What is included is a point of the parameters, so that a sampler can learn from it.
        assert all(space.encode(arch) for _, arch in space.included) or not space.parameters


# Mistakes that an editor can point out: names, types, bounds. The others take several values.
EDITOR_SEES = [
    "an unknown key",
    "an unknown parameter",
    "an unknown family",
    "a family without parameters",
    "parameters without a family",
    "nothing but limits",
    "parameters that are no mapping",
    "a parameter missing",
    "a text for a number",
    "a truth value for a number",
    "a list without choice",
    "a number for a list",
    "an empty choice",
    "an empty mapping",
    "a choice twice",
    "a choice and a range",
    "a misspelt choice",
    "a range without an end",
    "a range of lists",
    "a choice of choices",
    "a negative depth",
    "a negative depth among choices",
    "a rate that is a text",
    "attention at a rate no level can have",
    "a depth above the family's",
    "a text for a truth value",
    "an unknown backbone",
    "an included architecture with a negative depth",
    "an included architecture with an unknown key",
    "an included number",
    "a backbone without a list",
    "an unknown limit",
    "a limit without a side",
    "a limit that is a text",
    "a share in percent",
    "a negative limit",
    "a name with a space",
]


@pytest.mark.parametrize("what", EDITOR_SEES)
def test_the_schema_of_a_space_refuses_what_the_program_refuses(what: str) -> None:
    assert problems("space", parse_document(CASES[what][0], "space.yaml").data) != []


@pytest.mark.parametrize("family", plugins.builtin_names("families"))
def test_every_parameter_of_a_family_can_be_fixed_or_varied(family: str) -> None:
    examples: dict[str, list[Any]] = {
        "value": [1, {"choice": [1]}, {"choice": {"one": 1}}, {"range": [1, 4, 3]}],
        "list": [[1], [1, {"choice": [1, 2]}], {"choice": [[1], [1, {"choice": [2, 4]}]]}],
        "per_rate": [0, [0, {"choice": [0, 1]}], {1: 0, 2: {"range": [0, 1]}}, {"choice": [0, 1]}],
    }
    axes = axes_of(family)
    needed = {name: examples[axis.form][0] for name, axis in axes.items() if axis.required}
    for name, axis in axes.items():
        boolean = axis.leaf["type"] == "boolean"
        for value in [True, {"choice": [True, False]}] if boolean else examples[axis.form]:
            data = {"name": "s", "family": family, "parameters": {**needed, name: value}}
            assert problems("space", data) == [], (name, value)
        wrong = {"name": "s", "family": family, "parameters": {**needed, name: "wide"}}
        assert problems("space", wrong) != [], name
