"""Which pair comes when."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.data.order import BLOCK, Order, permute, shares
from nas_t2i.errors import ConfigError

SEEDS = st.integers(0, 5)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    sizes = draw(st.lists(st.integers(1, 200), min_size=1, max_size=4))
    weights = [draw(st.floats(0.2, 5.0)) for _ in sizes]
    return Order(sizes, weights, draw(st.integers(0, sum(sizes) - len(sizes))))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5000), seed=SEEDS)
def test_permute_is_a_bijection(size: int, seed: int) -> None:
    permuted = permute(np.arange(size), size, seed, "test")
    np.testing.assert_array_equal(np.sort(permuted), np.arange(size))


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, start=st.integers(0, 10**11))
def test_permute_tells_any_place_of_a_large_range(seed: int, start: int) -> None:
    size = 10**11 + 7
    places = np.arange(start, min(start + 50, size))
    permuted = permute(places, size, seed, "test")
    assert len(set(permuted.tolist())) == len(places)
    assert permuted.min() >= 0
    assert permuted.max() < size
    np.testing.assert_array_equal(permute(places[7:9], size, seed, "test"), permuted[7:9])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_permutation_comes_about_equally_often(size: int) -> None:
    seen = Counter(tuple(permute(np.arange(size), size, seed, "test")) for seed in range(3000))
    expected = 3000 / np.prod(range(1, size + 1))
    assert len(seen) == 3000 / expected
    deviation = sum((number - expected) ** 2 / expected for number in seen.values())
    assert deviation < 50  # chi-squared with at most 23 degrees of freedom: p < 0.001


def test_permutations_differ_by_seed_and_purpose() -> None:
    places = np.arange(100)
    ways = [permute(places, 100, seed, purpose) for seed in (0, 1) for purpose in ("a", "b")]
    assert len({tuple(way) for way in ways}) == 4


@settings(max_examples=60, deadline=None)
@given(order=orders(), seed=SEEDS, first=st.integers(0, 3000), data=st.data())
def test_a_slice_is_the_slice_of_a_longer_call(
    order: Order, seed: int, first: int, data: st.DataObject
) -> None:
    whole = order.rows(seed, first, 40)
    start = data.draw(st.integers(0, 39))
    count = data.draw(st.integers(0, 40 - start))
    part = order.rows(seed, first + start, count)
    np.testing.assert_array_equal(part, whole[start : start + count])


@settings(max_examples=20, deadline=None)
@given(order=orders(), seed=SEEDS, block=st.integers(0, 10**6))
def test_held_out_pairs_are_never_drawn(order: Order, seed: int, block: int) -> None:
    drawn = order.rows(seed, block * BLOCK, BLOCK)
    assert not set(drawn.tolist()) & set(order.held_out_rows().tolist())


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(4, 200), min_size=1, max_size=3), data=st.data(), seed=SEEDS)
def test_each_epoch_of_a_source_shows_each_of_its_pairs_once(
    sizes: list[int], data: st.DataObject, seed: int
) -> None:
    held_out = data.draw(st.integers(0, sum(sizes) - len(sizes)))
    order = Order(sizes, [1.0 + i for i in range(len(sizes))], held_out)
    held = set(order.held_out_rows().tolist())
    assert len(held) == held_out
    drawn = order.rows(seed, 0, 2 * BLOCK)
    start = 0
    for size in sizes:
        rows = [row for row in drawn.tolist() if start <= row < start + size]
        pairs = set(range(start, start + size)) - held
        epochs = [rows[i : i + len(pairs)] for i in range(0, len(rows), len(pairs))]
        assert len(epochs) > 1
        for epoch in epochs[:-1]:
            assert sorted(epoch) == sorted(pairs)
        assert len(pairs) < 8 or epochs[0] != epochs[1]
        start += size


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(0.2, 5.0), min_size=1, max_size=4),
    seed=SEEDS,
    block=st.integers(0, 10**6),
)
def test_weights_are_exact_in_every_block(weights: list[float], seed: int, block: int) -> None:
    order = Order([100] * len(weights), weights, 0)
    drawn = order.rows(seed, block * BLOCK, BLOCK)
    numbers = np.bincount(drawn // 100, minlength=len(weights))
    assert numbers.tolist() == shares(BLOCK, weights)
    np.testing.assert_allclose(numbers / BLOCK, np.array(weights) / sum(weights), atol=1 / BLOCK)


def test_held_out_pairs_come_by_weight_as_far_as_there_are_any() -> None:
    def held(sizes: list[int], weights: list[float], number: int) -> list[int]:
        rows = Order(sizes, weights, number).held_out_rows()
        ends = np.cumsum(sizes)
        return np.bincount(np.searchsorted(ends, rows, side="right"), minlength=len(sizes)).tolist()

    assert held([100, 100], [3.0, 1.0], 8) == [6, 2]
    assert held([5, 100, 100], [8.0, 1.0, 1.0], 20) == [4, 8, 8]
    assert held([2, 2], [1.0, 1.0], 2) == [1, 1]


def test_too_few_pairs_and_too_small_a_weight_are_named() -> None:
    with pytest.raises(ConfigError, match=r"got 5 pairs, of which 5 .* expected at least 6"):
        Order([5], [1.0], 5)
    with pytest.raises(ConfigError, match=r"sources\[1\].weight: got 0.0001 of 1.0001"):
        Order([5, 5], [1.0, 0.0001], 1)


@settings(max_examples=60, deadline=None)
@given(order=orders(), seed=SEEDS, count=st.integers(0, 2500))
def test_seen_rows_are_the_different_ones_of_the_samples(
    order: Order, seed: int, count: int
) -> None:
    seen = [int(row) for piece in order.seen(seed, count) for row in piece]
    assert len(seen) == len(set(seen))
    assert set(seen) == set(order.rows(seed, 0, count).tolist())
