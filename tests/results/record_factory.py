"""Small trials made up for tests: only what a test says about them matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nas_t2i.events import EventLog
from nas_t2i.records import (
    BudgetUsed,
    CurvePoint,
    EndEvent,
    Environment,
    Profile,
    RungEvent,
    Score,
    Signal,
    SpaceUsed,
    StartEvent,
    StudyRecord,
    TrialRecord,
    TrialState,
)
from nas_t2i.store import write_study

ENVIRONMENT = Environment(
    nas_t2i="0.1.0",
    git_revision="",
    python="3.11.7",
    platform="Linux",
    cpu="",
    cores=2,
    threads=1,
    accelerator="cpu",
    versions={},
)
PROMPTS = 60
# What sets the scores of another metric apart: no chance level, no types of question.
HELD_OUT = {
    "metric": "heldout_r2",
    "chance": None,
    "by_type": {},
    "signature": "heldout_r2/60",
}


def prompt_scores(mean: float, *, noise: int = 0, prompts: int = PROMPTS) -> list[float]:
    """Scores of prompts with about this mean, the same hard prompts for every `noise`."""
    shared = np.random.default_rng(0).normal(0, 0.2, prompts)
    own = np.random.default_rng([1, noise]).normal(0, 0.05, prompts)
    return [round(float(score), 4) for score in np.clip(mean + shared + own, 0, 1)]


def score(per_prompt: Sequence[float], /, **changes: Any) -> Score:
    values: dict[str, Any] = {
        "metric": "tifa",
        "value": float(np.mean(per_prompt)),
        "stderr": float(np.std(per_prompt, ddof=1) / len(per_prompt) ** 0.5),
        "n": len(per_prompt),
        "chance": 0.35,
        "by_type": {"color": float(np.mean(per_prompt)), "counting": 0.5},
        "signature": "tifa/shapes-1/60",
        "per_prompt": list(per_prompt),
    }
    return Score(**(values | changes))


def point(step: int, per_prompt: Sequence[float], /, **changes: Any) -> CurvePoint:
    made = score(per_prompt, **changes)
    return CurvePoint(
        step=step,
        images=step * 32,
        training_flops=step * 6e9,
        loss=1.0 / step,
        seconds=step / 10,
        evaluation_seconds=1.0,
        scores={made.metric: made},
    )


def signals_of(loss: float) -> dict[str, Signal]:
    """A held-out loss and a text gain of one less it, of four pairs."""
    values = {"heldout_loss": loss, "text_gain": 1 - loss}
    return {
        name: Signal(
            name=name,
            value=value,
            stderr=0.01,
            n=4,
            signature="s",
            per_pair=[value - 0.01, value + 0.01, value, value],
        )
        for name, value in values.items()
    }


def profile(arch_id: str, name: str, params: int, gmacs: float) -> Profile:
    return Profile(
        name=name,
        arch_id=arch_id,
        family=arch_id.partition("-")[0],
        params=params,
        gmacs=gmacs,
        gmacs_paper=gmacs,
        attention_gmacs=gmacs * 0.6,
        attention_gmacs_paper=gmacs * 0.6,
        attention_gmacs_paper_no_mid=gmacs * 0.5,
        attention_share=0.6,
        uncounted_ops={},
        latent_size=32,
        text_tokens=77,
    )


def trial(
    name: str = "A",
    curve: dict[int, float | Sequence[float]] | None = None,
    *,
    seed: int = 0,
    state: TrialState = TrialState.COMPLETE,
    params: int = 500_000_000,
    gmacs: float = 100.0,
    scored: Mapping[str, Any] | None = None,
    **changes: Any,
) -> TrialRecord:
    """One trial; `curve` maps steps to scores, their mean or those of single prompts.

    The scores are TIFA; `scored` changes what else is on record of them (`HELD_OUT`).
    """
    arch_id = changes.pop("arch_id", f"unet-{name.lower()}")
    points = [
        point(
            step,
            prompt_scores(value, noise=seed) if isinstance(value, float) else value,
            **(scored or {}),
        )
        for step, value in ({100: 0.4, 200: 0.5} if curve is None else curve).items()
    ]
    values: dict[str, Any] = {
        "study": "demo",
        "number": 0,
        "name": name,
        "arch": {"family": "unet"},
        "arch_id": arch_id,
        "family": "unet",
        "trained_arch": {"family": "unet"},
        "profile": profile(arch_id, name, params, gmacs),
        "trained_profile": profile(arch_id, name, params // 100, gmacs / 100),
        "budget_id": "embedded-1",
        "seed": seed,
        "state": state,
        "steps_done": points[-1].step if points else 0,
        "curve": points,
    }
    return TrialRecord(**(values | changes))


def study(name: str = "demo", **changes: Any) -> StudyRecord:
    values: dict[str, Any] = {
        "study": name,
        "space": SpaceUsed(name="sdxl", space_id="space-1", data={}),
        "budget": BudgetUsed(name="embedded", budget_id="embedded-1", data={}),
        "budget_id": "embedded-1",
        "seed": 0,
        "storage": "journal:results/demo/study.journal",
        "created": datetime(2026, 11, 20, 12, tzinfo=UTC),
        "environment": ENVIRONMENT,
        "seeds_per_arch": 1,
        "rungs": [100, 200],
        "metric": "tifa",
        "chance": 0.35,
        "stop_rule": "below the median at a rung",
        "note": "What was trained is the proxy, 1/8 as wide.",
    }
    return StudyRecord(**(values | changes))


def write_records(folder: Path, record: StudyRecord, trials: Iterable[TrialRecord]) -> Path:
    """Write a study and what its trials reported, as a search would."""
    write_study(folder, record)
    for made in trials:
        place = folder / "trials" / f"{made.arch_id}-s{made.seed}"
        with EventLog(place / "events.jsonl") as log:
            log.append(StartEvent(record=made.model_copy(update={"curve": []})))
            for reached in made.curve:
                log.append(RungEvent(point=reached))
            log.append(EndEvent(state=made.state))
    return folder


def beside(made: TrialRecord, *additional: Score, step: int = 0) -> TrialRecord:
    """Return a trial with additional scores behind the ranked one, at one step or (0) at all."""
    added = {score.metric: score for score in additional}
    curve = [
        p.model_copy(update={"scores": p.scores | added}) if step in (0, p.step) else p
        for p in made.curve
    ]
    return made.model_copy(update={"curve": curve})
