"""Every metric that a budget can name has a name for people."""

from __future__ import annotations

from typing import get_args

import pytest

from nas_t2i.protocol.budget import Evaluation
from nas_t2i.results.metrics import display_name

(METRICS, _) = get_args(Evaluation)


@pytest.mark.parametrize(
    "metric", [get_args(m.model_fields["metric"].annotation)[0] for m in get_args(METRICS)]
)
def test_a_budgets_metric_is_called_by_a_name_of_its_own(metric: str) -> None:
    assert display_name(metric) not in (metric, "score")


def test_another_metric_is_called_as_it_is_recorded() -> None:
    assert (display_name("newer"), display_name("")) == ("newer", "score")
