"""What would be run on which machines, and what is wrong with a budget that can't be."""

import base64
import json
import os
import sys

import pytest

from nas_t2i.errors import ConfigError, UserError
from nas_t2i.records import EndEvent, TrialState
from nas_t2i.search import launch
from nas_t2i.search.launch import (
    Machines,
    find_machines,
    make_launch,
    may_be_forked,
    read_hostfile,
    trials_at_once,
    with_runner,
)
from nas_t2i.search.runner import ProcessRunner
from tests.search.processes import follow, rank
from tests.search.tiny_trials import quick_budget, quick_config

PLAIN = Machines(devices=None, nodes={})


@pytest.fixture
def hostfile(tmp_path, monkeypatch):
    """Write a hostfile; pdsh is there, as an empty program."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "pdsh", "")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def write(text):
        (tmp_path / "hosts").write_text(text)
        return str(tmp_path / "hosts")

    return write


def program(file, text):
    file.write_text("#!/bin/sh\n" + text)
    file.chmod(0o755)


def on_cuda(**execution):
    budget = quick_budget(**execution)
    return budget.model_copy(
        update={"training": budget.training.model_copy(update={"device": "cuda"})}
    )


def planned(budget, parallel):
    return budget.model_copy(
        update={"search": budget.search.model_copy(update={"parallel": parallel})}
    )


def made(budget, machines, tmp_path, devices=()):
    return make_launch(budget, machines, devices, "some.module", ["a", "b"], tmp_path)


def test_one_rank_is_a_plain_child(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")  # of a launcher around the search
    made_ = made(quick_budget(), PLAIN, tmp_path)
    assert made_.command == [sys.executable, "-m", "some.module", "a", "b"]
    assert "RANK" not in made_.environment
    assert made_.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert made_.environment["DS_ACCELERATOR"] == "cpu"
    assert made_.environment["OMP_NUM_THREADS"] == "1"


def test_only_a_trial_without_ranks_and_threads_may_be_forked():
    whole = quick_budget()
    assert may_be_forked(whole, PLAIN)
    threads = whole.training.model_copy(update={"threads": 2})
    assert not may_be_forked(whole.model_copy(update={"training": threads}), PLAIN)
    assert not may_be_forked(quick_budget(ranks=2), PLAIN)
    assert not may_be_forked(quick_budget(warm_start=False), PLAIN)
    assert may_be_forked(on_cuda(), Machines(("0",), {}))
    assert not may_be_forked(whole, Machines(None, {"node1": (0,)}))


def test_ranks_on_this_machine_get_the_devices_they_were_given(tmp_path):
    budget = on_cuda(ranks=2)
    made_ = made(budget, Machines(("2", "5", "7"), {}), tmp_path, ("2", "5"))
    assert made_.command[:3] == [sys.executable, "-m", "deepspeed.launcher.launch"]
    (world,) = [a for a in made_.command if a.startswith("--world_info=")]
    decoded = json.loads(base64.urlsafe_b64decode(world.partition("=")[2]))
    assert decoded == {"localhost": ["2", "5"]}
    assert made_.command[-4:] == ["--module", "some.module", "a", "b"]
    assert made_.environment["CUDA_VISIBLE_DEVICES"] == "2,5"
    assert made_.environment["DS_ACCELERATOR"] == "cuda"
    (port,) = [a for a in made_.command if a.startswith("--master_port=")]
    assert 1024 < int(port.partition("=")[2]) < 65536


def test_nodes_are_left_to_deepspeeds_launcher(hostfile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_T2I_CACHE", "/data/cache")
    (tmp_path / ".deepspeed_env").write_text("NCCL_SOCKET_IFNAME=ib0\n\n")
    file = hostfile("node1 slots=4\nnode2 slots=4\n")
    budget = quick_budget(ranks=4, hostfile=file, include="node1:0,1@node2:2,3")
    machines = find_machines(budget)
    assert machines.nodes == {"node1": (0, 1), "node2": (2, 3)}
    made_ = made(budget, machines, tmp_path)
    port = made_.command[made_.command.index("--master_port") + 1]
    assert made_.command == [
        *(sys.executable, "-m", "deepspeed.launcher.runner", "--hostfile", file),
        *("--include", "node1:0,1@node2:2,3", "--force_multi", "--master_port", port),
        *("--log_level", "error", "--no_local_rank", "--module", "some.module", "a", "b"),
    ]
    lines = (tmp_path / "rank_environment").read_text().splitlines()
    assert made_.environment["DS_ENV_FILE"] == str(tmp_path / "rank_environment")
    assert {"OMP_NUM_THREADS=1", "DS_ACCELERATOR=cpu", "NAS_T2I_CACHE=/data/cache"} <= set(lines)
    assert lines[-1] == "NCCL_SOCKET_IFNAME=ib0"


def test_what_another_nodes_shell_would_misread_is_refused(hostfile, tmp_path, monkeypatch):
    file = hostfile("node1 slots=1\nnode2 slots=1\n")
    budget = quick_budget(ranks=2, hostfile=file)
    machines = find_machines(budget)
    with pytest.raises(ConfigError, match="shell of another node"):
        make_launch(budget, machines, (), "m", ["/a; touch b/config.json"], tmp_path)
    monkeypatch.setenv("NAS_T2I_CACHE", "/data/$(id)")
    with pytest.raises(ConfigError, match="shell of another node"):
        made(budget, machines, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node1 slots=8\nnode2 slot=8\n", r"hosts:2: got 'node2 slot=8'; expected 'HOST slots="),
        ("# all\n\nnode1\n", r"hosts:3: got 'node1'"),
        ("node1 slots=0\n", r"hosts:1: got 'node1 slots=0'"),
        ("node1 slots=8\nnode1 slots=8\n", r"hosts:2: a second line for node1"),
        ("# nobody\n", r"hosts: no host in it"),
    ],
)
def test_a_bad_hostfile_is_named_with_its_line(hostfile, text, message):
    with pytest.raises(ConfigError, match=message):
        find_machines(quick_budget(ranks=2, hostfile=hostfile(text)))


def test_a_missing_hostfile_is_not_this_machine(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"hosts: can't be read: No such file"):
        read_hostfile(tmp_path / "hosts")
    monkeypatch.delenv("JOB_FOLDER", raising=False)
    with pytest.raises(ConfigError, match=r"execution.hostfile: .*JOB_FOLDER is not set"):
        find_machines(quick_budget(hostfile="$JOB_FOLDER/hosts"))


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("node1:0,x", r"execution.include: got 'node1:0,x'; expected for example"),
        ("node1@node1", r"each host once"),
        ("node3", r"got node3, which .*hosts does not have.*did you mean 'node"),
        ("node1:7", r"got slots 7 of node1"),
        ("node1", r"execution.ranks: got 4 ranks for the 2 slots of node1; expected ranks: 2"),
    ],
)
def test_a_bad_include_is_named(hostfile, include, message):
    file = hostfile("node1 slots=2\nnode2 slots=2\n")
    with pytest.raises(ConfigError, match=message):
        find_machines(quick_budget(ranks=4, hostfile=file, include=include))


def test_pdsh_is_missed_before_anything_is_started(hostfile, monkeypatch):
    budget = quick_budget(ranks=2, hostfile=hostfile("node1 slots=2\n"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="pdsh, which is not on the PATH"):
        find_machines(budget)


def test_a_hostfile_of_this_machine_needs_no_pdsh(hostfile, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for name in ("localhost", launch.socket.gethostname()):
        machines = find_machines(quick_budget(ranks=2, hostfile=hostfile(f"{name} slots=4\n")))
        assert machines == Machines(("0", "1", "2", "3"), {})


def test_devices_of_this_machine(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-8f,6")
    assert find_machines(on_cuda(ranks=2)).devices == ("4", "GPU-8f", "6")
    assert find_machines(on_cuda(ranks=2, include="localhost:0,1")).devices == ("0", "1")
    with pytest.raises(ConfigError, match="got 4 ranks, one a device, for 3 devices"):
        find_machines(on_cuda(ranks=4))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="expected a machine with a CUDA device"):
        find_machines(on_cuda())
    with pytest.raises(ConfigError, match="without a hostfile"):
        find_machines(quick_budget(include="localhost:0,1"))


def test_as_many_trials_side_by_side_as_there_is_room_for():
    cpu = planned(quick_budget(ranks=2), 0)
    assert trials_at_once(cpu, PLAIN, cores=8) == 4
    assert trials_at_once(cpu, PLAIN, cores=1) == 1
    assert trials_at_once(planned(cpu, 3), PLAIN, cores=1) == 3
    eight = Machines(tuple("01234567"), {})
    cuda = planned(on_cuda(ranks=4), 0)
    assert trials_at_once(cuda, eight, cores=2) == 2
    assert trials_at_once(planned(cuda, 1), eight, cores=2) == 1
    with pytest.raises(ConfigError, match=r"search.parallel: got 3 trials of 4 ranks .* at most 2"):
        trials_at_once(planned(cuda, 3), eight, cores=2)
    assert trials_at_once(cuda, Machines(None, {"a": (0, 1), "b": (0, 1)}), cores=64) == 1


# What pdsh and ssh do, on this machine: each host's command in a shell of its own. DeepSpeed's
# clean-up by pkill would reach what no test started, so that is left out.
PDSH = """
while [ "$1" != -w ]; do shift; done
hosts=$2; shift 2
case "$*" in *pkill*) exit 0;; esac
n=0
for host in $(echo "$hosts" | tr , ' '); do
  sh -c "$(echo "$*" | sed "s/%n/$n/g")" & n=$((n + 1))
