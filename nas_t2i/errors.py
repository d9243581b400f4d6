"""The problems a user can meet and mend.

Every class here means "the input is wrong, not the program": the command line prints the message
as one line and exits with status 2. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from nas_t2i.untrusted.redact import redacted
from nas_t2i.untrusted.show import printable


class UserError(Exception):
    """A problem the user can mend; its text is one complete line.

    Whatever went into it, it shows no password and does nothing to a terminal.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(redacted(text)))

    status = 2


@dataclass(frozen=True, slots=True)
class Where:
    """A place in an input: file, 1-based line and column, and the key path inside it."""

    file: str
    line: int | None = None
    column: int | None = None
    key_path: str = ""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return ": ".join(part for part in (place, self.key_path) if part)


class ConfigError(UserError):
    """A file, or a value in it, that can't be used: where, what came, what was expected."""

    def __init__(
        self,
        where: Where | str,
        problem: str,
        *,
        expected: str = "",
        hint: str = "",
    ) -> None:
        self.where = where
        text = f"{where}: {problem}"
        if expected:
            text += f"; expected {expected}"
        if hint:
            text += f"; {hint}"
        super().__init__(" ".join(text.split()))


class ArchError(UserError):
    """Parameters that name no buildable architecture."""


class StorageError(UserError):
    """A study storage that can't be reached, opened or trusted."""


class PausedError(UserError):
    """The work can't go on where it runs, and can be carried on later: exit status 1, not 2."""

    status = 1


class RecordError(UserError):
    """A result file that can't be read as what it claims to be."""


class IncomparableError(UserError):
    """Scores that may not stand in one ranking (other budget, other metric signature)."""


class MissingExtraError(UserError):
    """An optional part whose packages are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part: pip install 'nas-t2i[{extra}]'")


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest valid name, or "" when none is near."""
    near = difflib.get_close_matches(name.lower(), [v.lower() for v in valid], n=1, cutoff=0.55)
    if not near:
        return ""
    match = next(v for v in valid if v.lower() == near[0])
    return f"did you mean {match!r}?"


_MOST_NAMED = 5  # names in a message


def number_of(number: int, what: str) -> str:
    """Return "1 image", "2 images"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def named(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    unique = list(dict.fromkeys(names))
    more = len(unique) - _MOST_NAMED
    return ", ".join(unique[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
