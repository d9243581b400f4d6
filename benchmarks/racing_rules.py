"""Which rule finds the best architecture with the same compute? Racing rules side by side.

    python benchmarks/racing_rules.py [--worlds 100] [--architectures 24 48] [--full-trials 12]

No training: landscapes are drawn. The final scores, what a trial costs, and how far two seeds of
one architecture are apart at the full rungs come from the committed studies; what the text gain
(what the right caption saves of the held-out loss) says at the cheap rungs comes from an experiment
(`racing_landscapes.TEXT_GAIN`). Every rule sees the same landscapes and the same noise, and spends
the same compute: it ends with the first piece of training that it can't pay. What the posterior
takes for granted differs from the truth of each landscape by what nine architectures leave open.

best: how often the best architecture is picked; kept: how often it reached the last rung; regret:
the best's true score minus the picked one's, mean and standard error over landscapes; seen:
architectures that were started; full: trials that reached the last rung; spent: share of the
compute.

Rules that look at scores alone:
  random search: in order, to the end.
  today: best_share as `budgets/embedded.yaml` had it (two seeds, keep .6 and .5, margin 1).
  ASHA: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
  successive halving: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and
    Hyperparameter Optimization", AISTATS 2016.
  race with bounds: Maron and Moore, "Hoeffding Races", NIPS 1993, with normal bounds (95 %) for
    Hoeffding's, which would drop nobody over so few seeds.
Rules that share one posterior of the final score (`Posterior`):
  LUCB: Kalyanakrishnan et al., "PAC Subset Selection in Stochastic Multi-armed Bandits", ICML 2012.
  OCBA: Chen et al., "Simulation Budget Allocation for Further Enhancing the Efficiency of Ordinal
    Optimization", Discrete Event Dynamic Systems 10, 2000.
  top-two Thompson: Russo, "Simple Bayesian Algorithms for Best-Arm Identification", Operations
    Research 68, 2020.
  knowledge gradient: Frazier and Powell, "Paradoxes in Learning and the Marginal Value of
    Information", Decision Analysis 7, 2010 (the best rate over any number of further pieces).
  probability: whoever's compute so far is least for the probability of being among the two best
    that a top-two sampler would pick (its expectation, followed without chance).
"""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from racing_landscapes import (
    COLUMNS,
    FINAL,
    FULL,
    MOST_SEEDS,
    RUNG_OF,
    RUNGS,
    SHARES,
    TIFA,
    OutOfComputeError,
    Race,
    Records,
    Structure,
    World,
    structure,
)

DRAWS = 256


