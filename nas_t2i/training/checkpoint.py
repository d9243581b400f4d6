"""Checkpoints of a running trial: written whole or not at all, read without running code.

A checkpoint is a folder ``step-00000320`` with a file for each rank. It is written under another
name and renamed once every rank's file is on the disk, so a cut save never shadows the last good
one.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_t2i.errors import RecordError, StorageError
from nas_t2i.files import make_folder
from nas_t2i.training.ranks import Ranks
from nas_t2i.training.saved_state import load_state, trainer_state


class CheckpointError(StorageError):
    """A checkpoint that can't be written, a full disk for one; earlier ones are untouched."""


class Checkpoints:
    """The checkpoints of one trial, the newest `keep` of them."""

    def __init__(self, folder: Path, keep: int, ranks: Ranks) -> None:
        self._folder, self._keep, self._ranks = folder, keep, ranks

    def save(self, step: int, state: dict[str, Any] | None) -> None:
        """Write this rank's `state` (tensors and plain values; None: nothing); all ranks together.

        Raises:
            CheckpointError: on every rank, when any of them could not write.
        """
        final = checkpoint_folder(self._folder, step)
        partial = final.with_name(f".{final.name}")
        if self._ranks.is_first:
            shutil.rmtree(partial, ignore_errors=True)
            make_folder(partial)
        self._ranks.wait()
        problems = self._ranks.gather(_write(partial / self._name(self._ranks.rank), state))
        problem = next(filter(None, problems), "")
        if self._ranks.is_first and not problem:
            problem = _rename(partial, final)
            self._remove_old(final)
        problem = self._ranks.agree(problem)
        if problem:
            if self._ranks.is_first:
                shutil.rmtree(partial, ignore_errors=True)
            kept = newest_checkpoint(self._folder)
            raise CheckpointError(
                f"{final}: the checkpoint can't be written: {problem}; "
                + (f"{kept.name} stays" if kept else "there is no earlier one")
            )

    def load(
        self, usable: Callable[[dict[str, Any]], bool] = lambda _first: True
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return the first rank's and this rank's state of the newest usable checkpoint, if any.

        `usable` is asked of the first rank's state; it must say the same on every rank.

        Raises:
            RecordError: a file is missing or not a checkpoint.
        """
        for folder in checkpoints_newest_first(self._folder):
            first = load_state(folder / self._name(0))
            if usable(first):
                own = folder / self._name(self._ranks.rank)
                return first, first if self._ranks.is_first or not own.exists() else load_state(own)
        return None

    def _remove_old(self, newest: Path) -> None:
        names = sorted(self._folder.glob("step-*"))
        for old in [name for name in names if name <= newest][: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)

    @staticmethod
    def _name(rank: int) -> str:
        return f"rank-{rank}.pt"


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}"


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the folder of the newest whole checkpoint."""
    return next(iter(checkpoints_newest_first(folder)), None)


def checkpoints_newest_first(folder: Path) -> list[Path]:
    """Return the folders of the whole checkpoints."""
    return sorted(folder.glob("step-*"), reverse=True)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the whole weights of a checkpoint by name: those that are evaluated, averaged if so.

    The shares of ZeRO stage 3 are put together.

    Raises:
        RecordError: a rank's file is missing, damaged or not a checkpoint, or a weight is not
            finite.
    """
    first = _trainer_state(folder, 0)
    which = "average" if first["average"] else "weights"
    if first["zero_stage"] < 3:
        return dict(zip(first["names"], first[which], strict=True))
    ranks = [first] + [_trainer_state(folder, rank) for rank in range(1, first["ranks"])]
    whole = {}
    for place, (name, shape) in enumerate(zip(first["names"], first["shapes"], strict=True)):
        shares = [rank[which][place] for rank in ranks if place < len(rank[which])]
        flat = torch.cat([share.flatten() for share in shares])
        if len(flat) < math.prod(shape):
            raise RecordError(f"{folder}: not a checkpoint of a trial: {name} is not whole")
        whole[name] = flat[: math.prod(shape)].view(shape)
    return whole


def _trainer_state(folder: Path, rank: int) -> dict[str, Any]:
    file = folder / f"rank-{rank}.pt"
    return trainer_state(load_state(file), file)


def _write(path: Path, state: dict[str, Any] | None) -> str:
    """Write a file and wait for the disk; return what went wrong, "" for nothing."""
    if state is None:
        return ""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    except RuntimeError as error:  # how torch's writer reports a short write
        free = shutil.disk_usage(path.parent).free
        return f"{str(error).partition(chr(10))[0]} ({free / 1e9:.1f} GB free)"
    return ""


def _rename(partial: Path, final: Path) -> str:
    try:
        if final.exists():  # the same step again, after a resume: the same bytes
            shutil.rmtree(final)
        partial.rename(final)
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.strerror or str(error)
    return ""
