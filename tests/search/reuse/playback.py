"""Searches in this process, of trials that train nothing and leave the records of trained ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nas_t2i.arch.space import load_space
from nas_t2i.environment import cache_dir, describe_environment
from nas_t2i.events import EVENTS_FILE, EventLog, read_events
from nas_t2i.mirror.study import Mirror
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialState
from nas_t2i.results.leaderboard import rank_trials
from nas_t2i.search import session
from nas_t2i.search.racing.ledger import RACE_FILE, read_pieces
from nas_t2i.search.resume.rung_log import RUNGS_FILE, read_rungs
from nas_t2i.search.runner import write_config
from nas_t2i.search.session import SearchRequest, run_search
from nas_t2i.store import read_contents
from nas_t2i.training.feeds.inputs import input_fingerprints
from tests.faults.quick_trial import point
from tests.training.tiny import tiny_budget

SPACE = """
name: tiny
family: unet
parameters:
  channels: {choice: [128, 192, 256]}
  channel_mult: [1, 2]
  res_blocks: 1
  transformer_depth: {2: {choice: [1, 14]}}
include:
  - {name: base, family: unet, channels: 128, channel_mult: [1, 2], res_blocks: 1,
     transformer_depth: {2: 1}}
"""
BUDGET = tiny_budget(6)


class Trained:
    """A trial that goes on where its events end, as one does that has kept its checkpoints."""

    def __init__(self, config: Any, folder: Path, changes: dict[str, Any]) -> None:
        self.config, self.said, self.leaving, self.ended = config, {}, False, False
        self.log = EventLog(folder / EVENTS_FILE)
        events = read_events(folder / EVENTS_FILE)[0]
        past = [event for event in events if not isinstance(event, EndEvent)]
        known = {
            "inputs": input_fingerprints(BUDGET, cache_dir()),
            "environment": describe_environment(1),
        }
        start = StartEvent(record=config.new_record().model_copy(update=known | changes))
        self.log.append(start)
        self.new = [*past, start]
        self.at = max((e.point.step for e in past if isinstance(e, RungEvent)), default=0)

    def poll(self) -> list[Any]:
        if self.ended:
            return []
        events, self.new = self.new, []
        rungs = BUDGET.rungs
        if self.leaving:
            return [*events, self._end(TrialState.INTERRUPTED)]
        if self.at and self.at != rungs[-1]:
            if not any(rung >= self.at for rung in self.said):
                return events
            if self.said.get(self.at) is False:
                return [*events, self._end(TrialState.STOPPED, f"stopped early at step {self.at}")]
        if self.at != rungs[-1]:
            self.at = next(rung for rung in rungs if rung > self.at)
            events.append(RungEvent(point=point(self.config, self.at, full=True)))
            self.log.append(events[-1])
        if self.at == rungs[-1]:
            events.append(self._end(TrialState.COMPLETE))
        return events

    def decide(self, rung: int, go: bool) -> None:
        self.said.setdefault(rung, go)

    def leave(self) -> None:
        self.leaving = True

    def _end(self, state: TrialState, reason: str = "") -> EndEvent:
        end = EndEvent(state=state, reason=reason)
        self.log.append(end)
        self.log.close()
        self.ended = True
        return end


class Silence:
    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None


class NoTime:
    def sleep(self, seconds: float) -> None: ...


@dataclass
class Search:
    """A study of a results folder; what it trained, and what was said."""

    results: Path
    study: str
    trials: int = 4
    seeds: int = 2
    parallel: int = 2
    rule: Any = None
    reuse: bool = True
    url: str = ""  # of the results, if they are at one
    changes: dict[str, Any] = field(default_factory=dict)  # of the records of what it trains
    trained: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.results / self.study

    def request(self) -> SearchRequest:
        mirror = Mirror(self.url, self.study) if self.url else None
        self.results.mkdir(exist_ok=True)
        file = self.results / "space.yaml"
        file.write_text(SPACE)
        plan = {
            "trials": self.trials,
            "seeds_per_architecture": self.seeds,
            "parallel": self.parallel,
            "sampler": "random",
            "sampler_options": {},
            "early_stopping": self.rule,
            "reuse": self.reuse,
        }
        budget = BUDGET.model_copy(update={"search": BUDGET.search.model_copy(update=plan)})
        return SearchRequest(
            space=load_space(file),
            budget=budget,
            study=self.study,
            results_dir=self.results if mirror is None else mirror.root,
            mirror=mirror,
            storage="",
            seed=0,
            cores=2,
            controls=False,
            retry_failed=False,
        )

    def run(self, listener: Any = None) -> Search:
        search = self

        class Playback:
            def __init__(self, trials: Path, **_: Any) -> None:
                self.trials = trials

            def start(self, config: Any) -> Trained:
                search.trained.append(config.key)
                return Trained(config, write_config(self.trials, config).parent, search.changes)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session, "ProcessRunner", Playback)
            patch.setattr(session, "WallClock", NoTime)
            request = self.request()
            with contextlib.nullcontext() if request.mirror is None else request.mirror.open():
                run_search(request, lambda *_: listener or Silence(), self.said.append)
        return self

    def elsewhere(self, results: Path) -> Search:
        """The same search where there is no other."""
        return dataclasses.replace(self, results=results, trained=[], said=[])

    def records(self) -> list[Any]:
        return read_contents(self.folder).trials

    def told(self) -> dict[str, Any]:
        """All that was measured, seen and decided, and the ranking."""
        trials = self.records()
        racing = (self.folder / RACE_FILE).exists()
        rows = rank_trials([t.model_copy(update={"reused": None}) for t in trials])
        seen = [tuple(event.model_dump().items()) for event in read_rungs(self.folder / RUNGS_FILE)]
        return {
            # Trials of a race all rest at the end, some since long.
            "trials": [
                (t.number, t.name, t.seed, t.curve, () if racing else (t.state, t.reason))
                for t in trials
            ],
            "rungs": sorted(seen) if racing else seen,
            "pieces": read_pieces(self.folder / RACE_FILE),
            "rows": [row.model_dump(exclude={"state", "reason"}) for row in rows],
        }
