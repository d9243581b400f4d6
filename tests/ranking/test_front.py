"""Fronts in draws: held against comparisons of all pairs, and against truths that are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.ranking.front import hypervolume, knee, on_front
from nas_t2i.ranking.observations import Observation
from nas_t2i.ranking.posterior import believe
from nas_t2i.ranking.scale import Scale
from tests.ranking.made import SCALE, observed

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=9)


@settings(deadline=None)
@given(POINTS)
def test_on_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    costs, scores = (np.array(values, dtype=float) for values in zip(*points, strict=True))
    free = [
        not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        for cost, score in points
    ]
    assert on_front(scores[None], costs)[0].tolist() == free


# Points of several scores and costs, in small whole numbers: (scores, costs) of each.
MANY = st.tuples(st.integers(1, 2), st.integers(0, 2)).flatmap(
    lambda sizes: st.lists(
        st.tuples(*(st.tuples(*[st.integers(0, 3)] * size) for size in sizes)),
        min_size=1,
        max_size=9,
    )
)


@settings(deadline=None)
@given(MANY)
def test_a_front_of_several_scores_and_costs(points: list[tuple]) -> None:
    def dominates(one: tuple, other: tuple) -> bool:
        good = all(x >= y for x, y in zip(one[0], other[0], strict=True))
        return one != other and good and all(x <= y for x, y in zip(one[1], other[1], strict=True))

    scores = np.array([score for score, _ in points], dtype=float)
    costs = np.array([cost for _, cost in points], dtype=float).reshape(len(points), -1)
    free = [not any(dominates(one, point) for one in points) for point in points]
    assert on_front(scores[None], costs)[0].tolist() == free
    if scores.shape[1] == costs.shape[1] == 1:
        assert on_front(scores[None, :, 0], costs[:, 0])[0].tolist() == free


@settings(deadline=None)
@given(MANY, st.integers(0, 4), st.integers(0, 4))
def test_the_hypervolume_is_the_volume_counted_in_cubes(
    points: list[tuple], least: int, most: int
) -> None:
    (scores, costs) = (len(part) for part in points[0])
    cubes = 0
    for cube in itertools.product(*([range(least, 4)] * scores + [range(most)] * costs)):
        above, below = cube[:scores], cube[scores:]
        cubes += any(
            all(s > y for s, y in zip(score, above, strict=True))
            and all(c <= x for c, x in zip(cost, below, strict=True))
            for score, cost in points
        )
    reference = [least] * scores + [most] * costs
    drawn = np.array([[score for score, _ in points]] * 2, dtype=float)
    prices = np.array([cost for _, cost in points], dtype=float).reshape(len(points), -1)
    assert hypervolume(drawn, prices, reference).tolist() == pytest.approx([cubes] * 2)


def test_the_knee_is_where_more_cost_begins_to_buy_little() -> None:
    costs = np.array([1.0, 2.0, 3.0, 10.0, 4.0])
    bent = np.array([0.0, 0.5, 0.9, 1.0, 0.2])
    straight = np.array([0.0, 1 / 9, 2 / 9, 1.0, 0.2])
    assert knee(np.stack([bent, straight]), costs).tolist() == [2, -1]
    assert knee(np.array([[1.0, 0.5]]), np.array([1.0, 2.0])).tolist() == [-1]


def test_unlike_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="don't fit"):
        on_front(np.zeros((2, 3)), np.zeros(2))


def check_said(said: list[np.ndarray], true: list[np.ndarray]) -> None:
    """Said probabilities are as often true as they say, in all and within four ranges."""
    told, was = np.concatenate(said), np.concatenate(true)
    assert told.mean() == pytest.approx(was.mean(), abs=0.05)
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        inside = (told >= low) & (told < high)
        assert inside.sum() > 30
        assert told[inside].mean() == pytest.approx(was[inside].mean(), abs=0.12)


def test_who_is_said_to_be_on_the_front_is_on_it_as_often() -> None:
    costs = np.arange(10.0)
    said, true, covered = [], [], []
    for number in range(60):
        generator = np.random.default_rng(number)
        finals = 0.25 * costs + generator.normal(0, 0.8, len(costs))
        posterior = believe(
            observed([float(x) for x in finals], noise=0.4, seed=number), SCALE, draws=300
        )
        said.append(on_front(posterior.draws, costs).mean(axis=0))
        true.append(on_front(finals[None], costs)[0])
        reference = (-3.0, 10.0)
        low, high = np.quantile(hypervolume(posterior.draws, costs, reference), [0.025, 0.975])
        covered.append(low <= hypervolume(finals[None], costs, reference)[0] <= high)
    check_said(said, true)
    assert np.mean(covered) > 0.85


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_fronts_of_two_metrics_are_as_sure_as_they_say_though_drawn_independently(
    correlation: float,
) -> None:
    said, true = [], []
    for number in range(60):
        generator = np.random.default_rng(number)
        finals = generator.normal(0, 1, (10, 2))
        noise = generator.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 10)
        drawn = [
            believe(
                [
                    Observation(f"A{i}", 0, 100, float(value), 0.0)
                    for i, value in enumerate(finals[:, metric] + 0.4 * noise[:, metric])
                ],
                Scale(None),
                draws=300,
                seed=metric,
            ).draws
            for metric in (0, 1)
        ]
        said.append(on_front(np.stack(drawn, axis=-1), np.empty((10, 0))).mean(axis=0))
        true.append(on_front(finals[None], np.empty((10, 0)))[0])
    check_said(said, true)
