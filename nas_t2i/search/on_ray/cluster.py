"""The Ray cluster that a search runs on: reached, enough, still there, and room for how many."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nas_t2i.errors import (
    ConfigError,
    MissingExtraError,
    PausedError,
    StorageError,
    UserError,
    number_of,
)
from nas_t2i.mirror.owner import OWNER_FILE
from nas_t2i.mirror.place import is_url, open_place
from nas_t2i.mirror.place import one_line as one_store_line
from nas_t2i.protocol.budget import Budget
from nas_t2i.version import __version__

try:
    import ray
    from ray._private.services import canonicalize_bootstrap_address_or_die
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise MissingExtraError("--runner ray", "ray") from None

_NAMESPACE = "nas-t2i"
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 3.0  # between two looks at the nodes
_GONE_SECONDS = 20.0  # without an answer of the head, until the search leaves
_NODE_SECONDS = 120.0  # that a node may take to start a worker and look at its folders
_HELD_SECONDS = 20.0  # until Ray has noticed that an earlier driver is dead
# Ray ends this process when the head is gone for that long: later than the search leaves by itself.
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "180")
_T = TypeVar("_T")
_EPSILON = 1e-6  # thirds of a GPU make one


@dataclass(frozen=True)
class Need:
    """What one trial needs: a bundle of resources for each of its ranks."""

    ranks: int
    bundle: Mapping[str, float]

    @classmethod
    def of(cls, budget: Budget) -> Need:
        """Return a budget's: a GPU or a share of one for each rank, or its threads of a CPU."""
        training, execution = budget.training, budget.execution
        if training.device == "cpu":
            return cls(execution.ranks, {"CPU": float(training.threads)})
        return cls(execution.ranks, {"GPU": 1 / execution.trials_per_device})

    def ranks_on(self, resources: Mapping[str, float]) -> int:
        """Return how many ranks there is room for in these resources."""
        return int(min(resources.get(name, 0) / n + _EPSILON for name, n in self.bundle.items()))

    def is_packed(self, nodes: Sequence[Mapping[str, float]]) -> bool:
        """Whether all ranks fit on one of the nodes, empty."""
        return any(self.ranks_on(node) >= self.ranks for node in nodes)

    def trials_on(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Return how many trials the nodes hold: each on one node, unless none is large enough."""
        rooms = [self.ranks_on(node) for node in nodes]
        if self.is_packed(nodes):
            return sum(room // self.ranks for room in rooms)
        return sum(rooms) // self.ranks

    def __str__(self) -> str:
        each = ", ".join(f"{amount:g} {name}" for name, amount in self.bundle.items())
        return each if self.ranks == 1 else f"{self.ranks} times {each}"


class Cluster:
    """A connection to a running cluster, and a thread that looks at its nodes.

    Raises:
        UserError: no cluster there, or one of another Ray or Python.
    """

    def __init__(self, address: str) -> None:
        """`address` is HOST:PORT of the head; "": $RAY_ADDRESS, else the one of this machine."""
        self.address = address or os.environ.get("RAY_ADDRESS") or "auto"
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(self.address)
        elif address not in {"", ray.get_runtime_context().gcs_address}:
            raise UserError(
                f"--runner ray: this process is connected to the Ray cluster "
                f"{ray.get_runtime_context().gcs_address} already; expected it, not {address}"
            )
        self._told_gone = False
        self._asked_at: float | None = None  # since when it does not answer; None: it did
        self._holder: Any = None
        self._closed = threading.Event()
        self._look()
        threading.Thread(target=self._watch, name="nodes", daemon=True).start()

    def close(self) -> None:
        """Leave the cluster: what is left of this driver's trials ends."""
        self._closed.set()
        if self._is_ours and not self.is_gone:
            ray.shutdown()

    @property
    def nodes(self) -> list[dict[str, float]]:
        """What each living node has, used or not."""
        return [node["Resources"] for node in self._nodes if node["Alive"]]

    @property
    def is_gone(self) -> bool:
        """Whether the head, asked for its nodes, has not answered for long."""
        # Counted from a question: a driver that was itself paused has asked nothing.
        asked_at = self._asked_at
        return asked_at is not None and time.monotonic() - asked_at > _GONE_SECONDS

    def is_alive(self, node_id: str) -> bool:
        """Whether a node is there, as far as the head knows."""
        return any(node["NodeID"] == node_id and node["Alive"] for node in self._nodes)

    def check(self) -> None:
        """Raise PausedError, once, when the head is gone: trials can still be asked to leave."""
        if self.is_gone and not self._told_gone:
            self._told_gone = True
            raise self._gone()

    def ask_head(self, ask: Callable[[], _T]) -> _T:
        """Return what `ask`, a call that needs the head, returns.

        Ray itself would wait for a head that is gone until it ends this process.

        Raises:
            PausedError: the head was gone before it answered.
        """
        answer: Future[_T] = Future()

        def run() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=run, name="ask the head", daemon=True).start()
        while not wait([answer], timeout=1.0).done:
            if self.is_gone:
                raise self._gone()
        return answer.result()

    def _gone(self) -> PausedError:
        return PausedError(
            f"the head of the Ray cluster {self.address} has not answered for "
            f"{_GONE_SECONDS:g} s: the running trials were asked to save; the same command "
            "carries on when there is a cluster"
        )

    def described(self) -> str:
        """Return what there is and what of it is free, in words."""
        names = sorted({name for node in self.nodes for name in node} & {"CPU", "GPU"})
        parts = [
            f"{sum(node.get(name, 0) for node in self.nodes):g} {name} (at most "
            f"{max(node.get(name, 0) for node in self.nodes):g} on a node, "
            f"{self._free.get(name, 0):g} free)"
            for name in names
        ]
        return f"{', '.join(parts) or 'no CPU, no GPU'} on {number_of(len(self.nodes), 'node')}"

    def room(self, budget: Budget) -> int:
        """Return how many trials of a budget the nodes hold; 1 at least: it waits for a place."""
        return max(1, Need.of(budget).trials_on(self.nodes))

    def check_room(self, budget: Budget, *, on_one_node: bool = False) -> None:
        """Raise ConfigError when a trial of the budget fits nowhere."""
        need = Need.of(budget)
        fits = need.is_packed(self.nodes) if on_one_node else need.trials_on(self.nodes) > 0
        if not fits:
            where = " on one node, with results at a URL" if on_one_node else ""
            raise ConfigError(
                f"budget {budget.name}: execution.ranks",
                f"a trial needs {need}{where}; the Ray cluster {self.address} has "
                f"{self.described()}",
                expected="a cluster that holds one trial at least when the search begins",
            )

    def check_nodes(self, folder: Path, url: str = "") -> None:
        """Let every node look whether it has nas-t2i, and sees what it must: `url`, or the folder.

        Raises:
            UserError: one does not, or does not answer.
        """
        shared = [str(Path.cwd())] if url else [str(_nearest(folder.absolute())), str(Path.cwd())]
        answers = []
        for entry in self._nodes:
            if entry["Alive"]:
                there = NodeAffinitySchedulingStrategy(entry["NodeID"], soft=False)
                look = ray.remote(_look_around).options(
                    num_cpus=0, max_retries=0, scheduling_strategy=there
                )
                answers.append((entry["NodeManagerAddress"], look.remote(shared, url)))
        for node, answer in answers:
            try:
                version, missing, problem = ray.get(answer, timeout=_NODE_SECONDS)
            except ray.exceptions.RayError as error:
                raise UserError(f"node {node} of the Ray cluster: {one_line(error)}") from None
            if version != __version__:
                raise UserError(f"node {node} has nas-t2i {version}, this driver {__version__}")
            if problem:
                raise UserError(f"node {node}: {url}: {problem}")
            if missing:
                raise UserError(
                    f"node {node} does not see {missing[0]}: the results folder, and the one the "
                    "search is started in, must be shared by all nodes under one path"
                )

    def hold(self, study: str | Path) -> None:
        """Be the one driver of a study, given by its folder or URL, in this cluster.

        Raises:
            StorageError: there is another.
        """
        place = study if is_url(study) else Path(study).absolute()
        me = f"process {os.getpid()} on host {socket.gethostname()}"
        holder = ray.remote(_Holder).options(name=f"driver of {place}", num_cpus=0, max_restarts=-1)
        deadline = time.monotonic() + _HELD_SECONDS
        while True:
            try:
                self._holder = holder.remote(me)
                return
            except ValueError:  # the name is taken
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"study {Path(study).name} is being searched by another driver on the Ray "
                        f"cluster {self.address}"
                    ) from None
                time.sleep(0.5)

    def _look(self) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        self._nodes = ray.nodes()
        self._free = ray.available_resources()
        self._asked_at = None

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            try:
                self._look()
            except Exception:  # noqa: S112  a head that is gone answers in many ways
                continue


