"""Asynchronous successive halving, as a rule that stops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.search.stopping.asha import Asha


def seen(*means: float) -> dict[str, np.ndarray]:
    return {str(i): np.array([mean]) for i, mean in enumerate(means)}


def test_of_nine_the_best_third_goes_on_and_before_eta_nobody_stops():
    rule = Asha(rule="asha", eta=3.0)
    table = seen(*(0.1 * i for i in range(9)))
    assert [name for name in table if rule.goes_on(name, table, 0)] == ["6", "7", "8"]
    assert all(rule.goes_on(name, seen(0.2, 0.9), 0) for name in "01")
    assert [rule.goes_on(name, seen(0.2, 0.9, 0.3), 0) for name in "012"] == [False, True, False]


def test_equals_are_treated_alike():
    rule = Asha(rule="asha", eta=2.0)
    assert all(rule.goes_on(name, seen(0.5, 0.5, 0.5, 0.5), 0) for name in "0123")


@given(
    means=st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True),
    eta=st.floats(1.1, 6.0),
)
def test_the_best_goes_on_and_at_most_the_share_does(means, eta):
    rule, table = Asha(rule="asha", eta=eta), seen(*means)
    kept = [name for name in table if rule.goes_on(name, table, 0)]
    assert str(int(np.argmax(means))) in kept
    if len(means) >= eta:
        assert len(kept) == max(1, int(len(means) / eta))


def test_what_is_expected_is_about_the_share_that_goes_on():
    (share,) = Asha(rule="asha", eta=4.0).expected_shares([1, 2], 100)
    assert 0.25 < share < 0.3


def test_a_budget_decides_where_the_rule_is_asked_and_needs_the_signal():
    whole = load_budget("budgets/embedded.yaml")
    data = whole.model_dump(mode="json")
    data["search"]["early_stopping"] = {"rule": "asha"}
    assert Budget.model_validate(data, strict=False).decided_rungs == (360, 480)
    data["search"]["early_stopping"]["signal"] = "heldout_loss"
    budget = Budget.model_validate(data, strict=False)
    assert budget.decided_rungs == tuple(whole.rungs) and budget.budget_id == whole.budget_id
    data |= {"signals": None, "rungs": [360, 480]}
    with pytest.raises(ValidationError, match="got the signal 'heldout_loss', but no signals are"):
        Budget.model_validate(data, strict=False)
