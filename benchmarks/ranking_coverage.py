"""How often what a ranking says is true, by the level of the score.

    python benchmarks/ranking_coverage.py [STUDY_FOLDER] [--studies 200]

First the scales: on each, the deviation between seeds by rung and the log likelihood of the
study's scores if seeds scatter alike at every level (Jacobian included; larger is better), and the
residuals on the scale in use. Then simulated studies, measured to the end. A seed's mean is normal
on the scale, with the deviations that were found at the last rung: of what a seed does to one
architecture and of what it does to all. Its scores of single prompts are drawn, prompt by prompt,
from the two recorded runs next to that mean, so that prompts keep their difficulties.

- Pairs: the study's own architectures and a pair at a level. They count as told apart as in the
  exports (`tied_with`); the claim is 5 % of equal ones.
- Rankings: 16 architectures that scatter as the study's do, the best at a level. Each has one
  seed, the better half a second, the best four a third, up to `seeds`. Claimed are the shares of
  true ranks and of true expected scores inside of their intervals, and the leader's P(best).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from nas_t2i.ranking.evidence import gather
from nas_t2i.ranking.noise import seed_noise
from nas_t2i.ranking.observations import FloatArray, Observation
from nas_t2i.ranking.pairs import tied
from nas_t2i.ranking.posterior import believe
from nas_t2i.ranking.scale import Scale
from nas_t2i.ranking.seed_effect import COMMON
from nas_t2i.store import read_study, read_trials

LEVELS = (0.45, 0.70, 0.90, 0.96, 0.985)
DIFFERENCES = (0.0, 0.5, 1.0, 2.0)  # on the scale
SEEDS = (2, 3)
RANKED = 16


def scores_of(folder: str, metric: str) -> list[Observation]:
    """Return what is on record of the architectures of a study, without controls."""
    return [
        Observation(
            trial.arch_id,
            trial.seed,
            point.step,
            point.scores[metric].value,
            per_prompt=np.array(point.scores[metric].per_prompt),
        )
        for trial in read_trials(folder)
        if not trial.control
        for point in trial.curve
        if metric in point.scores
    ]


def print_scales(observations: list[Observation], chance: float) -> None:
    """Print how well each scale makes seed noise alike at all levels."""

    def share(x: FloatArray, floor: float) -> FloatArray:
        return (x - floor) / (1 - floor)

    scales: dict[str, tuple[float, Callable[[FloatArray], FloatArray]]] = {
        "raw": (0.0, lambda s: s),
        "arcsine": (0.0, lambda s: np.arcsin(np.sqrt(s))),
        "logit": (0.0, lambda s: np.log(s / (1 - s))),
        "arcsine above chance": (chance, lambda s: np.arcsin(np.sqrt(s))),
        "logit above chance": (chance, lambda s: np.log(s / (1 - s))),
    }
    groups: defaultdict[int, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for o in observations:
        groups[o.step][o.architecture].append(o.score or 0.0)
    print(f"{'scale':22}{'log likelihood':>15}   deviation between seeds by rung")
    for name, (floor, forward) in scales.items():
        likelihood, deviations = 0.0, []
        for by_arch in groups.values():
            squares = dof = jacobian = 0.0
            for values in by_arch.values():
                x, n = share(np.array(values), floor), len(values)
                if n < 2:
                    continue
                z = forward(x)
                slope = (forward(x + 1e-6) - forward(x - 1e-6)) / 2e-6 / (1 - floor)
                squares += float(((z - z.mean()) ** 2).sum())
                dof += n - 1
                jacobian += float(np.log(slope).sum()) * (n - 1) / n
            likelihood += jacobian - 0.5 * dof * (np.log(squares / dof) + 1)
            deviations.append(f"{np.sqrt(squares / dof):.3f}")
        print(f"{name:22}{likelihood:15.1f}   {' '.join(deviations)}")
    scale, last = Scale(chance), max(groups)
    print(f"\nresiduals on the scale in use, step {last}: mean score, deviation between seeds")
    for values in sorted(groups[last].values(), key=np.mean):
        print(f"{np.mean(values):8.3f}{scale.forward(values).std(ddof=1):8.2f}")


class Simulator:
    """Draws studies like the one on record."""

    def __init__(self, observations: list[Observation], scale: Scale) -> None:
        self.scale = scale
        last = max(o.step for o in observations)
        noise = seed_noise(gather(observations, scale)).at(last)
        runs = sorted((o for o in observations if o.step == last), key=lambda o: o.score or 0.0)
        rows = [o.per_prompt for o in runs if o.per_prompt is not None]
        floor, prompts = scale.floor or 0.0, rows[0].size
        # Beyond what is on record: a run at chance in every prompt, and a perfect one.
        self.rows = np.stack([np.full(prompts, floor), *rows, np.ones(prompts)])
        self.means = self.rows.mean(axis=1)
        # Prompts bring noise of their own: this is that of seeds alone.
        self.deviation = noise.deviation
        by_arch: defaultdict[str, list[float]] = defaultdict(list)
        for o in runs:
            by_arch[o.architecture].append(float(scale.forward(o.score or 0.0)))
        self.levels = [float(np.mean(values)) for values in by_arch.values()]
        by_seeds = noise.value * np.mean([1 / len(values) for values in by_arch.values()])
        self.spread = float(np.sqrt(max(np.var(self.levels, ddof=1) - by_seeds, 0.01)))

    def observed(
        self, values: FloatArray, seeds: Sequence[int], generator: np.random.Generator
    ) -> list[Observation]:
        """Draw what is on record of architectures at these values, with so many seeds each."""
        common = self.deviation * np.sqrt(COMMON) * generator.standard_normal(max(seeds))
        found = []
        for i, (value, count) in enumerate(zip(values, seeds, strict=True)):
            for seed in range(count):
                single = self.run(value + common[seed], generator)
                score = float(single.mean())
                found.append(Observation(f"{i:03}", seed, 1, score, per_prompt=single))
        return found

    def run(self, value: float, generator: np.random.Generator) -> FloatArray:
        """Draw the scores of single prompts of one seed of an architecture at `value`."""
        drawn = value + self.deviation * generator.standard_normal()
        mean = float(self.scale.back(drawn))
        above = int(np.clip(np.searchsorted(self.means, mean), 1, len(self.means) - 1))
        low, high = self.means[above - 1], self.means[above]
        weight = np.clip((mean - low) / (high - low), 0, 1) if high > low else 0.0
        upper = generator.random(self.rows.shape[1]) < weight
        return np.where(upper, self.rows[above], self.rows[above - 1])

    def told_apart(self, level: float, difference: float, seeds: int, study: int) -> bool:
        """Draw a study with a pair around a level of the score; say whether it is told apart."""
        generator = np.random.default_rng([study, seeds])
        middle = float(self.scale.forward(level))
        values = np.array([middle - difference / 2, middle + difference / 2, *self.levels])
        observed = self.observed(values, [seeds] * len(values), generator)
        return not tied(believe(observed, self.scale, draws=2), [0, 1])[0, 1]

    def ranking(self, level: float, seeds: int, study: int) -> dict[str, float]:
        """Draw a study whose best stands at a level; say what its ranking claims and what holds."""
        generator = np.random.default_rng([study, seeds, 1])
        true = np.sort(generator.normal(0, self.spread, RANKED))[::-1]
        true += float(self.scale.forward(level)) - true[0]
        # Further seeds go to the better ones, as in a race.
        wanted = np.repeat([3, 2, 1], [4, 4, 8]).clip(max=seeds)
        posterior = believe(self.observed(true, wanted, generator), self.scale, seed=study)
        ranks = np.arange(1, RANKED + 1)
        scores = self.scale.expected(true, self.deviation * np.sqrt(1 + COMMON))
        low, high = posterior.interval()
        leader = int(np.argmax(posterior.expected))
        within = [
            float(((r[0] <= ranks) & (ranks <= r[1])).mean())
            for r in (posterior.rank_interval(0.95), posterior.rank_interval(0.8))
        ]
        return {
            "ranks in 95 %": within[0],
            "ranks in 80 %": within[1],
            "scores in 95 %": float(((low <= scores) & (scores <= high)).mean()),
            "leader's P(best)": float(posterior.probability_best()[leader]),
            "leader is best": float(leader == 0),
        }


def main(folder: str, studies: int) -> None:
    """Print the scales, then the share of pairs that is told apart."""
    record = read_study(folder)
    if record.chance is None:
        raise SystemExit(f"{folder}: got a metric without a chance level; expected one with")
    observations = scores_of(folder, record.metric)
    print_scales(observations, record.chance)
    simulator = Simulator(observations, Scale(record.chance))
    print(
        f"\n{studies} studies each; deviation of seeds {simulator.deviation:.2f}, of architectures "
        f"{simulator.spread:.2f} on the scale"
        "\nshare of pairs told apart (claimed: 5 % of equal ones), by difference on the scale"
    )
    print(f"{'level':>6}{'seeds':>7}" + "".join(f"{d:>8.1f}" for d in DIFFERENCES))
    for level in LEVELS:
        for seeds in SEEDS:
            shares = [
                np.mean([simulator.told_apart(level, d, seeds, i) for i in range(studies)])
                for d in DIFFERENCES
            ]
            print(f"{level:6.3f}{seeds:7}" + "".join(f"{share:8.1%}" for share in shares))
    print("\nrankings of 16, the best at a level; what is claimed against what is true")
    for level in LEVELS:
        for seeds in (1, *SEEDS):
            found = [simulator.ranking(level, seeds, i) for i in range(studies)]
            means = {name: np.mean([f[name] for f in found]) for name in found[0]}
            if (level, seeds) == (LEVELS[0], 1):
                print(f"{'level':>6}{'seeds':>7}" + "".join(f"{name:>18}" for name in means))
            print(f"{level:6.3f}{seeds:7}" + "".join(f"{m:18.1%}" for m in means.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", default="results/measured/sdxl-exhaustive")
    parser.add_argument("--studies", type=int, default=200)
    given = parser.parse_args()
    main(given.folder, given.studies)
