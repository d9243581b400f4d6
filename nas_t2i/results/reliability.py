"""How far a study's ranking can be believed, from its own repeats, rungs and controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from nas_t2i.errors import RecordError
from nas_t2i.records import TrialRecord, TrialState
from nas_t2i.results.early import EarlyQuantity, early_quantities
from nas_t2i.results.entries import shared_metric
from nas_t2i.statistics import Spread, better_half, seed_spread, spearman

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Spearman rank correlations of architectures' scores."""

    step: int
    with_last: float  # means over seeds, this rung against the last
    with_last_one_seed: float  # the same on single seeds, their mean
    with_last_better_half: float  # over the better half at the last rung, means over seeds


@dataclass(frozen=True)
class ControlScore:
    """Where a control ended."""

    name: str
    score: float  # mean over seeds
    chance: float | None  # None: the metric has no such level
    stderr: float  # over prompts, seeds averaged
    seeds: int


@dataclass(frozen=True)
class Reliability:
    """What repeats say about a ranking. Scores are of one metric, in its unit."""

    metric: str
    names: list[str]  # architectures, best first
    seeds: list[int]
    steps: list[int]
    scores: Table  # (architectures, seeds, rungs), in the order of `names`
    spread: Spread
    spread_better_half: Spread
    agreements: list[Agreement]
    between_seeds: list[float]  # Spearman of the last rung between each pair of seeds
    controls: list[ControlScore]
    worst: float  # mean score of the last architecture
    state_counts: dict[str, int]
    early: list[EarlyQuantity]  # every quantity and rung
    families: dict[str, int]  # architectures of each


def assess(trials: Sequence[TrialRecord]) -> Reliability:
    """Compare what architectures, seeds and rungs say, over trials that all ran to the end.

    Raises:
        RecordError: fewer than three architectures with the same two or more seeds, all complete.
        IncomparableError: scores of two metrics among them; names both.
    """
    metric = shared_metric(trials)
    whole = {(trial.arch_id, trial.seed): trial for trial in trials if not trial.control}
    trials = [_where_scored(trial, metric) for trial in trials]
    real = [trial for trial in trials if not trial.control]
    complete = [trial for trial in real if trial.state is TrialState.COMPLETE]
    by_arch: dict[str, dict[int, TrialRecord]] = {}
    for trial in complete:
        by_arch.setdefault(trial.arch_id, {})[trial.seed] = trial
    seeds = sorted({trial.seed for trial in complete})
    full = {key: runs for key, runs in by_arch.items() if sorted(runs) == seeds}
    if len(full) < 3 or len(seeds) < 2:
        raise RecordError(
            f"reliability needs 3 or more architectures with the same 2 or more seeds, all run to "
            f"the end; got {len(full)} with {len(seeds)} (nas-t2i search SPACE --seeds 3 "
            "--no-early-stopping --controls)"
        )
    steps = [point.step for point in next(iter(full.values()))[seeds[0]].curve]
    table = np.array(
        [
            [[point.scores[metric].value for point in runs[seed].curve] for seed in seeds]
            for runs in full.values()
        ]
    )
    order = np.argsort(-table[:, :, -1].mean(axis=1), kind="stable")
    table = table[order]
    names = [next(iter(runs.values())).name for runs in full.values()]
    last = table[:, :, -1]
    half = better_half(last)
    return Reliability(
        metric=metric,
        names=[names[i] for i in order],
        seeds=seeds,
        steps=steps,
        scores=table,
        spread=seed_spread(last),
        spread_better_half=seed_spread(half),
        agreements=[
            Agreement(
                step=step,
                with_last=spearman(table[:, :, i].mean(axis=1), last.mean(axis=1)),
                with_last_one_seed=float(
                    np.mean([spearman(table[:, s, i], last[:, s]) for s in range(len(seeds))])
                ),
                with_last_better_half=spearman(
                    table[: len(half), :, i].mean(axis=1), half.mean(axis=1)
                ),
            )
            for i, step in enumerate(steps[:-1])
        ],
        between_seeds=[
            spearman(last[:, a], last[:, b]) for a, b in combinations(range(len(seeds)), 2)
        ],
        controls=_controls(trials, metric),
        worst=float(last.mean(axis=1).min()),
        state_counts={
            state.value: count
            for state in TrialState
            if (count := sum(trial.state is state for trial in trials))
        },
        early=early_quantities(
            [{seed: whole[key, seed] for seed in seeds} for key in full], seeds, metric
        ),
        families=dict(sorted(Counter(runs[seeds[0]].family for runs in full.values()).items())),
    )


def _where_scored(trial: TrialRecord, metric: str) -> TrialRecord:
    """Return a trial without the rungs at which the signals alone were measured."""
    curve = [point for point in trial.curve if metric in point.scores]
    return trial.model_copy(update={"curve": curve})


def _controls(trials: Sequence[TrialRecord], metric: str) -> list[ControlScore]:
    names = sorted({trial.name for trial in trials if trial.control and trial.curve})
    scores = []
    for name in names:
        finals = [t.curve[-1].scores[metric] for t in trials if t.name == name and t.curve]
        prompts = np.array([score.per_prompt for score in finals]).mean(axis=0)
        scores.append(
            ControlScore(
                name=name,
                score=float(np.mean([score.value for score in finals])),
                chance=finals[0].chance,
                stderr=float(prompts.std(ddof=1) / np.sqrt(len(prompts))),
                seeds=len(finals),
            )
        )
    return scores
