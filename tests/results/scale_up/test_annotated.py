"""YAML with notes: what is written reads back, values and notes."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.results.scale_up.annotated import comments, heading, written
from nas_t2i.yaml_files import load_document, parse_document

PAPER = Path(__file__).parents[3] / "budgets/paper_256.yaml"

TEXTS = st.one_of(
    st.text("ab1.-+_~:#{}[]'\",&*!|>%@` e$/\\?=", max_size=12),
    st.sampled_from(["1e5", "no", "null", "True", "0x1F", "~", "", "- a", "a: b", "a #b", "é'\"ß"]),
)
SCALARS = st.one_of(
    TEXTS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_plain_data_read_back_as_they_were(data):
    assert parse_document(written(data, {}), "").data == data


def test_notes_stay_with_their_values():
    document, text = load_document(PAPER), PAPER.read_text()
    notes = comments(document, text)
    assert notes["training", "optimizer", "eps"] == "not stated"
    assert notes["data", "captions"].startswith("the original with p 0.5")
    again = written(document.data, notes)
    assert comments(parse_document(again, ""), again) == notes


def test_a_number_sign_inside_a_text_begins_no_note():
    text = 'a: "x # y"\nb: 1  # z\n'
    assert comments(parse_document(text, ""), text) == {("b",): "z"}


def test_the_heading_is_the_first_comment():
    assert heading("# yaml-language-server: x\n# One.\n#\n# Two.\nname: a  # b\n# c\n") == [
        "One.",
        "",
        "Two.",
    ]
