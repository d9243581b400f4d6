"""How a trial's ranks are started: one child process, or DeepSpeed's launcher, here or on nodes.

One rank on this machine is a plain child. Several ranks on this machine are started by
``deepspeed.launcher.launch``, the part of DeepSpeed's launcher that runs on each node; several
nodes by ``deepspeed.launcher.runner``, the whole of it, which reaches them by pdsh and ssh.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_t2i.errors import ConfigError, UserError, Where, did_you_mean
from nas_t2i.files import expand_path, write_atomically
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.search import RacingRule, SearchPlan
from nas_t2i.protocol.training import Execution, Training

ENVIRONMENT_FILE = "rank_environment"
_HOSTFILE_LINE = re.compile(r"(\S+)\s+slots=(\d+)(\s.*)?")
_NODE = re.compile(r"([^:@,\s]+)(?::(\d+(?:,\d+)*))?")
# pdsh hands the command to a shell on each node, unquoted, and replaces %h, %n and %u in it.
_SAFE = re.compile(r"[A-Za-z0-9_@+=:,./-]*")
# What a launcher around this process may have set, and a rank would take for its own.
_OF_A_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")
# What decides where a rank finds its models, and DeepSpeed does not pass to other nodes.
_PASSED_ON = ("NAS_T2I_CACHE", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class Machines:
    """Where a budget's trials run."""

    devices: tuple[str, ...] | None  # of this machine; None: CPU cores, of which any may be used
    nodes: dict[str, tuple[int, ...]]  # the slots of several nodes; empty: this machine alone


@dataclass(frozen=True)
class Launch:
    """The command that starts a trial and the whole environment it starts in."""

    command: list[str]
    environment: dict[str, str]


def find_machines(budget: Budget) -> Machines:
    """Find what a budget's trials may use, and check that it is enough for one.

    Raises:
        ConfigError: a hostfile that can't be used, devices or slots that don't fit the ranks.
    """
    execution = budget.execution
    nodes = _chosen_nodes(budget)
    if nodes and not (len(nodes) == 1 and _is_this_machine(*nodes)):
        slots = sum(map(len, nodes.values()))
        if slots != execution.ranks:
            raise ConfigError(
                _where(budget, "ranks"),
                f"got {execution.ranks} ranks for the {slots} slots of {', '.join(nodes)}",
                expected=f"ranks: {slots}, or an execution.include of {execution.ranks} slots",
            )
        if shutil.which("pdsh") is None:
            raise ConfigError(
                _where(budget, "hostfile"),
                "DeepSpeed reaches other nodes by pdsh, which is not on the PATH",
                expected="pdsh on this machine and ssh without a password to each node",
            )
        return Machines(devices=None, nodes=nodes)
    devices = _local_devices(budget, [slot for slots in nodes.values() for slot in slots])
    if devices is not None and len(devices) < execution.ranks:
        raise ConfigError(
            _where(budget, "ranks"),
            f"got {execution.ranks} ranks, one a device, for {len(devices)} devices",
            expected=f"at most {len(devices)}" if devices else "a machine with a CUDA device",
        )
    return Machines(devices=devices, nodes={})


