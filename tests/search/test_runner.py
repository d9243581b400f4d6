"""Processes that are started, killed, lost and asked to leave; what they run trains nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nas_t2i.errors import ConfigError, StorageError
from nas_t2i.events import read_events
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialState
from nas_t2i.search import runner as runner_module
from nas_t2i.search.launch import Machines
from nas_t2i.search.runner import ProcessRunner, _cause, describe_death
from nas_t2i.store import assemble_trial
from tests.search.processes import follow, rank, runs, wait_until
from tests.search.tiny_trials import ROOT, quick_config


def start_one(folder, config, stall_seconds=60.0):
    runner = ProcessRunner(folder, stall_seconds=stall_seconds, module="tests.search.tiny_trials")
    return runner.start(config)


@pytest.fixture
def start():
    """Start a trial; what a failed test leaves of it is killed."""
    trials = []

    def start_and_keep(*arguments, **options):
        trials.append(start_one(*arguments, **options))
        return trials[-1]

    yield start_and_keep
    for trial in trials:
        end(trial)


def end(trial):
    while not trial.ended:
        trial._signal(signal.SIGKILL)
        trial.poll()


def pids(folder, config):
    return [rank(folder / config.key, number)["pid"] for number in range(ranks(config))]


def ranks(config):
    return config.budget["execution"]["ranks"]


def steps_told(events):
    return [event.point.step for event in events if isinstance(event, RungEvent)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_trial_of_any_number_of_ranks_runs_from_rung_to_rung(ranks, start, tmp_path):
    config = quick_config(ranks=ranks)
    events = follow(start(tmp_path, config))
    assert isinstance(events[0], StartEvent)
    assert steps_told(events) == [1, 2, 3]
    assert events[-1].state is TrialState.COMPLETE
    assert not any(map(runs, pids(tmp_path, config)))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_trial_that_is_asked_to_leave_does_and_goes_on_where_it_left(ranks, start, tmp_path):
    config = quick_config(ranks=ranks)

    def leave_at_two(trial, event):
        if isinstance(event, RungEvent) and event.point.step == 2:
            trial.leave()
            trial.decide = lambda rung, go: None  # a driver that leaves decides nothing

    (*_, end) = follow(start(tmp_path, config), on_event=leave_at_two)
    assert (end.state, end.reason) == (TrialState.INTERRUPTED, "asked to leave")
    assert not any(map(runs, pids(tmp_path, config)))
    events = follow(start(tmp_path, config))
    assert steps_told(events) == [1, 2, 3]  # the old ones are told again
    assert [e.state for e in events if isinstance(e, EndEvent)] == [TrialState.COMPLETE]


def test_a_stopped_trial_ends_at_its_rung(start, tmp_path):
    trial = start(tmp_path, quick_config())
    trial.decide(1, False)
    (*_, end) = follow(trial)
    assert (end.state, end.reason) == (TrialState.STOPPED, "stopped early at step 1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a rank is killed", "(out of memory?)"),
        ("a rank fails", "exit status 1: ValueError: one rank is wrong"),
    ],
)
def test_when_one_rank_dies_all_do_and_the_first_is_named(name, reason, start, tmp_path):
    config = quick_config(name, ranks=2)
    (*_, end) = follow(start(tmp_path, config))
    assert end.state is TrialState.FAILED and reason in end.reason
    assert not any(map(runs, pids(tmp_path, config)))


def test_ranks_whose_launcher_is_killed_are_killed_too(start, tmp_path):
    config = quick_config("silent", ranks=2)
    trial = start(tmp_path, config)
    left = pids(tmp_path, config)
    os.kill(trial._process.pid, signal.SIGKILL)
    (*_, end) = follow(trial)
    assert end.state is TrialState.FAILED and "SIGKILL" in end.reason
    wait_until(lambda: not any(map(runs, left)))


def test_when_the_driver_is_killed_its_ranks_save_and_leave(start, tmp_path):
    config = quick_config(ranks=2)
    code = (
        "import sys, time; from pathlib import Path; "
        "from tests.search.test_runner import start_one, quick_config; "
        "trial = start_one(Path(sys.argv[1]), quick_config(ranks=2)); time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT)
    log = tmp_path / config.key / "events.jsonl"
    wait_until(lambda: log.exists() and steps_told(read_events(log)[0]))
    left = pids(tmp_path, config)
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(map(runs, left)))
    end = read_events(log)[0][-1]
    assert (end.state, end.reason) == (TrialState.INTERRUPTED, "the driver is gone")
    assert follow(start(tmp_path, config))[-1].state is TrialState.COMPLETE


def test_a_rank_whose_launcher_is_killed_leaves_though_nobody_kills_it(start, tmp_path):
    config = quick_config(ranks=2)
    trial = start(tmp_path, config)
    log = tmp_path / config.key / "events.jsonl"
    wait_until(lambda: log.exists() and steps_told(read_events(log)[0]))
    left = pids(tmp_path, config)
    os.kill(trial._process.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(runs, left)))  # the driver does not even look
    assert trial.poll()[-1].reason == "the process that started it is gone"


def test_a_trial_that_does_not_leave_is_sent_sigterm_then_killed(start, tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "LEAVE_SECONDS", 0.3)
    monkeypatch.setattr(runner_module, "TERM_SECONDS", 0.3)
    config = quick_config("silent")
    trial = start(tmp_path, config)
    wait_until(lambda: any(isinstance(event, StartEvent) for event in trial.poll()))
    trial.leave()
    (*_, end) = follow(trial)
    assert end.state is TrialState.INTERRUPTED
    assert end.reason == "asked to leave: did not leave when asked to"


def test_a_trial_asked_to_leave_before_its_first_word_is_on_record_and_can_go_on(start, tmp_path):
    config = quick_config()
    trial = start(tmp_path, config)
    trial.leave()
    (*_, end) = follow(trial)
    assert end.state is TrialState.INTERRUPTED
    events, _ = read_events(tmp_path / config.key / "events.jsonl")
    record = assemble_trial(events, running=False)
    assert record.state is TrialState.INTERRUPTED and record.name == config.name
    assert follow(start(tmp_path, config))[-1].state is TrialState.COMPLETE


def test_a_silent_trial_is_killed_and_named(start, tmp_path):
    config = quick_config("silent")
    (*_, end) = follow(start(tmp_path, config, stall_seconds=2.0))
    assert end.state is TrialState.FAILED
    assert end.reason.startswith("silent for") and end.fault == "lost"
    assert not any(map(runs, pids(tmp_path, config)))


@pytest.mark.parametrize("cheap", [0, 1])
def test_a_trial_that_waits_for_a_decision_is_not_silent(cheap, start, tmp_path):
    trial = start(tmp_path, quick_config(cheap=cheap))
    wait_until(lambda: any(isinstance(event, RungEvent) for event in trial.poll()))
    trial._patience._stall_seconds = 0.1
    time.sleep(0.3)
    trial.poll()
    assert not trial._patience.killed_because
    trial._patience._stall_seconds = 60.0
    trial.decide(1, True)
    assert follow(trial)[-1].state is TrialState.COMPLETE


def test_a_trial_that_was_told_beforehand_waits_for_nothing_and_may_be_silent(start, tmp_path):
    trial = start(tmp_path, quick_config())
    trial.decide(1, True)
    trial.decide(2, True)
    waited = []
    wait_until(
        lambda: (
            trial.poll() is None or waited.append(trial._patience._waits_for_word) or trial.ended
        )
    )
    assert len(waited) > 1 and not any(waited)


def test_a_kill_that_the_kernel_counts_is_one_for_memory(start, tmp_path, monkeypatch):
    counts = iter([3, 4])  # when it starts, when it is dead
    monkeypatch.setattr(runner_module, "kills_for_memory", lambda: next(counts))
    (*_, end) = follow(start(tmp_path, quick_config("killed")))
    assert end.fault == "memory" and "the kernel killed a process for it" in end.reason


def test_a_trial_is_run_by_one_driver(start, tmp_path):
    config = quick_config()
    start(tmp_path, config)
    with pytest.raises(StorageError, match="is run by process"):
        start(tmp_path, config)


def test_each_trial_gets_devices_of_its_own(tmp_path):
    runner = ProcessRunner(tmp_path, stall_seconds=60, module="tests.search.tiny_trials")
    runner._machines = Machines(("0", "1", "3"), {})
    trials = [runner.start(quick_config(seed=seed)) for seed in range(3)]
    assert [trial.devices for trial in trials] == [("0",), ("1",), ("3",)]
    with pytest.raises(ConfigError, match="3 trials of 1 ranks left 0 devices free"):
        runner.start(quick_config(seed=3))
    end(trials[1])
    trials.append(runner.start(quick_config(seed=3)))
    assert trials[-1].devices == ("1",)
    for trial in trials:
        end(trial)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (-9, "killed by SIGKILL (out of memory?)"),
        (247, "killed by SIGKILL (out of memory?)"),  # by way of the launcher
        (-15, "killed by SIGTERM"),
        (1, "exit status 1: ValueError: that"),
        (255, "exit status 255: ValueError: that"),
        (0, "exit status 0: ValueError: that"),
    ],
)
def test_a_death_is_told_in_one_line(status, reason):
    said = 'Traceback (most recent call last):\n  File "a.py"\nValueError: that\nnot this\n'
    assert describe_death(status, said) == reason


def test_a_lost_connection_means_another_rank_was_lost():
    end = describe_death(1, "RuntimeError: Connection closed by peer [127.0.0.1]:1234")
    assert end.startswith("exit status 1: another rank was lost (out of memory?): RuntimeError")


def test_the_cause_is_the_first_exception_that_was_not_handled():
    said = """\
x.py:1: UserWarning: not this
  warnings.warn("not this")
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    {}["a"]
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    raise ValueError("this")
ValueError: this
Traceback (most recent call last):
  File "b.py", line 9, in <module>
    raise RuntimeError("connection closed by peer")
RuntimeError: connection closed by peer
node1: [2026-01-01 00:00:00,000] [ERROR] [launch.py:259:sigkill_handler] exits with return code = 1
"""
    assert _cause(said) == "ValueError: this"
    prefixed = "".join(f"node1: [rank0]: {line}\n" for line in said.splitlines())
    assert _cause(prefixed) == "ValueError: this"
    assert _cause("python: can't open file 'a'\n") == "python: can't open file 'a'"
    assert _cause("") == "no message"
