"""The one redactor: what is told to a person or put on record holds no password and no token.

It errs on the side of hiding: of ``user:...@host`` everything up to the last ``@`` is a password.
"""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType
from typing import Any

HIDDEN = "***"

_NAMES = (
    r"password|passwd|passphrase|pwd|secret|token|api_?key|access_?key(?:_?id)?|secret_?key"
    r"|account_?key|private_?key|credentials?|signature|authorization|sslpassword"
)
# Short names that mean something else outside of the query of a URL.
_QUERY_NAMES = rf"{_NAMES}|key|sig|auth|pass|user_?key|sas"
_STOP = r"\s'\"<>`"  # what ends a URL in a sentence

_SECRET_NAME = re.compile(rf"[\w.-]*({_NAMES})", re.IGNORECASE)

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # scheme://user:password@host: also with @, / and : in the password, as people write them.
    (re.compile(rf"(://[^/:@{_STOP}]*):[^{_STOP}]*@"), rf"\1:{HIDDEN}@"),
    # https://token@host
    (re.compile(rf"\b(https?://)[^/@:{_STOP}]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    # user:password@host without a scheme; a journal's path may have an @ in it.
    (
        re.compile(rf"(?<![^\s'\"=(])((?!journal:|sqlite:)[^:@{_STOP}]+):(?!/|\*)[^{_STOP}]*@"),
        rf"\1:{HIDDEN}@",
    ),
    (re.compile(rf"(:/[^/:@{_STOP}]+):[^{_STOP}]*@"), rf"\1:{HIDDEN}@"),
    # ?password=..., &key=...
    (
        re.compile(rf"([?&;][\w.%-]*?(?:{_QUERY_NAMES})=)[^&;#{_STOP}]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    # password=... and password='...', as a database's own settings are written
    (
        re.compile(
            rf"(\b[\w.-]*(?:{_NAMES})\s?=\s?)(?:'[^']*'|\"[^\"]*\"|[^&;,)\s'\"<>`]+)", re.IGNORECASE
        ),
        rf"\1{HIDDEN}",
    ),
    # 'password': '...', as a mapping is printed
    (
        re.compile(rf"((['\"])[\w.-]*(?:{_NAMES})\2\s*:\s*)(['\"])(?:(?!\3).)*\3", re.IGNORECASE),
        rf"\1\3{HIDDEN}\3",
    ),
    (re.compile(r"\b((?:Bearer|Basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    # Tokens that are known by their look: of the Hugging Face hub, GitHub, GitLab, Slack, AWS,
    # OpenAI, and JSON web tokens.
    (
        re.compile(
            r"\b(?:hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
            r"|xox[abprs]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|sk-[\w-]{20,}"
            r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
        ),
        HIDDEN,
    ),
)


def redacted(text: str) -> str:
    """Return text without the passwords and tokens that are in it; what is hidden stays so."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redacted_data(data: Any) -> Any:
    """Return plain data with every text in it redacted, also what stands under a secret's name."""
    if isinstance(data, str):
        return redacted(data)
    if isinstance(data, dict):
        return {
            key: HIDDEN
            if isinstance(value, str) and _SECRET_NAME.fullmatch(str(key))
            else redacted_data(value)
            for key, value in data.items()
        }
    if isinstance(data, (list, tuple)):
        return [redacted_data(item) for item in data]
    return data


def print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print a traceback to the error output without the secrets in it: a `sys.excepthook`."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))
    sys.stderr.flush()
