import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.search.stopping.best_share import BestShare

HALF = BestShare(keep=(0.5, 0.5), margin=0.0, min_peers=2)


def scores(mean: float, n: int = 64) -> np.ndarray:
    """Prompt scores around a mean, the same pattern for every candidate."""
    return mean + 0.1 * np.sin(np.arange(n))


def test_nobody_stops_before_enough_peers_were_seen():
    rule = HALF.model_copy(update={"min_peers": 3})
    assert rule.goes_on("a", {"a": scores(0.1), "b": scores(0.9)}, 0)
    assert not rule.goes_on("a", {"a": scores(0.1), "b": scores(0.9), "c": scores(0.8)}, 0)


def test_the_better_half_goes_on_rounded_up():
    seen = {
        name: scores(mean) for name, mean in zip("abcde", (0.9, 0.8, 0.7, 0.6, 0.5), strict=True)
    }
    assert [HALF.goes_on(name, seen, 0) for name in "abcde"] == [True, True, True, False, False]


def test_who_cannot_be_told_from_the_last_kept_one_goes_on():
    rng = np.random.default_rng(0)
    kept = rng.uniform(size=100)
    close = kept - rng.normal(0.01, 0.2, size=100)  # worse by less than its standard error of 0.02
    far = kept - rng.normal(0.2, 0.2, size=100)
    rule = HALF.model_copy(update={"margin": 2.0})
    assert rule.goes_on("close", {"kept": kept, "close": close}, 0)
    assert not rule.goes_on("far", {"kept": kept, "far": far}, 0)


@given(
    means=st.lists(st.floats(0, 1), min_size=1, max_size=9, unique=True),
    keep=st.floats(0.1, 1.0),
    margin=st.floats(0, 3),
)
def test_the_best_always_goes_on(means, keep, margin):
    rule = BestShare(keep=(keep,), margin=margin, min_peers=1)
    seen = {str(i): scores(mean) for i, mean in enumerate(means)}
    best = str(int(np.argmax(means)))
    assert rule.goes_on(best, seen, 0)


def test_each_rung_has_its_own_share():
    rule = BestShare(keep=(1.0, 0.5), margin=0.0, min_peers=1)
    seen = {"a": scores(0.9), "b": scores(0.1)}
    assert rule.goes_on("b", seen, 0)
    assert not rule.goes_on("b", seen, 1)
