"""``nas-t2i export``: a trained denoiser for diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_t2i import plugins
from nas_t2i.cli.output.console import Console
from nas_t2i.errors import RecordError, UserError, did_you_mean
from nas_t2i.mirror.place import is_url

if TYPE_CHECKING:
    from nas_t2i.records import TrialRecord


def export_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL", help="A trial's folder, or a study's or its URL with --name."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    name: Annotated[
        str, typer.Option(help="With a study's folder: an architecture of it, as ranked.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Which seed's trial. [default: its first]")
    ] = None,
    step: Annotated[
        int | None, typer.Option(min=1, help="Which kept checkpoint. [default: the newest]")
    ] = None,
) -> None:
    """Write a trial's evaluated weights in diffusers' layout (config, safetensors, scheduler).

    A README.md beside them is a model card: architecture, protocol, scores, provenance, and a
    placeholder for the licence. It names the command that trains the architecture at full scale.

    `from_pretrained(OUTPUT)` of UNet2DConditionModel or PixArtTransformer2DModel loads them, and
    `init_from: OUTPUT` in a budget trains on from them.

    \b
    Examples:
      nas-t2i export results/sdxl-embedded --name SDXL-TD2 -o td2
      nas-t2i export s3://bucket/results/sdxl-embedded --name SDXL-TD2 -o td2
      nas-t2i export results/sdxl-embedded/trials/unet-6389762c4fbd-s0 -o unet --step 420
    """
    from nas_t2i.arch.families import arch_from_dict
    from nas_t2i.protocol.budget import recorded_budget
    from nas_t2i.search.trial_config import load_trial_config
    from nas_t2i.store import trained_elsewhere
    from nas_t2i.training.checkpoint import checkpoint_folder, newest_checkpoint
    from nas_t2i.training.export import export_weights

    trial = _trial(source, name, seed)
    config = load_trial_config(trial / "config.json")
    checkpoints = trial / "checkpoints"
    checkpoint = checkpoint_folder(checkpoints, step) if step else newest_checkpoint(checkpoints)
    if checkpoint is None or not checkpoint.is_dir():
        kept = ", ".join(str(int(file.name[5:])) for file in sorted(checkpoints.glob("step-*")))
        where = trained_elsewhere(trial) or f"kept are the steps {kept or '(none)'}"
        raise RecordError(f"{trial}: no such checkpoint; {where}")
    plugins.restore(config.plugins)
    budget = recorded_budget(config.budget, trial / "config.json")
    weights = "averaged" if budget.training.ema_decay else "raw"
    origin = {
        "study": config.study,
        "trial": config.key,
        "name": config.name,
        "step": int(checkpoint.name[5:]),
        "seed": config.seed,
        "budget_id": config.budget_id,
        "weights": weights,
    }
    export_weights(
        checkpoint,
        arch_from_dict(config.trained_arch),
        budget.objective,
        config.trained_profile.latent_size,
        output,
        origin,
        _card(trial, config.budget, checkpoint.name, weights),
    )
    Console().print(
        f"{output}: {config.name} after {origin['step']} steps, {weights} weights",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _card(trial: Path, budget: dict[str, Any], checkpoint: str, weights: str) -> str:
    """Return the model card of a trial; without its record there is none."""
    from nas_t2i.events import EVENTS_FILE, read_events
    from nas_t2i.results.report.model_card import model_card
    from nas_t2i.store import assemble_trial
    from nas_t2i.untrusted.redact import redacted_data

    file = trial / EVENTS_FILE
    events = read_events(file)[0] if file.is_file() else []
    if not events:
        return ""
    record = assemble_trial(events, running=False, file=file)
    return model_card(
        record, redacted_data(budget), int(checkpoint[5:]), weights, _full_scale(trial, record)
    )


def _full_scale(trial: Path, record: TrialRecord) -> str:
    """Return the study's folder of the architecture's full-scale run, where it is written."""
    from nas_t2i.results.scale_up.files import BUDGET, folder_of

    study = trial.parent.parent
    folder = folder_of(study, record.name, record.arch_id)
    return str(folder.relative_to(study)) if (folder / BUDGET).is_file() else ""


def _trial(source: str, name: str, seed: int | None) -> Path:
    """Return the folder of a trial; of one at a URL a copy with its checkpoints."""
    from nas_t2i.mirror.fetch import fetch_checkpoint_to_read
    from nas_t2i.store import STUDY_FILE, find_study

    if is_url(source):
        root, _, study = source.rstrip("/").rpartition("/")
        return fetch_checkpoint_to_read(root, study, _trial_of(find_study(source), name, seed).name)
    trial = Path(source)
    return _trial_of(trial, name, seed) if (trial / STUDY_FILE).exists() else trial


def _trial_of(study: Path, name: str, seed: int | None) -> Path:
    from nas_t2i.search.trial_config import trial_key
    from nas_t2i.store import read_trials

    records = [record for record in read_trials(study) if not record.control]
    names = {record.name for record in records}
    if name not in names:
        hint = did_you_mean(name, names)
        raise UserError(
            f"--name: got {name!r}; expected an architecture of {study}: "
            + ", ".join(sorted(names))
            + (f"; {hint}" if hint else "")
        )
    seeds = {record.seed: record for record in records if record.name == name}
    if seed is not None and seed not in seeds:
        known = ", ".join(map(str, sorted(seeds)))
        raise UserError(f"--seed: got {seed}; expected one of {known}")
    chosen = seeds[min(seeds) if seed is None else seed]
    return study / "trials" / trial_key(chosen.arch_id, chosen.seed, chosen.control)
