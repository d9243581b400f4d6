"""Ray clusters of several nodes on this one machine."""

import os
import shutil
import socket
import time
import warnings
from functools import partial

import pytest

# Before ray is imported, here and by what it starts.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
# A lost node is noticed in seconds, and not for a busy machine's pauses.
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}
# No workers but those that are asked for: each takes seconds of imports.
NO_SPARE = {"prestart_worker_first_driver": False, "enable_worker_prestart": False}
STORE_BYTES = 80 << 20


# A node waits 30 s for its helpers to choose their ports, which is too short on a busy machine.
PORTS = (
    "metrics_agent_port",
    "metrics_export_port",
    "runtime_env_agent_port",
    "dashboard_agent_listen_port",
)


def node(cpus: int, **more):
    ports = {name: free_port() for name in PORTS}
    lean = {"include_log_monitor": False, "object_store_memory": STORE_BYTES}
    return {"num_cpus": cpus} | lean | ports | more


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def start_cluster(*cpus: int):
    """A head without CPUs, and nodes with so many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = patiently(start_head)
        for count in cpus:
            patiently(partial(add_node, cluster, count))
    return cluster


def add_node(cluster, cpus: int):
    return cluster.add_node(**node(cpus))


def start_head():
    from ray.cluster_utils import Cluster

    head = node(0, include_dashboard=False, no_monitor=True, _system_config=HEALTH | NO_SPARE)
    return Cluster(initialize_head=True, head_node_args=head)


def patiently(start):
    """Ray gives a node 30 s to start, which a busy machine may exceed."""
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            if "timed out" not in str(error):
                raise
    return start()


def end_cluster(cluster) -> None:
    import ray

    folder = cluster.head_node and cluster.head_node.get_session_dir_path()
    ray.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster.shutdown()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def cluster():
    cluster = start_cluster(2, 2)
    yield cluster
    end_cluster(cluster)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, shared_cache):
    monkeypatch.setenv("NAS_T2I_CACHE", str(shared_cache))


def wait_for(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
