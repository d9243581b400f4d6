"""A sheet of generated images with their prompts, for people who would rather look."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_TILE = 96  # side of an image on the sheet, pixels
_TEXT = 52  # height of the caption below it: four lines
_GAP = 8


def save_sheet(
    path: Path, images: npt.NDArray[np.uint8], captions: Sequence[str], columns: int = 8,
    rows: int = 6,
) -> None:  # fmt: skip
    """Write the first ``columns x rows`` of (N, H, W, 3) images with captions as one PNG."""
    count = min(len(images), columns * rows)
    width = columns * (_TILE + _GAP) + _GAP
    height = -(-count // columns) * (_TILE + _TEXT + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), (18, 18, 18))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for index in range(count):
        x = _GAP + (index % columns) * (_TILE + _GAP)
        y = _GAP + (index // columns) * (_TILE + _TEXT + _GAP)
        image = Image.fromarray(images[index])
        sheet.paste(image.resize((_TILE, _TILE), Image.Resampling.NEAREST), (x, y))
        text = "\n".join(textwrap.wrap(captions[index], 18)[:4])
        draw.multiline_text((x, y + _TILE + 2), text, font=font, fill=(200, 200, 200), spacing=1)
    temporary = path.with_suffix(".tmp")
    sheet.save(temporary, format="PNG")
    temporary.replace(path)