class _Holder:
    """Who searches a study. Its name in the cluster is what counts."""

    def __init__(self, driver: str) -> None:
        self.driver = driver


def one_line(error: BaseException) -> str:
    """Return what an error of Ray's comes down to: the last line of what it says."""
    cause = getattr(error, "cause", None)
    text = str(cause if isinstance(cause, Exception) else error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _connect(address: str) -> None:
    if "://" in address or not (address == "auto" or address.rpartition(":")[2].isdecimal()):
        raise UserError(
            f"--runner ray: got the address {address!r}; expected HOST:PORT of the cluster's head, "
            "from a machine that is a node of the cluster"
        )
    try:
        # Ray itself would try a cluster that is gone for minutes.
        _check_reachable(canonicalize_bootstrap_address_or_die(address), address)
        ray.init(
            address=address,
            namespace=_NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, AssertionError) as error:
        if address == "auto" and isinstance(error, ConnectionError):
            raise UserError(
                "--runner ray: no Ray cluster runs on this machine; `ray start --head` starts one, "
                "ray:HOST:PORT names the head of another"
            ) from None
        text = " ".join(str(error).split())[:400]
        if isinstance(error, ConnectionError):  # though somebody listens there
            text += (
                "; expected a Ray head there, and RAY_AUTH_MODE=token here if it was started with "
                "Ray's token authentication"
            )
        raise UserError(f"Ray cluster {address}: {text}") from None


def _check_reachable(address: str, shown: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"Ray cluster {shown}: can't be reached: {error}") from None


def _look_around(folders: list[str], url: str = "") -> tuple[str, list[str], str]:
    """Return this node's nas-t2i, which of the folders it lacks, and why a URL can't be read."""
    import nas_t2i.search.on_ray.rank  # noqa: F401  what ranks need must be there
    from nas_t2i.version import __version__ as version

    problem = ""
    if url:
        try:
            open_place(url).get(OWNER_FILE)
        except Exception as error:
            problem = one_store_line(error)
    return version, [folder for folder in folders if not Path(folder).is_dir()], problem


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())
