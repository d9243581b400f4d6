"""What is read back of a checkpoint: verified before anything is done with it.

A file of ``torch.save`` is a zip, with a checksum of each part; a damaged one is refused before it
is parsed. What parses may still be another program's: names, shapes and numbers are checked too.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_t2i.errors import RecordError, number_of
from nas_t2i.untrusted.regular_files import open_regular

# What a trainer's part of a state holds, and of what kind.
_PARTS: Mapping[str, type | tuple[type, ...]] = {
    "step": int,
    "seconds": (int, float),
    "losses": list,
    "ranks": int,
    "zero_stage": int,
    "shapes": list,
    "names": list,
    "weights": list,
    "average": list,
    "engine": dict,
}
_MEND = "delete the folder of that checkpoint to go on from the one before it"


def load_state(path: Path) -> dict[str, Any]:
    """Read one rank's file, after its checksums.

    Raises:
        RecordError: it is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as stream:
            with zipfile.ZipFile(stream) as archive:
                _check_parts(archive, path)
            stream.seek(0)
            state = torch.load(stream, weights_only=True, map_location="cpu")
    except RecordError:
        raise
    except OSError as error:
        raise RecordError(f"{path}: can't be read: {error.strerror or error}") from None
    except Exception as error:  # of whatever kind the reader of a damaged file comes upon
        problem = str(error).partition("\n")[0] or type(error).__name__
        raise RecordError(f"{path}: not a checkpoint of a trial: {problem}") from None
    if not isinstance(state, dict):
        raise RecordError(f"{path}: not a checkpoint of a trial: got a {type(state).__name__}")
    return state


def trainer_state(state: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return the trainer's part of a state; `where` is its file, for messages.

    Raises:
        RecordError: it is not one, or its weights are not finite.
    """
    trainer = state.get("trainer")
    if not isinstance(trainer, dict):
        raise _wrong(where, "it has no 'trainer'")
    for name, kind in _PARTS.items():
        if not isinstance(trainer.get(name), kind) or isinstance(trainer[name], bool):
            raise _wrong(where, f"trainer.{name} is missing or of another kind")
    names, shapes = trainer["names"], trainer["shapes"]
    if len(names) != len(shapes) or not all(isinstance(name, str) for name in names):
        raise _wrong(where, "trainer.names and trainer.shapes do not fit each other")
    if not all(_is_shape(shape) for shape in shapes):
        raise _wrong(where, "trainer.shapes has what is no shape")
    if trainer["ranks"] < 1 or trainer["zero_stage"] not in (0, 1, 2, 3):
        raise _wrong(where, "trainer.ranks or trainer.zero_stage is out of bounds")
    for part in ("weights", "average"):
        tensors = trainer[part]
        if tensors and len(tensors) != len(names):
            raise _wrong(where, f"{number_of(len(tensors), 'tensor')} in {part} for {len(names)}")
        for name, shape, tensor in zip(names, shapes, tensors, strict=bool(tensors)):
            if not isinstance(tensor, Tensor):
                raise _wrong(where, f"{part} of {name} is no tensor")
            if trainer["zero_stage"] < 3 and list(tensor.shape) != list(shape):
                raise _wrong(where, f"{part} of {name} has the shape {list(tensor.shape)}")
        check_finite(dict(zip(names, tensors, strict=False)), where)
    return trainer


def trial_state(state: Mapping[str, Any], where: object) -> None:
    """Check what a trial keeps beside its trainer's part. Raises RecordError."""
    trainer_state(state, where)
    for name, kinds in (("evaluation_seconds", (int, float)), ("reported", (int,))):
        if not isinstance(state.get(name), kinds):
            raise _wrong(where, f"{name} is missing or no number")


def check_finite(weights: Mapping[str, Tensor], where: object) -> None:
    """Raise RecordError where a weight is NaN or infinite: nothing good can be drawn with it."""
    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise RecordError(
                f"{where}: {name.removeprefix('model.')} is not finite (NaN or infinite); "
                "the model diverged or its file is damaged"
            )


def check_same(
    weights: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]], where: object
) -> None:
    """Raise RecordError where names or shapes are not those of the `wanted` architecture."""
    for name in wanted:
        if name not in weights:
            raise _other(where, f"lacks {name.removeprefix('model.')}")
        if list(weights[name]) != list(wanted[name]):
            found = f"{name.removeprefix('model.')} has the shape {list(weights[name])}"
            raise _other(where, f"{found}, not {list(wanted[name])}")
    if more := sorted(weights.keys() - wanted.keys()):
        raise _other(where, f"has {more[0].removeprefix('model.')}")


def _check_parts(archive: zipfile.ZipFile, path: Path) -> None:
    for part in archive.infolist():
        if part.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing: a zip bomb
            raise RecordError(f"{path}: not a checkpoint of a trial: {part.filename} is compressed")
    if (damaged := archive.testzip()) is not None:
        raise RecordError(f"{path}: damaged: the checksum of {damaged} is wrong; {_MEND}")


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)


def _wrong(where: object, problem: str) -> RecordError:
    return RecordError(f"{where}: not a checkpoint of a trial: {problem}; {_MEND}")


def _other(where: object, problem: str) -> RecordError:
    return RecordError(f"{where}: {problem}: weights of another architecture")
