"""Random rows: the same whatever slice they are read in."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.streams import normal_rows, raw_rows, uniform_rows


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(-5, 5),
    start=st.integers(0, 200),
    count=st.integers(0, 9),
    width=st.integers(1, 13),
)
def test_any_slice_reads_the_same_rows(seed: int, start: int, count: int, width: int) -> None:
    for rows in (raw_rows, uniform_rows, normal_rows):
        whole = rows(seed, "order", 0, start + count, width)
        np.testing.assert_array_equal(whole[start:], rows(seed, "order", start, count, width))


def test_seed_purpose_and_row_all_matter() -> None:
    base = raw_rows(0, "noise", 0, 2, 8)
    assert not np.array_equal(base, raw_rows(1, "noise", 0, 2, 8))
    assert not np.array_equal(base, raw_rows(0, "order", 0, 2, 8))
    assert not np.array_equal(base[0], base[1])


def test_normal_rows_are_standard_normal() -> None:
    z = normal_rows(3, "noise", 0, 400, 501).astype(np.float64).ravel()
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1
    assert np.isfinite(z).all()


def test_uniform_rows_fill_the_unit_interval() -> None:
    u = uniform_rows(0, "order", 0, 1000, 10).ravel()
    assert u.min() >= 0
    assert u.max() < 1
    counts, _ = np.histogram(u, bins=10, range=(0, 1))
    assert abs(counts - 1000).max() < 150
