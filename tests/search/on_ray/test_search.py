"""Whole searches on a Ray cluster, compared with those of this machine's own processes."""

import os
import re
import shutil
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest

from nas_t2i.errors import MissingExtraError, StorageError, UserError
from nas_t2i.events import read_events
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialState
from nas_t2i.store import read_contents
from tests.faults.searches import Plan, on, records, search, start, states, told
from tests.mirror.test_study import UrlPlan
from tests.search.on_ray.conftest import add_node, wait_for
from tests.search.processes import runs

ray_test = pytest.mark.ray


def on_cluster(root, cluster, **changes) -> Plan:
    return Plan(root, **({"trials": 3, "runner": f"ray:{cluster.address}"} | changes))


@ray_test
def test_a_search_on_a_cluster_leaves_what_a_local_one_leaves(cluster, tmp_path):
    plan = on_cluster(tmp_path / "ray", cluster)
    search(plan)
    local = on(plan, tmp_path / "local")
    search(local)
    assert records(plan) == records(local)
    assert told(plan) == told(local)
    assert states(plan) == states(local)
    # Decisions went another way, and nobody asked the file system for a lock on a trial.
    assert list(local.folder.glob("trials/*/decisions"))
    assert not list(plan.folder.glob("trials/*/decisions"))
    assert not list(plan.folder.glob("trials/*/.*"))


@ray_test
def test_a_driver_that_is_not_the_only_one_of_its_study_is_refused(cluster, tmp_path, monkeypatch):
    from nas_t2i.search.on_ray import cluster as module

    monkeypatch.setattr(module, "_HELD_SECONDS", 1.0)
    plan = on_cluster(tmp_path, cluster)
    first = module.Cluster(cluster.address)
    first.hold(plan.folder)
    with pytest.raises(StorageError, match="study s is being searched by another driver on the R"):
        search(plan)
    first.close()


def refused(plan: Plan) -> str:
    """The one line that a search ends with before anything is begun."""
    with pytest.raises(UserError) as error:
        search(plan)
    assert error.value.status == 2 and "\n" not in str(error.value)
    assert not plan.folder.exists()
    return str(error.value)


@ray_test
def test_a_trial_that_is_larger_than_the_cluster_is_refused(cluster, tmp_path):
    said = refused(on_cluster(tmp_path, cluster, ranks=8, batch=8))
    assert "a trial needs 8 times 1 CPU; the Ray cluster" in said, said
    assert "has 4 CPU (at most 2 on a node, 4 free) on 3 nodes" in said, said


@ray_test
def test_a_cluster_of_another_ray_or_python_is_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_utils(), "compute_version_info", lambda: ("2.40.0", "3.10.4"))
    said = refused(on_cluster(tmp_path, cluster))
    assert "Version mismatch: The cluster was started with: Ray: " in said
    assert said.endswith("was started with: Ray: 2.40.0 Python: 3.10.4")


def ray_utils():
    from ray._private import utils

    return utils


def test_where_nobody_is_at_the_address_a_line_says_so(tmp_path):
    assert re.search(
        "Ray cluster 127.0.0.1:1: .*refused", refused(Plan(tmp_path, runner="ray:127.0.0.1:1"))
    )
    assert "expected HOST:PORT" in refused(Plan(tmp_path, runner="ray:ray://there:10001"))


def test_without_ray_the_command_that_installs_it_is_told(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("nas_t2i.search.on_ray")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nas-t2i\[ray\]'"):
        replace(Plan(tmp_path), runner="ray").request().cluster  # noqa: B018


@ray_test
def test_a_driver_that_is_killed_in_the_middle_goes_on_to_the_same_end(cluster, tmp_path):
    plan = on_cluster(tmp_path / "ray", cluster)
    plan.root.mkdir()
    process = start(plan, 14, before=True)  # the 14th write that is to be on the disk
    process.join(200)
    assert process.exitcode == -signal.SIGKILL
    search(plan)
    local = on(plan, tmp_path / "local")
    search(local)
    assert (records(plan), told(plan), states(plan)) == (
        records(local),
        told(local),
        states(local),
    )


@ray_test
def test_with_results_at_a_url_nodes_need_no_folder_of_the_drivers(cluster, tmp_path, monkeypatch):
    """A trial's folder is on its node; what it goes on from comes from the URL."""
    for name, seconds in (("BEAT", 0.5), ("SETTLE", 0.05)):
        monkeypatch.setattr(f"nas_t2i.mirror.owner.{name}_SECONDS", seconds)
    plan = UrlPlan(
        tmp_path / "a",
        trials=2,
        seeds=1,
        runner=f"ray:{cluster.address}",
        url=f"file://{tmp_path}/there",
    )
    with pytest.raises(KeyboardInterrupt):
        plan.run(monkeypatch, rungs=3)
    shutil.rmtree(plan.folder)
    plan.run(monkeypatch)
    local = on(Plan(tmp_path, trials=2, seeds=1), tmp_path / "local")
    search(local)
    assert records(plan) == records(local)
    assert told(plan) == told(local)
    # Their checkpoints are at the URL alone, and the nodes keep nothing of what was sent.
    assert list((tmp_path / "there/s/trials").glob("*/saved.json"))
    assert not list(plan.folder.glob("trials/*/saved.json"))
    assert not list((plan.folder.parents[2] / "on-ray").glob("*"))


@ray_test
def test_a_trainer_whose_node_dies_trains_on_elsewhere_to_the_same_bit(cluster, tmp_path):
    """With the real trainer, which waits at no rung: it is lost in the midst of steps."""
    plan = on_cluster(tmp_path / "ray", cluster, trials=1, seeds=1, retries=1, steps=60)
    plan = replace(plan, real=True, stopping=False)
    plan.root.mkdir()
    process = start(plan)
    pid = training(plan)
    with held(pid):
        lose_node_of(cluster, pid)
    process.join(300)
    add_node(cluster, 2)
    assert process.exitcode == 0
    (trial,) = read_contents(plan.folder).trials
    assert (trial.state, trial.attempt) == (TrialState.COMPLETE, 2)
    assert trial.last_failure.startswith("node ") and trial.last_failure.endswith(" was lost")
    local = on(plan, tmp_path / "local")
    search(local)
    assert records(plan) == records(local)


def training(plan: Plan) -> int:
    """Wait until a trial is past its first rung; return its process."""

    def found() -> int:
        for log in plan.folder.glob("trials/*/events.jsonl"):
            events, _ = read_events(log)
            if any(isinstance(event, RungEvent) for event in events):
                assert not isinstance(events[-1], EndEvent), "it ended before anything was lost"
                return [event.pid for event in events if isinstance(event, StartEvent)][-1]
        return 0

    wait_for(found, 300)
    return found()


@contextmanager
def held(pid: int):
    """Let a process take no step meanwhile, however late this one is to act."""
    os.kill(pid, signal.SIGSTOP)
    yield
    if runs(pid):
        os.kill(pid, signal.SIGCONT)


def lose_node_of(cluster, pid: int) -> None:
    above = {process.pid for process in psutil.Process(pid).parents()}
    (node,) = (
        node
        for node in cluster.worker_nodes
        if node.all_processes["raylet"][0].process.pid in above
    )
    cluster.remove_node(node, allow_graceful=False)
