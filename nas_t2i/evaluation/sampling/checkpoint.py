"""Trained denoisers to evaluate: a trial's folder, or a folder in diffusers' layout.

Looking at one loads nothing (`find_checkpoint_source`); `load_trained` loads the denoiser, and
`load_painter` what else is needed to draw with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_t2i import plugins
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.provenance import Drawn
from nas_t2i.evaluation.sampling.ddim import sample
from nas_t2i.evaluation.sampling.generate import Images
from nas_t2i.files import read_json
from nas_t2i.plugins import Origin
from nas_t2i.protocol.budget import Budget, recorded_budget
from nas_t2i.protocol.conditioning import Codec, TextEncoder
from nas_t2i.store import STUDY_FILE, trained_elsewhere
from nas_t2i.training import noise
from nas_t2i.training.checkpoint import checkpoint_folder, newest_checkpoint
from nas_t2i.training.denoiser import Denoiser, build_denoiser
from nas_t2i.training.export import ORIGIN_FILE, ldm_scheduler
from nas_t2i.training.feeds.inputs import Geometry, latent_geometry
from nas_t2i.training.initial import MODEL_FILE, load_weights

_WHERE = "evaluate"
_CONFIG = "config.json"
# Of a scheduler's config: what weights were trained on, beside what they predict.
_SCHEDULE = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end")


@dataclass(frozen=True)
class CheckpointSource:
    """A trained denoiser on disk, and the budget that it is drawn with."""

    weights: Path  # a checkpoint's folder, or a safetensors file
    arch: Arch  # of what was trained
    budget: Budget
    origin: dict[str, Any]  # where it comes from, for the result file
    notes: tuple[str, ...] = ()


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a trial, one of its checkpoints, or a diffusers model."""
    return _diffusers_folder(folder) is not None or _is_trial(folder) or _is_trial(_above(folder))


def find_checkpoint_source(
    folder: Path, budget: Budget | None, step: int | None
) -> CheckpointSource:
    """Look at a trial's folder, at one of its checkpoints, or at one in diffusers' layout.

    `budget` is what a diffusers model is drawn with; a trial has its own. `step` is the checkpoint
    of a trial's folder, by default the newest.

    Raises:
        ConfigError: neither of the two; no such checkpoint; no budget, or one too many; or a model
            trained on another schedule or prediction than the budget's.
    """
    if (folder / STUDY_FILE).exists():
        raise ConfigError(
            str(folder), "a study", expected=f"one of its trials: {folder}/trials/KEY"
        )
    model = _diffusers_folder(folder)
    if model is not None:
        return _diffusers_source(folder, model, budget, step)
    if _is_trial(folder):
        return _trial_source(folder, budget, step)
    if _is_trial(_above(folder)) and step is None:
        return _trial_source(_above(folder), budget, int(folder.name[5:]))
    raise ConfigError(str(folder), "no model", expected="a trial's folder, or diffusers' layout")


@dataclass(frozen=True)
class Trained:
    """A trained denoiser in memory, in evaluation mode.

    Attributes:
        facts: all that decides its predictions; plain JSON.
    """

    denoiser: Denoiser
    budget: Budget
    geometry: Geometry
    facts: dict[str, Any]
    device: str


class Painter:
    """Draws prompts with a denoiser.

    Attributes:
        facts: all that decides an image besides the prompt and its number; plain JSON.
        drawn: what of it two models should share to be compared.
        batch: images drawn at a time.
    """

    def __init__(self, trained: Trained, encoder: TextEncoder, codec: Codec) -> None:
        budget, geometry = trained.budget, trained.geometry
        sampler = budget.evaluation.sampler
        self._denoiser, self._encoder, self._codec = trained.denoiser, encoder, codec
        self._prediction, self._sampler = budget.objective.prediction, sampler
        self._seed = budget.evaluation.seed
        self._shape = (geometry.channels, geometry.size, geometry.size)
        self._device = torch.device(trained.device)
        self._null: Tensor | None = None
        self.drawn = Drawn.by(budget.evaluation)
        self.facts = {
            **trained.facts,
            "sampler": self.drawn.sampler,
            "guidance": self.drawn.guidance,
            "seed": self.drawn.seed,
            "text": encoder.fingerprint,
            "latents": codec.fingerprint,
        }
        self.batch = sampler.batch

    def paint(self, captions: Sequence[str], first: int) -> Images:
        """Return images (N, H, W, 3) of captions that stand from place `first` on in the list.

        The noise of a caption is a function of the evaluation's seed and its place.
        """
        if self._null is None:
            self._null = self._encoder.encode([""])[0].to(self._device)
        text = self._encoder.encode(list(captions)).to(self._device)
        latents = sample(
            self._denoiser,
            text,
            self._null,
            latent_shape=self._shape,
            schedule=noise.ldm_schedule(),
            prediction=self._prediction,
            steps=self._sampler.steps,
            guidance=self._sampler.guidance,
            seed=self._seed,
            batch=self.batch,
            start=first,
        )
        images: Images = self._codec.decode(latents).permute(0, 2, 3, 1).cpu().numpy()
        return images


