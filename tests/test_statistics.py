"""Statistics against values worked out by hand, known distributions and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nas_t2i.statistics import (
    SeedEffect,
    average_ranks,
    better_half,
    bootstrap_means,
    mean_over_prompts,
    paired_bootstrap,
    paired_bootstrap_of_shares,
    seed_effect,
    seed_spread,
    spearman,
    tied_pairs,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def test_mean_and_standard_error_by_hand() -> None:
    mean = mean_over_prompts([0.0, 1.0, 1.0, 0.0])
    assert (mean.value, mean.n) == (0.5, 4)
    assert mean.stderr == pytest.approx(math.sqrt(1 / 3) / 2)


def test_standard_error_of_one_prompt_is_unknown() -> None:
    assert math.isnan(mean_over_prompts([0.7]).stderr)


@pytest.mark.parametrize("empty", [[], [[0.5]]])
def test_mean_refuses_no_prompts_and_tables(empty: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 1 axes"):
        mean_over_prompts(empty)


@given(arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=numbers))
def test_bootstrap_means_stay_within_the_scores(scores: np.ndarray) -> None:
    means = bootstrap_means(scores, samples=20)
    slack = 1e-9 * (1 + np.abs(scores).max())
    assert means.shape == (20, len(scores))
    assert (means >= scores.min(axis=1) - slack).all()
    assert (means <= scores.max(axis=1) + slack).all()


def test_bootstrap_draws_the_same_prompts_for_every_row() -> None:
    scores = np.random.default_rng(0).random(50)
    means = bootstrap_means(np.stack([scores, scores + 0.25]), samples=100)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.25)


def test_bootstrap_has_the_spread_of_the_standard_error() -> None:
    scores = np.random.default_rng(1).normal(size=400)
    means = bootstrap_means(scores[None], samples=4000)[:, 0]
    assert means.std() == pytest.approx(mean_over_prompts(scores).stderr, rel=0.05)
    assert means.mean() == pytest.approx(scores.mean(), abs=0.005)


def test_bootstrap_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(2).random((3, 30))
    whole = bootstrap_means(scores, samples=64)
    monkeypatch.setattr("nas_t2i.statistics._DRAWS_AT_A_TIME", 7 * 30)
    np.testing.assert_array_equal(bootstrap_means(scores, samples=64), whole)


def test_paired_bootstrap_sees_through_shared_difficulty() -> None:
    # Prompts differ a lot, the models by little but always: only pairing can tell.
    hard = np.random.default_rng(3).random(100)
    better = hard + 0.01 + np.random.default_rng(4).normal(0, 0.005, 100)
    difference = paired_bootstrap(better, hard)
    assert 0 < difference.low < difference.value < difference.high
    assert not difference.includes_zero
    assert difference == paired_bootstrap(better, hard)


@given(arrays(float, st.integers(2, 30), elements=st.floats(0, 1)))
def test_a_score_ties_with_itself(scores: np.ndarray) -> None:
    difference = paired_bootstrap(scores, scores, samples=50)
    assert (difference.low, difference.value, difference.high) == (0, 0, 0)
    assert difference.includes_zero


def test_one_prompt_can_tell_nothing_apart() -> None:
    assert paired_bootstrap([1.0], [0.0]).includes_zero
    assert tied_pairs([[1.0], [0.0]]).tolist() == [[False, True], [True, False]]


def test_paired_bootstrap_needs_the_same_prompts() -> None:
    with pytest.raises(ValueError, match="scores of 2 and 3 prompts"):
        paired_bootstrap([0, 1], [0, 1, 1])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        a, b = generator.normal(0.1, 1, 60), generator.normal(0, 1, 60)
        difference = paired_bootstrap(a, b, samples=400)
        covered += difference.low <= 0.1 <= difference.high
    assert 0.90 <= covered / 300 <= 0.98


def test_tied_pairs_is_symmetric_and_knows_the_far_ones() -> None:
    generator = np.random.default_rng(6)
    shared = generator.random(80)
    scores = np.stack(
        [shared + offset + generator.normal(0, 0.1, 80) for offset in (0, 0.005, 0.5)]
    )
    tied = tied_pairs(scores)
    assert tied.tolist() == [[False, True, False], [True, False, False], [False, False, False]]


def test_seed_noise_widens_the_intervals_once_it_is_known_well_enough() -> None:
    shared = np.random.default_rng(7).random(80)
    scores = np.stack([shared, shared + 0.05 + np.random.default_rng(8).normal(0, 0.02, 80)])
    assert not tied_pairs(scores)[0, 1]
    assert tied_pairs(scores, effect=SeedEffect(0.05, dof=8))[0, 1]
    assert not tied_pairs(scores, effect=SeedEffect(0.05, dof=2))[0, 1]
    assert not tied_pairs(scores, effect=SeedEffect(0.05, dof=8), seeds=[400, 400])[0, 1]


def test_equal_architectures_are_seldom_told_apart_once_seed_noise_counts() -> None:
    # Eight equal ones, two seeds each: every pair that is told apart is an error.
    generator = np.random.default_rng(11)
    pairs = np.triu_indices(8, 1)
    wrong = {True: 0.0, False: 0.0}
    rounds = 40
    for _ in range(rounds):
        hard = generator.normal(0.7, 0.2, 120)
        repeats = (
            hard + generator.normal(0, 0.02, (8, 2, 1)) + generator.normal(0, 0.15, (8, 2, 120))
        )
        for aware in wrong:
            effect = seed_effect(list(repeats)) if aware else None
            tied = tied_pairs(repeats.mean(axis=1), seeds=[2] * 8, effect=effect, samples=400)
            wrong[aware] += float((~tied[pairs]).mean()) / rounds
    assert wrong[True] < 0.1
    assert wrong[False] > 0.2


def test_tied_pairs_refuses_other_seed_counts() -> None:
    with pytest.raises(ValueError, match="2 rows but 3 seed counts"):
        tied_pairs([[0, 1], [1, 0]], seeds=[1, 1, 1])


def test_seed_effect_finds_the_component_between_seeds() -> None:
    generator = np.random.default_rng(9)
    prompts = generator.normal(0, 1, 200)
    repeats = [
        prompts + generator.normal(0, 0.3, (3, 1)) + generator.normal(0, 0.5, (3, 200))
        for _ in range(200)
    ]
    effect = seed_effect(repeats)
    assert effect.dof == 400
    assert effect.std == pytest.approx(0.3, rel=0.08)


def test_seed_effect_is_nought_where_only_prompts_scatter() -> None:
    generator = np.random.default_rng(10)
    effect = seed_effect([generator.normal(0, 1, (4, 100)) for _ in range(200)])
    # The scatter of single prompts alone gives seeds' means a deviation of 0.1.
    assert effect.std < 0.03


def test_seed_effect_without_repeats_knows_nothing() -> None:
    assert seed_effect([[[0.1, 0.2]], [[0.3, 0.4]]]) == SeedEffect(0.0, 0)


def test_average_ranks_share_ties() -> None:
    assert average_ranks([30, 10, 20, 20]).tolist() == [4, 1, 2.5, 2.5]


def test_spearman_by_hand() -> None:
    # 1 - 6 * sum(d^2) / (n (n^2 - 1)), d = (0, 1, 1, 0).
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    # With ties: scipy.stats.spearmanr([1, 2, 2, 3], [1, 2, 3, 4]) = 0.9486832980505138.
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486832980505138)


def test_spearman_of_a_constant_is_unknown() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


@given(arrays(float, st.integers(3, 20), elements=st.integers(-1000, 1000), unique=True))
def test_spearman_only_sees_order(values: np.ndarray) -> None:
    assert spearman(values, values**3 + values) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)


def test_spread_by_hand() -> None:
    spread = seed_spread([[0.1, 0.3], [0.5, 0.7], [0.9, 1.1]])
    assert spread.architectures == 3
    assert spread.between == pytest.approx(0.4)
    assert spread.within == pytest.approx(math.sqrt(0.02))
    assert spread.between_net == pytest.approx(math.sqrt(0.16 - 0.01))
    assert spread.ratio() == pytest.approx(0.4 / math.sqrt(0.02))
    assert spread.ratio(seeds=2) == pytest.approx(0.4 / math.sqrt(0.01))


def test_spread_bears_a_missing_seed() -> None:
    full, holed = [[0.1, 0.3], [0.5, 0.5]], [[0.1, 0.3, math.nan], [0.5, math.nan, 0.5]]
    assert seed_spread(holed) == seed_spread(full)


def test_spread_without_seed_noise_has_no_bound() -> None:
    assert seed_spread([[0.1, 0.1], [0.5, 0.5]]).ratio() == math.inf


@pytest.mark.parametrize(
    "table", [[[0.1, 0.2]], [[0.1], [0.2]], [[math.nan, math.nan], [0.1, 0.2]]]
)
def test_spread_refuses_what_it_cant_compare(table: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="two architectures or more"):
        seed_spread(table)


def test_better_half_keeps_the_best_in_order() -> None:
    table = [[0.1, 0.1], [0.9, 0.7], [0.5, 0.5], [0.4, math.nan], [0.6, 0.6]]
    assert better_half(table)[:, 0].tolist() == [0.9, 0.5, 0.6]


def test_paired_bootstrap_with_seed_noise_agrees_with_tied_pairs() -> None:
    rng = np.random.default_rng(3)
    prompts = rng.normal(0.5, 0.2, 60)
    for shift in (0.0, 0.02, 0.05, 0.1, 0.3):
        rows = np.stack([prompts + shift, prompts + rng.normal(0, 0.02, 60)])
        for effect in (SeedEffect(0.03, 6), SeedEffect(0.03, 1), None):
            difference = paired_bootstrap(*rows, seeds=(2, 1), effect=effect)
            tied = tied_pairs(rows, seeds=[2, 1], effect=effect)[0, 1]
            assert difference.includes_zero == tied


def test_shares_of_questions_by_hand() -> None:
    # Two prompts with 1 and 3 questions: 1 - 0 of the first, 2 - 1 of the second.
    found = paired_bootstrap_of_shares([1, 2], [0, 1], [1, 3])
    assert found.value == pytest.approx(2 / 4)
    # Drawn twice the first alone gives 1, the second 1/3, both 2/4.
    assert (found.low, found.high) == pytest.approx((1 / 3, 1.0))
    assert math.isnan(paired_bootstrap_of_shares([1], [0], [2]).low)
    with pytest.raises(ValueError, match="can't be paired"):
        paired_bootstrap_of_shares([1, 2], [0, 1], [1])


def test_shares_of_one_question_a_prompt_are_means_over_prompts() -> None:
    first, second = np.random.default_rng(0).random((2, 40))
    shares = paired_bootstrap_of_shares(first, second, np.ones(40))
    means = paired_bootstrap(first, second)
    assert (shares.value, shares.low, shares.high) == pytest.approx(
        (means.value, means.low, means.high)
    )
