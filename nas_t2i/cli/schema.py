"""``nas-t2i schema``: the JSON Schemas that editors complete space and budget files from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas_t2i.errors import UserError
from nas_t2i.schemas import Kind, schema_text


def schema_command(
    kind: Annotated[Kind, typer.Argument(help="space or budget.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead.")
    ] = None,
) -> None:
    """Print the JSON Schema of search-space or budget files, for completion in an editor.

    Point to it from the first line of a file:
    # yaml-language-server: $schema=space.json
    """
    if output is None:
        sys.stdout.write(schema_text(kind))
        return
    try:
        output.write_text(schema_text(kind), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: can't be written: {error.strerror}") from None
