"""How a sheet of images is laid out: for who draws it and for who cuts it. Imports nothing."""

from __future__ import annotations

TILE = 96  # side of an image on the sheet, pixels
TEXT = 52  # height of the caption below it: four lines
GAP = 8
COLUMNS = 8
CAPTIONS_KEY = "captions"
"""The PNG's text chunk with the whole captions, a JSON list."""


def sheet_name(step: int) -> str:
    """Return the name of the file of a trial's sheet at a rung."""
    return f"pictures-{step:06d}.png"
