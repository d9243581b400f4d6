"""Prompts drawn from the captions of MS-COCO.

The file is ``captions_val2014.json`` or one of its form (Lin et al., "Microsoft COCO: Common
Objects in Context", 2014): ``annotations`` with ``image_id``, ``id`` and ``caption``, about five an
image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.prompts import Prompt
from nas_t2i.files import read_json
from nas_t2i.streams import uniform_rows

_EXPECTED = "captions as in captions_val2014.json"


def draw_prompts(annotation_json: str | Path, count: int, seed: int) -> list[Prompt]:
    """Draw `count` captions, one an image, no image and no caption twice.

    A prompt's id is ``coco_`` and the annotation's number, as in TIFA's text inputs.

    Which ones is a function of the file's captions and the seed, whatever their order in the file.
    A smaller draw is the beginning of a larger one. Captions are stripped, and runs of blanks in
    them are one; empty ones are never drawn.

    Raises:
        ConfigError: not a file of captions, or fewer of them than `count`.
    """
    file = Path(annotation_json)
    if count < 1:
        raise ConfigError(str(file), f"asked for {count} captions", expected="1 or more")
    images = _captions(file)
    order = np.argsort(uniform_rows(seed, "coco images", 0, len(images), 1)[:, 0], kind="stable")
    choice = uniform_rows(seed, "coco captions", 0, len(images), 1)[:, 0]
    drawn: list[Prompt] = []
    seen: set[str] = set()
    ids = sorted(images)
    for row in order:
        if len(drawn) == count:
            break
        captions = sorted(images[ids[row]])
        number, caption = captions[int(choice[row] * len(captions))]
        if caption.lower() not in seen:
            seen.add(caption.lower())
            drawn.append(Prompt(f"coco_{number}", caption, str(ids[row])))
    if len(drawn) < count:
        raise ConfigError(
            str(file), f"asked for {count} captions", expected=f"at most {len(drawn)}, one an image"
        )
    return drawn


def _captions(file: Path) -> dict[int, list[tuple[int, str]]]:
    """Return (annotation id, caption) by image id. Raises ConfigError."""
    annotations = read_json(file).get("annotations")
    if not isinstance(annotations, list) or not annotations:
        raise ConfigError(str(file), "no list 'annotations'", expected=_EXPECTED)
    images: dict[int, list[tuple[int, str]]] = {}
    for row, annotation in enumerate(annotations):
        image, number, caption = _fields(annotation, f"{file}: annotations[{row}]")
        if caption:
            images.setdefault(image, []).append((number, caption))
    return images


def _fields(annotation: Any, where: str) -> tuple[int, int, str]:
    keys = {"image_id": int, "id": int, "caption": str}
    if not isinstance(annotation, dict):
        raise ConfigError(where, f"got {annotation!r:.60}", expected=_EXPECTED)
    for key, kind in keys.items():
        if type(annotation.get(key)) is not kind:
            problem = f"{key} is {annotation[key]!r:.60}" if key in annotation else f"no {key!r}"
            raise ConfigError(where, problem, expected=_EXPECTED)
    caption = " ".join(annotation["caption"].split())
    return annotation["image_id"], annotation["id"], caption
