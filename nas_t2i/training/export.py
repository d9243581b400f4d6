"""A trained denoiser as diffusers users know one: a config, safetensors, and its scheduler."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DDIMScheduler

from nas_t2i.arch.spec import Arch
from nas_t2i.errors import StorageError
from nas_t2i.files import make_folder, write_atomically, write_json
from nas_t2i.protocol.training import Objective
from nas_t2i.training.checkpoint import read_weights
from nas_t2i.training.saved_state import check_same

_PREDICTION_TYPES = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}
ORIGIN_FILE = "nas-t2i.json"
CARD_FILE = "README.md"


def export_weights(
    checkpoint: Path,
    arch: Arch,
    objective: Objective,
    latent_size: int,
    folder: Path,
    origin: dict[str, Any],
    card: str = "",
) -> None:
    """Write a checkpoint's evaluated weights to a new `folder`, whole or not at all.

    ``from_pretrained(folder)`` of the architecture's diffusers class loads the model,
    ``DDIMScheduler.from_pretrained(folder, subfolder="scheduler")`` the schedule it was trained on.
    `origin` is kept beside them as JSON, `card` as the README.md that hubs show.

    Raises:
        StorageError: the folder exists already or can't be written.
        RecordError: the checkpoint is damaged, of another architecture, or not finite.
    """
    if folder.exists():
        raise StorageError(f"{folder}: exists already; choose another name")
    weights = read_weights(checkpoint)
    with torch.device("meta"):
        model = cast(Any, arch.build(latent_size))
    weights = {name.removeprefix("model."): value.contiguous() for name, value in weights.items()}
    wanted = {name: value.shape for name, value in model.named_parameters()}
    check_same({name: value.shape for name, value in weights.items()}, wanted, checkpoint)
    # Buffers are made anew from the config at each load; only weights are exported.
    model.load_state_dict(weights, strict=False, assign=True)
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        whole = Path(temporary) / "whole"
        model.save_pretrained(whole, safe_serialization=True)
        ldm_scheduler(objective).save_pretrained(whole / "scheduler")
        write_json(whole / ORIGIN_FILE, origin)
        if card:
            write_atomically(whole / CARD_FILE, card)
        whole.rename(folder)


def ldm_scheduler(objective: Objective) -> DDIMScheduler:
    """Return diffusers' DDIM scheduler with the settings of LDM; its defaults are other ones."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type=_PREDICTION_TYPES[objective.prediction],
    )
