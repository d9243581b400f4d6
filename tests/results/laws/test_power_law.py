"""Known laws, found again."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.errors import MissingExtraError
from nas_t2i.results.laws.power_law import PowerLaw, fit_power_law

pytest.importorskip("scipy")


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.8, 0.8), st.floats(-3, 3), st.floats(-15, 15))
def test_exact_points_give_the_exponent_whatever_the_unit(b: float, log_a: float, unit: float):
    x = np.geomspace(1, 1e4, 12) * 10**unit
    y = np.exp(log_a) * (x / 10**unit) ** b
    law = fit_power_law(x, y, floor=False)
    assert law.b == pytest.approx(b, abs=2e-3)
    assert law.at(x) == pytest.approx(y, rel=5e-3)


@pytest.mark.parametrize(("floor", "b"), [(0.3, 0.4), (1.7, -0.34), (0.04, -0.85)])
def test_a_floor_is_found_under_noise(floor: float, b: float) -> None:
    generator = np.random.default_rng(0)
    x = np.geomspace(1e9, 1e13, 40)
    y = floor + 0.3 * (x / 1e11) ** b
    noisy = y * np.exp(generator.normal(0, 0.005, len(x)))
    law = fit_power_law(x, noisy, floor=True)
    assert law.b == pytest.approx(b, rel=0.1)
    assert law.floor == pytest.approx(floor, rel=0.1)


def test_a_few_wild_points_do_not_bend_it() -> None:
    x = np.geomspace(1, 1e4, 20)
    y = 0.5 * x**0.1
    y[[3, 11]] *= (3, 0.2)
    law = fit_power_law(x, y, floor=False)
    assert law.b == pytest.approx(0.1, abs=2e-3)
    least_squares = np.polyfit(np.log(x), np.log(y), 1)[0]
    assert abs(least_squares - 0.1) > 0.01


def test_it_says_the_same_from_a_neighbour() -> None:
    x = np.geomspace(1, 1e4, 15)
    y = 0.2 + 0.1 * x**0.3
    law = fit_power_law(x, y, floor=True)
    again = fit_power_law(x, y, floor=True, near=PowerLaw(law.log_a + 0.2, 0.25, 0.15, 0.0))
    assert again.b == pytest.approx(law.b, abs=0.01)


@pytest.mark.parametrize(
    ("x", "y"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, -2.0], [1.0, 2.0]), ([1, 2], [0, 1])]
)
def test_what_no_law_fits_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        fit_power_law(np.array(x, dtype=float), np.array(y, dtype=float), floor=False)


def test_scipy_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nas-t2i\[laws\]'"):
        fit_power_law(np.array([1.0, 2.0]), np.array([1.0, 2.0]), floor=False)
