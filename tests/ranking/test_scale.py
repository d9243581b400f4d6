import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.ranking.scale import Scale, scale_for

scales = st.sampled_from([Scale(0.0), Scale(0.314), Scale(None, 0.2, 3.0)])


@given(scales, st.floats(0.36, 0.99))
def test_there_and_back(scale: Scale, score: float) -> None:
    assert float(scale.back(scale.forward(score))) == pytest.approx(score)


@given(scales, st.floats(0.36, 0.99))
def test_the_slope_is_the_derivative(scale: Scale, score: float) -> None:
    step = 1e-6
    by_difference = (scale.forward(score + step) - scale.forward(score - step)) / (2 * step)
    assert float(scale.slope(score)) == pytest.approx(float(by_difference), rel=1e-4)


@pytest.mark.parametrize("score", [-0.1, 0.0, 0.3, 0.32, 1.0])
def test_scores_at_chance_and_at_one_are_clipped(score: float) -> None:
    scale = Scale(0.314)
    assert np.isfinite(scale.forward(score)) and np.isfinite(scale.slope(score))
    assert scale.is_clipped(score)
    assert not scale.is_clipped(0.5)


def test_the_expected_score_is_the_mean_over_draws() -> None:
    scale = Scale(0.3)
    drawn = scale.back(np.random.default_rng(0).normal(1.5, 0.8, 200_000)).mean()
    assert float(scale.expected(1.5, 0.8)) == pytest.approx(float(drawn), abs=0.001)


def test_a_metric_without_bounds_is_measured_in_its_own_spread() -> None:
    scale = scale_for([[10.0, 20.0, 30.0]], None, proportion=False)
    assert scale.forward([10.0, 20.0, 30.0]).std() == pytest.approx(1.0)
    assert not scale.is_clipped(1e9)
    assert scale_for([[0.5]], 0.3, proportion=True) == Scale(0.3)
    assert scale_for([[0.5]], None, proportion=True) == Scale(0.0)
    assert scale_for([[5.0]], None, proportion=False).unit == 1.0


@given(st.floats(-6, 9), st.floats(0, 4))
def test_an_interval_that_reaches_what_is_clipped_goes_on_to_the_end(low: float, width: float):
    scale = Scale(0.3)
    lowest, highest = scale.interval(low, low + width, 0.25)
    assert 0.3 <= lowest <= highest <= 1
    assert (lowest == 0.3) == bool(scale.is_clipped(scale.back(low)) and low < 0)
    assert (highest == 1) == bool(scale.is_clipped(scale.back(low + width)) and low + width > 0)


def test_the_interval_of_a_metric_without_bounds_has_no_end() -> None:
    low, high = Scale(None, 2.0, 0.5).interval(-100, 100, 1.0)
    assert (low, high) == (pytest.approx(-48), pytest.approx(52))


def test_what_a_rung_adds_to_all_is_no_measure_of_how_they_scatter() -> None:
    last = [1.0, 2.0, 3.0] * 3
    early = [value + 100 for value in last]
    scale = scale_for([early, last], None, proportion=False)
    assert scale == scale_for([last], None, proportion=False)
    # Of few at the last rung the ones before count, each around its own mean.
    few = scale_for([early, [2.0, 2.0]], None, proportion=False)
    assert few.centre == 2.0 and few.unit == pytest.approx((6.0 / 10) ** 0.5)
