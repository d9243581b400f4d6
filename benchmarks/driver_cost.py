"""What the driver itself costs per finished trial, and how that grows with the trials before it.

    python benchmarks/driver_cost.py [--trials 1000] [--samplers tpe random qmc]

A whole search through the real session: records, decisions, the Optuna journal, the leaderboard on
disk and the lines on the screen (into a file). Only training is simulated: a trial's rungs are on
its record at once, and the writing of them is not counted. Nor is the counting of a proposal's
parameters and GMACs, which costs the same however many trials there are: it is timed apart.

Of the leaderboard both are told: what one rewriting costs, and what a trial's share of it is here,
where it may take at most 1/300 of the search's time as in every search.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from nas_t2i.arch.profile import profile
from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.arch.space import load_space
from nas_t2i.cli.output import progress
from nas_t2i.cli.output.console import Console
from nas_t2i.events import EventLog, EventTail
from nas_t2i.files import write_atomically
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    Profile,
    RungEvent,
    Score,
    StartEvent,
    TrialEvent,
    TrialState,
)
from nas_t2i.results.tables.exports import write_leaderboard
from nas_t2i.search import session
from nas_t2i.search.beforehand import factory
from nas_t2i.search.decisions import DecisionLog
from nas_t2i.search.launch import with_plan
from nas_t2i.search.session import SearchRequest, make_factory, run_search
from nas_t2i.search.study import OptunaStudy
from nas_t2i.search.trial_config import TrialConfig
from nas_t2i.shipped import find_file
from nas_t2i.streams import derive_seed

_PLACES = 4
_WINDOW = 50  # trials that a figure is the mean of


class Stopwatch:
    """Seconds of the processor and by the clock, by what they were spent on."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.marks: list[Counter[str]] = []  # one per finished trial

    def now(self) -> tuple[float, float]:
        """Return both clocks."""
        return time.process_time(), time.perf_counter()

    @contextlib.contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count what is done inside."""
        begin = self.now()
        try:
            yield
        finally:
            for kind, before, after in zip(("work", "clock"), begin, self.now(), strict=True):
                self.spent[f"{what} {kind}"] += after - before

    def around(self, what: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of which every call counts."""

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.on(what):
                return act(*arguments, **options)

        return timed

    def mark(self) -> None:
        """Note that a trial is finished."""
        work, clock = self.now()
        self.marks.append(self.spent + Counter({"all work": work, "all clock": clock}))

    def per_trial(self, until: int, kind: str) -> dict[str, float]:
        """Return milliseconds a trial over the `_WINDOW` trials before the `until`-th."""
        first, last = self.marks[until - _WINDOW - 1], self.marks[until - 1]
        spent = {
            what: 1000 * (last[f"{what} {kind}"] - first[f"{what} {kind}"]) / _WINDOW
            for what in ("all", "simulation", "ask", "count", "rank")
        }
        spent["driver"] = spent["all"] - sum(spent[w] for w in ("simulation", "count", "rank"))
        return spent


class SimulatedTrial:
    """A trial that is at its next rung as soon as it may be."""

    def __init__(self, config: TrialConfig, folder: Path, watch: Stopwatch) -> None:
        self.config, self._watch = config, watch
        budget = Budget.model_validate(config.budget, strict=False)
        self._metric, self._prompts = budget.evaluation.metric, budget.evaluation.prompts
        self._rungs, self._last = deque(budget.rungs), budget.rungs[-1]
        self._decisions = DecisionLog(folder)
        with watch.on("simulation"):
            self._log = EventLog(folder / "events.jsonl")
            self._log.append(StartEvent(record=config.new_record(), pid=1))
        self._tail = EventTail(folder / "events.jsonl")
        self._reach()

    def poll(self) -> Sequence[TrialEvent]:
        """Return what is new on its record."""
        events = self._tail.read()
        if events and isinstance(events[-1], EndEvent):
            self._log.close()
            self._decisions.close()
            self._watch.mark()
        return events

    def decide(self, rung: int, go: bool) -> None:
        """Go on to the next rung, or stop."""
        self._decisions.say(f"{'go' if go else 'stop'} {rung}")
        if go:
            self._reach()
        else:
            self._end(TrialState.STOPPED)

    def leave(self) -> None:
        """End."""
        self._end(TrialState.INTERRUPTED)

    def _end(self, state: TrialState) -> None:
        with self._watch.on("simulation"):
            self._log.append(EndEvent(state=state))

    def _reach(self) -> None:
        with self._watch.on("simulation"):
            step = self._rungs.popleft()
            self._log.append(RungEvent(point=self._point(step)))
        if step == self._last:
            self._end(TrialState.COMPLETE)

    def _point(self, step: int) -> CurvePoint:
        """Return scores that depend on the architecture, with the noise of a trial."""
        config = self.config
        quality = derive_seed(0, "quality", config.profile.arch_id) % 1000 / 5000
        rng = np.random.default_rng(derive_seed(config.seed, config.key, step) % 2**32)
        right = rng.random(self._prompts) < 0.4 + quality + 0.1 * step / self._last
        score = Score(
            metric=self._metric,
            value=float(right.mean()),
            stderr=float(right.std() / self._prompts**0.5),
            n=self._prompts,
            signature="simulated",
            per_prompt=right.astype(float).tolist(),
        )
        return CurvePoint(
            step=step,
            images=32 * step,
            training_flops=1.0,
            loss=1.0,
            seconds=1.0,
            evaluation_seconds=1.0,
            scores={self._metric: score},
        )


