"""Races against recorded trials: decisions depend on the record, not on who answers first."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.protocol.budget import load_budget
from nas_t2i.protocol.rungs import Rungs
from nas_t2i.records import EndEvent, RungEvent, Signal, TrialState
from nas_t2i.search.racing.driver import RaceDriver
from nas_t2i.search.racing.ledger import Ledger
from nas_t2i.search.stopping.race import Race
from tests.search import test_driver
from tests.search.test_driver import (
    Clock,
    Supply,
    TimedSupply,
    Timing,
    Told,
    Watcher,
    candidate,
    point,
)

RUNGS = (2, 4, 8, 16)
NAMES = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320", "SDXL-C128", "SDXL-C192", "SDXL-TD2")
# Names from the best to the worst; how far a trial is from the best hardly depends on the rung.
SCORES = {
    (name, seed): tuple(
        0.5 + rung / 50 - 0.04 * place + 0.01 * ((7 * place + 3 * seed + rung) % 3)
        for rung in RUNGS
    )
    for place, name in enumerate(NAMES)
    for seed in range(3)
}


# Against these costs the third is dominated by the second, which is cheaper and better; the
# others are a front.
GMACS = dict(zip(NAMES, (60.0, 50.0, 55.0, 30.0, 20.0, 10.0), strict=True))
FRONT = ("tifa", "-gmacs")


def entrant(name, seeds, optuna_number):
    made = candidate(name, seeds, optuna_number=optuna_number)
    made.profile = made.profile.model_copy(update={"gmacs": GMACS[name]})
    return made


def race_budget(objectives=(), **changes):
    whole = load_budget("budgets/embedded.yaml")
    rule = Race(rule="race", **({"compute": 4.0, "ahead": 3} | changes))
    return whole.model_copy(
        update={
            "rungs": Rungs(RUNGS),
            "training": whole.training.model_copy(update={"steps": RUNGS[-1]}),
            "search": whole.search.model_copy(
                update={"early_stopping": rule, "objectives": objectives}
            ),
        }
    )


class Trial:
    """Plays a trial's scores back, after as many empty polls as chance wants; keeps checkpoints."""

    def __init__(self, config, disk, ends, chance) -> None:
        self.config, self.disk, self.ends, self.chance = config, disk, ends, chance
        self.key = (config.name, config.seed)
        self.events = [RungEvent(point=point(s, v)) for s, v in disk.get(self.key, [])]
        self.said: dict[int, bool] = {}
        self.leaving = self.told = False

    def poll(self):
        events, self.events = self.events, []
        if self.told or self.chance.random() < 0.5:
            return events
        if self.leaving:
            return self._end(events, TrialState.INTERRUPTED)
        curve = self.disk.setdefault(self.key, [])
        outcome = SCORES[self.key]
        if isinstance(outcome, TrialState):
            return self._end(events, outcome)
        if curve and curve[-1][0] == RUNGS[-1]:
            return self._end(events, TrialState.COMPLETE)
        if curve and not any(step >= curve[-1][0] for step in self.said):
            return events  # waits
        if curve and self.said.get(curve[-1][0]) is False:
            return self._end(events, TrialState.STOPPED)
        step = RUNGS[len(curve)]
        curve.append((step, outcome[len(curve)]))
        return [*events, RungEvent(point=point(*curve[-1]))]

    def _end(self, events, state):
        self.told = True
        self.ends[self.key] = state
        return [*events, EndEvent(state=state)]

    def decide(self, rung, go) -> None:
        self.said.setdefault(rung, go)

    def leave(self) -> None:
        self.leaving = True


class Disk:
    """A runner whose trials leave their curves behind, as trials on a disk do."""

    def __init__(self, chance) -> None:
        self.curves, self.ends, self.chance = {}, {}, chance
        self.most = 0
        self.trials: list[Trial] = []

    def start(self, config) -> Trial:
        self.trials = [trial for trial in self.trials if not trial.told]
        assert all(trial.key != (config.name, config.seed) for trial in self.trials)
        self.ends.pop((config.name, config.seed), None)
        self.trials.append(Trial(config, self.curves, self.ends, self.chance))
        self.most = max(self.most, len(self.trials))
        return self.trials[-1]


