"""Statistics against values worked out by hand, known distributions and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nas_t2i.statistics import (
    average_ranks,
    better_half,
    bootstrap_means,
    mean_over_prompts,
    paired_bootstrap,
    paired_bootstrap_of_shares,
    seed_spread,
    spearman,
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
