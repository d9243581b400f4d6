"""A card for exported weights: what they are, how they were trained, what they scored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nas_t2i.records import CurvePoint, TrialRecord
from nas_t2i.results.figures.wording import duration, number, scaled
from nas_t2i.results.metrics import display_name
from nas_t2i.results.report.held_fixed import plain
from nas_t2i.untrusted.show import markdown
from nas_t2i.version import __version__

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LEFT_OUT = ("name", "search", "execution")


def model_card(
    trial: TrialRecord, budget: Mapping[str, Any], step: int, weights: str, full_scale: str = ""
) -> str:
    """Return the README.md of a trial's weights after `step` steps, for the hub or a colleague.

    The licence is a placeholder: it depends on the data, which only who trained knows. `full_scale`
    is where in the study's folder its full-scale run is written already; "": nowhere.
    """
    point = next((p for p in trial.curve if p.step == step), None)
    lines = [
        "---",
        "license: other",
        "license_name: to-be-filled-in",
        "library_name: diffusers",
        "tags: [nas-t2i, denoiser]",
        "---",
        "",
        f"# {markdown(trial.name)}",
        "",
        f"A denoiser of a text-to-image model, {weights} weights after {step} steps of a short "
        f"training run by nas-t2i {__version__}. It is a candidate of a ranking, not a product: it "
        "shows what this architecture learns in this budget.",
        "",
        "**Licence: fill in.** It depends on the training data and on the encoders.",
        "",
        "## Architecture",
        "",
        *_table(_architecture(trial)),
        "## Training",
        "",
        *_table(_training(trial, budget)),
        "## Scores",
        "",
        *_scores(point, step),
        "## Training it at full scale",
        "",
        *_full_scale(trial, full_scale),
        "## Provenance",
        "",
        *_table(_provenance(trial, step)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _architecture(trial: TrialRecord) -> dict[str, str]:
    profile = trial.trained_profile
    found = {
        "parameters": json.dumps(trial.trained_arch),
        "id": trial.trained_profile.arch_id,
        "size": f"{scaled(profile.params)} parameters, {number(profile.gmacs)} GMACs at "
        f"{profile.latent_size}x{profile.latent_size} latents, {profile.text_tokens} text tokens",
        "attention": f"{profile.attention_share:.0%} of the GMACs",
    }
    if trial.trained_arch != trial.arch:
        full = trial.profile
        found["a proxy of"] = (
            f"{trial.name} ({trial.arch_id}): {scaled(full.params)} parameters, "
            f"{number(full.gmacs)} GMACs; these weights are of the proxy"
        )
    return found


def _training(trial: TrialRecord, budget: Mapping[str, Any]) -> dict[str, str]:
    sections = {
        key.replace("_", " "): plain(value)
        for key, value in budget.items()
        if key not in _LEFT_OUT and value is not None
    }
    return {"budget": trial.budget_id, **sections}


def _scores(point: CurvePoint | None, step: int) -> list[str]:
    if point is None or not (point.scores or point.signals):
        return [f"None on record at step {step}.", ""]
    found = {}
    for score in point.scores.values():
        chance = "" if score.chance is None else f", chance level {score.chance:.3f}"
        found[display_name(score.metric)] = (
            f"{score.value:.4f} ± {score.stderr:.4f} over {score.n} prompts{chance}; "
            f"{score.signature}"
        )
        for kind, value in score.by_type.items():
            found[f"{display_name(score.metric)}, {kind}"] = f"{value:.3f}"
    for signal in point.signals.values():
        found[display_name(signal.name)] = (
            f"{signal.value:.4f} ± {signal.stderr:.4f} over {signal.n} held-out pairs"
        )
    found["training"] = (
        f"{point.images:,} images, {scaled(point.training_flops, 'FLOPs')}, "
        f"{duration(point.seconds)}, loss {point.loss:.4f}"
    )
    return [
        *_table(found),
        "± is one standard error over prompts or pairs; another seed differs by more.",
        "",
    ]


def _full_scale(trial: TrialRecord, folder: str) -> list[str]:
    # What is no plain name would be markup, or more than one word to a shell.
    name, study = (
        text if _PLAIN_NAME.fullmatch(text) else instead
        for text, instead in ((trial.name, "NAME"), (trial.study, "STUDY"))
    )
    written = f" They are written there in {markdown(folder)}." if folder else ""
    return [
        f"Beside the study's records, `nas-t2i scale-up {study} --name {name}` writes a budget of "
        "real data and the command that trains the full architecture under it, with its training "
        f"compute, and its time where a throughput is known.{written}",
        "",
    ]


def _provenance(trial: TrialRecord, step: int) -> dict[str, str]:
    found = {"study": trial.study, "trial": f"seed {trial.seed}, step {step}"}
    if trial.environment is not None:
        e = trial.environment
        found["hardware"] = f"{e.cpu or 'unknown CPU'}, accelerator: {e.accelerator}"
        found["git revision"] = e.git_revision or "-"
        found["versions"] = ", ".join(f"{name} {value}" for name, value in e.versions.items())
    found |= {f"input: {name}": value for name, value in trial.inputs.items()}
    return found


def _table(values: Mapping[str, str]) -> list[str]:
    rows = [f"| {markdown(name)} | {markdown(value)} |" for name, value in values.items()]
    return ["| | |", "|---|---|", *rows, ""]
