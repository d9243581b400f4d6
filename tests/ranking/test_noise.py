from dataclasses import replace

import pytest

from nas_t2i.ranking.evidence import gather
from nas_t2i.ranking.noise import PRIOR, seed_noise
from tests.ranking.made import SCALE, STEPS, observed

MIDDLE = [1.5] * 200


def test_with_many_repeats_the_data_speak() -> None:
    noise = seed_noise(gather(observed(MIDDLE, noise=0.7), SCALE))
    assert noise.repeats == dict.fromkeys(STEPS, 200)
    assert [noise.at(s).deviation for s in STEPS] == pytest.approx([0.7] * 3, rel=0.12)
    assert noise.at(STEPS[-1]).dof == 204


def test_without_repeats_the_prior_speaks() -> None:
    noise = seed_noise(gather(observed([0.5, 1.0], seeds=1), SCALE))
    assert noise.at(400) == PRIOR
    assert noise.at(7) == PRIOR


def test_a_rung_with_few_repeats_leans_on_the_others() -> None:
    stopped = dict.fromkeys(range(1, 200), 200)
    noise = seed_noise(gather(observed(MIDDLE, noise=0.9, until=stopped), SCALE))
    assert noise.repeats[400] == 1
    assert noise.at(400).deviation == pytest.approx(0.9, rel=0.25)


def test_the_scatter_of_prompts_is_not_taken_for_seed_noise() -> None:
    # Seeds differ by their prompts alone: by 0.5 / sqrt(50) or so, were it not taken out.
    noise = seed_noise(gather(observed(MIDDLE, noise=0.0, prompts=50), SCALE))
    bare = [replace(o, per_prompt=None) for o in observed(MIDDLE, noise=0.0, prompts=50)]
    with_prompts_in_it = seed_noise(gather(bare, SCALE))
    assert noise.at(400).deviation < 0.6 * with_prompts_in_it.at(400).deviation


def test_controls_and_clipped_scores_say_nothing() -> None:
    made = observed([0.5, 0.5], noise=2.0)
    assert seed_noise(gather(made, SCALE, apart=["A000", "A001"])).at(400) == PRIOR
    assert seed_noise(gather(observed([-9.0, 12.0]), SCALE)).at(400) == PRIOR
