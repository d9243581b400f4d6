"""What the driver costs on a Ray cluster per finished trial and per event, many trials at once.

    python benchmarks/ray_scale.py [--at-once 1 16 128] [--trials 128] [--seconds 20]

A whole search through the real session, the real runner and Ray's own calls: a placement group a
trial, one open question a rank, records, decisions, Optuna's journal. What lies on the nodes is
simulated: all ranks live in a few actors instead of one each, for a Ray actor is a process of some
60 MB. A simulated trial tells its progress every second, as real ones do, and is at its next rung
after a part of `--seconds`. The counting of parameters is left out, as in driver_cost.

Printed are seconds of the processor in the driver's process, Ray's threads included: per finished
trial, per event (rungs, starts, ends and progress), and as a share of one core.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
from driver_cost import one_size_for_all

from nas_t2i.arch.space import load_space
from nas_t2i.events import event_line
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    ProgressEvent,
    RungEvent,
    Score,
    StartEvent,
    TrialEvent,
    TrialState,
)
from nas_t2i.search.beforehand import factory
from nas_t2i.search.launch import with_plan, with_runner
from nas_t2i.search.on_ray import runner as runner_module
from nas_t2i.search.on_ray.ears import FarRank
from nas_t2i.search.on_ray.rank import Heard, Job, Rank
from nas_t2i.search.on_ray.runner import RayRunner
from nas_t2i.search.session import SearchRequest, run_search
from nas_t2i.search.trial_config import TrialConfig, load_trial_config
from nas_t2i.shipped import find_file
from nas_t2i.streams import derive_seed

_ACTORS = 4  # that hold all simulated ranks
_PROGRESS_SECONDS = 1.0


class SimulatedRank(Rank):
    """A rank whose process is a thread that trains nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        super().__init__(lease_seconds=600)

    def begin(self, job: Job, *_: Any) -> tuple[str, str]:
        """Start the thread."""
        config = load_trial_config(Path(job.config))
        threading.Thread(target=self._train, args=(config,), daemon=True).start()
        return self._node, "simulated"

    def _train(self, config: TrialConfig) -> None:
        budget = Budget.model_validate(config.budget, strict=False)
        self._tell(StartEvent(record=config.new_record(), pid=1))
        state = TrialState.COMPLETE
        for rung in budget.rungs:
            begin = time.monotonic()
            while time.monotonic() - begin < self._seconds / len(budget.rungs):
                time.sleep(_PROGRESS_SECONDS)
                self._tell(ProgressEvent(step=rung, loss=1.0, seconds=1.0))
            self._tell(RungEvent(point=_point(config, budget, rung)))
            if rung != budget.rungs[-1] and not self._goes_on(rung):
                state = TrialState.STOPPED
                break
        self._tell(EndEvent(state=state))
        with self._news:
            self._status = 0
            self._news.notify_all()

    def _goes_on(self, rung: int) -> bool:
        while True:
            for word in list(self._early):
                if word.endswith(f" {rung}"):
                    return word.startswith("go")
            time.sleep(0.1)

    def _tell(self, event: TrialEvent) -> None:
        with self._news:
            self._lines.append(event_line(event))
            if not isinstance(event, ProgressEvent):
                self._urgent = True
                self._news.notify_all()


class ManyRanks:
    """The ranks of many trials in one process."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ranks: dict[str, SimulatedRank] = {}
        self._lock = threading.Lock()

    def call(self, key: str, method: str, arguments: tuple[Any, ...]) -> Any:
        """Let a trial's rank do what an actor would be asked for."""
        with self._lock:
            if key not in self._ranks:
                self._ranks[key] = SimulatedRank(self._seconds)
        answer = getattr(self._ranks[key], method)(*arguments)
        if isinstance(answer, Heard) and answer.status is not None:
            del self._ranks[key]
        return answer


class ManyRanksRunner(RayRunner):
    """Asks a few actors for the ranks of all trials; everything else is the real runner's."""

    actors: tuple[Any, ...] = ()

    def _make_ranks(self, *arguments: Any) -> list[FarRank]:
        job: Job = arguments[-1]
        actor = self.actors[derive_seed(0, job.config, 0) % len(self.actors)]

        def asking(method: str) -> Any:
            return SimpleNamespace(
                remote=lambda *arguments: actor.call.remote(job.config, method, arguments)
            )

        rank = SimpleNamespace(
            **{name: asking(name) for name in ("begin", "listen", "say", "kill")}
        )
        return [FarRank(0, rank, rank.begin.remote(job, 0, ("", 0)), self._ears)]


