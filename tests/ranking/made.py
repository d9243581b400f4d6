"""Observations of architectures whose true finals are known."""

from __future__ import annotations

import numpy as np

from nas_t2i.ranking.observations import Observation
from nas_t2i.ranking.scale import Scale

CHANCE = 0.3
SCALE = Scale(CHANCE)
STEPS = (100, 200, 400)


def observed(
    finals: list[float],
    *,
    seeds: int = 2,
    noise: float = 0.4,
    prompts: int = 0,
    until: dict[int, int] | None = None,
    seed: int = 0,
) -> list[Observation]:
    """Observations of architectures A000, A001, ... with these finals on the scale.

    Scores grow by 1 a rung; each has its own noise between seeds. `until` maps an architecture to
    the step it was stopped at. With `prompts` those of one rung share their difficulties.
    """
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(0, 1, prompts)
    made = []
    for i, final in enumerate(finals):
        for run in range(seeds):
            for k, step in enumerate(STEPS):
                value = final - (len(STEPS) - 1 - k) + noise * generator.normal()
                if step > (until or {}).get(i, STEPS[-1]):
                    continue
                single = None
                score = float(SCALE.back(value))
                if prompts:
                    single = SCALE.back(value + difficulty + generator.normal(0, 0.5, prompts))
                    score = float(single.mean())
                made.append(Observation(f"A{i:03}", run, step, score, per_prompt=single))
    return made
