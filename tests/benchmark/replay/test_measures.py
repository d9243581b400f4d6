"""Regret, hypervolume and their middles, against what is worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.arch.limits import Bound, Limits
from nas_t2i.benchmark.replay.measures import (
    Picker,
    Truth,
    course,
    interquartile_mean,
    middle,
)
from nas_t2i.benchmark.replay.replay import Event, space_in
from nas_t2i.results.leaderboard import rank_trials


def truth(scores, gmacs) -> Truth:
    ids = tuple("abcdefgh"[: len(scores)])
    return Truth(None, ids, np.array(scores, float), np.array(gmacs, float).reshape(len(ids), -1))


def test_regret_and_hypervolume_of_three():
    made = truth([0.2, 0.6, 0.8], [1.0, 2.0, 3.0])
    assert made.regret("c") == 0 and made.regret("a") == pytest.approx(0.6)
    assert made.guess == pytest.approx(0.8 - 1.6 / 3)
    # The reference point is (0.2, 3): a dominates nothing beyond it, b a strip of 1 x .4, c none.
    assert made.hypervolume(["b"]) == pytest.approx(1.0)
    assert made.hypervolume(["a"]) == made.hypervolume(["c"]) == 0


@given(
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 9)), min_size=2, max_size=8),
    data=st.data(),
)
def test_more_architectures_never_dominate_less(points, data):
    made = truth(*zip(*points, strict=True))
    some = data.draw(st.lists(st.sampled_from(made.arch_ids), unique=True))
    more = data.draw(st.lists(st.sampled_from(made.arch_ids), unique=True))
    small, large = made.hypervolume(some), made.hypervolume(sorted({*some, *more}))
    assert -1e-9 <= small <= large + 1e-9 <= 1 + 1e-6


def test_the_interquartile_mean_cuts_a_quarter_off_either_end():
    assert interquartile_mean(np.array([[0.0], [1.0], [3.0], [100.0]]))[0] == 2.0
    # Of six, one and a half go at either end: the second and the fifth count by half.
    assert interquartile_mean(np.arange(6.0)[:, None])[0] == pytest.approx(2.5)
    six = np.array([0.0, 0.0, 0.0, 3.0, 6.0, 90.0])[:, None]
    assert interquartile_mean(six)[0] == pytest.approx((0 + 3 + 0.5 * 0 + 0.5 * 6) / 3)


def test_its_interval_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for seed in range(100):
        values = np.random.default_rng(seed).normal(size=(40, 1))
        found = middle(values, seed=seed)
        held += bool(found.low[0] <= 0 <= found.high[0])
        assert found.low[0] <= found.value[0] <= found.high[0]
    assert 88 <= held <= 100
    assert np.isnan(middle(np.ones((1, 2)), seed=0).low).all()
    share = middle(np.array([[0.0], [1.0], [1.0], [1.0]]), seed=0, plain=True)
    assert share.value[0] == 0.75


def everything(table) -> list[Event]:
    return [
        Event(float(n), float(n), table.architecture(name).arch_id, seed, seed, step)
        for n, (name, seed, step) in enumerate(
            (name, seed, step)
            for name in table.architectures
            for seed in table.seeds
            for step in table.steps
        )
    ]


def test_the_pick_is_the_first_of_the_programs_ranking(study, table):
    picker, events = Picker(table), everything(table)
    best = picker.pick(events)
    ranked = rank_trials(study.trials)
    assert best == ranked[0].arch_id
    assert picker.pick([event for event in events if event.step < 324]) is None


def test_a_course_starts_at_a_guess_and_ends_at_what_was_found(table):
    whole = Truth.of(table, space_in(table, Limits(), included=False))
    events = everything(table)
    found = course(whole, Picker(table), events, np.array([-1.0, 200.0, 1e9]))
    assert found.regret[0] == whole.guess and found.seconds[0] == 0
    assert found.regret[-1] < 0.02 and found.hypervolume[-1] == pytest.approx(1.0)
    assert found.spent == events[-1].compute


def test_the_front_that_a_search_reports_is_that_of_the_expected_scores(table):
    made = truth([0.2, 0.6, 0.8], [1.0, 2.0, 3.0])
    assert made.front({"a": 0.5, "b": 0.4, "c": 0.9}) == ["a", "c"] and made.front({}) == []
    whole = Truth.of(table, space_in(table, Limits(), included=False))
    picker, events = Picker(table), everything(table)
    end = course(whole, picker, events, np.array([1e9])).front[0]
    assert end == pytest.approx(1.0, abs=0.03)  # all is on record, and drawn to the middle
    compute = Truth.of(table, space_in(table, Limits(), included=False), ["compute", "gmacs"])
    assert (np.argsort(compute.costs[:, 0])[:3] != np.argsort(-compute.costs[:, 0])[:3]).all()
    entry = table.architecture(compute.arch_ids[0])
    assert compute.costs[0].tolist() == [entry.trained_profile.gmacs, *whole.costs[0]]
    assert compute.hypervolume(compute.arch_ids) == pytest.approx(1.0)


def test_the_truth_is_of_the_space_and_its_limits(table):
    assert len(Truth.of(table, space_in(table, Limits(), included=False)).arch_ids) == 33
    some = Truth.of(table, space_in(table, Limits(gmacs=Bound(max=100)), included=False))
    assert 0 < len(some.arch_ids) < 33 and some.costs.max() <= 100