class RaceWatcher(Watcher):
    def decided(self, piece) -> None: ...


def race(
    order=0,
    *,
    parallel=2,
    kill_after=(),
    folder=None,
    seeds=3,
    names=NAMES,
    timed=False,
    **changes,
):
    """Run a race to its end; after each of `kill_after` polls, kill it and begin again."""
    budget, disk, told = race_budget(**changes), Disk(random.Random(order)), Told()  # noqa: S311
    ledger = Ledger(folder)
    candidates: list = []
    for polls in [*kill_after, None]:
        known = []
        for old in candidates:  # what a new process reads: candidates with their curves and ends
            new = entrant(old.name, old.seeds, old.optuna_number)
            for seed in old.seeds:
                for step, value in disk.curves.get((old.name, seed), []):
                    new.points.setdefault(step, {})[seed] = point(step, value)
                if (old.name, seed) in disk.ends:
                    new.ends[seed] = EndEvent(state=disk.ends[old.name, seed])
            known.append(new)
        have = {c.name for c in known}
        supply = Supply(
            entrant(name, tuple(range(seeds)), NAMES.index(name))
            for name in names
            if name not in have
        )
        if timed:  # proposals are measured, while nothing runs
            timing = Timing()
            supply = TimedSupply(supply.candidates, timing, None)
        ledger = Ledger(folder) if folder else ledger
        watcher = RaceWatcher()
        driver = RaceDriver(
            budget=budget,
            study_name="s",
            trials=len(names),
            parallel=parallel,
            proposals=supply,
            optuna=told,
            runner=disk,
            clock=Clock(),
            listener=watcher,
            candidates=known,
            rule=budget.search.early_stopping,
            ledger=ledger,
            seed=0,
            latencies=timing if timed else None,
        )
        if timed:
            supply.running = lambda now=driver: len(now._running)
        if polls is None:
            driver.run()
            assert not timed or not any(supply.beside)
        else:
            left = iter(range(polls))

            def kill(left=left) -> None:
                if next(left, None) is None:
                    raise MemoryError

            watcher.on_tick = kill
            driver._send_away = lambda: None  # it is killed: nobody saves
            try:
                driver.run()
            except MemoryError:
                for trial in disk.trials:
                    trial.told = True
            else:
                break
        candidates = driver.candidates
    return ledger, disk, told, watcher


def test_everyone_gets_a_short_way_and_the_best_the_rest():
    ledger, disk, told, _ = race()
    begun = [piece.name for piece in ledger.pieces if piece.why == "first"]
    assert begun == list(NAMES)
    assert all(disk.curves[name, 0] for name in NAMES)
    steps = {name: sum(p.steps for p in ledger.pieces if p.name == name) for name in NAMES}
    assert steps[NAMES[0]] == max(steps.values()) >= 8 * steps[NAMES[-1]]
    assert sum(steps.values()) <= (4 + 1) * RUNGS[-1]
    assert len(disk.curves[NAMES[0], 0]) == len(RUNGS)
    # The sampler learns of all at the same rung, in the order in which they were begun.
    assert list(told.told) == [0, 1, 2, 3, 4, 5]
    assert told.told[0] > told.told[5]


def test_a_piece_says_what_was_known_and_believed():
    ledger, *_ = race()
    for piece in ledger.pieces:
        assert piece.known >= piece.number - 3
        if piece.why == "race":
            assert sum(standing.best for standing in piece.table) == pytest.approx(1, abs=0.01)
            assert piece.name in {standing.name for standing in piece.table}


