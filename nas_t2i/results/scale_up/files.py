"""The three files of a full-scale run: the space of one architecture, the budget, the command."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_t2i.arch.space import space_from_document
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import UserError
from nas_t2i.files import make_folder, write_atomically
from nas_t2i.results.scale_up.annotated import written
from nas_t2i.untrusted.show import one_line
from nas_t2i.yaml_files import parse_document

SPACE, BUDGET, COMMAND = "space.yaml", "budget.yaml", "train.sh"
FOLDER = "scale-up"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class FullScale:
    """All of a full-scale run, as text."""

    texts: Mapping[str, str]
    """By file name."""
    command: str
    """The one line that trains."""


def safe_name(name: str, arch_id: str) -> str:
    """Return what an architecture's files and study may be called: its name, if that is plain."""
    return name if _SAFE_NAME.fullmatch(name) else arch_id


def folder_of(study: Path, name: str, arch_id: str) -> Path:
    """Return where the files of an architecture's full-scale run are written if nobody says."""
    return study / FOLDER / safe_name(name, arch_id)


def compose(
    name: str, arch: Arch, budget_text: str, said: Sequence[str], folder: Path
) -> FullScale:
    """Put the files together, and read the space back as the program will.

    Args:
        name: of the architecture.
        arch: the full architecture.
        budget_text: the budget's YAML, checked.
        said: lines for the top of the budget, the first two for the other files too.
        folder: where they will lie.
    """
    plain = safe_name(name, arch.arch_id)
    space = {"name": plain, "include": [{"name": one_line(name), **arch.canonical()}]}
    short = _comment([*said[:2], f"{BUDGET} says the rest."])
    space_text = short + written(space, {})
    read = space_from_document(parse_document(space_text, str(folder / SPACE)))
    assert [other.arch_id for _, other in read.included] == [arch.arch_id]
    options = f"--study {shlex.quote(plain + '-full')}"
    script = (
        f"#!/bin/sh\n{short}"
        "# Where the budget has a cache of encoded pairs, fill it first; many processes may help:\n"
        f"#   nas-t2i data prepare {BUDGET}\n"
        "# Options are passed on: sh train.sh --dry-run checks, counts and times a few steps.\n"
        'here=$(dirname "$0")\n'
        f'exec nas-t2i search "$here/{SPACE}" --budget "$here/{BUDGET}" {options} "$@"\n'
    )
    command = f"nas-t2i search {_quoted(folder / SPACE)} --budget {_quoted(folder / BUDGET)} "
    texts = {SPACE: space_text, BUDGET: _comment(said) + budget_text, COMMAND: script}
    return FullScale(texts, command + options)


def write(found: FullScale, folder: Path, *, overwrite: bool) -> None:
    """Write the files. Raises UserError where one is there already, StorageError."""
    there = [name for name in found.texts if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(
            f"{folder}: has {', '.join(there)} already; expected another -o, or --overwrite"
        )
    make_folder(folder)
    for name, text in found.texts.items():
        write_atomically(folder / name, text)


def _comment(lines: Sequence[str]) -> str:
    wrapped = (
        textwrap.wrap(one_line(line), 98, break_long_words=False, break_on_hyphens=False) or [""]
        for line in lines
    )
    return "".join(f"# {part}".rstrip() + "\n" for parts in wrapped for part in parts)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
