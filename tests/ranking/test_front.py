"""Fronts in draws: held against comparisons of all pairs, and against truths that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.ranking.front import hypervolume, knee, on_front
from nas_t2i.ranking.posterior import believe
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


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=9))
def test_a_front_against_several_costs(points: list[tuple[int, int, int]]) -> None:
    table = np.array(points, dtype=float)
    free = [
        not any(
            c <= cost and d <= other and s >= score and (c, d, s) != (cost, other, score)
            for c, d, s in points
        )
        for cost, other, score in points
    ]
    assert on_front(table[None, :, 2], table[:, :2])[0].tolist() == free
    one = on_front(table[None, :, 2], table[:, 0])
    assert (on_front(table[None, :, 2], table[:, :1]) == one).all()


@settings(deadline=None)
@given(POINTS, st.integers(0, 6), st.integers(0, 6))
def test_the_hypervolume_is_the_area_counted_in_squares(
    points: list[tuple[int, int]], least: int, most: int
) -> None:
    costs, scores = (np.array(values, dtype=float) for values in zip(*points, strict=True))
    squares = sum(
        any(c <= x and s > y for c, s in points) for x in range(most) for y in range(least, 6)
    )
    assert hypervolume(scores[None], costs, (least, most))[0] == squares


def test_the_knee_is_where_more_cost_begins_to_buy_little() -> None:
    costs = np.array([1.0, 2.0, 3.0, 10.0, 4.0])
    bent = np.array([0.0, 0.5, 0.9, 1.0, 0.2])
    straight = np.array([0.0, 1 / 9, 2 / 9, 1.0, 0.2])
    assert knee(np.stack([bent, straight]), costs).tolist() == [2, -1]
    assert knee(np.array([[1.0, 0.5]]), np.array([1.0, 2.0])).tolist() == [-1]


def test_unlike_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="don't fit"):
        on_front(np.zeros((2, 3)), np.zeros(2))


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
    told, was = np.concatenate(said), np.concatenate(true)
    assert told.mean() == pytest.approx(was.mean(), abs=0.05)
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        inside = (told >= low) & (told < high)
        assert inside.sum() > 30
        assert told[inside].mean() == pytest.approx(was[inside].mean(), abs=0.12)
    assert np.mean(covered) > 0.85