@settings(max_examples=25, deadline=None)
@given(order=st.integers(1, 10**6), parallel=st.integers(1, 3))
def test_decisions_do_not_depend_on_who_answers_first(order, parallel):
    ledger, disk, told, _ = race(order, parallel=parallel)
    reference, ref_disk, ref_told, _ = race(0, parallel=1)
    assert ledger.pieces == reference.pieces
    assert disk.curves == ref_disk.curves
    assert told.told == ref_told.told and list(told.told) == list(ref_told.told)
    assert disk.most <= parallel


@settings(max_examples=10, deadline=None)
@given(order=st.integers(1, 10**6), parallel=st.integers(1, 3))
def test_what_is_measured_is_proposed_while_nothing_runs(order, parallel):
    ledger, disk, *_ = race(order, parallel=parallel, timed=True)
    reference, ref_disk, *_ = race(0, parallel=1)
    assert ledger.pieces == reference.pieces and disk.curves == ref_disk.curves


@settings(max_examples=25, deadline=None)
@given(
    order=st.integers(1, 10**6),
    kill_after=st.lists(st.integers(1, 40), min_size=1, max_size=3),
)
def test_killed_and_resumed_it_decides_the_same(order, kill_after):
    ledger, disk, told, _ = race(order, kill_after=kill_after)
    reference, ref_disk, ref_told, _ = race(0)
    assert ledger.pieces == reference.pieces
    assert disk.curves == ref_disk.curves
    assert disk.ends == ref_disk.ends  # also of those that were killed while they waited
    assert told.told == ref_told.told


def test_the_record_is_read_back_as_it_was_written(tmp_path):
    ledger, *_ = race(folder=tmp_path)
    assert Ledger(tmp_path).pieces == ledger.pieces


def test_an_architecture_whose_trial_breaks_is_out_and_the_race_goes_on(monkeypatch):
    monkeypatch.setitem(SCORES, (NAMES[0], 0), TrialState.DIVERGED)
    ledger, disk, told, watcher = race()
    assert [p.name for p in ledger.pieces].count(NAMES[0]) == 1
    assert len(disk.curves[NAMES[1], 0]) == len(RUNGS)
    assert told.told[0] is None
    assert (NAMES[0], 0, TrialState.DIVERGED) in watcher.ends


def test_when_one_is_surely_the_best_compute_is_left():
    ledger, *_ = race(compute=30.0, sure=0.6)
    assert sum(piece.steps for piece in ledger.pieces) < 20 * RUNGS[-1]


def test_the_leader_is_trained_to_the_last_rung_when_compute_is_spent():
    ledger, disk, *_ = race(compute=1.8)
    table = ledger.pieces[-1].table
    leader = max(table, key=lambda standing: standing.best).name
    assert any(len(disk.curves.get((leader, seed), [])) == len(RUNGS) for seed in range(3))


def test_one_of_two_that_lag_is_taken_up_again(monkeypatch):
    """The first to lead falls back: another one, paused before, goes on from where it stood."""
    monkeypatch.setitem(SCORES, (NAMES[2], 0), (0.8, 0.5, 0.5, 0.5))
    ledger, *_ = race(seeds=1)
    order = [piece.name for piece in ledger.pieces if piece.why != "first"]
    assert order[0] == NAMES[2]
    assert NAMES[0] in order[1:]
    resumed = [p for p in ledger.pieces if p.name == NAMES[0] and p.begin == RUNGS[0]]
    assert len(resumed) == 1


