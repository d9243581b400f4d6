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


def front_field(steps, costs, busy=()):
    return [
        Contender(str(i), n, i not in busy, (cost,))
        for i, (n, cost) in enumerate(zip(steps, costs, strict=True))
    ]


def test_with_costs_the_cheap_and_worse_may_be_worth_training_too():
    drawn = draws(0.0, 2.0, 1.0, deviation=0.3)
    # The last one costs most and is worse than the second: it is left alone, cheap as it was.
    assert RULE.choose(front_field((30, 40, 1), (1, 2, 3)), drawn) is None  # all is told
    unsure = draws(0.0, 0.2, 0.1, deviation=1.0)
    assert RULE.choose(front_field((30, 40, 60), (1, 2, 3)), unsure) == 0
    assert RULE.choose(front_field((90, 40, 60), (1, 2, 3)), unsure) == 1
    assert RULE.choose(front_field((30, 40, 60), (1, 2, 3), busy=[0]), unsure) == 1


def test_who_is_dominated_by_one_as_cheap_is_left_alone():
    drawn = draws(0.0, 0.5, 9.0, -3.0, deviation=1.0)
    costs = (4, 3, 2, 1)
    # The third is better and cheaper than the first two: they get nothing, though they got least.
    assert RULE.choose(front_field((1, 1, 900, 800), costs), drawn) is None
    unsure = draws(0.0, 0.5, 2.0, 1.5, deviation=1.0)
    lax = Race(rule="race", compute=10.0, dominated=1.0, sure=1.0)
    strict = Race(rule="race", compute=10.0, dominated=0.8, sure=1.0)
    assert lax.choose(front_field((1, 900, 900, 900), costs), unsure) == 0
    assert strict.choose(front_field((1, 900, 900, 900), costs), unsure) in (2, 3)


def test_of_several_costs_one_is_dominated_where_all_are_as_low():
    drawn = draws(0.0, 3.0, deviation=0.3)
    field = [Contender("a", 1, True, (1.0, 5.0)), Contender("b", 1, True, (2.0, 4.0))]
    assert RULE.choose(field, drawn) is None  # both are on the front
    field[0] = Contender("a", 1, True, (2.0, 5.0))
    assert RULE.choose(field, drawn) is None  # the first is off it
    unsure = draws(0.0, 0.3, deviation=1.0)
    assert RULE.choose(field, unsure) == 1


@pytest.mark.parametrize(
    ("rungs", "trials", "compute"), [((30, 540), 24, 2.33), ((300, 420, 540), 9, 6.0)]
)
def test_too_little_compute_for_everyone_is_refused(rungs, trials, compute):
    Race(rule="race", compute=compute + 0.02).check_plan(rungs, trials)
    with pytest.raises(ValueError, match=r"early_stopping\.compute: got .*; expected at least"):
        Race(rule="race", compute=compute - 0.02).check_plan(rungs, trials)
