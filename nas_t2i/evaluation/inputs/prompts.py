"""The prompts that images are drawn for, and the files that list them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.json_rows import load_rows, row_id
from nas_t2i.yaml_files import describe


@dataclass(frozen=True)
class Prompt:
    """A text to draw an image for."""

    id: str
    caption: str
    coco_val_id: str = ""  # of the COCO image that the caption belongs to, if there is one


def read_prompts(file: str | Path) -> list[Prompt]:
    """Read a file of prompts, in its order.

    Raises:
        ConfigError: with file and line: not such a file, an id twice, no caption.
    """
    prompts: dict[str, Prompt] = {}
    rows = load_rows(file, "a list of prompts, each with id and caption")
    for row in rows:
        name = row_id(row)
        if name in prompts:
            row.fail(("id",), f"the id {name!r} a second time", expected="each id once")
        coco = row.data.get("coco_val_id")
        if not isinstance(coco, str | int | None) or isinstance(coco, bool):
            row.fail(("coco_val_id",), f"got {describe(coco)}", expected="a COCO image id")
        prompts[name] = Prompt(name, row.text_at("caption"), "" if coco is None else str(coco))
    if not prompts:
        raise ConfigError(str(file), "no prompts in the list", expected="one or more")
    return list(prompts.values())


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """Return a hash of prompts and their ids, in order."""
    text = json.dumps([[prompt.id, prompt.caption] for prompt in prompts])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
