"""TensorBoard's event files, written by ``torch.utils.tensorboard``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from nas_t2i.tracking.tracker import NOTHING, Row, Run, Tracker, safe_name

_SUFFIX = ".nas-t2i"
"""How the names of its files end: those it replaces."""


class TensorBoard(Tracker):
    """A folder for each study, and in it one for each run.

    A run that is begun again is written anew from its first row on: event files can't be continued
    without telling some rows twice.
    """

    TAKES: ClassVar[str] = "DIR"
    PACKAGES: ClassVar[tuple[str, ...]] = ("tensorboard",)
    EXTRA: ClassVar[str] = "tensorboard"

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._writers: dict[str, Any] = {}  # by run; torch declares no types of what they do
        self._ends: dict[str, Any] = {}

    def begin(self, run: Run) -> int:
        """Begin a run with its hparams."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        logging.getLogger("tensorboard").setLevel(logging.ERROR)
        folder = Path(self.where) / safe_name(run.study) / run.file_name
        for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
            old.unlink()
        # Whoever has the old file open drops what it read of it: steps from 0 on.
        writer: Any = SummaryWriter(str(folder), purge_step=0, filename_suffix=_SUFFIX)
        # Not `add_hparams`: it would put them into a run of their own.
        experiment, start, end = hparams(dict(run.params), {run.metric: 0.0})  # type: ignore[no-untyped-call]
        writer.file_writer.add_summary(experiment)
        writer.file_writer.add_summary(start)
        self._writers[run.key], self._ends[run.key] = writer, end
        return NOTHING

    def log(self, run: Run, rows: Sequence[Row]) -> None:
        """Write scalars and images."""
        import numpy as np

        writer = self._writers[run.key]
        for row in rows:
            for name, value in row.values.items():
                writer.add_scalar(name, value, row.step)
            for name, image in row.images.items():
                pixels = np.asarray(image.convert("RGB"))
                writer.add_image(name, pixels, row.step, dataformats="HWC")
        writer.flush()

    def end(self, run: Run, state: str, reason: str) -> None:
        """Write how it ended, and close the file."""
        writer = self._writers.pop(run.key)
        with contextlib.closing(writer):
            writer.add_text("end", f"{state}: {reason}" if reason else state)
            writer.file_writer.add_summary(self._ends.pop(run.key))

    def close(self) -> None:
        """Close the files of runs under way."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
