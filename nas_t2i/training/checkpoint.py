"""Checkpoints of a running trial: written whole or not at all, read without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from nas_t2i.errors import RecordError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) beside `path`, then move it there.

    The data reach the disk before the name does, so a cut save never shadows the last good one.
    """
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote. Raises RecordError for any other file."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        raise RecordError(f"{path}: not a checkpoint of a trial: {first_line}") from None
    return state
