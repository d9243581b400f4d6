"""Text of other people as a terminal, a Markdown page or a spreadsheet may be given it."""

from __future__ import annotations

import re

# Control characters (of which escape starts a terminal's commands, and U+009B does so alone), and
# the marks that make text read in another order than it is written in; not tab and line feed.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff]"
)
# Not the underscore inside of a word, which is none to Markdown either.
_MARKDOWN = re.compile(
    r"[\\`*\[\]<|]|~~|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|&(?=#?\w+;)|^[#+>-](?=\s)"
)
# A web address or mail address is a live link in many readers, whatever stands around it.
_LINK = re.compile(r"(?<=[A-Za-z]):(?=//)|(?<=\bwww)\.|(?<=\w)@(?=\w)", re.IGNORECASE)
# A spreadsheet runs a cell that begins like this as a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def printable(text: str) -> str:
    r"""Return text that does nothing to a terminal: ``\x1b`` stands for an escape character."""
    return _UNPRINTABLE.sub(_spelled, text)


def one_line(text: str) -> str:
    """Return printable text on one line: tabs and line feeds become spaces."""
    return printable(text.replace("\t", " ").replace("\r\n", " ").replace("\n", " "))


def markdown(text: str) -> str:
    """Return text that Markdown shows as it is: no link, no image, no markup, no new cell."""
    escaped = _MARKDOWN.sub(lambda match: _ENTITIES.get(match[0], "\\" + match[0]), one_line(text))
    return _LINK.sub(r"\\\g<0>", escaped)


def spreadsheet(text: str) -> str:
    """Return text that no spreadsheet runs: an apostrophe goes before what begins a formula."""
    return "'" + printable(text) if text.startswith(_FORMULA_STARTS) else printable(text)


# "<" as an entity: not every reader of Markdown takes the backslash before HTML.
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def json_text(text: str) -> str:
    """Return JSON text with its unprintable characters as JSON spells them."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _spelled(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
