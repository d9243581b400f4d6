"""Searches that are killed again and again end like one that was left alone."""

import os
import random
import signal
from collections import Counter

import numpy as np
import pytest

from nas_t2i.search.racing.ledger import RACE_FILE, read_pieces
from nas_t2i.search.resume.rung_log import Decided, Seen, read_rungs
from nas_t2i.store import read_contents
from tests.faults.killing import order_death
from tests.faults.quick_trial import ORDER
from tests.faults.searches import Plan, on, optuna_trials, records, search, start, states, told

_LONGEST_SECONDS = 400


def disturb(plan: Plan, kills: int, seed: int, *, longest: float = 1.5) -> Counter:
    """Search with `kills` kills of driver and trials at random points, then to its end."""
    rng, done = random.Random(seed), Counter()  # noqa: S311
    plan.folder.mkdir(parents=True, exist_ok=True)
    for _ in range(kills):
        kind = rng.choice(["driver at a write", "driver at a time", "trial at a write"])
        count, before = rng.randint(1, 12), rng.random() < 0.5
        if plan.real and kind == "trial at a write":
            kind = "driver at a time"
        if kind == "driver at a write":
            process = start(plan, count, before=before)
            process.join(_LONGEST_SECONDS)
        else:
            if kind == "trial at a write":
                order_death(plan.folder / ORDER, 1 + count % 5, before=before)
            process = start(plan)
            process.join(rng.uniform(0.3, longest))
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
        assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
        done[kind if process.exitcode else f"{kind}, too late"] += 1
    (plan.folder / ORDER).unlink(missing_ok=True)
    process = start(plan)
    process.join(_LONGEST_SECONDS)
    assert process.exitcode == 0
    print(dict(done))
    return done


def assert_like_one_left_alone(plan: Plan, tmp_path) -> None:
    alone = on(plan, tmp_path / "alone")
    search(alone)
    assert records(plan) == records(alone)
    assert told(plan) == told(alone)
    assert states(plan) == states(alone)
    if plan.race:
        assert {piece.why for piece in read_pieces(plan.folder / RACE_FILE)} >= {"first", "race"}
    else:
        assert any(isinstance(e, Decided) and not e.goes_on for e in rung_events(plan)), (
            "none stops"
        )


def rung_events(plan: Plan):
    return read_rungs(plan.folder / "rungs.jsonl")


def assert_consistent(plan: Plan, alone: Plan) -> None:
    """Where trials run side by side, who is seen at a rung depends on who is faster.

    Each trial's curve does not; each decision is what the rule says of the table above it; and
    Optuna holds what the records say.
    """
    common = records(plan).keys() & records(alone).keys()
    assert common
    for key in common:
        curves = records(plan)[key][-1], records(alone)[key][-1]
        assert all(a == b for a, b in zip(*curves, strict=False))
    request = plan.request()
    rule, rungs = request.budget.search.early_stopping, request.budget.full_rungs
    prompts = {
        (t.arch_id, t.seed, p.step): p.scores["tifa"].per_prompt
        for t in read_contents(plan.folder).trials
        for p in t.curve
    }
    table: dict[int, dict[str, list[int]]] = {}
    stopped = set()
    for event in rung_events(plan):
        if isinstance(event, Seen):
            table.setdefault(event.rung, {}).setdefault(event.candidate, []).append(event.seed)
            continue
        at_rung = {
            name: np.mean([prompts[name, i, event.rung] for i in seeds], axis=0)
            for name, seeds in table[event.rung].items()
        }
        assert event.peers == len(at_rung)
        go = rule.goes_on(event.candidate, at_rung, rungs.index(event.rung))
        assert event.goes_on == (go and event.candidate not in stopped)
        stopped |= set() if event.goes_on else {event.candidate}
    held = {t.user_attrs["name"]: t for t in optuna_trials(plan) if "arch" in t.user_attrs}
    trials = list(read_contents(plan.folder).trials)
    assert {t.name for t in trials} == set(held)
    for name, trial in held.items():
        own = [t for t in trials if t.name == name]
        steps = set.intersection(*({p.step for p in t.curve} for t in own))
        means = {
            step: pytest.approx(
                sum(p.scores["tifa"].value for t in own for p in t.curve if p.step == step)
                / len(own)
            )
            for step in steps
        }
        assert trial.intermediate_values == means
        ends = {t.state.value for t in own}
        assert trial.state.name == ("PRUNED" if "stopped" in ends else "COMPLETE")


def test_short(tmp_path):
    plan = Plan(tmp_path / "killed", trials=4)
    done = disturb(plan, 6, seed=1)
    assert sum(done.values()) == 6
    assert_like_one_left_alone(plan, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_one_at_a_time(seed, tmp_path):
    plan = Plan(tmp_path / "killed", trials=8)
    disturb(plan, 15, seed=seed)
    assert_like_one_left_alone(plan, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_race(parallel, tmp_path):
    plan = Plan(tmp_path / "killed", trials=8, race=True, parallel=parallel)
    disturb(plan, 15, seed=40 + parallel)
    assert_like_one_left_alone(plan, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_halving_by_a_signal(seed, tmp_path):
    plan = Plan(tmp_path / "killed", trials=8, by_signal=True)
    disturb(plan, 15, seed=50 + seed)
    assert_like_one_left_alone(plan, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_side_by_side(seed, tmp_path):
    plan = Plan(tmp_path / "killed", trials=8, parallel=2, seeds=3)
    disturb(plan, 15, seed=10 + seed)
    alone = on(plan, tmp_path / "alone")
    search(alone)
    assert_consistent(alone, plan)
    assert_consistent(plan, alone)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("seed", range(2))
def test_postgresql(seed, database, tmp_path):
    plan = Plan(tmp_path / "killed", trials=8, storage=database)
    disturb(plan, 15, seed=20 + seed)
    assert_like_one_left_alone(plan, tmp_path)


@pytest.mark.slow
def test_the_real_trainer(tmp_path):
    plan = Plan(tmp_path / "killed", trials=3, real=True)
    disturb(plan, 8, seed=30, longest=40.0)
    assert_like_one_left_alone(plan, tmp_path)