def trials_at_once(budget: Budget, machines: Machines, cores: int) -> int:
    """Return how many trials run side by side: as planned, or as many as there is room for.

    Raises:
        ConfigError: search.parallel is more than the devices are enough for.
    """
    planned, ranks = budget.search.parallel, budget.execution.ranks
    if machines.nodes:
        room = 1
    elif machines.devices is not None:
        room = len(machines.devices) * budget.execution.trials_per_device // ranks
    else:
        return planned or max(1, cores // (budget.training.threads * ranks))
    if planned > room:
        raise ConfigError(
            Where(f"budget {budget.name}", key_path="search.parallel"),
            f"got {planned} trials of {ranks} ranks side by side",
            expected=f"at most {room} (0: as many as fit); one device a rank, or "
            "execution.trials_per_device trials a device",
        )
    return planned or room


def may_be_forked(budget: Budget, machines: Machines) -> bool:
    """Say whether a trial may be forked from a warm process instead of being started anew.

    Several ranks need their launcher. With several threads, the process would have them too: a
    library of numpy's starts them when it is imported.
    """
    training, execution = budget.training, budget.execution
    alone = execution.ranks == 1 and not machines.nodes
    return execution.warm_start and alone and training.threads == 1


def make_launch(
    budget: Budget,
    machines: Machines,
    devices: tuple[str, ...],
    module: str,
    arguments: list[str],
    folder: Path,
) -> Launch:
    """Return how to start ``python -m module arguments`` on every rank of a trial.

    `devices` are the trial's own of this machine's, one a rank; none where there is no choice. For
    several nodes, the ranks' environment is written to `folder`.

    Raises:
        ConfigError: paths or values that can't be handed to another node.
    """
    environment = _environment(budget.training, devices)
    if machines.nodes:
        command = _runner_command(budget, module, arguments)
        passed_on = passed_environment(budget.training)
        _check_safe([str(Path.cwd()), sys.executable, *arguments, *passed_on.values()])
        file = folder.absolute() / ENVIRONMENT_FILE
        write_atomically(file, _environment_lines(passed_on))
        return Launch(command, environment | {"DS_ENV_FILE": str(file)})
    if budget.execution.ranks == 1:
        return Launch([sys.executable, "-m", module, *arguments], environment)
    # "-1" is no CUDA device: ranks on the CPU leave those alone.
    on_cpu = budget.training.device == "cpu"
    slots = ("-1",) * budget.execution.ranks if on_cpu else devices
    world = base64.urlsafe_b64encode(json.dumps({"localhost": slots}).encode()).decode()
    command = [
        *(sys.executable, "-m", "deepspeed.launcher.launch"),
        *(f"--world_info={world}", "--master_addr=127.0.0.1", f"--master_port={_free_port()}"),
        *("--log_level=error", "--no_local_rank", "--module", module, *arguments),
    ]
    return Launch(command, environment)


def with_runner(budget: Budget, runner: str) -> Budget:
    """Return the budget with another runner, checked like a file's. Raises UserError."""
    try:
        execution = Execution.model_validate(budget.execution.model_dump() | {"runner": runner})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"--runner: {first['msg'].removeprefix('Value error, ')}") from None
    return budget.model_copy(update={"execution": execution})


def with_plan(budget: Budget, changes: Mapping[str, Any]) -> Budget:
    """Return the budget with another search plan, checked like a file's. Raises UserError."""
    try:
        plan = SearchPlan.model_validate(budget.search.model_dump() | dict(changes))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        told = first["msg"]
        if first["type"] == "literal_error":
            names = first["ctx"]["expected"]
            hint = did_you_mean(str(first["input"]), re.findall(r"'(\w+)'", names))
            told = f"expected {names}" + (f"; {hint}" if hint else "")
        raise UserError(f"{option}: got {first['input']!r}; {told}") from None
    if isinstance(plan.early_stopping, RacingRule):
        try:
            plan.early_stopping.check_plan(budget.rungs, plan.trials)
        except ValueError as error:
            raise UserError(f"--trials: {error}") from None
    changed = budget.model_copy(update={"search": plan})
    try:
        changed.check_objectives()
    except ValueError as error:
        option = "--objectives: " if "objectives" in changes else ""
        raise UserError(f"{option}{error}") from None
    return changed


def read_hostfile(path: Path) -> dict[str, tuple[int, ...]]:
    """Read a DeepSpeed hostfile: lines ``name slots=8``, ``#`` comments. Returns slots by host.

    Raises:
        ConfigError: missing, unreadable, empty, or a line that is not of that form.
    """
    # DeepSpeed itself takes a missing hostfile for "train here", which nobody means who named one.
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(str(path), f"can't be read: {why}", expected="a hostfile") from None
    hosts: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        match = _HOSTFILE_LINE.fullmatch(line)
        if match is None or int(match[2]) < 1:
            raise ConfigError(
                Where(str(path), number), f"got {line!r:.80}", expected="'HOST slots=NUMBER'"
            )
        if match[1] in hosts:
            raise ConfigError(
                Where(str(path), number), f"a second line for {match[1]}", expected="one a host"
            )
        hosts[match[1]] = tuple(range(int(match[2])))
    if not hosts:
        raise ConfigError(str(path), "no host in it", expected="lines 'HOST slots=NUMBER'")
    return hosts


