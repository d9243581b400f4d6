"""The median rule."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.search.stopping.median import Median


def seen(*means: float) -> dict[str, np.ndarray]:
    return {str(i): np.array([mean]) for i, mean in enumerate(means)}


def test_who_is_below_the_median_of_the_others_stops():
    rule = Median(rule="median", min_peers=3)
    table = seen(1, 2, 3, 4, 5)
    assert [name for name in table if rule.goes_on(name, table, 0)] == ["2", "3", "4"]
    assert rule.goes_on("0", seen(0.1, 0.9), 0)  # of two there are too few


@given(means=st.lists(st.floats(0, 1), min_size=1, max_size=20), peers=st.integers(1, 5))
def test_the_best_goes_on_and_nobody_stops_who_is_better_than_one_that_goes_on(means, peers):
    rule, table = Median(rule="median", min_peers=peers), seen(*means)
    kept = {name: rule.goes_on(name, table, 0) for name in table}
    assert kept[str(int(np.argmax(means)))]
    lowest = min(means[int(name)] for name, on in kept.items() if on)
    assert all(on for name, on in kept.items() if means[int(name)] > lowest)
