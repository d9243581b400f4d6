"""Whole searches on a Ray cluster, compared with those of this machine's own processes."""

import re
import shutil
import signal
import sys
from dataclasses import replace

import pytest

from nas_t2i.errors import MissingExtraError, StorageError, UserError
from nas_t2i.events import read_events
from nas_t2i.records import RungEvent
from nas_t2i.version import __version__
from tests.faults.searches import Plan, on, records, search, start, states, told
from tests.mirror.test_study import UrlPlan

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


@ray_test
def test_a_node_with_another_release_is_refused(cluster, tmp_path, monkeypatch):
    from nas_t2i.search.on_ray import cluster as module

    monkeypatch.setattr(module, "__version__", "0.0.1")
    said = refused(on_cluster(tmp_path, cluster))
    assert re.fullmatch(
        rf"node [\d.]+ has nas-t2i {re.escape(__version__)}, this driver 0.0.1", said
    )


def ray_utils():
    from ray._private import utils

    return utils


def test_where_nobody_is_at_the_address_a_line_says_so(tmp_path):
    assert re.search(
        "Ray cluster 127.0.0.1:1: .*refused", refused(Plan(tmp_path, runner="ray:127.0.0.1:1"))
    )
    assert "expected HOST:PORT" in refused(Plan(tmp_path, runner="ray:ray://there:10001"))
    assert "'there'; expected HOST:PORT" in refused(Plan(tmp_path, runner="ray:there"))


def test_what_connects_with_a_head_that_wants_a_token_is_told(tmp_path, monkeypatch):
    from nas_t2i.search.on_ray import cluster as module

    def fail(**_):
        raise ConnectionError("Failed to connect to Ray cluster at head:1")

    monkeypatch.setattr(module, "_check_reachable", lambda *_: None)
    monkeypatch.setattr(module.ray, "init", fail)
    said = refused(Plan(tmp_path, runner="ray:127.0.0.1:1"))
    assert "Failed to connect" in said and "RAY_AUTH_MODE=token" in said


def test_without_a_cluster_on_this_machine_what_starts_one_is_told(tmp_path, monkeypatch):
    from nas_t2i.search.on_ray import cluster as module

    def find_nobody(address):  # other tests may have a cluster here
        raise ConnectionError(f"nobody at {address}")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "canonicalize_bootstrap_address_or_die", find_nobody)
    said = refused(Plan(tmp_path, runner="ray"))
    assert said.startswith("--runner ray: no Ray cluster runs on this machine; `ray start --head`")


def test_without_ray_the_command_that_installs_it_is_told(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("nas_t2i.search.on_ray")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nas-t2i\[ray\]'"):
        replace(Plan(tmp_path), runner="ray").request().cluster  # noqa: B018


@ray_test
def test_a_driver_that_is_killed_in_the_midst_of_a_trial_goes_on_to_the_same_end(cluster, tmp_path):
    plan = on_cluster(tmp_path / "ray", cluster, seeds=1)
    plan.root.mkdir()
    process = start(plan, 11, before=True)  # the 11th write that is to be on the disk
    process.join(200)
    assert process.exitcode == -signal.SIGKILL
    (log,) = plan.folder.glob("trials/*/events.jsonl")
    assert isinstance(read_events(log)[0][-1], RungEvent)
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
