"""The racing rule: who is trained on, from joint draws of the final scores."""

import numpy as np
import pytest

from nas_t2i.protocol.search import Contender
from nas_t2i.search.stopping.race import Race


def draws(*means, deviation=1.0):
    return np.random.default_rng(0).normal(means, deviation, (4000, len(means)))


def field(*steps, busy=()):
    return [Contender(str(i), n, i not in busy) for i, n in enumerate(steps)]


RULE = Race(rule="race", compute=10.0)


def test_of_equals_who_got_least_is_trained_on():
    assert RULE.choose(field(30, 20, 30), draws(0, 0, 0)) == 1


def test_who_may_be_the_best_gets_more_than_who_may_not():
    assert RULE.choose(field(30, 30, 30), draws(0, 2, 0)) == 1
    assert RULE.choose(field(30, 3000, 30), draws(0, 2, 1)) == 2


def test_a_busy_one_is_passed_over():
    assert RULE.choose(field(30, 30, 30, busy=[1]), draws(0, 2, 0.5)) == 2


def test_shares_follow_the_probability_of_being_among_the_best():
    drawn = draws(0.0, 0.5, 1.0, deviation=0.7)
    order = np.argsort(-drawn, axis=1)
    expected = np.bincount(order[:, :2].ravel(), minlength=3) / order[:, :2].size
    steps = np.full(3, 1)
    for _ in range(3000):
        steps[RULE.choose(field(*steps), drawn)] += 1
    np.testing.assert_allclose(steps / steps.sum(), expected, atol=0.01)


def test_it_ends_when_one_is_surely_the_best():
    assert RULE.choose(field(1, 1), draws(0, 5)) is None
    assert RULE.choose(field(1, 1), draws(0, 1)) is not None


@pytest.mark.parametrize(
    ("rungs", "trials", "compute"), [((30, 540), 24, 2.33), ((300, 420, 540), 9, 6.0)]
)
def test_too_little_compute_for_everyone_is_refused(rungs, trials, compute):
    Race(rule="race", compute=compute + 0.02).check_plan(rungs, trials)
    with pytest.raises(ValueError, match=r"early_stopping\.compute: got .*; expected at least"):
        Race(rule="race", compute=compute - 0.02).check_plan(rungs, trials)
