"""Trials on a Ray cluster, and what becomes of them when parts of it are lost."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest

from nas_t2i.errors import PausedError
from nas_t2i.events import read_events
from nas_t2i.records import EndEvent, RungEvent, TrialState
from nas_t2i.search.runner import TRIAL_MODULE, ProcessRunner, write_config
from tests.faults.searches import PROCESSES, RAY_LEASE_SECONDS, RAY_SLACK_SECONDS
from tests.search.on_ray.conftest import add_node, end_cluster, start_cluster, wait_for
from tests.search.processes import follow, rank, runs
from tests.search.test_trial import curve, tiny_config
from tests.search.tiny_trials import ROOT, quick_budget, quick_config

pytestmark = pytest.mark.ray


@pytest.fixture
def start(cluster, tmp_path, monkeypatch):
    """Start trials that train nothing on the cluster; `start.said` holds what was said."""
    from nas_t2i.search.on_ray import cluster as module
    from nas_t2i.search.on_ray.runner import RayRunner

    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.5)
    connected = module.Cluster(cluster.address)

    def start(config, module="tests.search.tiny_trials"):
        start.runner = RayRunner(
            tmp_path,
            connected,
            stall_seconds=300,
            module=module,
            lease_seconds=RAY_LEASE_SECONDS,
            slack_seconds=RAY_SLACK_SECONDS,
            say=start.said.append,
        )
        start.trials.append(start.runner.start(config))
        return start.trials[-1]

    start.said, start.trials, start.cluster = [], [], connected
    yield start
    for trial in start.trials:
        trial._kill()
        wait_for(lambda trial=trial: trial.poll() is None or trial.ended)
    connected.close()


def until_rung(trial, step: int) -> None:
    """Poll until the trial waits at a rung, and say nothing there."""
    wait_for(lambda: any(isinstance(e, RungEvent) and e.point.step == step for e in trial.poll()))


def end_of(trial) -> EndEvent:
    ends = []
    wait_for(lambda: ends.extend(e for e in trial.poll() if isinstance(e, EndEvent)) or ends)
    return ends[0]


def test_as_many_trials_at_once_as_the_cluster_holds_while_it_grows_and_shrinks(start, cluster):
    room = partial(start.cluster.room, quick_budget(ranks=2))
    assert room() == 2
    node = add_node(cluster, 3)
    wait_for(lambda: room() == 3)
    cluster.remove_node(node)
    wait_for(lambda: room() == 2)


@pytest.mark.slow
def test_two_ranks_train_as_they_do_without_ray(start, tmp_path):
    config = tiny_config(execution={"ranks": 2, "micro_batch": 2})
    assert follow(start(config, TRIAL_MODULE))[-1].state is TrialState.COMPLETE
    local = ProcessRunner(tmp_path / "local", stall_seconds=300).start(config)
    assert follow(local)[-1].state is TrialState.COMPLETE
    assert curve(tmp_path, config) == curve(tmp_path / "local", config)


def test_a_trial_leaves_and_goes_on_where_it_left(start):
    trial = start(quick_config())
    until_rung(trial, 1)
    trial.leave()
    end = end_of(trial)
    assert (end.state, end.reason) == (TrialState.INTERRUPTED, "asked to leave")
    events = follow(start(quick_config()))
    assert (events[-1].state, events[-1].reason) == (TrialState.COMPLETE, "")
    assert [e.point.step for e in events if isinstance(e, RungEvent)] == [1, 2, 3]


def test_a_stopped_trial_ends_at_its_rung(start):
    trial = start(quick_config())
    trial.decide(1, False)
    end = end_of(trial)
    assert (end.state, end.reason) == (TrialState.STOPPED, "stopped early at step 1")


def test_when_one_rank_of_several_dies_all_do_and_it_is_named(start):
    end = end_of(start(quick_config("a rank is killed", ranks=2)))
    assert (end.state, end.fault) == (TrialState.FAILED, "killed")
    assert end.reason.startswith("killed by SIGKILL")
    end = end_of(start(quick_config("a rank fails", ranks=2, seed=1)))
    assert end.reason == "exit status 1: ValueError: one rank is wrong"


def test_a_driver_that_asks_no_more_loses_its_trials_within_the_lease(start, tmp_path):
    config = quick_config()
    trial = start(config)
    until_rung(trial, 1)
    from ray.util.placement_group import remove_placement_group

    pid = rank(tmp_path / config.key, 0)["pid"]
    start.runner.close()  # as if the driver, or its network, hung
    wait_for(lambda: not runs(pid), 2 * RAY_LEASE_SECONDS)
    start.trials.clear()  # nobody would hear of its end
    remove_placement_group(trial._group)


def test_an_actor_that_is_killed_takes_its_trial_along(start, tmp_path):
    """As Ray itself does it on a node that is low on memory."""
    config = quick_config()
    trial = start(config)
    until_rung(trial, 1)
    pid = rank(tmp_path / config.key, 0)["pid"]
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    wait_for(lambda: not runs(pid), RAY_LEASE_SECONDS / 2)
    start.runner.gone_seconds = 0.0  # this was seen
    end = end_of(trial)
    assert (end.state, end.fault) == (TrialState.FAILED, "lost")
    assert end.reason.startswith("rank 0 was lost: ")


def test_a_trial_without_a_place_says_so_once_with_what_it_needs_and_what_there_is(
    start, monkeypatch
):
    from nas_t2i.search.on_ray import runner

    monkeypatch.setattr(runner, "_ROOM_SECONDS", 0.5)
    trials = [start(quick_config(seed=seed, ranks=2)) for seed in range(3)]
    wait_for(lambda: [t.poll() for t in trials] and start.said)
    time.sleep(1.0)
    for trial in trials:
        trial.poll()
    (line,) = start.said
    assert "waits for a place on the Ray cluster: it needs 2 times 1 CPU; there is 4 CPU" in line
    assert " free) on 3 nodes" in line


def test_objects_that_fill_the_store_do_not_matter(start):
    import ray

    held = [ray.put(bytes(60 << 20)) for _ in range(4)]  # three stores of 80 MB
    assert follow(start(quick_config()))[-1].state is TrialState.COMPLETE
    del held


def test_when_the_head_dies_trials_save_and_the_search_pauses(tmp_path):
    """In a process of its own: Ray ends the one that was connected, a minute later."""
    process = PROCESSES.Process(target=head_dies, args=(tmp_path,))
    process.start()
    process.join(300)
    assert process.exitcode == 0


def head_dies(folder):
    from nas_t2i.search.on_ray import cluster as module
    from nas_t2i.search.on_ray.runner import RayRunner

    module._GONE_SECONDS, module._LOOK_SECONDS = 5.0, 1.0
    own = start_cluster(1)
    connected = module.Cluster(own.address)
    runner = RayRunner(
        folder,
        connected,
        stall_seconds=300,
        module="tests.search.tiny_trials",
        lease_seconds=60,
        say=print,
    )
    trial = runner.start(quick_config())
    until_rung(trial, 1)
    own.head_node.kill_gcs_server()
    with pytest.raises(PausedError, match=r"the head of the Ray cluster .* has not answered"):
        runner.start(quick_config(seed=1))  # which Ray would wait with for minutes
    trial.leave()
    end = end_of(trial)
    assert (end.state, end.reason) == (TrialState.INTERRUPTED, "asked to leave")
    connected.close()
    for lost in list(own.worker_nodes):  # they wait for their head
        own.remove_node(lost, allow_graceful=False)
    end_cluster(own)


_DRIVER = """
import sys, time
from pathlib import Path
from nas_t2i.search.on_ray.cluster import Cluster
from nas_t2i.search.on_ray.runner import RayRunner
from tests.search.tiny_trials import ROOT, quick_config
runner = RayRunner(Path(sys.argv[2]), Cluster(sys.argv[1]), stall_seconds=300,
                   module="tests.search.tiny_trials", lease_seconds=float(sys.argv[3]), say=print)
