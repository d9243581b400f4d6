"""Whole searches on the table: what a real one does, in the time that was recorded."""

import pytest

from nas_t2i.arch.limits import Bound, Limits
from nas_t2i.benchmark.build import build_table
from nas_t2i.benchmark.replay.method import Conditions, Method, Named, samplers, stoppers
from nas_t2i.benchmark.replay.replay import Replays
from nas_t2i.benchmark.table import Table
from nas_t2i.errors import RecordError, UserError

MUCH = 1e9


def method(sampler="random", stopper="none", workers=1) -> Method:
    return Method(samplers(sampler)[0], stoppers(stopper)[0], workers)


def replays(table, *, trials=8, compute=MUCH, seeds=1, limits=None, included=False) -> Replays:
    conditions = Conditions(trials, seeds, len(table.seeds), compute)
    return Replays(table, conditions, limits or Limits(), included=included)


def run(table, made: Method, repeat=0, **conditions):
    return replays(table, **conditions).run(made, 0, repeat, lambda _: None)


def cost(table, event) -> float:
    point = table.point(event.arch_id, event.step, event.recorded_seed)
    return point.seconds + point.evaluation_seconds


def test_one_at_a_time_takes_the_sum_of_what_was_recorded(table):
    trace = run(table, method())
    last = [event for event in trace.events if event.step == 432]
    assert len(last) == 8 == len({event.arch_id for event in last})
    assert trace.runner.now == pytest.approx(sum(cost(table, event) for event in last))
    flops = (table.point(event.arch_id, 432, event.recorded_seed).training_flops for event in last)
    assert trace.runner.flops == pytest.approx(sum(flops))
    assert [event.step for event in trace.events] == [*table.steps] * 8


def test_side_by_side_events_come_in_the_order_of_time(table):
    alone, together = run(table, method()), run(table, method(workers=4))
    times = [event.seconds for event in together.events]
    assert times == sorted(times)
    assert together.runner.flops == pytest.approx(alone.runner.flops)
    assert alone.runner.now / 4 <= together.runner.now < alone.runner.now / 3
    firsts = [event for event in together.events if event.step == 22][:4]
    assert [event.seconds for event in firsts] == [
        pytest.approx(cost(table, event)) for event in firsts
    ]


@pytest.mark.parametrize(
    "stopper", ["none", "asha[eta=2,signal=heldout_loss]", "racing[compute=5]"]
)
def test_a_replay_is_a_function_of_seed_and_repeat(table, stopper):
    made = method(stopper=stopper, workers=3)
    one, again, other = (run(table, made, repeat) for repeat in (1, 1, 2))
    assert one.events == again.events != other.events


def test_all_methods_hear_the_same_recorded_seeds(table):
    heard = {}
    for made in (method("grid"), method("tpe"), method(stopper="racing[compute=10]")):
        for event in run(table, made, trials=12).events:
            heard.setdefault((event.arch_id, event.seed), set()).add(event.recorded_seed)
    assert all(len(seeds) == 1 for seeds in heard.values())
    assert set().union(*heard.values()) == set(table.seeds)


def test_who_falls_behind_stops_and_costs_less(table):
    whole = run(table, method(), trials=20)
    for stopper in ("asha[eta=2,signal=heldout_loss]", "median[signal=heldout_loss]"):
        stopped = run(table, method(stopper=stopper), trials=20)
        reached = {(event.arch_id, event.step) for event in stopped.events}
        ended = sum(step == 432 for _, step in reached)
        assert len({arch for arch, _ in reached}) == 20 and 1 <= ended < 20
        assert stopped.runner.flops < 0.8 * whole.runner.flops
        assert {event.arch_id for event in whole.events} == {arch for arch, _ in reached}
    full = run(table, method(stopper="asha[eta=2]"), trials=20)
    assert {event.step for event in full.events if event.arch_id in _stopped(full)} == {
        *table.steps[:-1]  # without a signal it is asked at full rungs only
    }


def _stopped(trace) -> set[str]:
    reached = {event.arch_id: event.step for event in trace.events}
    return {arch_id for arch_id, step in reached.items() if step != 432}


def test_a_race_gives_everyone_a_piece_and_goes_on_where_trials_stood(table):
    trace = run(table, method(stopper="racing", workers=2), trials=10, compute=6)
    curves: dict[tuple[str, int], list[int]] = {}
    for event in trace.events:
        curves.setdefault((event.arch_id, event.seed), []).append(event.step)
    assert len({arch_id for arch_id, _ in curves}) == 10
    assert all(steps == [*table.steps[: len(steps)]] for steps in curves.values())
    assert any(steps[-1] == 432 for steps in curves.values())
    steps = sum(steps[-1] for steps in curves.values())
    assert steps <= (6 + 1) * 432  # the leader may be one trial over it


def test_it_ends_when_the_compute_is_spent(table):
    runs = replays(table, trials=33, compute=4)
    trace = runs.run(method(), 0, 0, lambda _: None)
    spent = trace.runner.flops / runs.curves.mean_trial[0]
    assert 4 <= spent < 5


def test_limits_and_included_architectures_are_as_in_a_search(table):
    cheap = Limits(gmacs=Bound(max=100))
    archs = {event.arch_id for event in run(table, method(), limits=cheap, trials=33).events}
    assert archs and all(table.architecture(a).profile.gmacs <= 100 for a in archs)
    first = run(table, method(), included=True).events[0]
    named = table.manifest.space.data["include"]
    assert table.architecture(first.arch_id).name == named[0]


def test_what_the_table_lacks_is_named_unless_it_says_why(study, table):
    import dataclasses

    gone = table.architectures[0]
    fewer = [trial for trial in study.trials if trial.name != gone]
    manifest, arrays = build_table([dataclasses.replace(study, trials=fewer)], "fewer")
    with pytest.raises(RecordError, match=rf"proposes {gone} .*which the table lacks"):
        run(Table(manifest, arrays), method("grid"), trials=33)
    manifest, arrays = build_table([study], "told", [gone])
    trace = run(Table(manifest, arrays), method("grid"), trials=33)
    assert len({event.arch_id for event in trace.events}) == 32


def test_more_seeds_than_recorded_are_refused(table):
    with pytest.raises(UserError, match="--seeds: got 3; the table has 2"):
        replays(table, seeds=3)
    both = run(table, method(), seeds=2)
    pairs = {(event.arch_id, event.recorded_seed) for event in both.events}
    assert len(pairs) == 16


@pytest.mark.parametrize("sampler", ["tpe", "nsga2[population_size=4]", "qmc", "grid"])
def test_every_sampler_finds_its_way_through_the_table(table, sampler):
    trace = run(table, method(sampler), trials=33)
    found = {event.arch_id for event in trace.events}
    assert len(found) == 33
    assert Named(sampler, "", {}).text == sampler
