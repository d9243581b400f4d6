"""The driver against recorded trials: what happens is decided by a table, not by training."""

import dataclasses
from collections.abc import Sequence

import pytest

from nas_t2i.arch.catalog import lookup
from nas_t2i.errors import PausedError
from nas_t2i.protocol.budget import load_budget
from nas_t2i.protocol.rungs import Rungs
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    Profile,
    RungEvent,
    Score,
    Signal,
    TrialState,
)
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.driver import Driver
from nas_t2i.search.resume.faults import Faults, failed
from nas_t2i.search.stopping.asha import Asha
from nas_t2i.search.stopping.best_share import BestShare

RUNGS = (2, 4, 6)


def budget(stopping: BestShare | None):
    whole = load_budget("budgets/embedded.yaml")
    return whole.model_copy(
        update={
            "rungs": RUNGS,
            "training": whole.training.model_copy(update={"steps": RUNGS[-1]}),
            "search": whole.search.model_copy(update={"early_stopping": stopping}),
        }
    )


def candidate(name: str, seeds=(0,), control="", optuna_number=None) -> Candidate:
    arch = lookup(name)
    size = Profile(
        name=name,
        arch_id=arch.arch_id,
        family="unet",
        params=1,
        gmacs=1.0,
        gmacs_paper=1.0,
        attention_gmacs=0.5,
        attention_gmacs_paper=0.5,
        attention_gmacs_paper_no_mid=0.5,
        attention_share=0.5,
        uncounted_ops={},
        latent_size=8,
        text_tokens=12,
    )
    return Candidate(name, arch, arch, size, size, seeds, control, optuna_number)


def point(step: int, value: float) -> CurvePoint:
    score = Score(
        metric="tifa", value=value, stderr=0.0, n=2, signature="s", per_prompt=[value, value]
    )
    return CurvePoint(
        step=step,
        images=step,
        training_flops=1.0,
        loss=1.0,
        seconds=1.0,
        evaluation_seconds=1.0,
        scores={"tifa": score},
    )


class Recorded:
    """A trial that plays back one score a rung, or dies."""

    def __init__(self, config, outcome) -> None:
        self.config, self.outcome = config, outcome
        self.left = list(zip(RUNGS, outcome, strict=False)) if isinstance(outcome, tuple) else []
        self.waiting = False
        self.stopped = False
        self.asked_to_leave = False
        self.answered: list[tuple[int, bool]] = []

    def poll(self) -> Sequence[object]:
        if self.asked_to_leave:
            return [EndEvent(state=TrialState.INTERRUPTED)]
        if isinstance(self.outcome, EndEvent):
            return [self.outcome]
        if isinstance(self.outcome, TrialState):
            return [EndEvent(state=self.outcome, reason="as recorded")]
        if self.stopped:
            return [EndEvent(state=TrialState.STOPPED)]
        if self.waiting:
            return []
        step, value = self.left.pop(0)
        if not self.left:
            return [RungEvent(point=point(step, value)), EndEvent(state=TrialState.COMPLETE)]
        self.waiting = True
        return [RungEvent(point=point(step, value))]

    def decide(self, rung: int, go: bool) -> None:
        self.answered.append((rung, go))
        self.waiting, self.stopped = False, not go

    def leave(self) -> None:
        self.asked_to_leave = True


class Table:
    """A runner that looks outcomes up by (name, seed)."""

    def __init__(self, outcomes) -> None:
        self.outcomes = outcomes
        self.started: list[tuple[str, int]] = []
        self.trials: dict[tuple[str, int], Recorded] = {}

    def start(self, config) -> Recorded:
        key = (config.name, config.seed)
        self.started.append(key)
        outcome = self.outcomes[key]
        attempts = self.started.count(key)
        # A list has what becomes of each attempt.
        self.trials[key] = Recorded(
            config, outcome[attempts - 1] if isinstance(outcome, list) else outcome
        )
        return self.trials[key]


class Clock:
    def sleep(self, seconds: float) -> None:
        pass


class Watcher:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, int, TrialState]] = []
        self.on_tick = lambda: None

    def started(self, candidate, seed) -> None: ...
    def progress(self, candidate, seed, event) -> None: ...
    def reached_rung(self, candidate, seed, point) -> None: ...

    def ended(self, candidate, seed, end) -> None:
        self.ends.append((candidate.name, seed, end.state))

    def tick(self) -> None:
        self.on_tick()


