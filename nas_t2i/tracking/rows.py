"""From the records of a study to the runs and rows that a tracker is given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from nas_t2i.evaluation.sampling.sheet_layout import sheet_name
from nas_t2i.records import (
    CurvePoint,
    ProgressEvent,
    RungEvent,
    StudyRecord,
    TrialEvent,
    TrialRecord,
)
from nas_t2i.results.figures.parameters import flat_parameters
from nas_t2i.results.report.pictures import open_sheet
from nas_t2i.search.resume.rung_log import Decided, Seen
from nas_t2i.search.trial_config import trial_key
from nas_t2i.tracking.tracker import Param, Row, Run

_BEST = "search/best_score"


def trial_run(study: StudyRecord, trial: TrialRecord) -> Run:
    """Return the run of a trial, with its architecture's parameters and costs."""
    full, trained = trial.profile, trial.trained_profile
    params = {
        "architecture": trial.name,
        "family": trial.family,
        **{name: _plain(value) for name, value in flat_parameters(trial.arch).items()},
        "params": full.params,
        "gmacs": full.gmacs,
        "attention_share": full.attention_share,
        "trained_params": trained.params,
        "trained_gmacs": trained.gmacs,
        "seed": trial.seed,
        "control": trial.control or "none",
        "arch_id": trial.arch_id,
        "budget_id": trial.budget_id,
    }
    key = _key(study, trial_key(trial.arch_id, trial.seed, trial.control))
    name = f"{trial.name} seed {trial.seed}"
    return Run(key, name, study.study, params, f"scores/{study.metric}")


def trial_rows(
    events: Iterable[TrialEvent], study: StudyRecord, folder: Path, after: int
) -> Iterator[Row]:
    """Yield what a trial measured above step `after`, each step once.

    A trial that was killed repeats steps when it goes on: what was told first stands.
    """
    for event in events:
        if isinstance(event, RungEvent) and event.point.step > after:
            after = event.point.step
            yield Row(after, _values(event.point), _images(folder, after))
        elif isinstance(event, ProgressEvent) and event.step > after:
            if event.step in study.rungs:
                continue  # the rung tells more
            after = event.step
            yield Row(after, {"training/loss": event.loss, "training/seconds": event.seconds})


def _values(point: CurvePoint) -> dict[str, float]:
    values = {
        "training/loss": point.loss,
        "training/seconds": point.seconds,
        "training/flops": point.training_flops,
        "training/images": float(point.images),
    }
    for name, score in point.scores.items():
        values |= {f"scores/{name}": score.value, f"scores/{name}_stderr": score.stderr}
        for kind, accuracy in score.by_type.items():
            values[f"{name}_by_type/{kind.replace(' ', '_')}"] = accuracy
    for name, signal in point.signals.items():
        values |= {f"signals/{name}": signal.value, f"signals/{name}_stderr": signal.stderr}
    return values


def _images(folder: Path, step: int) -> dict[str, Image.Image]:
    file = folder / sheet_name(step)
    sheet = open_sheet(file) if file.is_file() else None
    return {} if sheet is None else {"samples": sheet}


def search_runs(study: StudyRecord) -> tuple[Run, Run]:
    """Return the runs of the search itself: against measurements, and against compute."""
    params: dict[str, Param] = {
        "space": study.space.name,
        "space_id": study.space.space_id,
        "budget": study.budget.name,
        "budget_id": study.budget_id,
        "seed": study.seed,
        "seeds_per_architecture": study.seeds_per_arch,
        "metric": study.metric,
    }
    return (
        Run(_key(study, "search"), "search", study.study, params, _BEST),
        Run(_key(study, "compute"), "search by compute", study.study, params, _BEST),
    )


@dataclass
class Measured:
    """A trial as the search's own runs see it."""

    arch_id: str
    control: str
    flops: dict[int, float] = field(default_factory=dict)
    """Training compute up to a rung, FLOPs, by step."""


def label(trial: TrialRecord) -> tuple[str, int]:
    """Return what rungs.jsonl calls a trial: its candidate and its seed."""
    return trial.arch_id + (f"-{trial.control}" if trial.control else ""), trial.seed


def search_rows(
    seen: Iterable[Seen | Decided],
    trials: Mapping[tuple[str, int], Measured],
    study: StudyRecord,
    *,
    smaller_is_better: bool,
) -> tuple[list[Row], list[Row]]:
    """Return how a search went, in the order in which it measured.

    `seen` is the study's rungs.jsonl, `trials` its trials by `label`. A row is a score at a full
    rung. The first list has the number of the score as its step, the second the training compute
    so far, in GFLOPs of what was trained. The best is the best score of a single trial at the last
    rung; controls cost compute and are never the best.
    """
    by_number: list[Row] = []
    by_compute: dict[int, Row] = {}
    compute: dict[tuple[str, int], float] = {}
    architectures: set[str] = set()
    best: float | None = None
    for event in seen:
        if not isinstance(event, Seen):
            continue
        key = event.candidate, event.seed
        trial = trials.get(key)
        if trial is None or event.rung not in trial.flops:
            continue
        compute[key] = trial.flops[event.rung]
        if not trial.control:
            architectures.add(trial.arch_id)
            if event.rung == study.rungs[-1]:
                known = [event.score] if best is None else [best, event.score]
                best = min(known) if smaller_is_better else max(known)
        flops = sum(compute.values())
        values = {
            "search/architectures": float(len(architectures)),
            "search/trials": float(len(compute)),
            "search/training_flops": flops,
        }
        if best is not None:
            values[_BEST] = best
            gflops = round(flops / 1e9)
            # The first of a step stands: it may have been sent.
            by_compute.setdefault(gflops, Row(gflops, {_BEST: best}))
        by_number.append(Row(len(by_number) + 1, values))
    return by_number, list(by_compute.values())


def _key(study: StudyRecord, what: str) -> str:
    """Two studies of one name differ in when they were made."""
    text = f"{study.study}\n{study.created.isoformat()}\n{what}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _plain(value: object) -> Param:
    return value if isinstance(value, (bool, int, float, str)) else str(value)
