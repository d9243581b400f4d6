"""Drawn images, kept: a PNG a prompt, and a map of them in TIFA's layout.

::

    FOLDER/drawn.json     what they were drawn with: model, sampler, seed, prompts' digest
    FOLDER/images.json    {id of the prompt: file}, as other programs read it
    FOLDER/ID.png

An image is written whole or not at all; what is there already is not drawn again.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from nas_t2i.errors import StorageError
from nas_t2i.evaluation.inputs.prompts import Prompt, prompts_digest
from nas_t2i.evaluation.result import Report
from nas_t2i.evaluation.sampling.checkpoint import Painter
from nas_t2i.files import make_folder, read_json, write_atomically, write_json

DRAWN_FILE = "drawn.json"
MAP_FILE = "images.json"
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def drawing_of(painter: Painter, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Return what decides the images of prompts, plain JSON."""
    return {**painter.facts, "prompts": prompts_digest(prompts), "count": len(prompts)}


def default_folder(cache: Path, drawing: dict[str, Any]) -> Path:
    """Return the folder that images have of their own, by what decides them."""
    text = json.dumps(drawing, sort_keys=True)
    return cache / "pictures" / hashlib.sha256(text.encode()).hexdigest()[:20]


def draw_images(painter: Painter, prompts: Sequence[Prompt], folder: Path, report: Report) -> Path:
    """Draw what is not in the folder yet; return the map of all images.

    Images are always drawn in the same batches, so that what an interruption left to do comes
    out as it would have without.

    Raises:
        StorageError: the folder can't be written, or holds something else.
    """
    drawing = drawing_of(painter, prompts)
    _claim(folder, drawing)
    names = {prompt.id: _file_name(prompt.id) for prompt in prompts}
    for first in range(0, len(prompts), painter.batch):
        report("draw", first, len(prompts))
        chunk = prompts[first : first + painter.batch]
        lacking = [i for i, p in enumerate(chunk) if not (folder / names[p.id]).exists()]
        if lacking:
            images = painter.paint([prompt.caption for prompt in chunk], first)
            for row in lacking:
                stream = io.BytesIO()
                Image.fromarray(images[row]).save(stream, format="PNG")
                write_atomically(folder / names[chunk[row].id], stream.getvalue())
    report("draw", len(prompts), len(prompts))
    write_json(folder / MAP_FILE, names)
    return folder / MAP_FILE


def _claim(folder: Path, drawing: dict[str, Any]) -> None:
    """Make a folder for these images, or find it so. Raises StorageError."""
    make_folder(folder)
    file = folder / DRAWN_FILE
    if file.exists():
        found = read_json(file)
        other = sorted(key for key, value in drawing.items() if found.get(key) != value)
        if other:
            raise StorageError(
                f"{folder}: holds images of another {' and '.join(other)}; choose another folder"
            )
    elif any(folder.iterdir()):
        raise StorageError(f"{folder}: holds other files; choose another folder")
    else:
        write_json(file, drawing)


def _file_name(prompt: str) -> str:
    """Return a file's name for the id of a prompt, which may be any text."""
    if _PLAIN.fullmatch(prompt):
        return f"{prompt}.png"
    return f"id-{hashlib.sha256(prompt.encode()).hexdigest()[:20]}.png"
