import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.untrusted.show import json_text, markdown, one_line, printable, spreadsheet


@pytest.mark.parametrize("text", ["\x1b[31mred", "\x9b31m", "a\rb", "\u202eevil", "\x07", "\x7f"])
def test_nothing_reaches_the_terminal_that_it_acts_on(text):
    shown = printable(text)
    assert shown.isprintable() and shown != text
    assert printable(shown) == shown


@given(st.text())
def test_printable_keeps_text_and_one_line_keeps_it_on_one(text):
    assert all(c.isprintable() or c in "\n\t" or not c.isascii() for c in printable(text))
    assert "\n" not in one_line(text) and "\t" not in one_line(text)
    assert printable("unet-C320-m1.2.4 ± é 漢字") == "unet-C320-m1.2.4 ± é 漢字"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("![x](http://evil/a.png)", r"!\[x\](http\://evil/a.png)"),
        ("[x](javascript:alert)", r"\[x\](javascript:alert)"),
        ("a | b", r"a \| b"),
        ("<img src=x>", "&lt;img src=x>"),
        ("see www.evil.com", r"see www\.evil.com"),
        ("a@evil.com", r"a\@evil.com"),
        ("`code` **bold** ~~no~~ _it_", r"\`code\` \*\*bold\*\* \~~no\~~ \_it\_"),
        ("two\nlines", "two lines"),
        ("# head", r"\# head"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        (
            "channel_mult unet-C256-m1.2.4 0.983 ± 0.003",
            "channel_mult unet-C256-m1.2.4 0.983 ± 0.003",
        ),
    ],
)
def test_markdown_shows_text_as_it_is(text, expected):
    assert markdown(text) == expected


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_cell_begins_as_a_formula(start):
    stream = io.StringIO()
    csv.writer(stream).writerow([spreadsheet(f"{start}cmd|' /C calc'!A0")])
    ((cell,),) = csv.reader(io.StringIO(stream.getvalue()))
    assert cell.startswith("'")
    assert spreadsheet("plain") == "plain"


@given(st.text())
def test_json_stays_json(text):
    import json

    shown = json_text(json.dumps(text, ensure_ascii=False))
    assert json.loads(shown) == text
