"""Observations as arrays: a column for each seed of each architecture, a row for each rung."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_t2i.ranking.observations import FloatArray, Observation
from nas_t2i.ranking.scale import Scale

IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """All that is on record of the architectures of one ranking.

    A run is one seed of one architecture; runs are sorted by both, so that nothing depends on the
    order of the observations. Values on the scale are NaN where nothing was measured.
    """

    scale: Scale
    architectures: tuple[str, ...]
    apart: BoolArray
    """(architectures,): controls, which say nothing about what is searched."""
    owner: IntArray
    """(runs,): the index of a run's architecture."""
    kind: IntArray
    """(runs,): the index of the kind of architecture, within which signals compare."""
    seeds: tuple[int, ...]
    seed: IntArray
    """(runs,): the index of a run's seed."""
    steps: tuple[int, ...]
    scores: FloatArray
    """(steps, runs), on the scale."""
    clipped: BoolArray
    """(steps, runs): scores outside of what the scale tells apart."""
    errors: FloatArray
    """(steps, runs): standard error over prompts, on the scale."""
    signals: Mapping[str, FloatArray]
    """By name: (steps, runs), in the signal's unit."""
    influence: Mapping[int, npt.NDArray[np.float32]]
    """By index of a step: (runs, prompts), what each prompt adds to a score on the scale; runs
    without a score there are 0. Only for steps at which single prompts are on record for all."""

    @property
    def target(self) -> int:
        """The index of the last step at which a run has a score.

        Raises:
            ValueError: there is no score at all.
        """
        scored = np.flatnonzero((~np.isnan(self.scores)).any(axis=1))
        if not scored.size:
            raise ValueError("no score on record")
        return int(scored[-1])

    @property
    def last(self) -> IntArray:
        """(runs,): the index of the last step at which anything was measured."""
        measured = ~np.isnan(self.scores)
        for values in self.signals.values():
            measured |= ~np.isnan(values)
        steps: IntArray = len(self.steps) - 1 - np.argmax(measured[::-1], axis=0)
        return steps

    def repeated(self, row: int) -> IntArray:
        """Return the runs that say at a step how much seeds of one architecture differ.

        Those of architectures with a score of several seeds there; none of a control, and none
        where the scale clips one.
        """
        there = ~np.isnan(self.scores[row])
        count = len(self.architectures)
        barred = self.apart | (np.bincount(self.owner, self.clipped[row], count) > 0)
        says = (np.bincount(self.owner, there, count) > 1) & ~barred
        return np.flatnonzero(there & says[self.owner])


def gather(
    observations: Iterable[Observation], scale: Scale, *, apart: Collection[str] = ()
) -> Evidence:
    """Bring observations into order; `apart` names the architectures that are controls.

    Raises:
        ValueError: two observations of one run at one step, or scores of unlike numbers of prompts.
    """
    observed = sorted(
        (o for o in observations if o.score is not None or o.signals),
        key=lambda o: (o.architecture, o.seed, o.step),
    )
    architectures = tuple(dict.fromkeys(o.architecture for o in observed))
    place = {name: index for index, name in enumerate(architectures)}
    runs = {key: i for i, key in enumerate(dict.fromkeys(map(_run, observed)))}
    seeds = tuple(sorted({o.seed for o in observed}))
    kinds = sorted({o.kind for o in observed})
    kind = {_run(o): kinds.index(o.kind) for o in observed}
    steps = tuple(sorted({o.step for o in observed}))
    rows = {step: index for index, step in enumerate(steps)}
    names = sorted({name for o in observed for name in o.signals})
    raw = np.full((len(steps), len(runs)), np.nan)
    stderr = np.full_like(raw, np.nan)
    signals = {name: np.full_like(raw, np.nan) for name in names}
    seen: set[tuple[int, int]] = set()
    single: dict[int, dict[int, FloatArray]] = {}
    for o in observed:
        row, run = rows[o.step], runs[_run(o)]
        if (row, run) in seen:
            raise ValueError(f"{o.architecture}, seed {o.seed}: two observations at step {o.step}")
        seen.add((row, run))
        if o.score is not None:
            raw[row, run] = o.score
            stderr[row, run] = np.nan if o.stderr is None else o.stderr
            if o.per_prompt is not None and o.per_prompt.size > 1:
                single.setdefault(row, {})[run] = o.per_prompt
        for name, value in o.signals.items():
            signals[name][row, run] = value
    scored = ~np.isnan(raw)
    clipped = np.zeros_like(scored)
    clipped[scored] = scale.is_clipped(raw[scored])
    slopes = scale.slope(raw)
    influence = {
        row: _influence(row, by_run, slopes, len(runs))
        for row, by_run in single.items()
        if len(by_run) == int(scored[row].sum())
    }
    errors = np.nan_to_num(stderr * slopes)
    for row, values in influence.items():
        n = values.shape[1]
        errors[row] = np.sqrt(np.einsum("ij,ij->i", values, values) / (n * (n - 1)))
    return Evidence(
        scale=scale,
        architectures=architectures,
        apart=np.array([name in apart for name in architectures], dtype=bool),
        owner=np.array([place[name] for name, _ in runs], dtype=np.intp),
        kind=np.array([kind[run] for run in runs], dtype=np.intp),
        seeds=seeds,
        seed=np.array([seeds.index(seed) for _, seed in runs], dtype=np.intp),
        steps=steps,
        scores=scale.forward(raw),
        clipped=clipped,
        errors=errors,
        signals=signals,
        influence=influence,
    )


def _influence(
    row: int, by_run: Mapping[int, FloatArray], slopes: FloatArray, runs: int
) -> npt.NDArray[np.float32]:
    sizes = sorted({values.size for values in by_run.values()})
    if len(sizes) > 1:
        raise ValueError(f"scores are over different numbers of prompts: {sizes[0]}, {sizes[1]}")
    order = list(by_run)
    # Single precision: of ten thousand runs this is what takes memory and time.
    values = np.concatenate(list(by_run.values()), dtype=np.float32).reshape(len(order), -1)
    if np.isnan(values).any():
        with np.errstate(invalid="ignore"):
            values -= np.nanmean(values, axis=1, keepdims=True)
        # A prompt that a run was not scored on adds nothing there.
        values = np.nan_to_num(values, copy=False)
    else:
        values -= values.mean(axis=1, keepdims=True)
    table = np.zeros((runs, sizes[0]), dtype=np.float32)
    table[order] = values * slopes[row, order][:, None].astype(np.float32)
    return table


def _run(observation: Observation) -> tuple[str, int]:
    return observation.architecture, observation.seed


def sums(values: npt.NDArray[np.floating], owner: IntArray, count: int) -> FloatArray:
    """Add the columns of (..., runs) that belong together: (..., count)."""
    flat = values.reshape(-1, values.shape[-1])
    found = np.zeros((len(flat), count))
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    if len(owner):
        found[:, owner[starts]] = np.add.reduceat(flat, starts, axis=1)
    summed: FloatArray = found.reshape(*values.shape[:-1], count)
    return summed
