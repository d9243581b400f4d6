"""A sheet of generated images with their prompts, for people who would rather look."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from nas_t2i.evaluation.sampling.sheet_layout import CAPTIONS_KEY, COLUMNS, GAP, TEXT, TILE


def save_sheet(
    path: Path, images: npt.NDArray[np.uint8], captions: Sequence[str], columns: int = COLUMNS,
    rows: int = 6,
) -> None:  # fmt: skip
    """Write the first ``columns x rows`` of (N, H, W, 3) images with captions as one PNG."""
    count = min(len(images), columns * rows)
    width = columns * (TILE + GAP) + GAP
    height = -(-count // columns) * (TILE + TEXT + GAP) + GAP
    sheet = Image.new("RGB", (width, height), (18, 18, 18))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for index in range(count):
        x = GAP + (index % columns) * (TILE + GAP)
        y = GAP + (index // columns) * (TILE + TEXT + GAP)
        image = Image.fromarray(images[index])
        sheet.paste(image.resize((TILE, TILE), Image.Resampling.NEAREST), (x, y))
        text = "\n".join(textwrap.wrap(captions[index], 18)[:4])
        draw.multiline_text((x, y + TILE + 2), text, font=font, fill=(200, 200, 200), spacing=1)
    temporary = path.with_suffix(".tmp")
    texts = PngInfo()
    texts.add_text(CAPTIONS_KEY, json.dumps(list(captions[:count])))
    sheet.save(temporary, format="PNG", pnginfo=texts)
    temporary.replace(path)