class SimulatedRunner:
    """Starts simulated trials in the folders of a study."""

    def __init__(self, trials: Path, watch: Stopwatch) -> None:
        self._trials, self._watch = trials, watch

    def start(self, config: TrialConfig) -> SimulatedTrial:
        """Start one."""
        folder = self._trials / config.key
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "config.json", config.model_dump_json(indent=1) + "\n")
        return SimulatedTrial(config, folder, self._watch)


class NoPause:
    """A clock for trials that need none."""

    def sleep(self, seconds: float) -> None:
        """Do not."""


def one_size_for_all() -> Callable[..., Profile]:
    """Return a stand-in for the counting of parameters: the same numbers under each one's name."""
    known = profile(resolve_arch("SDXL-C320").arch)

    def named(arch: Any, **_: Any) -> Profile:
        return known.model_copy(update={"arch_id": arch.arch_id})

    return named


def search(request: SearchRequest, screen: Path) -> Stopwatch:
    """Search with simulated trials; return what its parts took."""
    watch = Stopwatch()
    timed = {
        (OptunaStudy, "draft"): watch.around("ask", OptunaStudy.draft),
        (progress, "write_leaderboard"): watch.around("rank", write_leaderboard),
        (factory, "profile"): watch.around("count", one_size_for_all()),
        (session, "ProcessRunner"): lambda trials, **_: SimulatedRunner(trials, watch),
        (session, "WallClock"): NoPause,
    }
    with contextlib.ExitStack() as changes, screen.open("a") as lines:
        for (where, name), value in timed.items():
            changes.enter_context(mock.patch.object(where, name, value))
        console = Console(file=lines)
        run_search(
            request,
            lambda known, _: progress.Progress(request, known, console),
            lambda text: print(text, file=lines),
        )
    return watch


def make_request(folder: Path, sampler: str, trials: int) -> SearchRequest:
    """Return a search of the U-Net space whose trials stop at rungs, one seed a candidate."""
    budget = load_budget(find_file("embedded_v1", "budgets"))
    plan = {
        "trials": trials,
        "seeds_per_architecture": 1,
        "sampler": sampler,
        "parallel": _PLACES,
        "reuse": False,
    }
    return SearchRequest(
        space=load_space(find_file("unet", "search_spaces")),
        budget=with_plan(budget, plan),
        study=sampler,
        results_dir=folder,
        storage="",
        seed=0,
        cores=_PLACES,
        controls=False,
        retry_failed=False,
    )


def milliseconds_to_count(request: SearchRequest, number: int = 10) -> float:
    """Return what the counting of one proposal of the space costs, at work."""
    factory = make_factory(request.budget, request.seeds)
    rng = random.Random(0)  # noqa: S311
    factory.make(request.space.sample(rng))  # imports
    begin = time.process_time()
    for _ in range(number):
        factory.make(request.space.sample(rng))
    return 1000 * (time.process_time() - begin) / number


def report(sampler: str, folder: Path, trials: int) -> None:
    """Search, and print a line per hundred, thousand ... trials."""
    request = make_request(folder, sampler, trials)
    watch = search(request, folder / f"{sampler}.txt")
    for until in sorted({min(100, trials), trials}):
        work, clock = (watch.per_trial(until, kind) for kind in ("work", "clock"))
        print(
            f"{sampler:7} {until:6} {work['driver']:8.1f} {work['ask']:8.1f} "
            f"{work['driver'] - work['ask']:8.1f} {work['rank']:8.1f} {clock['driver']:8.1f}",
            flush=True,
        )
    begin = time.process_time()
    write_leaderboard(request.folder)
    ranked = time.process_time() - begin
    begin = time.process_time()
    search(request, folder / f"{sampler}.txt")
    resumed = time.process_time() - begin
    print(
        f"{sampler}: at the end one ranking {1000 * ranked:.0f} ms, all of it resumed in "
        f"{resumed:.1f} s of work; load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
    )


def main() -> None:
    """Print milliseconds per finished trial, for each sampler."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000, help=f"at least {_WINDOW + 1}")
    parser.add_argument("--samplers", nargs="+", default=["tpe", "random", "qmc"])
    options = parser.parse_args()
    print(f"ms a finished trial, the mean over the {_WINDOW} before it; at work unless said")
    print("sampler trials  driver   asking     rest  ranking  by clock")
    with tempfile.TemporaryDirectory() as name:
        for sampler in options.samplers:
            report(sampler, Path(name), options.trials)
        request = make_request(Path(name), "tpe", 1)
        print(
            f"to count one proposal's parameters and GMACs: {milliseconds_to_count(request):.0f} ms"
        )


if __name__ == "__main__":
    main()
