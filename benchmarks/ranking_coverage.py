"""How often equal architectures are told apart, and unlike ones, by the level of the score.

    python benchmarks/ranking_coverage.py [STUDY_FOLDER] [--studies 200]

First the scales: on each, the deviation between seeds by rung and the log likelihood of the
study's scores if seeds scatter alike at every level (Jacobian included; larger is better), and the
residuals on the scale in use. Then simulated studies: the study's own architectures and a pair at
a level. A seed's mean is normal on the scale, with the deviation that was measured at the last
rung; its scores of single prompts are drawn, prompt by prompt, from the two recorded runs next to
that mean, so that prompts keep their difficulties. Pairs count as told apart as in the exports
(`tied_with`); the claim is 5 % of equal ones.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from nas_t2i.ranking.evidence import gather
from nas_t2i.ranking.noise import seed_noise
from nas_t2i.ranking.observations import FloatArray, Observation
from nas_t2i.ranking.pairs import tied
from nas_t2i.ranking.posterior import believe
from nas_t2i.ranking.scale import Scale
from nas_t2i.store import read_study, read_trials

LEVELS = (0.45, 0.70, 0.90, 0.96, 0.985)
DIFFERENCES = (0.0, 0.5, 1.0, 2.0)  # on the scale
SEEDS = (2, 3)


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
        self.noise = seed_noise(gather(observations, scale))
        last = max(o.step for o in observations)
        runs = sorted((o for o in observations if o.step == last), key=lambda o: o.score or 0.0)
        rows = [o.per_prompt for o in runs if o.per_prompt is not None]
        floor, prompts = scale.floor or 0.0, rows[0].size
        # Beyond what is on record: a run at chance in every prompt, and a perfect one.
        self.rows = np.stack([np.full(prompts, floor), *rows, np.ones(prompts)])
        self.means = self.rows.mean(axis=1)
        # Prompts bring noise of their own: this is that of seeds alone.
        self.deviation = self.noise.at(last).deviation
        by_arch: defaultdict[str, list[float]] = defaultdict(list)
        for o in runs:
            by_arch[o.architecture].append(float(scale.forward(o.score or 0.0)))
        self.levels = [float(np.mean(values)) for values in by_arch.values()]

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
        values = [middle - difference / 2, middle + difference / 2, *self.levels]
        observed = []
        for i, value in enumerate(values):
            for seed in range(seeds):
                single = self.run(value, generator)
                score = float(single.mean())
                observed.append(Observation(f"{i:03}", seed, 1, score, per_prompt=single))
        return not tied(believe(observed, self.scale, draws=2), [0, 1])[0, 1]


def main(folder: str, studies: int) -> None:
    """Print the scales, then the share of pairs that is told apart."""
    record = read_study(folder)
    if record.chance is None:
        raise SystemExit(f"{folder}: got a metric without a chance level; expected one with")
    observations = scores_of(folder, record.metric)
    print_scales(observations, record.chance)
    simulator = Simulator(observations, Scale(record.chance))
    print(
        f"\n{studies} studies each; deviation of seeds {simulator.deviation:.2f} on the scale"
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", default="results/measured/v1/comparison-embedded")
    parser.add_argument("--studies", type=int, default=200)
    given = parser.parse_args()
    main(given.folder, given.studies)
