"""Does an early loss know more of an architecture than a single final score?

    python benchmarks/early_loss.py TABLE [TABLE ...]

1. Spearman's correlation of what one seed shows with the mean final score of the other seeds, and
   the correlation of what sets a seed apart (its distance from the mean of its architecture, on
   the ranking's scale) with what sets its final score apart: of the held-out loss at every rung,
   and of the final score itself. Within each family of ten or more, and among its better half.
2. The ranking by one seed of each architecture, with its signals and without, against the other
   seeds: error of the expected score, Spearman, the share of others' means in the 95 % interval,
   and the log density of the others' means (natural logarithm, a mean over architectures), which
   rewards to be near and to know how near. Of all architectures of the table and of draws of 24
   (`--draws`), or of two thirds where there are fewer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from nas_t2i.benchmark.table import Table
from nas_t2i.ranking.observations import FloatArray, Observation
from nas_t2i.ranking.posterior import believe
from nas_t2i.ranking.scale import Scale, scale_for

_FAMILY = 10


def scale_of(table: Table) -> Scale:
    """Return the ranking's scale for a table's metric."""
    first = table.point(table.architectures[0], table.steps[-1], table.seeds[0])
    chance = first.scores[table.metric].chance
    finals = table.values(table.metric).ravel()
    return scale_for([list(finals)], chance, proportion=chance is not None)


def what_seeds_share(table: Table, names: Sequence[str], label: str) -> None:
    """Print a line for each rung of the held-out loss, and one for the final score."""
    rows = [list(table.architectures).index(name) for name in names]
    finals = scale_of(table).forward(table.values(table.metric)[rows])
    shown = {
        f"held-out loss, {step / table.steps[-1]:.0%}": -np.log(
            table.values("heldout_loss", step)[rows]
        )
        for step in table.steps
    }
    for what, values in {**shown, "final score": finals}.items():
        found = [
            spearmanr(values[:, seed], np.delete(finals, seed, axis=1).mean(axis=1)).statistic
            for seed in range(finals.shape[1])
        ]
        apart = [part - part.mean(axis=1, keepdims=True) for part in (values, finals)]
        luck = np.corrcoef(apart[0].ravel(), apart[1].ravel())[0, 1]
        print(f"{label:22} {what:20} {np.mean(found):6.2f} {luck:12.2f}")


def observations(table: Table, names: Sequence[str], seed: int) -> list[Observation]:
    """Return what one seed of each architecture shows."""
    found = []
    for name in names:
        family = table.architecture(name).family
        for step in table.steps:
            point = table.point(name, step, seed)
            score = point.scores.get(table.metric)
            found.append(
                Observation(
                    architecture=name,
                    seed=seed,
                    step=step,
                    score=None if score is None else score.value,
                    stderr=None if score is None else score.stderr,
                    per_prompt=None if score is None else np.asarray(score.per_prompt),
                    signals={key: signal.value for key, signal in point.signals.items()},
                    kind=family,
                )
            )
    return found


def held_against_others(
    observed: Sequence[Observation], scale: Scale, others: dict[str, FloatArray], noise: float
) -> FloatArray:
    """Return error, Spearman, share in the interval and log density for one ranking."""
    posterior = believe(observed, scale, draws=1000)
    finals = np.array([others[name] for name in posterior.architectures])
    scores, found = finals.mean(axis=1), scale.forward(finals).mean(axis=1)
    deviation = np.sqrt(posterior.deviation**2 + noise / finals.shape[1])
    z = (found - posterior.location) / deviation
    density = -0.5 * z**2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)
    return np.array(
        [
            np.sqrt(np.mean((posterior.expected - scores) ** 2)),
            spearmanr(posterior.expected, scores).statistic,
            np.mean(np.abs(z) < 1.96),
            density.mean(),
        ]
    )


def ranked_by_one_seed(table: Table, groups: Sequence[Sequence[str]], label: str) -> None:
    """Print the rankings of groups of architectures with and without their signals."""
    finals = dict(zip(table.architectures, table.values(table.metric), strict=True))
    scale = scale_of(table)
    noise = float(scale.forward(table.values(table.metric)).var(axis=1, ddof=1).mean())
    found: dict[str, list[FloatArray]] = {"without": [], "with": []}
    for names in groups:
        for place, seed in enumerate(table.seeds):
            observed = observations(table, names, seed)
            others = {name: np.delete(finals[name], place) for name in names}
            scored = [replace(o, signals={}) for o in observed if o.score is not None]
            for which, shown in (("without", scored), ("with", observed)):
                found[which].append(held_against_others(shown, scale, others, noise))
    for which, rows in found.items():
        error, order, held, density = np.mean(rows, axis=0)
        print(f"{label:22} {which:20} {error:6.4f} {order:6.3f} {held:6.3f} {density:7.3f}")


def main() -> None:
    """Print both tables for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=10, help="groups of 24 (10)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for file in asked.tables:
        table = Table.load(file)
        names = list(table.architectures)
        generator = np.random.default_rng(asked.seed)
        print(f"\n{table!r}\n{'':22} {'of one seed':20} others   seed's luck")
        for family in sorted({table.architecture(name).family for name in names}):
            own = [name for name in names if table.architecture(name).family == family]
            if len(own) >= _FAMILY:
                what_seeds_share(table, own, f"{len(own)} {family}")
                mean = {name: table.values(table.metric)[names.index(name)].mean() for name in own}
                half = sorted(own, key=lambda name: -mean[name])[: (len(own) + 1) // 2]
                what_seeds_share(table, half, f"{len(half)} {family}, better")
        print(f"{'':22} {'ranked by one seed':20}  error  order   held density")
        ranked_by_one_seed(table, [names], f"all {len(names)}")
        size = min(24, 2 * len(names) // 3)
        drawn = [list(generator.choice(names, size, replace=False)) for _ in range(asked.draws)]
        ranked_by_one_seed(table, drawn, f"{size}, {asked.draws} draws")


if __name__ == "__main__":
    main()