trial = runner.start(quick_config(ranks=2))
print("asked", flush=True)
while True:
    trial.poll()
    time.sleep(0.1)
"""


def test_a_killed_drivers_trials_end_and_are_not_begun_again_before(start, cluster, tmp_path):
    config = quick_config(ranks=2)
    given = (cluster.address, tmp_path, str(RAY_LEASE_SECONDS))
    driver = subprocess.Popen([sys.executable, "-c", _DRIVER, *given], cwd=ROOT)
    log = tmp_path / config.key / "events.jsonl"
    wait_for(lambda: log.exists() and any(isinstance(e, RungEvent) for e in read_events(log)[0]))
    left = [rank(tmp_path / config.key, number)["pid"] for number in range(2)]
    driver.kill()
    driver.wait()
    killed_at = time.monotonic()
    wait_for(lambda: not any(map(runs, left)), RAY_LEASE_SECONDS + RAY_SLACK_SECONDS)
    events = follow(start(config))
    assert time.monotonic() - killed_at > RAY_LEASE_SECONDS
    assert (events[-1].state, events[-1].reason) == (TrialState.COMPLETE, "")
    assert [e.point.step for e in events if isinstance(e, RungEvent)] == [1, 2, 3]


@pytest.mark.slow
def test_what_a_killed_driver_had_just_asked_for_again_is_waited_for_too(start, cluster, tmp_path):
    config = quick_config(ranks=2)
    trial = start(config)
    trial.decide(1, False)
    assert end_of(trial).state is TrialState.STOPPED
    assert not (tmp_path / config.key / ".asked").exists()
    given = (cluster.address, tmp_path, str(RAY_LEASE_SECONDS))
    command = [sys.executable, "-c", _DRIVER, *given]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as driver:
        assert driver.stdout.readline() == b"asked\n"
        driver.kill()
    begun_at = time.monotonic()
    events = follow(start(config))
    assert time.monotonic() - begun_at > RAY_LEASE_SECONDS
    assert events[-1].state is TrialState.COMPLETE
    assert not (tmp_path / config.key / ".asked").exists()


def test_a_node_that_is_lost_before_its_processes_begin_is_at_fault(start, cluster, tmp_path):
    config = quick_config(ranks=4)
    write_config(tmp_path, config).with_name(".asked").touch()  # as a killed driver leaves it
    node = add_node(cluster, 5)
    wait_for(
        lambda: start.cluster.room(quick_budget(ranks=4)) == 1 and len(start.cluster.nodes) > 2
    )
    trial = start(config)
    wait_for(lambda: trial.poll() or trial._placed.done())
    time.sleep(1)
    cluster.remove_node(node, allow_graceful=False)
    end = end_of(trial)
    assert (end.state, end.fault) == (TrialState.FAILED, "node")
    assert "was lost before it began: " in end.reason


def test_a_trial_is_not_silent_while_its_files_are_on_their_way(start, monkeypatch):
    trial = start(quick_config())
    trial._patience._stall_seconds = 0.2  # much less than it takes to begin
    always = property(lambda _: True, lambda *_: None)
    monkeypatch.setattr(type(trial._ranks[0]), "moves", always, raising=False)
    assert follow(trial)[-1].state is TrialState.COMPLETE