def _chosen_nodes(budget: Budget) -> dict[str, tuple[int, ...]]:
    """Return the hosts and slots that hostfile and include name, in the hostfile's order."""
    execution = budget.execution
    hosts = read_hostfile(_hostfile(budget)) if execution.hostfile else {}
    if not execution.include:
        return hosts
    wanted: dict[str, tuple[int, ...]] = {}
    for text in execution.include.split("@"):
        match = _NODE.fullmatch(text)
        if match is None or match[1] in wanted:
            raise ConfigError(
                _where(budget, "include"),
                f"got {execution.include!r}",
                expected="for example node1:0,1@node2:0,1, each host once",
            )
        wanted[match[1]] = tuple(
            sorted({int(slot) for slot in (match[2] or "").split(",") if slot})
        )
    if not execution.hostfile:
        return _include_here(budget, wanted)
    for host, slots in wanted.items():
        if not set(slots) <= set(hosts.get(host, ())) or host not in hosts:
            got = f"slots {', '.join(map(str, slots))} of {host}" if host in hosts else host
            raise ConfigError(
                _where(budget, "include"),
                f"got {got}, which {execution.hostfile} does not have",
                expected="hosts and slots of the hostfile",
                hint="" if host in hosts else did_you_mean(host, hosts),
            )
    return {host: wanted[host] or slots for host, slots in hosts.items() if host in wanted}


def _include_here(budget: Budget, wanted: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Check an include without a hostfile: devices of this machine."""
    if budget.training.device == "cpu" or list(wanted) != ["localhost"] or not wanted["localhost"]:
        raise ConfigError(
            _where(budget, "include"),
            f"got {budget.execution.include!r} without a hostfile",
            expected="a hostfile, or CUDA devices of this machine, for example localhost:0,1",
        )
    return wanted


def _local_devices(budget: Budget, slots: list[int]) -> tuple[str, ...] | None:
    """Return what this machine has: the slots named for it, its CUDA devices, or None."""
    if slots:
        return tuple(map(str, slots))
    if budget.training.device == "cpu":
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip())
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))


def _environment(training: Training, devices: Iterable[str]) -> dict[str, str]:
    """Return a rank's environment on this machine: this process's, its threads and devices."""
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_A_LAUNCHER}
    visible = ",".join(devices) if training.device == "cuda" else ""
    return inherited | _settings(training) | {"CUDA_VISIBLE_DEVICES": visible}


def passed_environment(training: Training) -> dict[str, str]:
    """Return what a rank on another node gets of this process's environment, and its threads."""
    return _settings(training) | {
        name: os.environ[name] for name in _PASSED_ON if name in os.environ
    }


def _settings(training: Training) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(training.threads),
        "MKL_NUM_THREADS": str(training.threads),
        "DS_ACCELERATOR": training.device,
        # To import diffusers is to look for devices; torch's other way starts CUDA, after which no
        # process that is forked could.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }


def _runner_command(budget: Budget, module: str, arguments: list[str]) -> list[str]:
    execution = budget.execution
    include = ["--include", execution.include] if execution.include else []
    return [
        *(sys.executable, "-m", "deepspeed.launcher.runner"),
        *("--hostfile", str(_hostfile(budget).absolute()), *include),
        # Without it, DeepSpeed takes a single node for this machine, whatever its name.
        *("--force_multi", "--master_port", str(_free_port()), "--log_level", "error"),
        *("--no_local_rank", "--module", module, *arguments),
    ]


def _environment_lines(passed_on: dict[str, str]) -> str:
    """Return what DeepSpeed exports on each node: ours, then the user's own ``.deepspeed_env``."""
    lines = [f"{name}={value}" for name, value in passed_on.items()]
    name = os.environ.get("DS_ENV_FILE", ".deepspeed_env")
    for folder in (Path.home(), Path.cwd()):
        if (folder / name).is_file():
            lines += [line for line in (folder / name).read_text().splitlines() if "=" in line]
    return "\n".join(lines) + "\n"


def _check_safe(texts: Iterable[str]) -> None:
    for text in texts:
        if not _SAFE.fullmatch(text):
            raise ConfigError(
                "execution.hostfile",
                f"{text!r} can't be handed to the shell of another node",
                expected="letters, digits and _ @ + = : , . / - in paths",
            )


def _hostfile(budget: Budget) -> Path:
    return expand_path(budget.execution.hostfile or "", _where(budget, "hostfile"))


def _is_this_machine(host: str) -> bool:
    name = socket.gethostname()
    return host in {"localhost", "127.0.0.1", name, name.partition(".")[0]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


def _where(budget: Budget, key: str) -> Where:
    return Where(f"budget {budget.name}", key_path=f"execution.{key}")
