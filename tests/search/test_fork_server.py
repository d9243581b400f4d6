"""Trials forked from a warm process are as far from each other as those started anew."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from nas_t2i.events import read_events
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialState
from nas_t2i.search import fork_server
from nas_t2i.search.fork_server import ForkedProcess
from nas_t2i.search.launch import Machines
from nas_t2i.search.runner import ProcessRunner
from tests.search.processes import follow, rank, runs, wait_until
from tests.search.tiny_trials import ROOT, quick_config


def make_runner(folder, stall_seconds=60.0, said=None):
    say = None if said is None else said.append
    return ProcessRunner(
        folder, stall_seconds=stall_seconds, module="tests.search.tiny_trials", say=say
    )


@pytest.fixture
def runner(tmp_path):
    """A runner whose trials, where a failed test leaves any, are killed."""
    runner = make_runner(tmp_path)
    yield runner
    for trial in runner._running:
        while not trial.ended:
            trial._signal(signal.SIGKILL)
            trial.poll()


def server_of(trial):
    assert isinstance(trial._process, ForkedProcess)
    return trial._process._server


def end_of(trial):
    return follow(trial)[-1]


def test_a_forked_trial_is_like_one_started_anew(runner, tmp_path):
    configs = [quick_config(seed=0), quick_config(seed=1)]
    anew = quick_config(seed=2, warm_start=False)
    trials = [runner.start(config) for config in configs]
    assert server_of(trials[0]) is server_of(trials[1])
    for config, trial in zip(configs, trials, strict=True):
        told = rank(tmp_path / config.key, 0)
        assert told["shared"] == f"made in {server_of(trial).pid}"
        assert told["pid"] == trial._process.pid == os.getpgid(told["pid"])
    plain = runner.start(anew)
    assert isinstance(plain._process, subprocess.Popen)
    told_anew = rank(tmp_path / anew.key, 0)
    assert told_anew["shared"] == "nothing"
    assert {key: told[key] for key in told_anew if key not in ("pid", "shared")} == {
        key: told_anew[key] for key in told_anew if key not in ("pid", "shared")
    }
    for seed, trial in enumerate([*trials, plain]):
        assert end_of(trial).state is TrialState.COMPLETE
        log = tmp_path / trial.config.key / "stderr.log"
        assert log.read_text() == f"this is whole, seed {seed}\n"


@pytest.mark.parametrize("warm_start", [True, False])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfault", "killed by SIGSEGV"),
        ("abort", "killed by SIGABRT"),
        ("killed", "killed by SIGKILL (out of memory?)"),
        ("out of memory", "exit status 1: MemoryError"),
        ("exit", "exit status 7: this is exit, seed 0"),
    ],
)
def test_a_crash_is_told_as_ever_and_stays_in_its_trial(name, reason, warm_start, runner):
    beside = runner.start(quick_config("whole", seed=1, warm_start=warm_start))
    crashed = end_of(runner.start(quick_config(name, warm_start=warm_start)))
    assert (crashed.state, crashed.reason) == (TrialState.FAILED, reason)
    assert end_of(beside).state is TrialState.COMPLETE
    later = runner.start(quick_config("whole", seed=2, warm_start=warm_start))
    assert end_of(later).state is TrialState.COMPLETE
    if warm_start:
        assert server_of(later) is server_of(beside)


def test_a_hanging_trial_is_killed_and_the_server_goes_on(tmp_path):
    runner = make_runner(tmp_path, stall_seconds=1.0)
    silent = runner.start(quick_config("silent"))
    assert end_of(silent).reason.startswith("silent for")
    assert not runs(silent._process.pid)
    later = runner.start(quick_config(seed=1))
    assert server_of(later) is server_of(silent)
    assert end_of(later).state is TrialState.COMPLETE


def test_a_killed_server_takes_no_trial_with_it_and_is_replaced(runner):
    trial, lost = runner.start(quick_config()), runner.start(quick_config("silent", seed=1))
    wait_until(lambda: any(isinstance(event, StartEvent) for event in lost.poll()))
    server = server_of(trial)
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not runs(server.pid))
    assert end_of(trial).state is TrialState.COMPLETE
    assert runs(lost._process.pid)
    later = runner.start(quick_config(seed=2))
    assert server_of(later) is not server
    assert end_of(later).state is TrialState.COMPLETE
    os.kill(lost._process.pid, signal.SIGKILL)  # nobody is left to see how it ends
    end = end_of(lost)
    assert end.state is TrialState.FAILED
    assert end.reason == "exit status unknown: this is silent, seed 1"


def test_a_server_that_does_not_answer_is_replaced(runner, monkeypatch):
    monkeypatch.setattr(fork_server, "_FORK_SECONDS", 0.2)
    first = runner.start(quick_config())
    os.kill(server_of(first).pid, signal.SIGSTOP)
    later = runner.start(quick_config(seed=1))
    assert server_of(later) is not server_of(first)
    assert not runs(server_of(first).pid)
    assert [end_of(trial).state for trial in (first, later)] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ("a thread", "other threads run in it: python"),
        ("an error", "it ended with exit status 1"),
        ("a refusal", "can't be used: something has started CUDA"),
    ],
)
def test_where_no_trial_can_be_forked_all_are_started_anew_and_that_is_said(
    shares, why, tmp_path, monkeypatch
):
    monkeypatch.setenv("TINY_TRIALS_SHARE", shares)
    said = []
    runner = make_runner(tmp_path, said=said)
    for seed in range(2):
        trial = runner.start(quick_config(seed=seed))
        assert isinstance(trial._process, subprocess.Popen)
        assert end_of(trial).state is TrialState.COMPLETE
    (line,) = said
    assert why in line and "execution.warm_start" in line


def test_threads_that_survive_a_fork_are_no_reason_not_to(runner, monkeypatch):
    monkeypatch.setenv("TINY_TRIALS_SHARE", "jemalloc")
    trial = runner.start(quick_config())
    assert isinstance(trial._process, ForkedProcess)
    assert end_of(trial).state is TrialState.COMPLETE


def test_devices_are_each_trials_own_and_their_server_is_one(tmp_path):
    runner = make_runner(tmp_path)
    runner._machines = Machines(("3", "5"), {})
    trials = []
    for seed in range(2):
        config = quick_config(seed=seed)
        config.budget["training"]["device"] = "cuda"
        trials.append(runner.start(config))
        assert rank(tmp_path / config.key, 0)["environment"]["DS_ACCELERATOR"] == "cuda"
    told = [rank(tmp_path / trial.config.key, 0)["environment"] for trial in trials]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in told] == ["3", "5"]
    assert server_of(trials[0]) is server_of(trials[1])
    for trial in trials:
        assert end_of(trial).state is TrialState.COMPLETE


def test_another_environment_is_another_server(runner, tmp_path, monkeypatch):
    first = runner.start(quick_config())
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "elsewhere"))
    later = runner.start(quick_config(seed=1))
    told = rank(tmp_path / later.config.key, 0)
    assert told["environment"]["NAS_T2I_CACHE"] == str(tmp_path / "elsewhere")
    assert [end_of(trial).state for trial in (first, later)] == [TrialState.COMPLETE] * 2


def test_the_server_ends_with_its_last_user(tmp_path):
    trial = make_runner(tmp_path).start(quick_config())
    pid = server_of(trial).pid
    assert end_of(trial).state is TrialState.COMPLETE and runs(pid)
    del trial
    assert not runs(pid)


def test_when_the_driver_is_killed_its_trial_saves_and_leaves_and_the_server_ends(tmp_path):
    config = quick_config()
    code = (
        "import sys, time; from pathlib import Path; "
        "from tests.search.test_fork_server import make_runner, quick_config; "
        "trial = make_runner(Path(sys.argv[1])).start(quick_config()); time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT)
    log = tmp_path / config.key / "events.jsonl"
    wait_until(
        lambda: log.exists() and any(isinstance(event, RungEvent) for event in read_events(log)[0])
    )
    trial = psutil.Process(rank(tmp_path / config.key, 0)["pid"])
    server = trial.parent()
    assert "nas_t2i.search.fork_server" in server.cmdline()
    driver.kill()
    driver.wait()
    wait_until(lambda: not runs(trial.pid) and not runs(server.pid))
    (*_, end) = read_events(log)[0]
    assert isinstance(end, EndEvent)
    assert (end.state, end.reason) == (TrialState.INTERRUPTED, "the driver is gone")