done
wait
"""


def test_two_nodes_through_the_whole_launcher_with_scripts_for_pdsh_and_ssh(
    hostfile, tmp_path, monkeypatch
):
    file = hostfile("node-a slots=1\nnode-b slots=1\n")
    program(tmp_path / "bin" / "pdsh", PDSH)
    program(tmp_path / "bin" / "ssh", "echo 127.0.0.1\n")
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    config = quick_config(ranks=2, hostfile=file)
    runner = ProcessRunner(tmp_path / "trials", stall_seconds=60, module="tests.search.tiny_trials")
    end = follow(runner.start(config))[-1]
    assert isinstance(end, EndEvent) and end.state is TrialState.COMPLETE
    for number in (0, 1):
        environment = rank(tmp_path / "trials" / config.key, number)["environment"]
        assert environment["RANK"] == str(number)
        assert environment["LOCAL_RANK"] == "0"
        assert environment["WORLD_SIZE"] == "2"
        assert environment["OMP_NUM_THREADS"] == "1"
        assert environment["NAS_T2I_CACHE"] == str(tmp_path / "cache")


def test_small_trials_share_devices(tmp_path):
    budget = on_cuda(trials_per_device=3)
    assert trials_at_once(budget, Machines(("0", "1"), {}), cores=2) == 6
    with pytest.raises(ConfigError, match="got 7 trials of 1 ranks side by side; expected at most"):
        trials_at_once(planned(budget, 7), Machines(("0", "1"), {}), cores=2)
    runner = ProcessRunner(tmp_path, stall_seconds=60, module="tests.search.tiny_trials")
    runner._machines = Machines(("0", "1"), {})
    trials = []
    for seed in range(5):
        config = quick_config(seed=seed)
        config = config.model_copy(update={"budget": budget.model_dump(mode="json")})
        trials.append(runner.start(config))
    assert [trial.devices for trial in trials] == [("0",), ("1",), ("0",), ("1",), ("0",)]
    for trial in trials:
        trial.leave()
        follow(trial)


def test_another_runner_is_checked_as_in_a_file():
    assert with_runner(quick_budget(), "ray:head:6379").execution.runner == "ray:head:6379"
    with pytest.raises(UserError) as unknown:
        with_runner(quick_budget(), "rey")
    assert str(unknown.value) == (
        "--runner: got 'rey'; expected local, ray or ray:HOST:PORT; did you mean 'ray'?"
    )
    with pytest.raises(UserError, match="--runner: execution: got the runner 'ray' with a hostf"):
        with_runner(quick_budget(hostfile="hosts"), "ray")
