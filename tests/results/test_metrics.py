"""Every metric that a budget can name has a name for people."""

from __future__ import annotations

import pytest

from nas_t2i import plugins
from nas_t2i.results.metrics import display_name


@pytest.mark.parametrize("metric", plugins.builtin_names("metrics"))
def test_a_budgets_metric_is_called_by_a_name_of_its_own(metric: str) -> None:
    assert display_name(metric) not in (metric, "score")


def test_another_metric_is_called_as_it_is_recorded() -> None:
    assert (display_name("newer"), display_name("")) == ("newer", "score")