def load_trained(source: CheckpointSource, device: str) -> Trained:
    """Load a denoiser; none of what its budget encodes or decodes with.

    Raises:
        ConfigError: a model is missing, or does not fit the budget's.
        RecordError: the checkpoint is damaged.
    """
    budget = source.budget
    geometry = latent_geometry(budget)
    denoiser = build_denoiser(
        source.arch,
        latent_size=geometry.size,
        latent_channels=geometry.channels,
        seed=0,
        precision=budget.training.precision,
    )
    _check_geometry(geometry, source)
    load_weights(denoiser, source.weights, _WHERE)
    denoiser.to(device).eval()
    facts = {
        "weights": _weights_digest(denoiser),
        "arch": source.arch.arch_id,
        "precision": budget.training.precision,
        "latent_size": geometry.size,
        "prediction": budget.objective.prediction,
    }
    return Trained(denoiser, budget, geometry, facts, device)


def load_painter(trained: Trained, cache: Path) -> Painter:
    """Load the text encoder and the latent codec of a denoiser's budget.

    Raises:
        ConfigError: a model is missing or damaged.
    """
    encoder = trained.budget.text.load(cache, trained.device)
    return Painter(trained, encoder, trained.budget.latents.load(trained.device))


def _is_trial(folder: Path) -> bool:
    file = folder / _CONFIG
    return file.is_file() and "trained_arch" in read_json(file)


def _above(folder: Path) -> Path:
    """Return the trial's folder of ``checkpoints/step-N``, the folder itself of any other."""
    if folder.name.startswith("step-") and folder.name[5:].isdecimal():
        return folder.absolute().parents[1]
    return folder


def _diffusers_folder(folder: Path) -> Path | None:
    """Return the folder of the model, which in a pipeline's is one further down."""
    for inner in (folder, folder / "unet", folder / "transformer"):
        if (inner / _CONFIG).is_file() and "_class_name" in read_json(inner / _CONFIG):
            return inner
    return None


def _trial_source(folder: Path, budget: Budget | None, step: int | None) -> CheckpointSource:
    file = folder / _CONFIG
    config = read_json(file)
    if budget is not None:
        raise ConfigError(
            "--budget", f"got a budget for {folder}, a trial", expected="none: it has its own"
        )
    try:
        plugins.restore(Origin.model_validate(origin) for origin in config.get("plugins", ()))
        own = recorded_budget(config["budget"], file)
        arch = arch_from_dict(config["trained_arch"])
        origin = {key: config[key] for key in ("study", "name", "seed", "control", "budget_id")}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            str(file), f"not a trial's config ({str(error).splitlines()[0]})"
        ) from None
    checkpoints = folder / "checkpoints"
    found = checkpoint_folder(checkpoints, step) if step else newest_checkpoint(checkpoints)
    if found is None or not found.is_dir():
        kept = ", ".join(str(int(kept.name[5:])) for kept in sorted(checkpoints.glob("step-*")))
        wanted = f"checkpoint of step {step}" if step else "checkpoint"
        raise ConfigError(
            str(folder),
            f"no {wanted}",
            expected=f"one of the steps {kept}" if kept else "",
            hint=trained_elsewhere(folder),
        )
    return CheckpointSource(
        found, arch, own, {"kind": "trial", **origin, "step": int(found.name[5:])}
    )


def _diffusers_source(
    folder: Path, model: Path, budget: Budget | None, step: int | None
) -> CheckpointSource:
    if step is not None:
        raise ConfigError("--step", f"got {step} for {folder}", expected="it with a trial only")
    if budget is None:
        raise ConfigError(
            "--budget",
            f"missing for {folder}, a model in diffusers' layout",
            expected="the budget whose text encoder, latents and sampler it is drawn with",
        )
    weights = model / MODEL_FILE
    if not weights.is_file():
        raise ConfigError(str(model), f"no {MODEL_FILE}", expected="the model's weights")
    resolved = resolve_arch(str(model / _CONFIG))
    for scheduler in (folder / "scheduler", model / "scheduler"):
        if (scheduler / "scheduler_config.json").is_file():
            _check_schedule(scheduler / "scheduler_config.json", budget)
    origin = {"kind": "diffusers", "name": resolved.name}
    notes = list(resolved.notes)
    if (model / ORIGIN_FILE).is_file():
        trained_as = read_json(model / ORIGIN_FILE)
        origin |= trained_as
        trained = trained_as.get("budget_id")
        if trained is not None and trained != budget.budget_id:
            notes.append(f"trained under {trained}, drawn under {budget.budget_id}")
    return CheckpointSource(weights, resolved.arch, budget, origin, tuple(notes))


def _check_schedule(file: Path, budget: Budget) -> None:
    """Check that weights were trained to predict what the sampler takes their output for."""
    config, ours = read_json(file), ldm_scheduler(budget.objective).config
    for key in (*_SCHEDULE, "prediction_type"):
        if key in config and config[key] != ours[key]:
            raise ConfigError(
                str(file),
                f"{key} is {config[key]!r}",
                expected=f"{ours[key]!r}, as the budget {budget.name!r} has it",
            )


def _check_geometry(geometry: Geometry, source: CheckpointSource) -> None:
    params = source.arch.canonical()
    for key, value in (("latent_channels", geometry.channels), ("text_dim", geometry.text_width)):
        if params.get(key, value) != value:
            raise ConfigError(
                str(source.weights),
                f"{key} is {params[key]}",
                expected=f"{value}, as the budget {source.budget.name!r} has it",
            )


def _weights_digest(denoiser: Denoiser) -> str:
    """Of the values, so that a checkpoint and what was exported from it are the same."""
    hasher = hashlib.sha256()
    for name, weight in sorted(denoiser.named_parameters()):
        hasher.update(json.dumps([name, list(weight.shape)]).encode())
        hasher.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return hasher.hexdigest()[:20]