class Supply:
    """Hands out planned candidates in order."""

    def __init__(self, candidates) -> None:
        self.candidates = list(candidates)

    def next(self, *, planned_only: bool) -> Candidate | None:
        return self.candidates.pop(0) if self.candidates and not planned_only else None


@dataclasses.dataclass
class Told:
    """Keeps what Optuna would hold."""

    held: dict = dataclasses.field(default_factory=dict)
    notes: dict = dataclasses.field(default_factory=dict)

    def note(self, name, attributes) -> None:
        self.notes[name] = attributes

    def agree(self, number, outcome) -> int:
        self.held[number] = outcome
        return number

    @property
    def told(self) -> dict:
        ends = {"stopped": "stopped", "failed": None}
        return {n: ends.get(o.state, o.value) for n, o in self.held.items() if o.state != "running"}


def drive(outcomes, candidates, *, stopping=None, parallel=2, known=()):
    table, watcher, told = Table(outcomes), Watcher(), Told()
    driver = Driver(
        budget=budget(stopping),
        study_name="s",
        trials=len(candidates) + len(known),
        parallel=parallel,
        proposals=Supply(candidates),
        optuna=told,
        runner=table,
        clock=Clock(),
        listener=watcher,
        candidates=list(known),
    )
    return driver, table, watcher, told


def test_every_candidate_runs_to_the_end_without_early_stopping():
    names = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320")
    outcomes = {(name, 0): (0.1, 0.2, 0.3 + i / 10) for i, name in enumerate(names)}
    driver, _, watcher, told = drive(
        outcomes, [candidate(n, optuna_number=i) for i, n in enumerate(names)]
    )
    driver.run()
    assert {end[2] for end in watcher.ends} == {TrialState.COMPLETE}
    assert told.told == pytest.approx({0: 0.3, 1: 0.4, 2: 0.5})
    assert told.held[1].at_rungs == pytest.approx({2: 0.1, 4: 0.2, 6: 0.4})


@dataclasses.dataclass
class Timing:
    """Latencies that are measured when something is proposed."""

    complete: bool = False
    open: bool = False

    def close(self) -> None:
        self.open = False


class TimedSupply(Supply):
    """Proposals that are measured; `running` tells what trials there are meanwhile."""

    def __init__(self, candidates, timing, running) -> None:
        super().__init__(candidates)
        self.timing, self.running = timing, running
        self.beside: list[int] = []

    def next(self, *, planned_only: bool) -> Candidate | None:
        if not planned_only and self.candidates:
            self.beside.append(self.running())
            self.timing.open = True
        return super().next(planned_only=planned_only)


@pytest.mark.parametrize("complete", [False, True])
def test_what_is_measured_is_proposed_while_nothing_runs(complete):
    names = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320", "SDXL-C128", "SDXL-C192")
    outcomes = {(name, 0): (0.1, 0.2, 0.3) for name in names}
    outcomes[names[0], 0] = TrialState.DIVERGED  # one place is free long before the other
    driver, table, watcher, _ = drive(outcomes, [])
    timing = Timing(complete)
    made = [candidate(name) for name in names]
    driver.latencies, driver.trials = timing, len(names)
    driver.proposals = TimedSupply(made, timing, lambda: len(driver._running))
    start = table.start

    def start_alone(config):
        assert not timing.open, "what measured is gone before a trial starts"
        return start(config)

    table.start = start_alone
    driver.run()
    assert [name for name, _ in table.started] == list(names)
    assert len(watcher.ends) == len(names)
    assert any(driver.proposals.beside) is complete


def test_the_worse_half_stops_and_its_optuna_trial_is_pruned():
    names = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320", "SDXL-C128")
    outcomes = {(name, 0): (0.9 - i / 5,) * 3 for i, name in enumerate(names)}
    rule = BestShare(keep=(0.5, 0.5), margin=0.0, min_peers=2)
    driver, _, watcher, told = drive(
        outcomes,
        [candidate(n, optuna_number=i) for i, n in enumerate(names)],
        stopping=rule,
        parallel=1,
    )
    driver.run()
    assert [end[2].value for end in watcher.ends] == ["complete", "stopped", "stopped", "stopped"]
    assert told.told == {0: pytest.approx(0.9), 1: "stopped", 2: "stopped", 3: "stopped"}


@pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.DIVERGED])
def test_the_death_of_a_trial_is_recorded_and_the_rest_goes_on(state):
    outcomes = {("SDXL-C320", 0): state, ("SD2-C320", 0): (0.1, 0.2, 0.3)}
    driver, _, watcher, told = drive(
        outcomes,
        [candidate("SDXL-C320", optuna_number=0), candidate("SD2-C320", optuna_number=1)],
    )
    driver.run()
    assert {name: s for name, _, s in watcher.ends} == {
        "SDXL-C320": state,
        "SD2-C320": TrialState.COMPLETE,
    }
    assert told.told == {0: None, 1: pytest.approx(0.3)}


def test_when_the_first_trials_all_fail_no_more_are_started():
    names = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320", "SDXL-C128", "SDXL-C192")
    outcomes = {(name, 0): TrialState.FAILED for name in names}
    driver, table, _, _ = drive(outcomes, [candidate(n) for n in names], parallel=1)
    driver.run()
    assert len(table.started) == 3


def test_seeds_of_a_candidate_are_judged_by_their_mean_and_told_once():
    outcomes = {
        ("SDXL-C320", 0): (0.5, 0.5, 0.8),
        ("SDXL-C320", 1): (0.5, 0.5, 0.6),
        ("SD2-C320", 0): (0.9, 0.9, 0.9),
        ("SD2-C320", 1): (0.0, 0.9, 0.9),
    }
    rule = BestShare(keep=(0.5, 0.5), margin=0.0, min_peers=2)
    driver, table, _, told = drive(
        outcomes,
        [
            candidate("SDXL-C320", (0, 1), optuna_number=0),
            candidate("SD2-C320", (0, 1), optuna_number=1),
        ],
        stopping=rule,
    )
    driver.run()
    # Its mean at the first rung is 0.45, below 0.5: both seeds stop, also the one with 0.9.
    assert table.trials["SD2-C320", 0].answered == [(2, False)]
    assert table.trials["SD2-C320", 1].answered == [(2, False)]
    assert told.told == {0: pytest.approx(0.7), 1: "stopped"}


def test_one_place_for_two_seeds_is_no_deadlock():
    outcomes = {("SDXL-C320", s): (0.1, 0.2, 0.3) for s in (0, 1)}
    driver, table, _, _ = drive(outcomes, [candidate("SDXL-C320", (0, 1))], parallel=1)
    driver.run()
    assert table.started == [("SDXL-C320", 0), ("SDXL-C320", 1)]


def test_controls_never_stop_and_never_stop_others():
    outcomes = {
        ("SDXL-C320", 0): (0.2,) * 3,
        ("SD2-C320", 0): (0.9,) * 3,
        ("SDXL-C128", 0): (0.8,) * 3,
    }
    rule = BestShare(keep=(0.5, 0.5), margin=0.0, min_peers=1)
    driver, _, watcher, _ = drive(
        outcomes,
        [
            candidate("SD2-C320"),
            candidate("SDXL-C320", control="shuffled-captions"),
        ],
        stopping=rule,
        parallel=1,
    )
    driver.run()
    assert [state.value for *_, state in watcher.ends] == ["complete", "complete"]


def test_interrupted_seeds_of_an_earlier_process_are_started_again_and_finished_ones_are_not():
    done, cut = candidate("SDXL-C320"), candidate("SD2-C320", optuna_number=7)
    done.ends[0] = EndEvent(state=TrialState.COMPLETE)
    cut.ends[0] = EndEvent(state=TrialState.INTERRUPTED)
    outcomes = {("SD2-C320", 0): (0.1, 0.2, 0.3)}
    driver, table, _, told = drive(outcomes, [], known=[done, cut])
    driver.run()
    assert table.started == [("SD2-C320", 0)]
    assert told.told == {7: pytest.approx(0.3)}


def test_asked_to_leave_it_lets_the_running_trials_save_and_says_so():
    outcomes = {("SDXL-C320", 0): (0.1, 0.2, 0.3)}
    driver, _, watcher, _ = drive(outcomes, [candidate("SDXL-C320")])
    driver.asked_to_leave = lambda: True
    with pytest.raises(KeyboardInterrupt):
        driver.run()
    assert watcher.ends == [("SDXL-C320", 0, TrialState.INTERRUPTED)]


def test_leaving_at_the_last_rung_waits_for_no_end_that_was_heard_with_it(monkeypatch):
    """A trial reports its end once, here together with its last rung, at which all breaks off."""
    driver, table, watcher, _ = drive({("SDXL-C320", 0): (0.3,)}, [candidate("SDXL-C320")])
    key = ("SDXL-C320", 0)

    def broken(*_) -> None:
        trial = table.trials[key]
        monkeypatch.setattr(trial, "poll", lambda: [] if trial.asked_to_leave else [None])
        raise OSError("disk full")

    watcher.reached_rung = broken
    driver.clock.sleep = lambda _: pytest.fail("it waits") if not watcher.ends else None
    with pytest.raises(OSError, match="disk full"):
        driver.run()
    assert watcher.ends == [(*key, TrialState.COMPLETE)]