class Posterior:
    """The final scores given what a race showed: normal, all architectures jointly.

    Columns (a signal at a rung) vary between architectures and between seeds as `Structure` says;
    their means are unknown (a wide prior), so that only differences tell anything.
    """

    def __init__(self, structure: Structure) -> None:
        self._arch, self._seed = structure.arch, structure.seed
        self.noise = np.diag(structure.seed)
        self._states: dict[tuple[int, ...], tuple[np.ndarray, ...]] = {}

    def state(self, depths: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Return what follows from how far an architecture's seeds are, whatever they showed."""
        if depths not in self._states:
            seeds = np.repeat(np.arange(len(depths)), [sum(d > RUNG_OF) for d in depths])
            columns = np.concatenate([np.flatnonzero(d > RUNG_OF) for d in depths])
            one = np.eye(COLUMNS)[columns]
            same = seeds[:, None] == seeds
            cross = self._arch[np.ix_(columns, columns)]
            inverse = np.linalg.inv(cross + same * self._seed[np.ix_(columns, columns)])
            weights = self._arch[FINAL, columns] @ inverse
            variance = np.array(1.0 - weights @ self._arch[FINAL, columns])
            across = one.T @ inverse
            self._states[depths] = seeds, columns, weights, variance, across, across @ one
        return self._states[depths]

    def variance(self, depths: tuple[int, ...]) -> float:
        """Return the variance of a final score, the columns' means known."""
        return float(self.state(depths)[3])

    def of(self, race: Race) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return means, own deviations, and loads on the doubt about the columns (n, columns)."""
        means, own = np.zeros(race.n), np.ones(race.n)
        loads = np.zeros((race.n, COLUMNS))
        precision, pull = 0.01 * np.eye(COLUMNS), np.zeros(COLUMNS)
        for arch in range(race.n):
            if not race.known[arch, 0]:
                continue
            seeds, columns, weights, variance, across, square = self.state(
                depths_of(race.known, arch)
            )
            shown = race.world.shown[arch, seeds, columns]
            means[arch], own[arch] = weights @ shown, math.sqrt(variance)
            loads[arch] = np.bincount(columns, weights, COLUMNS)
            precision += square
            pull += across @ shown
        doubt = np.linalg.inv(precision)
        means -= loads @ (doubt @ pull)
        return means, own, loads @ np.linalg.cholesky(doubt)

    def best_by_draw(self, race: Race, draws: int) -> np.ndarray:
        """Return, for joint draws, the best architecture and its followers: (draws, n) indices."""
        means, own, loads = self.of(race)
        rng = race.rng
        drawn = means + own * rng.standard_normal((draws, race.n))
        return np.argsort(-(drawn + rng.standard_normal((draws, COLUMNS)) @ loads.T), axis=1)


Rule = Callable[[Race, Posterior], None]


def depths_of(depth: np.ndarray, arch: int) -> tuple[int, ...]:
    """Return how far an architecture's seeds are, those that began."""
    return tuple(int(d) for d in depth[arch] if d)


def narrowing(
    race: Race, posterior: Posterior, arch: int, seed: int, rung: int
) -> tuple[float, ...]:
    """Return (by how much the variance falls, seconds) if a seed is trained up to a rung."""
    depths = list(depths_of(race.depth, arch))
    before = posterior.variance(tuple(depths)) if depths else 1.0
    depths[seed : seed + 1] = [rung + 1]
    return before - posterior.variance(tuple(depths)), race.price(arch, seed, rung)


def ways(race: Race, posterior: Posterior, arch: int) -> list[tuple[float, float, int]]:
    """Return what could be trained of an architecture: (fall of the variance, seconds, seed)."""
    depths = depths_of(race.depth, arch)
    seeds = range(min(len(depths) + 1, MOST_SEEDS))
    return [
        (*narrowing(race, posterior, arch, seed, rung), seed)
        for seed in seeds
        for rung in range(race.depth[arch, seed], RUNGS)
    ]


def train_on(race: Race, posterior: Posterior, arch: int) -> None:
    """Train, of an architecture, the next piece of what narrows its posterior fastest."""
    options = ways(race, posterior, arch)
    if not options:
        raise OutOfComputeError
    _, seed = max((fall / seconds, -seed) for fall, seconds, seed in options)
    race.advance(arch, -seed)


def start_all(race: Race) -> None:
    """Train everyone to the first rung."""
    for arch in range(race.n):
        race.advance(arch)


def has_more(race: Race) -> np.ndarray:
    """Return which architectures have a seed that is not at the end."""
    return (race.depth < RUNGS).any(axis=1)


# Rules that look at scores. Each ends by OutOfComputeError, or when there is nothing left to do.


def random_search(seeds: int) -> Rule:
    """In order, each to the end."""

    def rule(race: Race, _: Posterior) -> None:
        for arch in range(race.n):
            for seed in range(seeds):
                race.advance(arch, seed, RUNGS - 1)

    return rule


def today(race: Race, _: Posterior) -> None:
    """Two seeds; at rungs .56 and .78 the best .6 and .5 go on, and who is within the margin."""
    margin = 0.15  # a standard error of a paired difference over 512 prompts, in spreads
    for arch in range(race.n):
        for rung, keep in ((3, 0.6), (4, 0.5), (5, 1.0)):
            for seed in (0, 1):
                race.advance(arch, seed, rung)
            level = race.level(rung)
            ranked = np.sort(level[np.isfinite(level)])[::-1]
            if (
                len(ranked) >= 3
                and level[arch] < ranked[math.ceil(keep * len(ranked)) - 1] - margin
            ):
                break


def asha(eta: int) -> Rule:
    """Promote from the highest rung where somebody is among the best 1 / eta; else start one."""
    ladder = {2: (0, 1, 2, 3, 5), 3: (0, 2, 3, 5), 4: (0, 2, 5)}[eta]

    def promotable(race: Race, everyone: bool) -> tuple[int, int] | None:
        for rung, following in reversed(list(pairwise(ladder))):
            level = race.level(rung)
            there = int(np.isfinite(level).sum())
            best = np.argsort(-level)[: there if everyone else there // eta]
            for arch in best:
                if race.depth[arch, 0] == rung + 1:
                    return int(arch), following
        return None

    def rule(race: Race, _: Posterior) -> None:
        started = 0
        while True:
            found = promotable(race, everyone=started == race.n)
            if started < race.n:
                found = promotable(race, everyone=False) or (started, ladder[0])
                started += found[1] == ladder[0]
            if found is None:
                return
            race.advance(found[0], 0, found[1])

    return rule


def successive_halving(race: Race, _: Posterior) -> None:
    """Everyone to the first rung, then a fixed share a rung; what is left goes to more seeds.

    The share is the largest with which the whole ladder is paid, as all trials cost the same.
    """

    def price(keep: float) -> float:
        shares = np.diff((0.0, *SHARES))
        return race.world.full_trial * sum(race.n * keep**r * s for r, s in enumerate(shares))

    keep = max(
        (k for k in np.arange(0.2, 1.0, 0.01) if price(k) <= 0.9 * race.compute), default=0.2
    )
    left = list(range(race.n))
    for rung in range(RUNGS):
        for arch in left:
            race.advance(arch, 0)
        level = race.level(rung)
        left = sorted(left, key=lambda arch: -level[arch])
        left = left[: max(2, round(race.n * keep ** (rung + 1)))]
    further_seeds(race, left)


def further_seeds(race: Race, left: list[int]) -> None:
    """Train further seeds to the end, in turn."""
    for seed in range(1, MOST_SEEDS):
        for arch in left:
            race.advance(arch, seed, RUNGS - 1)


def race_with_bounds(race: Race, posterior: Posterior) -> None:
    """All who may be best, by 95 % bounds of their rung's seed noise, to the next rung, or seed."""
    left = list(range(race.n))
    for seed in range(MOST_SEEDS):
        for rung in range(RUNGS):
            for arch in left:
                race.advance(arch, seed, rung)
            level = race.level(rung)
            column = TIFA + FULL.index(rung) if rung in FULL else rung
            bound = 1.96 * math.sqrt(posterior.noise[column] / (seed + 1))
            left = [arch for arch in left if level[arch] + bound >= level[left].max() - bound]


# Rules that share the posterior.


def lucb(race: Race, posterior: Posterior) -> None:
    """The best mean and the highest upper bound (2 deviations) of the others, in turn."""
    start_all(race)
    while has_more(race).any():
        means, own, loads = posterior.of(race)
        leader = int(np.argmax(means))
        apart = np.sqrt(own**2 + ((loads - loads[leader]) ** 2).sum(axis=1))
        upper = np.where(has_more(race), means + 2 * apart, -np.inf)
        upper[leader] = -np.inf
        for arch in (leader, int(np.argmax(upper))):
            if has_more(race)[arch]:
                train_on(race, posterior, arch)


def ocba(race: Race, posterior: Posterior) -> None:
    """Whoever's compute is least for (deviation / distance to the best) ** 2."""
    start_all(race)
    while has_more(race).any():
        means, own, loads = posterior.of(race)
        leader = int(np.argmax(means))
        variance = own**2 + ((loads - loads[leader]) ** 2).sum(axis=1)
        distance = np.maximum(means[leader] - means, 0.05)
        share = variance / distance**2
        share[leader] = 0.0
        share[leader] = own[leader] * math.sqrt(float((share**2 / variance).sum()))
        arch = int(np.argmax(np.where(has_more(race), share / race.paid, -np.inf)))
        train_on(race, posterior, arch)


def thompson(race: Race, posterior: Posterior) -> None:
    """The best of a draw, or with even chance the best of the first draw with another best."""
    start_all(race)
    while has_more(race).any():
        best = posterior.best_by_draw(race, DRAWS)[:, 0]
        arch = int(best[0])
        if race.rng.random() < 0.5:
            others = best[best != arch]
            arch = int(others[0]) if len(others) else arch
        if not has_more(race)[arch]:
            arch = int(race.rng.choice(np.flatnonzero(has_more(race))))
        train_on(race, posterior, arch)


def knowledge_gradient(race: Race, posterior: Posterior) -> None:
    """The piece that raises the expected best mean most a second, over any further pieces."""
    start_all(race)
    while has_more(race).any():
        means = posterior.of(race)[0]
        found = []
        for arch in range(race.n):
            behind = means[arch] - np.delete(means, arch).max()
            for fall, seconds, seed in ways(race, posterior, arch):
                z = -abs(behind) / max(math.sqrt(max(fall, 0.0)), 1e-9)
                density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
                gain = math.sqrt(max(fall, 0.0)) * (
                    z * 0.5 * math.erfc(-z / math.sqrt(2)) + density
                )
                found.append((gain / seconds, arch, seed))
        _, arch, seed = max(found)
        race.advance(arch, seed)


def probability(among: int) -> Rule:
    """Whoever's compute is least for the probability of being among the best `among`."""

    def rule(race: Race, posterior: Posterior) -> None:
        start_all(race)
        while has_more(race).any():
            ranked = posterior.best_by_draw(race, DRAWS)[:, :among]
            share = np.bincount(ranked.ravel(), minlength=race.n) / race.paid
            train_on(race, posterior, int(np.argmax(np.where(has_more(race), share, -1.0))))

    return rule


def as_built(ahead: int, early: int = 2) -> Rule:
    """`race` of nas_t2i/search/stopping: among the best two, compute counted in steps.

    A piece of training ends at the next of the `early` rungs, after them at the last one.
    `ahead` pieces are under way when the next is decided on; what they show is not known yet, and
    no architecture has two of them.
    """

    def rule(race: Race, posterior: Posterior) -> None:
        start_all(race)
        race.look_back(ahead)
        steps = np.array([0.0, *SHARES])
        while has_more(race).any():
            ranked = posterior.best_by_draw(race, DRAWS)[:, :2]
            spent = steps[race.depth].sum(axis=1)
            share = (np.bincount(ranked.ravel(), minlength=race.n) + 0.5) / spent
            heard = (race.depth == race.known).all(axis=1)
            free = has_more(race) & heard if (has_more(race) & heard).any() else has_more(race)
            arch = int(np.argmax(np.where(free, share, -1.0)))
            seed = int(np.argmax(race.depth[arch] < RUNGS))
            race.advance(arch, seed, None if race.depth[arch, seed] < early else RUNGS - 1)

    return rule


def contenders(least: float) -> Rule:
    """All who are the best with that probability or more, the least trained of them first."""

    def rule(race: Race, posterior: Posterior) -> None:
        start_all(race)
        while has_more(race).any():
            best = posterior.best_by_draw(race, DRAWS)[:, 0]
            chance = np.bincount(best, minlength=race.n) / DRAWS
            may = (chance >= min(least, chance[has_more(race)].max())) & has_more(race)
            arch = min(np.flatnonzero(may), key=lambda arch: (race.paid[arch], -chance[arch]))
            train_on(race, posterior, int(arch))

    return rule


RULES: dict[str, tuple[Rule, bool]] = {  # name -> (rule, whether it picks by the posterior)
    "random search, 1 seed": (random_search(1), False),
    "random search, 2 seeds": (random_search(2), False),
    "today (best_share, 2 seeds)": (today, False),
    "ASHA, eta 2": (asha(2), False),
    "ASHA, eta 3": (asha(3), False),
    "ASHA, eta 4": (asha(4), False),
    "successive halving": (successive_halving, False),
    "race with bounds": (race_with_bounds, False),
    "successive halving, posterior": (successive_halving, True),
    "LUCB": (lucb, True),
    "OCBA": (ocba, True),
    "top-two Thompson": (thompson, True),
    "knowledge gradient": (knowledge_gradient, True),
    "contenders, 2 %": (contenders(0.02), True),
    "contenders, 5 %": (contenders(0.05), True),
    "probability of the best": (probability(1), True),
    "probability of the best two": (probability(2), True),
    "race, rung by rung, 4 ahead": (as_built(4, RUNGS), True),
    "race, as built, 0 ahead": (as_built(0), True),
    "race, as built, 4 ahead": (as_built(4), True),
}


def compare(
    worlds: int, architectures: int, full_trials: float, best: float, names: list[str]
) -> list[str]:
    """Return the table's rows."""
    records = Records()
    posterior = Posterior(structure(records))
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for seed in range(worlds):
        world = World(records, architectures, best, seed)
        winner = int(np.argmax(world.score))
        for name in names:
            rule, by_posterior = RULES[name]
            race = Race(world, full_trials * world.full_trial, np.random.default_rng(seed))
            with contextlib.suppress(OutOfComputeError):
                rule(race, posterior)
            picked = race.picked_by_score()
            if by_posterior:
                picked = int(np.argmax(posterior.of(race)[0]))
            regret = float(world.score[winner] - world.score[picked])
            kept = race.depth[winner].max() == RUNGS
            started, full = (race.depth[:, 0] > 0).sum(), (race.depth == RUNGS).sum()
            spent = 1 - race.left / race.compute
            found[name].append((picked == winner, kept, regret, started, full, spent))
    rows = [f"{'':30}  best  kept         regret  seen  full  spent"]
    for name in names:
        values = np.array(found[name], dtype=float)
        chosen, kept, regret, started, full, spent = values.mean(axis=0)
        error = values[:, 2].std(ddof=1) / math.sqrt(worlds)
        rows.append(
            f"{name:30}  {chosen:4.2f}  {kept:4.2f}  {regret:.4f} ± {error:.4f}"
            f"  {started:4.1f}  {full:4.1f}  {spent:5.2f}"
        )
    return rows


def main() -> None:
    """Print a table for each number of architectures and each compute."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--worlds", type=int, default=100, help="landscapes (100)")
    parser.add_argument("--architectures", type=int, nargs="+", default=[24, 48], help="24 48")
    parser.add_argument("--full-trials", type=float, nargs="+", default=[12.0], help="compute (12)")
    parser.add_argument("--best", type=float, default=0.90, help="score of the best one (.90)")
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    given = parser.parse_args()
    for architectures in given.architectures:
        for full_trials in given.full_trials:
            print(
                f"{architectures} architectures, compute of {full_trials:g} full trials, best "
                f"{given.best}, {given.worlds} landscapes"
            )
            rows = compare(given.worlds, architectures, full_trials, given.best, given.rules)
            print("\n".join(rows), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
