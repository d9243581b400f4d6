"""A table from studies: all must be there, measured alike, and trained to the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas_t2i.benchmark.form import (
    COSTS,
    ArchitectureEntry,
    Arrays,
    LeftOut,
    Manifest,
    MetricEntry,
    StudyEntry,
)
from nas_t2i.errors import IncomparableError, RecordError, did_you_mean, named
from nas_t2i.protocol.budget import Budget, recorded_budget
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import CurvePoint, Environment, TrialRecord, TrialState
from nas_t2i.results.entries import shared_metric
from nas_t2i.store import STUDY_FILE, Study
from nas_t2i.version import __version__

_UNITS = {
    "loss": "weighted squared error, mean since the rung before",
    "training_flops": "FLOPs of what was trained",
    "seconds": "seconds of training",
    "evaluation_seconds": "seconds of evaluation",
}
_MOST_VALUES = 65536  # different scores of one prompt that two bytes can name
Runs = dict[str, dict[int, TrialRecord]]


@dataclass(frozen=True)
class _Axes:
    """What the axes of a table's arrays are."""

    runs: Runs
    seeds: list[int]
    steps: list[int]
    full_steps: list[int]
    metrics: list[MetricEntry]
    signals: list[str]

    def cells(self) -> Iterator[tuple[int, int, TrialRecord]]:
        """Yield every trial with its place."""
        for i, by_seed in enumerate(self.runs.values()):
            for j, seed in enumerate(self.seeds):
                yield i, j, by_seed[seed]


def build_table(
    studies: Sequence[Study], name: str, leave_out: Sequence[str] = ()
) -> tuple[Manifest, Arrays]:
    """Put the trials of studies into one table; controls are left out.

    `leave_out` names architectures (names or ids) that are not to be in it; the table says so.

    Raises:
        IncomparableError: two budgets, spaces, metrics or metric signatures; names both.
        RecordError: trials that run, did not end, or broke; points that are missing; an
            architecture to leave out that there is not.
    """
    _check_alike(studies)
    record = studies[0].record
    if "latency" in (record.space.data.get("limits") or {}):
        raise RecordError(
            f"{studies[0].folder}: its space has a limit on latency, which a table does not "
            "record; expected a study without one"
        )
    budget = recorded_budget(record.budget.data, studies[0].folder / STUDY_FILE)
    trials = [trial for study in studies for trial in study.trials if not trial.control]
    left_out = _left_out(trials, leave_out)
    gone = {entry.arch_id for entry in left_out}
    trials = [trial for trial in trials if trial.arch_id not in gone]
    if not trials:
        raise RecordError(f"{studies[0].folder}: no trial is left for a table")
    _check_ended(trials)
    metric = shared_metric(trials)
    axes = _axes(trials, budget, metric)
    environments = list(
        dict.fromkeys(
            t.environment.model_dump_json() for *_, t in axes.cells() if t.environment is not None
        )
    )
    manifest = Manifest(
        name=name,
        nas_t2i=__version__,
        space=record.space,
        budget=record.budget,
        metric=metric,
        chance=_chance(axes, metric),
        studies=[
            StudyEntry(study=s.record.study, created=s.record.created, note=s.record.note)
            for s in studies
        ],
        environments=[Environment.model_validate_json(text) for text in environments],
        inputs=_inputs(trials),
        plugins=list({p.text: p for s in studies for p in s.record.plugins}.values()),
        architectures=[_architecture(by_seed) for by_seed in axes.runs.values()],
        left_out=left_out,
        seeds=axes.seeds,
        steps=axes.steps,
        full_steps=axes.full_steps,
        images=[step * budget.training.batch for step in axes.steps],
        metrics=axes.metrics,
        signals=axes.signals,
    )
    return manifest, _arrays(axes, metric, environments)


def _check_alike(studies: Sequence[Study]) -> None:
    first = studies[0].record
    for study in studies:
        other = study.record
        for what, one, two in (
            ("budgets", first.budget_id, other.budget_id),
            ("spaces", first.space.space_id, other.space.space_id),
        ):
            if one != two:
                raise IncomparableError(
                    f"studies of different {what} can't make one table: {one} ({first.study}) and "
                    f"{two} ({other.study})"
                )
        if study.running:
            raise RecordError(
                f"study {other.study}: it is being searched now; expected one that is complete"
            )