def test_a_listener_that_breaks_still_lets_the_trials_save():
    outcomes = {("SDXL-C320", 0): (0.1, 0.2, 0.3)}
    driver, _, watcher, _ = drive(outcomes, [candidate("SDXL-C320")])

    def broken() -> None:
        watcher.on_tick = lambda: None
        raise OSError("disk full")

    watcher.on_tick = broken
    with pytest.raises(OSError, match="disk full"):
        driver.run()
    assert watcher.ends == [("SDXL-C320", 0, TrialState.INTERRUPTED)]


def test_at_a_rung_with_signals_alone_nothing_is_decided_or_scored():
    class WithCheapRung(Recorded):
        """Reaches step 1 on its way, where there is no score, and does not wait there."""

        def poll(self):
            if len(self.left) == len(RUNGS) and not self.waiting:
                cheap = point(1, 0.0).model_copy(update={"scores": {}})
                return [RungEvent(point=cheap), *super().poll()]
            return super().poll()

    names = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320", "SDXL-C128")
    outcomes = {(name, 0): (0.9 - i / 5,) * 3 for i, name in enumerate(names)}
    rule = BestShare(keep=(0.5, 0.5), margin=0.0, min_peers=2)
    made = [candidate(name, optuna_number=i) for i, name in enumerate(names)]
    driver, table, watcher, told = drive(outcomes, made, stopping=rule, parallel=1)
    driver.budget = driver.budget.model_copy(update={"rungs": Rungs(RUNGS, (1,))})
    reached = []
    watcher.reached_rung = lambda candidate, _seed, at: reached.append((candidate.name, at.step))
    table.start = lambda config: table.trials.setdefault(
        (config.name, config.seed), WithCheapRung(config, outcomes[config.name, config.seed])
    )
    driver.run()
    assert [end[2].value for end in watcher.ends] == ["complete", "stopped", "stopped", "stopped"]
    assert told.told == {0: pytest.approx(0.9), 1: "stopped", 2: "stopped", 3: "stopped"}
    assert told.held[0].at_rungs.keys() == {2, 4, 6}
    assert reached[:4] == [("SDXL-C320", step) for step in (1, 2, 4, 6)]
    assert table.trials["SDXL-C320", 0].answered == [(1, True), (2, True), (4, True)]
    assert table.trials["SD2-C320", 0].answered == [(1, True), (2, False)]


@pytest.mark.parametrize(
    "reason", ["killed by SIGKILL (out of memory?)", "silent for 10 minutes, killed"]
)
def test_what_was_killed_or_silent_is_tried_again_as_often_as_declared(reason, tmp_path):
    outcomes = {("SDXL-C320", 0): [failed(reason)] * 3 + [(0.1, 0.2, 0.3)]}
    for retries, state in ((3, TrialState.COMPLETE), (2, TrialState.FAILED)):
        driver, table, watcher, told = drive(outcomes, [candidate("SDXL-C320", optuna_number=0)])
        driver.faults = Faults(retries, tmp_path)
        driver.run()
        assert len(table.started) == retries + 1
        assert watcher.ends[-1] == ("SDXL-C320", 0, state)
        assert told.told == {0: pytest.approx(0.3) if state is TrialState.COMPLETE else None}


FULL = failed("[Errno 28] No space left on device")


def test_the_second_full_disk_in_a_row_pauses_the_search_in_a_line(tmp_path):
    names = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320")
    outcomes = {(name, 0): FULL for name in names}
    driver, table, _, _ = drive(outcomes, [candidate(n) for n in names], parallel=1)
    driver.faults = Faults(1, tmp_path)
    with pytest.raises(PausedError, match=r"paused: twice in a row .* make room on the disk") as it:
        driver.run()
    assert it.value.status == 1 and "\n" not in str(it.value)
    assert table.started == [("SDXL-C320", 0)] * 2  # its second attempt; nobody else was lost


