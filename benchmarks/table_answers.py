"""What a table says about short runs, for any table: how early, how noisy, and what is for free.

    python benchmarks/table_answers.py TABLE

1. How early does the ranking settle? Spearman's correlation over architectures of what each
   quantity shows at each rung with the final score, means over seeds on both sides, with a 95 %
   interval of the bootstrap over architectures; the same on one seed; among the better half. The
   rung of a quantity from which on the lower end is .8 or more is marked.
2. What is a final score made of? On the ranking's scale (logit above chance), by analysis of
   variance of architectures x seeds, both random: the architecture, what a seed does to all, what
   it does to one (net of prompts), and the prompts. Intervals as above.
3. Does the size, or the loss at the first rung, rank as well as the first score?
4. Do signals rank within a family, where they do not across families?
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nas_t2i.benchmark.table import Table
from nas_t2i.ranking.scale import scale_for
from nas_t2i.results.correlations import Correlation, spearman_interval
from nas_t2i.results.early import early_quantities
from nas_t2i.statistics import FloatArray

_SETTLED = 0.8
_FAMILY = 10  # architectures that a family needs for a correlation of its own
_SAMPLES = 1000


def text(found: Correlation) -> str:
    """Return a correlation with its interval."""
    return f"{found.value:5.2f} ({found.low:5.2f} to {found.high:5.2f})"


def how_early(table: Table) -> None:
    """Print a line for every quantity and rung."""
    runs: dict[str, dict[int, object]] = {}
    for trial in table.trials():
        runs.setdefault(trial.arch_id, {})[trial.seed] = trial
    found = early_quantities(list(runs.values()), table.seeds, table.metric)  # type: ignore[arg-type]
    last = table.steps[-1]
    print(f"{'quantity':14} {'step':>5} {'of all':>7}   Spearman (95 %)        one seed  half")
    settled: dict[str, int] = {}  # by quantity: the earliest rung of those that stay so to the end
    fell: set[str] = set()
    for one in reversed(found):
        if one.spearman.low < _SETTLED:
            fell.add(one.quantity)
        elif one.quantity not in fell:
            settled[one.quantity] = one.step
    for one in found:
        settles = one.step == settled.get(one.quantity)
        mark = f"  <- from here on at least {_SETTLED:g}" if settles else ""
        print(
            f"{one.quantity:14} {one.step:5} {one.step / last:7.0%}   {text(one.spearman)}   "
            f"{one.spearman_one_seed:6.2f}  {one.spearman_better_half:5.2f}{mark}"
        )


def shares(scores: FloatArray, prompts: FloatArray) -> FloatArray:
    """Return the four variances of (architectures, seeds), prompts (architectures,) given.

    Two-way random effects without replication (Searle, Casella & McCulloch, "Variance Components",
    1992, section 4.3): mean squares are equated with their expectations; what is negative is 0.
    """
    count, seeds = scores.shape
    rows, columns = scores.mean(axis=1), scores.mean(axis=0)
    left = scores - rows[:, None] - columns + scores.mean()
    rest = float((left**2).sum()) / ((count - 1) * (seeds - 1))
    between = seeds * float(rows.var(ddof=1))
    common = count * float(columns.var(ddof=1))
    prompt = float(prompts.mean())
    parts = [(between - rest) / seeds, (common - rest) / count, rest - prompt, prompt]
    return np.maximum(np.array(parts), 0.0)


def made_of(table: Table) -> None:
    """Print the variances and their shares."""
    scores = table.values(table.metric)
    chance = table.manifest.chance
    scale = scale_for([scores], chance, proportion=bool(scores.max() <= 1))
    on_scale = scale.forward(scores)
    slopes = scale.slope(scores)
    last = table.steps[-1]
    # What a single score would change by with other prompts; the part that seeds share is in the
    # architecture's variance, and can't be told from it here.
    single = []
    for a, name in enumerate(table.architectures):
        marks = np.stack([table.prompts(name, last, seed) for seed in table.seeds])
        marks = (marks - marks.mean(axis=1, keepdims=True)) * slopes[a][:, None]
        unshared = (marks - marks.mean(axis=0)) ** 2
        size = marks.shape[1]
        single.append(unshared.sum() / ((len(table.seeds) - 1) * (size - 1) * size))
    values = np.array(single)
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(_SAMPLES):
        chosen = generator.integers(0, len(scores), len(scores))
        drawn.append(shares(on_scale[chosen], values[chosen]))
    found = shares(on_scale, values)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    names = ("architecture", "seed, to all alike", "seed, to one", "prompts, not shared by seeds")
    print(f"{'part':30} variance (95 %)            share of one score")
    for i, name in enumerate(names):
        interval = f"({low[i]:.3f} to {high[i]:.3f})"
        print(f"{name:30} {found[i]:.3f} {interval:18}  {found[i] / found.sum():6.1%}")
    print(f"what a seed does to all alike is estimated from {len(table.seeds)} seeds alone")


def for_free(table: Table) -> None:
    """Print how well sizes and the first rung rank, beside the first score."""
    final = table.values(table.metric).mean(axis=1)
    final = final if table.better == "larger" else -final
    entries = table.manifest.architectures
    candidates: dict[str, FloatArray] = {
        f"{name} of the full architecture": np.array([getattr(e.profile, name) for e in entries])
        for name in ("params", "gmacs", "attention_share")
    }
    candidates |= {
        f"{name} of what was trained": np.array([getattr(e.trained_profile, name) for e in entries])
        for name in ("params", "gmacs", "attention_share")
    }
    first = table.steps[0]
    candidates[f"training loss up to step {first}, negated"] = -table.values("loss", first).mean(1)
    for name in table.manifest.signals:
        sign = -1 if name == "heldout_loss" else 1
        candidates[f"{name} at step {first}"] = sign * table.values(name, first).mean(axis=1)
    sign = 1 if table.better == "larger" else -1
    for step in table.full_steps[:-1]:
        scores = sign * table.values(table.metric, step).mean(axis=1)
        candidates[f"{table.metric} at step {step}"] = scores
    print(f"{'what':46} Spearman with the final score (95 %)")
    for name, values in candidates.items():
        print(f"{name:46} {text(spearman_interval(values.astype(float), final))}")


def within_families(table: Table) -> None:
    """Print Spearman's correlations of signals and sizes with the final score, family by family."""
    final = table.values(table.metric).mean(axis=1)
    final = final if table.better == "larger" else -final
    families = np.array([entry.family for entry in table.manifest.architectures])
    columns = {"all": np.ones(len(families), dtype=bool)}
    columns |= {name: families == name for name in np.unique(families)}
    columns = {name: rows for name, rows in columns.items() if rows.sum() >= _FAMILY}
    print(
        "".join(
            [f"{'':22}", *(f"{n} ({int(rows.sum())})".rjust(24) for n, rows in columns.items())]
        )
    )
    quantities = {
        f"{name} at {step}": (-1 if name == "heldout_loss" else 1)
        * table.values(name, step).mean(axis=1)
        for name in table.manifest.signals
        for step in table.steps
    }
    for part in ("profile", "trained_profile"):
        entries = table.manifest.architectures
        values = np.array([getattr(entry, part).gmacs for entry in entries])
        quantities["GMACs, full" if part == "profile" else "GMACs, trained"] = values
    for what, values in quantities.items():
        cells = [text(spearman_interval(values[rows], final[rows])) for rows in columns.values()]
        print("".join([f"{what:22}", *(cell.rjust(24) for cell in cells)]))


def main() -> None:
    """Print the four answers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    table = Table.load(parser.parse_args().table)
    print(f"{table!r}\n\n1. How early?")
    how_early(table)
    print(f"\n2. What a final {table.metric} is made of, on the logit above chance")
    made_of(table)
    print("\n3. What ranks for free?")
    for_free(table)
    print("\n4. Within families")
    within_families(table)


if __name__ == "__main__":
    main()
