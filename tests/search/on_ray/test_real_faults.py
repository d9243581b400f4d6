"""Whole searches with the real trainer, of which a part is lost while a trial trains.

Trials don't stop early, and none waits at a rung: what is lost is lost in the midst of steps. What
is left on record is that of a search on this machine which nothing happened to, to the last bit.
"""

import multiprocessing
import os
import re
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import psutil
import pytest

from nas_t2i.events import read_events
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialRecord, TrialState
from nas_t2i.store import read_contents
from tests.faults.searches import RAY_LEASE_SECONDS, RAY_SLACK_SECONDS, Plan, records, search, start
from tests.search.on_ray.conftest import add_node, end_cluster, start_cluster, wait_for
from tests.search.processes import runs

pytestmark = pytest.mark.ray
STEPS = 120
GONE_SECONDS = 20.0  # after which a search takes the head for lost


def real(root: Path, runner: str, ranks: int = 1) -> Plan:
    plan = Plan(root, real=True, stopping=False, trials=1, seeds=1, steps=STEPS, retries=1)
    root.mkdir(parents=True)
    return replace(plan, runner=runner, ranks=ranks, micro_batch=plan.batch // ranks)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a search with so many ranks leaves on this machine, each searched once."""

    @cache
    def left(ranks: int) -> dict:
        plan = real(tmp_path_factory.mktemp("alone") / "local", "local", ranks)
        search(plan)
        return records(plan)

    return left


def the_trial(plan: Plan) -> TrialRecord:
    (trial,) = read_contents(plan.folder).trials
    return trial


def training(plan: Plan) -> int:
    """Wait until the trial is past its first checkpoint, at a rung; return its process."""

    def found() -> int:
        for log in plan.folder.glob("trials/*/events.jsonl"):
            events, _ = read_events(log)
            if any(isinstance(event, RungEvent) for event in events):
                assert not isinstance(events[-1], EndEvent), "it ended before anything was lost"
                return [event.pid for event in events if isinstance(event, StartEvent)][-1]
        return 0

    wait_for(lambda: found() and list(plan.folder.glob("trials/*/checkpoints/step-*")), 300)
    return found()


def assert_like(plan: Plan, alone: dict) -> None:
    """Assert that the trial went on from a checkpoint, and is as one to which nothing happened."""
    assert the_trial(plan).state is TrialState.COMPLETE
    assert records(plan) == alone
    (log,) = plan.folder.glob("trials/*/events.jsonl")
    events, _ = read_events(log)
    starts = [number for number, event in enumerate(events) if isinstance(event, StartEvent)]
    steps = [event.point.step for event in events[starts[-1] :] if isinstance(event, RungEvent)]
    assert len(starts) == 2
    assert steps and steps[0] > STEPS // 3, "it was trained from its beginning"


@contextmanager
def held(pid: int):
    """Let a process take no step meanwhile, however late this one is to act."""
    os.kill(pid, signal.SIGSTOP)
    yield
    if runs(pid):
        os.kill(pid, signal.SIGCONT)


def processes(plan: Plan) -> dict[int, str]:
    """Return the rank of each process that trains; helpers of one are in its session."""
    found = {}
    for process in psutil.process_iter():
        try:
            of_trial = str(plan.folder.absolute() / "trials") in " ".join(process.cmdline())
            if of_trial and os.getsid(process.pid) == process.pid and runs(process.pid):
                found[process.pid] = process.environ().get("RANK", "0")
        except (psutil.Error, ProcessLookupError):
            continue  # it ended meanwhile
    return found


def lose_node_of(cluster, pid: int) -> None:
    above = {process.pid for process in psutil.Process(pid).parents()}
    (node,) = (
        node
        for node in cluster.worker_nodes
        if node.all_processes["raylet"][0].process.pid in above
    )
    cluster.remove_node(node, allow_graceful=False)


def test_a_trainer_whose_node_dies_trains_on_elsewhere_to_the_same_bit(cluster, alone, tmp_path):
    plan = real(tmp_path / "ray", f"ray:{cluster.address}")
    process = start(plan)
    pid = training(plan)
    with held(pid):
        lose_node_of(cluster, pid)
    expected = alone(1)  # while the lease of what is lost runs out
    process.join(300)
    add_node(cluster, 2)
    assert process.exitcode == 0
    trial = the_trial(plan)
    assert trial.attempt == 2
    assert trial.last_failure.startswith("node ") and trial.last_failure.endswith(" was lost")
    assert_like(plan, expected)


@pytest.mark.slow
def test_one_of_two_ranks_dies_and_both_train_on_from_their_checkpoint(cluster, alone, tmp_path):
    plan = real(tmp_path / "ray", f"ray:{cluster.address}", ranks=2)
    process = start(plan)
    first = training(plan)
    with held(first):
        (second,) = (pid for pid, rank in processes(plan).items() if rank == "1")
        os.kill(second, signal.SIGKILL)
    process.join(300)
    assert process.exitcode == 0
    trial = the_trial(plan)
    assert trial.attempt == 2
    assert trial.last_failure.startswith("killed by SIGKILL")
    assert_like(plan, alone(2))


@pytest.mark.slow
def test_a_killed_drivers_trainer_ends_and_the_same_command_trains_nothing_twice(
    cluster, alone, tmp_path
):
    plan = real(tmp_path / "ray", f"ray:{cluster.address}")
    driver = start(plan)
    pid = training(plan)
    os.kill(driver.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    assert runs(pid)
    again, ended_after, at_once = start(plan), 0.0, []
    while again.is_alive():
        at_once.append(len(processes(plan)))
        if not ended_after and not runs(pid):
            ended_after = time.monotonic() - killed_at
        time.sleep(0.1)
    print(f"\nthe killed driver's trial ended after {ended_after:.1f} s")
    assert again.exitcode == 0
    assert 0 < ended_after < RAY_LEASE_SECONDS + RAY_SLACK_SECONDS
    assert set(at_once) == {0, 1}
    assert the_trial(plan).last_failure == ""
    assert_like(plan, alone(1))


@pytest.mark.slow
def test_a_trainer_whose_head_dies_saves_and_goes_on_with_another_cluster(cluster, alone, tmp_path):
    plan = real(tmp_path / "ray", "")
    # In a process of its own: Ray ends who was connected to a head that is gone.
    process = multiprocessing.get_context("spawn").Process(target=head_dies, args=(plan,))
    process.start()
    process.join(400)
    assert process.exitcode == 0
    trial = the_trial(plan)
    assert trial.state is TrialState.INTERRUPTED
    assert re.fullmatch(r"interrupted at step \d+: asked to leave", trial.reason)
    assert 0 < trial.steps_done < STEPS
    again = start(plan := replace(plan, runner=f"ray:{cluster.address}"))
    again.join(300)
    assert again.exitcode == 0
    assert_like(plan, alone(1))


def head_dies(plan: Plan) -> None:
    own = start_cluster(2)
    address = own.address
    try:
        driver = start(replace(plan, runner=f"ray:{address}"))
        pid = training(plan)
        with held(pid):  # it would be through before anybody noticed
            own.head_node.kill_gcs_server()
            time.sleep(GONE_SECONDS + 5)
        driver.join(100)
        assert driver.exitcode == 1
        (line,) = (plan.root / "error").read_text().splitlines()
        assert line.startswith(f"the head of the Ray cluster {address} has not answered for 20 s")
    finally:
        end_cluster(own)