def _left_out(trials: Sequence[TrialRecord], leave_out: Sequence[str]) -> list[LeftOut]:
    known = {t.arch_id: t.name for t in trials}
    found = {}
    for wanted in leave_out:
        ids = [i for i, name in known.items() if wanted in (i, name)]
        if not ids:
            hint = did_you_mean(wanted, known.values())
            raise RecordError(
                f"--leave-out: no architecture {wanted!r}; expected one of the studies'"
                + (f"; {hint}" if hint else "")
            )
        states = {t.state.value for t in trials if t.arch_id == ids[0]}
        why = f"as asked; its trials were {', '.join(sorted(states))}"
        found[ids[0]] = LeftOut(name=known[ids[0]], arch_id=ids[0], why=why)
    return list(found.values())


def _check_ended(trials: Sequence[TrialRecord]) -> None:
    open_ = [t for t in trials if t.state is not TrialState.COMPLETE]
    if open_:
        told = named(f"{t.name} seed {t.seed} ({t.state.value})" for t in open_)
        raise RecordError(
            f"study {open_[0].study}: trials that were not trained to the end: {told}; expected "
            "complete ones (search with --no-early-stopping), or --leave-out NAME"
        )


def _axes(trials: Sequence[TrialRecord], budget: Budget, metric: str) -> _Axes:
    """Return the axes; every point of their product must be there."""
    runs: Runs = {}
    for trial in trials:
        runs.setdefault(trial.arch_id, {})[trial.seed] = trial
    seeds = sorted({t.seed for t in trials})
    missing = [
        f"{next(iter(by_seed.values())).name} seed {seed} (no trial)"
        for by_seed in runs.values()
        for seed in seeds
        if seed not in by_seed
    ]
    names: dict[str, int] = {}
    for by_seed in runs.values():
        for trial in by_seed.values():
            curve = {point.step: point for point in trial.curve}
            missing += [
                f"{trial.name} seed {trial.seed} step {step}"
                for step in budget.rungs
                if step not in curve
                or (step in budget.full_rungs and metric not in curve[step].scores)
            ]
        name = _architecture(by_seed).name
        names[name] = names.get(name, 0) + 1
    if missing:
        raise RecordError(f"study {trials[0].study}: points are missing: {named(missing)}")
    if twice := [name for name, count in names.items() if count > 1]:
        raise RecordError(f"two architectures are called {twice[0]}; expected names that differ")
    points = [point for t in trials for point in t.curve]
    signals = list(dict.fromkeys(name for point in points for name in point.signals))
    return _Axes(
        runs=runs,
        seeds=seeds,
        steps=list(budget.rungs),
        full_steps=list(budget.full_rungs),
        metrics=_metrics(points, metric, signals),
        signals=signals,
    )


def _metrics(
    points: Sequence[CurvePoint], ranked: str, signals: Sequence[str]
) -> list[MetricEntry]:
    """List what is measured, the ranked metric first; refuse what was measured in two ways."""
    scores = dict.fromkeys([ranked, *(name for point in points for name in point.scores)])
    found: dict[str, MetricEntry] = {}
    for name in scores:
        of = [point.scores[name] for point in points if name in point.scores]
        signature = _one(name, [score.signature for score in of])
        n = max(score.n for score in of)
        better = of[0].better
        shared: dict[str, Any] = {"kind": "score", "better": better, "signature": signature}
        found[name] = MetricEntry(name=name, unit="score", n=n, **shared)
        for part in dict.fromkeys(part for score in of for part in score.by_type):
            found[f"{name}/{part}"] = MetricEntry(name=f"{name}/{part}", unit="accuracy", **shared)
    for name in signals:
        signal_points = [point.signals[name] for point in points if name in point.signals]
        shared = {
            "kind": "signal",
            "better": SIGNALS[name].better,
            "unit": SIGNALS[name].unit,
            "signature": _one(name, [signal.signature for signal in signal_points]),
        }
        n = max(signal.n for signal in signal_points)
        found[name] = MetricEntry(name=name, n=n, **shared)
        for band in dict.fromkeys(b for signal in signal_points for b in signal.by_noise):
            found[f"{name}/{band}"] = MetricEntry(name=f"{name}/{band}", **shared)
    for name, unit in _UNITS.items():
        found[name] = MetricEntry(name=name, kind="cost", better="smaller", unit=unit)
    return list(found.values())


def _one(name: str, signatures: Sequence[str]) -> str:
    different = list(dict.fromkeys(signatures))
    if len(different) > 1:
        raise IncomparableError(
            f"scores of different metric signatures can't stand in one table: {name} as "
            f"{different[0]} and as {different[1]}"
        )
    return different[0]


