"""Strict YAML: one value for each key, a place for each value, one line for each mistake."""

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas_t2i.errors import ConfigError
from nas_t2i.yaml_files import describe, dotted, load_document, parse_document, parse_model

ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("007", 7),
        ("3e-4", 3e-4),
        ("3.0e9", 3e9),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ("[1, two]", [1, "two"]),
        ("{1: 2, x: y}", {1: 2, "x": "y"}),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    data = parse_document(f"key: {text}\n", "f.yaml").data
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n\tb: 2\n", "f.yaml:2:1: a tab in the indentation; expected spaces"),
        ("a: [1,\n\t2]\n", "f.yaml:2:1: a tab in the indentation; expected spaces"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: duplicate key 'a' (first on line 1)"),
        ("a: {4: 1, 4: 2}\n", "f.yaml:1:11: a.4: duplicate key 4 (first on line 1)"),
        ("a: {b: 1\n", "f.yaml:2:1: not valid YAML: while parsing a flow mapping"),
        ("a: b: c\n", "f.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: *b\n", "f.yaml:1:4: not valid YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 1\n", "f.yaml:2:1: not valid YAML: expected a single document"),
        ("- 1\n", "f.yaml:1:1: got [1]; expected a mapping of keys to values"),
        ("", "f.yaml: the file is empty; expected a mapping of keys to values"),
        ("# nothing\n", "f.yaml: the file is empty"),
        ("x: 1\nab: c\x01\n", "f.yaml:2:6: the control character U+0001"),
        ("a: !!python/name:os.system\n", "f.yaml:1:4: a: the YAML tag"),
        ("a: &x [*x]\n", "f.yaml:1:4: a[0]: an anchor that contains itself"),
        ("? [1]\n: 2\n", "f.yaml:1:3: a key that is no plain name; expected a name or a number"),
        ("true: 2\n", "f.yaml:1:1: a key that is no plain name; expected a name or a number"),
        ("1.5: 2\n", "f.yaml:1:1: a key that is no plain name; expected a name or a number"),
        ("a: " + "9" * 5000, "f.yaml:1:4: a: a number of 5000 digits; expected a shorter one"),
        ("a: " + "[" * 5000, "f.yaml: lists or mappings nested too deeply"),
    ],
)
def test_a_malformed_file_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_aliases_cannot_expand_without_end() -> None:
    with pytest.raises(ConfigError, match="the aliases expand too far; expected under 100,000"):
        parse_document(ALIASES, "f.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"space\.yaml: not UTF-8 text \(byte 9\)$"):
        load_document(tmp_path / "space.yaml")
    with pytest.raises(ConfigError, match=r"spcae\.yaml: no such file; did you mean 'space.yaml'"):
        load_document(tmp_path / "spcae.yaml")
    with pytest.raises(ConfigError, match=r"x\.yaml: no such file$"):
        load_document(tmp_path / "no such folder" / "x.yaml")
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load_document(tmp_path)


def test_a_byte_order_mark_windows_lines_and_json_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - 2\r\n")
    (tmp_path / "a.json").write_bytes(b'{\n\t"a": 1,\n\t"b": [2]\n}\n')
    for name in ("a.yaml", "a.json"):
        document = load_document(tmp_path / name)
        assert document.data == {"a": 1, "b": [2]}
        assert document.where(("b", 0)).line == 3


def test_every_value_knows_its_place() -> None:
    document = parse_document("a:\n  4: [1, {b: 2}]\nc: {1: 2}\n", "f.yaml")
    for path, place in (
        (("a",), "f.yaml:1:1: a"),
        (("a", 4), "f.yaml:2:3: a.4"),
        (("a", 4, 1), "f.yaml:2:10: a.4[1]"),
        (("a", 4, 1, "b"), "f.yaml:2:11: a.4[1].b"),
        (("c", 1), "f.yaml:3:5: c.1"),
        # A path that isn't there: its nearest parent's place, its own name.
        (("c", "x", "y"), "f.yaml:3:1: c.x.y"),
    ):
        assert str(document.where(path)) == place


plain = st.recursive(
    st.one_of(st.booleans(), st.integers(-99, 99), st.text("abc", min_size=1, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text("xyz", min_size=1, max_size=3), st.integers(0, 9)), inner, max_size=3
        ),
    ),
    max_leaves=12,
)


