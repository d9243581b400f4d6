"""Generated pictures, and what was seen in them by eye: what answerers are held against.

`pictures.png` holds pictures of 16 x 16 pixels that searches drew for the benchmark's prompts,
twenty a row, as many of weak as of strong models, of all kinds of scene; `pictures.jsonl` says
where each comes from. `labels.jsonl` holds what was seen in each, named without knowing the prompt.
`last_rung.png` holds the first 48 pictures of every trial of one study at its last rung, a trial a
row, `last_rung.jsonl` which trials.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas_t2i.data.shapes import COLORS, NUMBERS, PLACES, PLURALS, SHAPES, SIZE, Question
from nas_t2i.errors import ConfigError, Where

FOLDER = Path(__file__).parent
SIDES = ("left", "right", "above", "below")  # as PLACES

_TILE, _GAP, _COLUMNS, _ROWS = 96, 8, 8, 6  # of a sheet of pictures, pixels and pictures
_NOUNS = dict(zip(SHAPES + PLURALS, 2 * SHAPES, strict=True))
_COUNTS = {"a": 1, **{str(i): i for i in range(1, 10)}}
_THING = re.compile(
    r"(?:([a1-9]) )?({}|\?) ({}|\?)(?: ({}|alone))?".format(
        "|".join(COLORS), "|".join(_NOUNS), "|".join(SIDES)
    )
)


class Thing(NamedTuple):
    """Equal objects, as seen by eye; None where it was not clear."""

    number: int
    color: str | None
    shape: str | None
    place: str | None  # one of SIDES; None for the middle


Images = npt.NDArray[np.uint8]


def read_grid(name: str, count: int | None = None) -> Images:
    """Return the pictures (N, SIZE, SIZE, 3) of a PNG of this folder, row by row."""
    with Image.open(FOLDER / name) as file:
        pixels = np.asarray(file.convert("RGB"))
    rows, columns = pixels.shape[0] // SIZE, pixels.shape[1] // SIZE
    tiles = pixels.reshape(rows, SIZE, columns, SIZE, 3).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(-1, SIZE, SIZE, 3)[:count])


def write_grid(file: Path, pictures: Images, columns: int) -> None:
    """Write pictures (N, SIZE, SIZE, 3) side by side as one PNG; the last row is filled up."""
    rows = -(-len(pictures) // columns)
    tiles = np.zeros((rows * columns, SIZE, SIZE, 3), dtype=np.uint8)
    tiles[: len(pictures)] = pictures
    grid = tiles.reshape(rows, columns, SIZE, SIZE, 3).swapaxes(1, 2)
    Image.fromarray(grid.reshape(rows * SIZE, columns * SIZE, 3)).save(file, optimize=True)


def read_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file of this folder."""
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


def read_labels() -> dict[int, list[Thing]]:
    """Return what was seen in each labelled picture, by its number from 1."""
    return {
        row["number"]: [Thing(**thing) for thing in row["things"]]
        for row in read_rows("labels.jsonl")
    }


def cut_sheet(file: Path) -> Images:
    """Return the pictures (48, SIZE, SIZE, 3) on a sheet that a search wrote, pixel for pixel.

    Raises:
        ConfigError: not such a sheet.
    """
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    column, row = _TILE + _GAP, (pixels.shape[0] - _GAP) // _ROWS
    out = np.empty((_ROWS * _COLUMNS, SIZE, SIZE, 3), dtype=np.uint8)
    for i in range(len(out)):
        x, y = _GAP + i % _COLUMNS * column, _GAP + i // _COLUMNS * row
        tile = pixels[y : y + _TILE, x : x + _TILE]
        zoom = _TILE // SIZE
        out[i] = tile[zoom // 2 :: zoom, zoom // 2 :: zoom]
        if not np.array_equal(out[i].repeat(zoom, axis=0).repeat(zoom, axis=1), tile):
            raise ConfigError(str(file), f"picture {i + 1} is not {SIZE} x {SIZE} pixels, enlarged")
    return out


def parse_label(text: str, where: Where | str) -> tuple[int, list[Thing] | None]:
    """Read ``NUMBER: red circle left, 2 blue squares right``; ``?`` is what was not clear.

    ``nothing`` is a picture without objects; ``unclear``, one that tells nothing, gives None.

    Raises:
        ConfigError: anything else, with the place.
    """
    number, colon, seen = text.partition(":")
    if not colon or not number.strip().isdigit():
        raise ConfigError(where, f"got {text!r}", expected="NUMBER: what is seen")
    parts = [part.strip() for part in seen.strip().lower().split(",")]
    if parts == ["unclear"]:
        return int(number), None
    if parts == ["nothing"]:
        return int(number), []
    return int(number), [_parse_thing(part, where) for part in parts]


def _parse_thing(text: str, where: Where | str) -> Thing:
    match = _THING.fullmatch(text)
    if not match:
        expected = "[COUNT] COLOR SHAPE [PLACE], ? for unclear"
        raise ConfigError(where, f"got {text!r}", expected=expected)
    count, color, shape, place = match.groups()
    return Thing(
        number=_COUNTS[count or "a"],
        color=None if color == "?" else color,
        shape=_NOUNS.get(shape),
        place=place if place in SIDES else None,
    )


def answer_by_eye(things: list[Thing], question: Question) -> str | None:
    """Return the choice that follows from the ``things`` seen; None: can't tell.

    Only a question's text and choices are read.
    """
    words = re.findall(r"\w+", question["question"].lower())
    shapes = [_NOUNS[word] for word in words if word in _NOUNS]
    colors = [word for word in words if word in COLORS]
    if words[:2] == ["is", "there"]:
        said = _is_there(things, colors[0], shapes[0])
    elif words[:2] == ["what", "color"]:
        said = _most([(t.color, t.number) for t in things if t.shape == shapes[0]])
    elif words[:2] == ["what", "shape"]:
        said = _most([(t.shape, t.number) for t in things if t.color == colors[0]])
    elif words[:2] == ["how", "many"]:
        said = _how_many(things, shapes[0])
    else:
        said = _where(things, shapes[0], shapes[1])
    return said if said in question["choices"] else None


def _is_there(things: list[Thing], color: str, shape: str) -> str | None:
    if any(t.color == color and t.shape == shape for t in things):
        return "yes"
    perhaps = any(t.color in (color, None) and t.shape in (shape, None) for t in things)
    return None if perhaps else "no"


def _most(values: list[tuple[str | None, int]]) -> str | None:
    """Return the value with the largest count, None where that is unclear or one of two."""
    totals: dict[str | None, int] = {}
    for value, count in values:
        totals[value] = totals.get(value, 0) + count
    top = max(totals.values(), default=0)
    best = [value for value, count in totals.items() if count == top]
    return best[0] if len(best) == 1 else None


def _how_many(things: list[Thing], shape: str) -> str | None:
    if any(t.shape is None for t in things):
        return None
    count = sum(t.number for t in things if t.shape == shape)
    return NUMBERS[count - 1] if 0 < count <= len(NUMBERS) else None


def _where(things: list[Thing], first: str, second: str) -> str | None:
    """Return where the first shape is: one side said of it, or the other side of the second."""
    here = {t.place for t in things if t.shape == first}
    there = {t.place for t in things if t.shape == second}
    if len(here) != 1 or len(there) != 1:
        return None
    opposite = dict(zip(SIDES, ("right", "left", "below", "above"), strict=True))
    sides = {here.pop(), opposite.get(there.pop() or "")} - {None}
    return PLACES[SIDES.index(str(sides.pop()))] if len(sides) == 1 else None