def _chance(axes: _Axes, metric: str) -> float | None:
    for *_, trial in axes.cells():
        for point in trial.curve:
            if metric in point.scores:
                return point.scores[metric].chance
    return None


def _inputs(trials: Sequence[TrialRecord]) -> dict[str, str]:
    different = {tuple(sorted(t.inputs.items())): t for t in trials}
    if len(different) > 1:
        one, two = list(different.values())[:2]
        raise IncomparableError(
            f"{one.name} of study {one.study} and {two.name} of study {two.study} were trained on "
            "different data, text or latents: they can't stand in one table"
        )
    return dict(trials[0].inputs)


def _architecture(by_seed: dict[int, TrialRecord]) -> ArchitectureEntry:
    trial = by_seed[min(by_seed)]
    return ArchitectureEntry(
        name=trial.name,
        arch_id=trial.arch_id,
        family=trial.family,
        arch=trial.arch,
        trained_arch=trial.trained_arch,
        profile=trial.profile,
        trained_profile=trial.trained_profile,
    )


def _arrays(axes: _Axes, metric: str, environments: Sequence[str]) -> Arrays:
    shape = (len(axes.runs), len(axes.seeds), len(axes.steps), len(axes.metrics))
    value, stderr = np.full(shape, np.nan), np.full(shape, np.nan)
    place = {entry.name: i for i, entry in enumerate(axes.metrics)}
    numbers = len(next(iter(_first(axes, metric))).per_prompt)
    prompts = np.full((*shape[:2], len(axes.full_steps), numbers), np.nan)
    environment = np.zeros(shape[:2], dtype=np.int16)
    for i, j, trial in axes.cells():
        if trial.environment is not None:
            environment[i, j] = environments.index(trial.environment.model_dump_json())
        curve = {point.step: point for point in trial.curve}
        for k, step in enumerate(axes.steps):
            for name, one, error in _numbers(curve[step]):
                value[i, j, k, place[name]], stderr[i, j, k, place[name]] = one, error
        for k, step in enumerate(axes.full_steps):
            single = curve[step].scores[metric].per_prompt
            if len(single) != numbers:
                raise IncomparableError(
                    f"{trial.name} seed {trial.seed} step {step}: scored on {len(single)} prompts; "
                    f"expected {numbers}, as the others"
                )
            prompts[i, j, k] = single
    values, codes = np.unique(prompts, return_inverse=True)
    if values.size > _MOST_VALUES:
        raise RecordError(
            f"{metric}: prompts have {values.size:,} different scores; expected at most "
            f"{_MOST_VALUES:,}"
        )
    return {
        "value": value,
        "stderr": stderr,
        "prompt_codes": codes.reshape(prompts.shape),
        "prompt_values": values,
        "pairs": _pairs(axes),
        "environment": environment,
    }


def _first(axes: _Axes, metric: str) -> Iterator[Any]:
    for *_, trial in axes.cells():
        yield from (p.scores[metric] for p in trial.curve if metric in p.scores)


def _numbers(point: CurvePoint) -> Iterator[tuple[str, float, float]]:
    """Yield every number of a point: name, value, standard error."""
    for name, score in point.scores.items():
        yield name, score.value, score.stderr
        for part, one in score.by_type.items():
            yield f"{name}/{part}", one, math.nan
    for name, signal in point.signals.items():
        yield name, signal.value, signal.stderr
        for band, estimate in signal.by_noise.items():
            error = math.nan if estimate.stderr is None else estimate.stderr
            yield f"{name}/{band}", estimate.value, error
    for cost in COSTS:
        yield cost, getattr(point, cost), math.nan


def _pairs(axes: _Axes) -> Any:
    """Return (signals, architectures, seeds, steps, pairs), NaN where a signal lacks them."""
    found = {
        (g, i, j, k): signal.per_pair
        for i, j, trial in axes.cells()
        for k, step in enumerate(axes.steps)
        for point in trial.curve
        if point.step == step
        for g, name in enumerate(axes.signals)
        if (signal := point.signals.get(name)) is not None
    }
    most = max((len(values) for values in found.values()), default=0)
    shape = (len(axes.signals), len(axes.runs), len(axes.seeds), len(axes.steps), most)
    pairs = np.full(shape, np.nan, dtype=np.float32)
    for cell, values in found.items():
        if len(values) == most:
            pairs[cell] = values
    return pairs


def table_name(studies: Sequence[Study]) -> str:
    """Return the name of a table of which nothing else was said."""
    return "+".join(dict.fromkeys(Path(study.folder).name for study in studies))