def written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


@given(plain)
def test_plain_data_comes_back_as_written(value: Any) -> None:
    document = parse_document(f"key: {written(value)}\n", "f.yaml")
    assert document.data == {"key": value}
    assert document.positions[("key",)] == (1, 1)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    steps: int = Field(ge=1)
    kind: Literal["fast", "slow"] = "fast"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern="^[a-z]+$")
    inner: Inner
    parts: list[Inner] = Field(default_factory=list)
    share: float = Field(default=0.5, gt=0, lt=1)
    extras: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "Outer":
        if self.name == "bad":
            raise ValueError("the name bad is taken")
        return self


GOOD = "name: good\ninner:\n  steps: 3\n"


def test_a_model_is_read() -> None:
    assert parse_model(parse_document(GOOD, "f.yaml"), Outer).inner.steps == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: good\n", "f.yaml:1:1: inner: the key 'inner' is missing"),
        (
            GOOD + "innr: 3\n",
            "f.yaml:4:1: innr: unknown key 'innr'; expected one of extras, inner, name, parts, "
            "share; did you mean 'inner'?",
        ),
        (
            GOOD + "  stesp: 3\n",
            "f.yaml:4:3: inner.stesp: unknown key 'stesp'; expected one of kind, steps; did you "
            "mean 'steps'?",
        ),
        (
            GOOD + "  kind: fats\n",
            "f.yaml:4:3: inner.kind: got \"fats\"; expected 'fast' or 'slow'; did you mean 'fast'?",
        ),
        (
            GOOD + "parts: [{steps: 1}, {steps: 0}]\n",
            "f.yaml:4:22: parts[1].steps: got 0; expected at least 1",
        ),
        (GOOD + "parts: {steps: 1}\n", 'f.yaml:4:1: parts: got {"steps": 1}; expected a list'),
        (
            GOOD + "parts: [3]\n",
            "f.yaml:4:9: parts[0]: got 3; expected a mapping of keys to values",
        ),
        (GOOD + "extras: 3\n", "f.yaml:4:1: extras: got 3; expected a mapping of keys to values"),
        (GOOD + "share: a lot\n", 'f.yaml:4:1: share: got "a lot"; expected a number'),
        (GOOD + "share: 0\n", "f.yaml:4:1: share: got 0; expected more than 0.0"),
        (GOOD + "share: 1\n", "f.yaml:4:1: share: got 1; expected less than 1.0"),
        (
            GOOD.replace("good", "Good"),
            'f.yaml:1:1: name: got "Good"; expected text that matches ^[a-z]+$',
        ),
        (GOOD.replace("good", "3"), "f.yaml:1:1: name: got 3; expected text"),
        (GOOD.replace("good", "bad"), "f.yaml:1:1: the name bad is taken"),
        # Several mistakes: the first by line, and how many more.
        (
            "name: 3\ninner: {steps: 0}\nshare: 2\n",
            "f.yaml:1:1: name: got 3; expected text; (and 2 more)",
        ),
    ],
)
def test_what_a_model_refuses_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_model(parse_document(text, "f.yaml"), Outer)
    assert str(caught.value) == message


def test_values_in_messages_are_short() -> None:
    assert describe({"a": [1, None, True]}) == '{"a": [1, null, true]}'
    assert len(describe(list(range(100)))) == 60
    assert describe({1, 2}.__class__) == "<class 'set'>"
    assert dotted(("a", 2, "b")) == "a[2].b"
