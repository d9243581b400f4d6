from dataclasses import replace

import numpy as np
import pytest

from nas_t2i.ranking.evidence import gather
from nas_t2i.ranking.noise import seed_noise
from nas_t2i.ranking.observations import Observation
from nas_t2i.ranking.pairs import tied
from nas_t2i.ranking.posterior import believe
from nas_t2i.ranking.seed_effect import NO_EFFECT
from tests.ranking.made import SCALE, observed


def lucky(observations: list[Observation], effects: list[float]) -> list[Observation]:
    """Let seeds do this, on the scale, to all architectures alike."""
    return [
        replace(o, score=float(SCALE.back(SCALE.forward(o.score) + effects[o.seed])))
        for o in observations
    ]


def test_what_a_seed_does_to_all_is_found_and_taken_out() -> None:
    made = lucky(observed([0.5, 1.0, 1.5] * 20, seeds=3, noise=0.3), [-0.4, 0.0, 0.4])
    noise = seed_noise(gather(made, SCALE))
    assert noise.effects[400].value == pytest.approx([-0.4, 0.0, 0.4], abs=0.1)
    assert noise.at(400).deviation == pytest.approx(0.3, rel=0.15)
    assert noise.repeats[400] == 120
    shift, share = noise.effect(400).difference([0], [1, 2])
    assert shift == pytest.approx(-0.6, abs=0.15)
    assert 0 < share < 0.1
    assert noise.effect(400).difference([0, 1, 2], [2, 1, 0]) == pytest.approx((0, 0), abs=1e-12)


def test_of_seeds_never_seen_nothing_is_known() -> None:
    shift, share = NO_EFFECT.difference([7], [8, 9])
    assert (shift, share) == (0, pytest.approx(0.2 * (1 + 1 / 4 + 1 / 4)))
    assert NO_EFFECT.difference([7], [7]) == (0, 0)


def test_a_further_luckier_seed_lifts_nobody() -> None:
    made = lucky(observed([1.0] * 30, noise=0.02), [-0.5, 0.5])
    first = [o for o in made if o.seed == 0 or int(o.architecture[1:]) < 15]
    location = believe(first, SCALE).location
    assert abs(location[:15].mean() - location[15:].mean()) < 0.05  # 0.5 in the scores themselves


def test_equal_pairs_of_unlike_seeds_are_told_apart_as_often_as_claimed() -> None:
    apart = total = 0
    generator = np.random.default_rng(0)
    for study in range(80):
        effects = list(generator.normal(0, 0.4 * np.sqrt(0.2), 3))
        made = lucky(observed([1.0] * 12, seeds=3, noise=0.4, seed=study), effects)
        kept = [o for o in made if o.seed <= int(o.architecture[1:]) % 3]
        same = tied(believe(kept, SCALE, draws=2), np.arange(12))
        apart += int((~same).sum()) - 12
        total += 12 * 11
    assert 0.03 < apart / total < 0.07