class Counter:
    """A listener that counts."""

    def __init__(self) -> None:
        self.events = self.finished = 0
        self.at_once = self.most_at_once = 0

    def started(self, *_: Any) -> None:
        """Count one more at once."""
        self.at_once += 1
        self.events += 1
        self.most_at_once = max(self.most_at_once, self.at_once)

    def ended(self, *_: Any) -> None:
        """Count one less."""
        self.at_once -= 1
        self.events += 1
        self.finished += 1

    def __getattr__(self, name: str) -> Callable[..., None]:
        def count(*_: Any) -> None:
            self.events += name in {"progress", "reached_rung"}

        return count


def measure(folder: Path, at_once: int, trials: int, seconds: float, address: str) -> str:
    """Search, and return a line of figures."""
    budget = with_runner(load_budget(find_file("embedded_v1", "budgets")), f"ray:{address}")
    plan = {
        "trials": trials,
        "seeds_per_architecture": 1,
        "sampler": "random",
        "parallel": at_once,
        "reuse": False,
    }
    request = SearchRequest(
        space=load_space(find_file("unet", "search_spaces")),
        budget=with_plan(budget, plan),
        study=f"at-once-{at_once}",
        results_dir=folder,
        storage="",
        seed=0,
        cores=1,
        controls=False,
        retry_failed=False,
    )
    pool = ray.remote(ManyRanks).options(num_cpus=0, max_concurrency=2 * at_once // _ACTORS + 64)
    ManyRanksRunner.actors = tuple(pool.remote(seconds) for _ in range(min(_ACTORS, at_once)))
    counter = Counter()
    with contextlib.ExitStack() as changes:
        for where, name, value in (
            (runner_module, "RayRunner", ManyRanksRunner),
            (factory, "profile", one_size_for_all()),
        ):
            changes.enter_context(mock.patch.object(where, name, value))
        clock, work = time.perf_counter(), time.process_time()
        run_search(request, lambda *_: counter, print)  # type: ignore[arg-type, return-value]
        clock, work = time.perf_counter() - clock, time.process_time() - work
    for actor in ManyRanksRunner.actors:
        ray.kill(actor)
    return (
        f"{counter.most_at_once:7} {counter.finished:7} {counter.events:7} {clock:8.0f} "
        f"{1000 * work / counter.finished:10.1f} {1000 * work / counter.events:9.2f} "
        f"{100 * work / clock:6.0f} %"
    )


def _point(config: TrialConfig, budget: Budget, step: int) -> CurvePoint:
    quality = derive_seed(0, "quality", config.profile.arch_id) % 1000 / 2000
    scores = [quality + 0.3 * step / budget.rungs[-1]] * budget.evaluation.prompts
    score = Score(
        metric=budget.evaluation.metric,
        value=scores[0],
        stderr=0.01,
        n=len(scores),
        signature="simulated",
        per_prompt=scores,
    )
    return CurvePoint(
        step=step,
        images=32 * step,
        training_flops=1.0,
        loss=1.0,
        seconds=1.0,
        evaluation_seconds=1.0,
        scores={budget.evaluation.metric: score},
    )


def main() -> None:
    """Print a line for each number of trials at once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--trials", type=int, default=128, help="a search, at least so many")
    parser.add_argument("--seconds", type=float, default=20.0, help="that a whole trial takes")
    options = parser.parse_args()
    most = max(options.at_once)
    context = ray.init(
        num_cpus=most + _ACTORS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        # Else Ray starts a process for each CPU that it is told of.
        _system_config={"prestart_worker_first_driver": False, "enable_worker_prestart": False},
    )
    print("at once finished  events  seconds  ms/trial  ms/event  of a core")
    with tempfile.TemporaryDirectory() as name:
        for at_once in options.at_once:
            trials = max(at_once, min(options.trials, 8 * at_once))
            address = context.address_info["gcs_address"]
            print(measure(Path(name), at_once, trials, options.seconds, address), flush=True)
    print(f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