def test_a_full_disk_now_and_then_pauses_nothing(tmp_path):
    names = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320")
    outcomes = {(name, 0): [FULL, (0.1, 0.2, 0.3)] for name in names}
    driver, _, watcher, _ = drive(outcomes, [candidate(n) for n in names], parallel=1)
    driver.faults = Faults(1, tmp_path)
    driver.run()
    complete = [name for name, _, state in watcher.ends if state is TrialState.COMPLETE]
    assert complete == list(names)


def drive_by_signal(losses, candidates, scores=(0.5,) * 4):
    """Drive one trial at a time, with ASHA by the held-out losses that each shows at step 1."""

    class WithSignal(Recorded):
        """Waits at step 1 with a held-out loss, and at no other rung where it isn't asked."""

        def poll(self):
            if len(self.left) == len(RUNGS) and not self.answered and not self.waiting:
                self.waiting = True
                loss = losses[self.config.name]
                signal = Signal(name="heldout_loss", value=loss, stderr=0.0, n=2, signature="s")
                cheap = point(1, 0.0).model_copy(
                    update={"scores": {}, "signals": {"heldout_loss": signal}}
                )
                return [RungEvent(point=cheap)]
            return super().poll()

    outcomes = {(name, 0): (score,) * 3 for name, score in zip(losses, scores, strict=True)}
    rule = Asha(rule="asha", eta=2.0, signal="heldout_loss")
    driver, table, watcher, told = drive(outcomes, candidates, stopping=rule, parallel=1)
    driver.budget = driver.budget.model_copy(update={"rungs": Rungs(RUNGS, (1,))})
    table.start = lambda config: table.trials.setdefault(
        (config.name, config.seed), WithSignal(config, outcomes[config.name, config.seed])
    )
    driver.run()
    return table, watcher, told


def test_a_rule_that_has_a_signal_decides_at_rungs_without_a_score():
    losses = {"SDXL-C320": 0.1, "SDXL-TD4_4": 0.2, "SD2-C320": 0.3, "SDXL-C128": 0.05}
    made = [candidate(name, optuna_number=i) for i, name in enumerate(losses)]
    table, watcher, told = drive_by_signal(losses, made)
    # By the loss the second is worse than the first, the third than both, the fourth is the best.
    assert [end[2].value for end in watcher.ends] == ["complete", "stopped", "stopped", "complete"]
    assert table.trials["SD2-C320", 0].answered == [(1, False)]
    assert told.held[2].at_rungs == {} and told.held[2].state == "stopped"


def test_by_a_signal_a_family_is_compared_with_itself_and_by_scores_with_all():
    losses = {"SDXL-C320": 0.1, "SDXL-TD4_4": 0.2, "PixArt-h1152-d28": 0.9, "PixArt-h1536-d28": 0.8}
    made = [candidate(name) for name in losses]
    made[2:] = [
        dataclasses.replace(one, profile=one.profile.model_copy(update={"family": "pixart"}))
        for one in made[2:]
    ]
    table, watcher, _ = drive_by_signal(losses, made, (0.6, 0.5, 0.5, 0.9))
    # Of the transformers the first has nobody to fall short of, and the second is better. By its
    # score the first one falls short of a UNet.
    assert [end[2].value for end in watcher.ends] == ["complete", "stopped", "stopped", "complete"]
    answered = {name: trial.answered for (name, _), trial in table.trials.items()}
    assert answered["SDXL-TD4_4"] == [(1, False)]
    assert answered["PixArt-h1152-d28"] == [(1, True), (2, False)]
    assert answered["PixArt-h1536-d28"] == [(1, True), (2, True), (4, True)]


def test_of_several_objectives_optuna_holds_values_and_costs():
    names = ("SDXL-C320", "SDXL-TD4_4", "SD2-C320")
    outcomes = {(name, 0): (0.1, 0.2, 0.3 + i / 10) for i, name in enumerate(names)}
    outcomes[names[1], 0] = TrialState.DIVERGED
    driver, _, _, told = drive(
        outcomes, [candidate(n, optuna_number=i) for i, n in enumerate(names)]
    )
    plan = driver.budget.search.model_copy(update={"objectives": ("tifa", "-gmacs", "-compute")})
    driver.budget = driver.budget.model_copy(update={"search": plan})
    driver.run()
    compute = 6e9 * RUNGS[-1] * driver.budget.training.batch
    held = {n: (o.state, o.value, o.at_rungs, o.values) for n, o in told.held.items()}
    assert held[1] == ("failed", None, {}, ())
    assert held[0] == ("complete", None, {}, (pytest.approx(0.3), 1.0, compute))
    assert held[2][3][0] == pytest.approx(0.5)