def test_against_costs_the_front_is_trained_and_who_is_dominated_is_not(monkeypatch):
    for seed in range(3):
        monkeypatch.setitem(SCORES, ("SD2-C320", seed), (0.2, 0.2, 0.2, 0.2))
    ledger, disk, told, _ = race(objectives=FRONT, compute=12.0)
    whole = [name for name in NAMES if len(disk.curves[name, 0]) == len(RUNGS)]
    assert set(whole) == set(NAMES) - {"SD2-C320"}
    last = ledger.pieces[-1].table
    shares = {standing.name: standing.front for standing in last}
    assert shares["SDXL-TD2"] == 1.0 and shares["SD2-C320"] < 0.05
    # Probable members get further seeds; the sampler learns score and cost of everyone.
    assert {piece.seed for piece in ledger.pieces if piece.name == "SDXL-C320"} > {0}
    assert [outcome.values[1] for outcome in told.held.values()] == list(GMACS.values())
    # For the best score alone the cheap ones are hardly trained.
    alone, other, *_ = race(compute=4.0)
    assert all(standing.front is None for piece in alone.pieces for standing in piece.table)
    assert "front" not in alone.pieces[-1].model_dump_json()
    assert len(other.curves["SDXL-TD2", 0]) < len(RUNGS)


def with_loss(loss_of):
    """What trials have on record with a held-out loss that is a function of the score."""
    plain = test_driver.point

    def made(step, value):
        loss = loss_of(value)
        signal = Signal(name="heldout_loss", value=loss, stderr=0.0, n=2, signature="s")
        return plain(step, value).model_copy(update={"signals": {"heldout_loss": signal}})

    return made


BOTH = ("-heldout_loss", "tifa")


def test_a_race_for_two_metrics_trains_whoever_may_be_best_in_either(monkeypatch):
    place = f"{__name__}.point"
    # Whoever has the better score has the worse loss: everyone is on the front.
    monkeypatch.setattr(place, with_loss(lambda value: value))
    ledger, disk, told, _ = race(objectives=BOTH, compute=12.0)
    assert all(len(disk.curves[name, 0]) == len(RUNGS) for name in NAMES)
    assert min(standing.front for standing in ledger.pieces[-1].table) > 0.5
    best = max(ledger.pieces[-1].table, key=lambda standing: standing.best)
    assert best.name == NAMES[0]  # by the ranked metric, though it stands second
    assert [outcome.state for outcome in told.held.values()] == ["complete"] * len(NAMES)
    for (loss, score), name in zip((o.values for o in told.held.values()), NAMES, strict=True):
        assert loss == score == SCORES[name, 0][0]
    # Whoever is better in one is so in the other: it is a race for the best.
    monkeypatch.setattr(place, with_loss(lambda value: 1 - value))
    ledger, disk, *_ = race(objectives=BOTH, compute=12.0)
    assert len(disk.curves[NAMES[-1], 0]) < len(RUNGS) == len(disk.curves[NAMES[0], 0])
    shares = {standing.name: standing.front for standing in ledger.pieces[-1].table}
    assert shares[NAMES[0]] > 0.9 and shares[NAMES[-1]] < 0.05


@settings(max_examples=15, deadline=None)
@given(
    order=st.integers(1, 10**6),
    parallel=st.integers(1, 3),
    kill_after=st.lists(st.integers(1, 40), max_size=2),
    objectives=st.sampled_from([FRONT, (*BOTH, "-gmacs")]),
)
def test_a_race_for_the_front_is_a_function_of_the_record(order, parallel, kill_after, objectives):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.point", with_loss(lambda value: abs(value - 0.6)))
        told_by = {"parallel": parallel, "kill_after": kill_after, "objectives": objectives}
        ledger, disk, told, _ = race(order, **told_by)
        reference, ref_disk, ref_told, _ = race(0, parallel=1, objectives=objectives)
    assert ledger.pieces == reference.pieces
    assert (disk.curves, disk.ends) == (ref_disk.curves, ref_disk.ends)
    assert told.held == ref_told.held and list(told.held) == list(ref_told.held)


def test_a_diverged_one_of_a_front_is_told_as_failed(monkeypatch):
    monkeypatch.setitem(SCORES, (NAMES[0], 0), TrialState.DIVERGED)
    _, _, told, _ = race(objectives=FRONT)
    assert (told.held[0].state, told.held[0].values) == ("failed", ())
