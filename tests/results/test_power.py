"""The power of a comparison, against comparisons that are simulated."""

import numpy as np
import pytest

from nas_t2i.errors import RecordError
from nas_t2i.ranking.noise import Variance
from nas_t2i.ranking.pairs import interval_of_difference
from nas_t2i.ranking.scale import Scale
from nas_t2i.results.power import PairNoise, pair_noise, power, seeds_needed
from tests.results.record_factory import prompt_scores, trial


def noise(seeds=0.04, lasting=0.02, passing=0.05, dof=30.0) -> PairNoise:
    return PairNoise(Scale(0.0), Variance(seeds, dof), 30, lasting, passing, 0.6, 200, 9)


@pytest.mark.parametrize("seeds", [1, 3])
def test_it_is_how_often_the_interval_of_the_ranking_excludes_0(seeds):
    """Two architectures apart by .1, whose seeds and prompts scatter as the model says."""
    made, prompts, difference, rounds = noise(), 200, 0.1, 400
    generator = np.random.default_rng(0)
    scale, slope = made.scale, float(made.scale.slope(0.6))
    told = 0
    for _ in range(rounds):
        rows = []
        for sign in (-0.5, 0.5):
            level = scale.forward(0.6 + sign * difference)
            seed = scale.back(level + np.sqrt(made.seeds.value) * generator.normal(size=seeds))
            own = np.sqrt(made.lasting / 2) * generator.normal(size=prompts)
            each = np.sqrt(made.passing / 2) * generator.normal(size=(seeds, prompts))
            rows.append(seed[:, None] + own + each)
        low, high = interval_of_difference(scale, rows[1], rows[0], made.seeds)
        told += not low <= 0 <= high
    expected = float(power(made, difference, [seeds], [prompts])[0, 0])
    assert 0.1 < expected < 0.9 and slope > 0
    assert told / rounds == pytest.approx(expected, abs=0.08)


def test_more_seeds_prompts_and_difference_help_and_nothing_is_told_of_equals():
    table = power(noise(), 0.05, [1, 2, 4, 8], [64, 512, 4096])
    assert (np.diff(table, axis=0) > 0).all() and (np.diff(table, axis=1) > 0).all()
    assert power(noise(dof=1e6), 1e-6, [4], [512]).item() == pytest.approx(0.05, abs=0.001)
    few, many = (seeds_needed(noise(), d, 512, 0.8) for d in (0.2, 0.05))
    assert 1 <= few < many
    assert power(noise(), 0.05, [many], [512]).item() >= 0.8
    assert power(noise(), 0.05, [many - 1], [512]).item() < 0.8
    assert seeds_needed(noise(), 1e-4, 64, 0.8) is None


def test_it_needs_repeats():
    alone = [trial(name, {200: prompt_scores(0.5, noise=i)}) for i, name in enumerate("abcd")]
    with pytest.raises(RecordError, match="power needs single prompts of 4 or more"):
        pair_noise(alone)
    twice = [
        trial(name, {200: prompt_scores(0.5, noise=10 * i + seed)}, seed=seed)
        for i, name in enumerate("abcd")
        for seed in range(2)
    ]
    found = pair_noise(twice)
    assert found.repeats == 4 and found.prompts == 60 and found.passing > 0
