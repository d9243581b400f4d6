"""Weights to go on from: those of another trial, or of a diffusers model.

Only weights are taken over; optimiser, averages and steps begin anew. Weights do not depend on the
resolution, so that a run at 256 pixels can be continued at 512.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from nas_t2i.errors import ConfigError
from nas_t2i.files import expand_path
from nas_t2i.store import STUDY_FILE
from nas_t2i.training.checkpoint import newest_checkpoint, read_weights
from nas_t2i.training.denoiser import Denoiser
from nas_t2i.training.saved_state import check_finite
from nas_t2i.untrusted.regular_files import open_regular

_WHERE = "budget: init_from"
MODEL_FILE = "diffusion_pytorch_model.safetensors"


def load_initial_weights(denoiser: Denoiser, init_from: str, key: str) -> None:
    """Load what a budget's `init_from` names into a denoiser.

    It is a study (of which the trial named `key` is taken: same architecture, same seed), a trial's
    folder, or a folder in diffusers' layout, with the model in it or in ``unet`` or
    ``transformer``.

    Raises:
        ConfigError: there are no weights, or they are not of this architecture.
    """
    load_weights(denoiser, find_weights(init_from, key), _WHERE)


def load_weights(denoiser: Denoiser, source: Path, where: str) -> None:
    """Load a checkpoint's folder or a diffusers model's safetensors file into a denoiser.

    `where` is the key path of the setting that named it, for messages.

    Raises:
        ConfigError: they can't be read, or are not of this architecture.
        RecordError: the checkpoint is damaged.
    """
    if source.is_dir():
        weights = read_weights(source)
    else:
        weights = {f"model.{name}": value for name, value in _read(source, where).items()}
    _fill(denoiser, weights, source, where)


def find_weights(init_from: str, key: str) -> Path:
    """Return the checkpoint folder or the safetensors file that `init_from` names for a trial.

    Raises:
        ConfigError: there is none.
    """
    folder = expand_path(init_from, _WHERE)
    if (folder / STUDY_FILE).exists():
        folder = folder / "trials" / key
    if (checkpoint := newest_checkpoint(folder / "checkpoints")) is not None:
        return checkpoint
    for inner in (folder, folder / "unet", folder / "transformer"):
        if (inner / MODEL_FILE).exists():
            return inner / MODEL_FILE
    raise ConfigError(
        _WHERE,
        f"no weights in {folder}",
        expected=f"a study, a trial with checkpoints, or a folder with {MODEL_FILE}",
    )


def _read(file: Path, where: str) -> dict[str, Tensor]:
    try:
        os.close(open_regular(file))
        weights: dict[str, Tensor] = load_file(file)
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        raise ConfigError(where, f"{file} is not a safetensors file: {first_line}") from None
    check_finite(weights, file)
    return weights


@torch.no_grad()
def _fill(denoiser: Denoiser, weights: dict[str, Tensor], source: Path, where: str) -> None:
    own = dict(denoiser.named_parameters())
    if missing := sorted(own.keys() - weights.keys()):
        raise ConfigError(
            where,
            f"{source} lacks {missing[0].removeprefix('model.')} (and {len(missing) - 1} more)",
            expected="weights of the same architecture",
        )
    for name, weight in own.items():
        if weights[name].shape != weight.shape:
            raise ConfigError(
                where,
                f"{source}: {name.removeprefix('model.')} has the shape "
                f"{list(weights[name].shape)}",
                expected=f"{list(weight.shape)}, the same architecture",
            )
        weight.copy_(weights[name])
