"""Trials on a Ray cluster: the driver's side. One placement group a trial, one actor a rank.

The driver keeps one question open to every rank, which is answered as soon as there is something
to say, and every few seconds anyhow. That is how events travel, how a rank knows that its driver
is there, and how the driver knows of a rank. Only the driver writes records: no lock of a shared
file system is needed.
"""

from __future__ import annotations

import contextlib
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from nas_t2i.errors import PausedError, RecordError, StorageError
from nas_t2i.events import EVENTS_FILE, EventLog, parse_event, read_events
from nas_t2i.files import write_atomically
from nas_t2i.mirror.study import Mirror
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialEvent
from nas_t2i.search.launch import passed_environment
from nas_t2i.search.on_ray.away import Away
from nas_t2i.search.on_ray.cluster import Cluster, Need
from nas_t2i.search.on_ray.ears import Ears, FarRank
from nas_t2i.search.on_ray.rank import LEASE_SECONDS, Job, Rank
from nas_t2i.search.resume.faults import failed
from nas_t2i.search.runner import (
    TERM_SECONDS,
    TRIAL_MODULE,
    Patience,
    describe_death,
    end_of,
    write_config,
)
from nas_t2i.search.trial_config import TrialConfig
from nas_t2i.store import TRIALS_FOLDER
from nas_t2i.version import __version__

_FINE = (0, 75)  # exit status of a rank that recorded its end, and of one that saved and left
_ROOM_SECONDS = 15.0  # without a place, until it is said
SLACK_SECONDS = 5.0  # between sending a question and its arrival
# In a trial's folder from when a place is asked for until its end is on record: a driver that finds
# it was preceded by one that may have left the trial running. Hidden: no mirror sends it.
_ASKED_FILE = ".asked"
_OTHERS_SECONDS = 2.0  # between the first rank's death and the killing of the others


class Placed(NamedTuple):
    """What was asked of the cluster for a trial."""

    group: Any
    ready: Any  # a future: done when there is a place
    ranks: list[FarRank]


class RayRunner:
    """Runs each trial in a placement group of its own. `say` is told what a user should know."""

    def __init__(
        self,
        trials: Path,
        cluster: Cluster,
        *,
        stall_seconds: float,
        module: str = TRIAL_MODULE,
        lease_seconds: float = LEASE_SECONDS,
        slack_seconds: float = SLACK_SECONDS,
        say: Callable[[str], None],
        mirror: Mirror | None = None,
    ) -> None:
        """`mirror`: results are at its URL, and no folder is shared.

        A rank that nobody asks is gone after `lease_seconds`; one whose end nobody saw is given up
        `slack_seconds` later.
        """
        self.cluster, self.say, self.mirror = cluster, say, mirror
        self.lease_seconds, self.gone_seconds = lease_seconds, lease_seconds + slack_seconds
        self._trials, self._stall_seconds, self._module = trials, stall_seconds, module
        self._ears = Ears(lease_seconds)
        # By then, what a killed driver started is gone.
        self._clear_at = time.monotonic() + self.gone_seconds
        self._told_room = False

    def start(self, config: TrialConfig) -> RayTrial:
        """Write the trial's config and ask for a place; it starts when there is one."""
        path = write_config(self._trials, config)
        asked, events = path.with_name(_ASKED_FILE), path.with_name(EVENTS_FILE)
        past, _ = read_events(events) if events.exists() else ([], None)
        was_left = asked.exists() or (bool(past) and not isinstance(past[-1], EndEvent))
        write_atomically(asked, "")
        budget = Budget.model_validate(config.budget, strict=False)
        environment = passed_environment(budget.training)
        if budget.training.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        job = Job(
            module=self._module,
            config=str(path.absolute()),
            folder=str(Path.cwd()),
            environment=environment,
            ranks=budget.execution.ranks,
            version=__version__,
            wait_seconds=max(0.0, self._clear_at - time.monotonic()) if was_left else 0.0,
            away=None if self.mirror is None else _away(self.mirror, path.parent),
        )
        need = Need.of(budget)
        packed = self.mirror is not None or need.is_packed(self.cluster.nodes)
        place = partial(self._place, need, job, "STRICT_PACK" if packed else "PACK")
        try:
            placed = self.cluster.ask_head(place)
        except PausedError:
            self.cluster.check()  # told once
            raise
        return RayTrial(self, config, path.parent, placed, past, self._stall_seconds)

    def close(self) -> None:
        """Listen no more."""
        self._ears.close()

    def tell_room(self, trial: str, need: Need) -> None:
        """Say, once in a search, that a trial finds no place."""
        if not self._told_room:
            self._told_room = True
            self.say(
                f"{trial} waits for a place on the Ray cluster: it needs {need}; there is "
                f"{self.cluster.described()}"
            )

    def _place(self, need: Need, job: Job, strategy: str) -> Placed:
        group = placement_group([dict(need.bundle)] * need.ranks, strategy=strategy)
        return Placed(group, group.ready().future(), self._make_ranks(group, need, job))

    def _make_ranks(self, group: Any, need: Need, job: Job) -> list[FarRank]:
        actors = [
            ray.remote(Rank)
            .options(
                num_cpus=need.bundle.get("CPU", 0),
                num_gpus=need.bundle.get("GPU", 0),
                max_concurrency=8,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, number),
            )
            .remote(self.lease_seconds)
            for number in range(need.ranks)
        ]
        meeting = actors[0].meeting.remote()
        return [
            FarRank(number, actor, actor.begin.remote(job, number, meeting), self._ears)
            for number, actor in enumerate(actors)
        ]


def _away(mirror: Mirror, folder: Path) -> Away:
    files = (folder / "config.json", folder / EVENTS_FILE)
    return Away(
        url=f"{mirror.url}/{TRIALS_FOLDER}/{folder.name}",
        name=f"{mirror.place.digest}-{folder.name}-{uuid.uuid4().hex[:8]}",
        files={file.name: file.read_bytes() if file.exists() else b"" for file in files},
    )


class RayTrial:
    """A trial on its way to a place, or in it; its end event comes when it holds nothing more.

    A rank whose end nobody saw counts as alive until its lease has run out.
    """

    def __init__(
        self,
        runner: RayRunner,
        config: TrialConfig,
        folder: Path,
        placed: Placed,
        past: Sequence[TrialEvent],
        stall_seconds: float,
    ) -> None:
        self.config, self.ended = config, False
        self._runner = runner
        self._group, self._placed, self._ranks = placed
        self._need = Need.of(budget := Budget.model_validate(config.budget, strict=False))
        self._file = folder / EVENTS_FILE
        self._log = EventLog(self._file)
        self._past = [event for event in past if not isinstance(event, EndEvent)]
        self._on_record, self._started = bool(self._past), False
        self._own_end: EndEvent | None = None
        self._failure = ""  # what ended it, where that is none of its ranks
        self._patience = Patience(stall_seconds, budget)
        self._asked_at = time.monotonic()
        self._killed_at = 0.0

    def poll(self) -> Sequence[TrialEvent]:
        """Return new events, which are on record then; makes up the end of one without."""
        if self.ended:
            return []
        self._runner.cluster.check()
        # Asked before reading: what a rank said before it ended is then surely read.
        is_over = self._is_over()
        new = self._record(self._ranks[0].take_lines())
        events, self._past = self._past + new, []
        self._patience.hear(events)
        if is_over:
            return [*(e for e in events if not isinstance(e, EndEvent)), self._end()]
        if not self._placed.done():
            self._patience.restart()
            if time.monotonic() - self._asked_at > _ROOM_SECONDS:
                self._runner.tell_room(f"{self.config.name} seed {self.config.seed}", self._need)
        elif self._ranks[0].moves:
            self._patience.restart()
        match self._patience.due():
            case "terminate":
                self._patience.terminate()
                self._signal(signal.SIGTERM)
            case "kill":
                self._kill()
        return [event for event in events if not isinstance(event, EndEvent)]

    def decide(self, rung: int, go: bool) -> None:
        """Tell the trial to go on after a rung, or to stop there."""
        self._ranks[0].say(f"{'go' if go else 'stop'} {rung}")
        self._patience.tell(rung)

    def leave(self) -> None:
        """Ask the trial to save and leave; one that doesn't leave in time is killed."""
        if self.ended or not self._patience.ask_to_leave():
            return
        if self._started:
            self._ranks[0].say("leave")
        else:  # nobody listens yet, and there is nothing new to save
            self._kill()

    def _record(self, lines: Sequence[bytes]) -> list[TrialEvent]:
        """Put what the first rank said on record; its end only when all is over."""
        events: list[TrialEvent] = []
        try:
            for line in lines:
                event = parse_event(line, self._file, 0)
                if isinstance(event, EndEvent):
                    self._own_end = event
                else:
                    self._log.append_line(line, durable=isinstance(event, RungEvent))
                    self._on_record = True
                    self._started |= isinstance(event, StartEvent)
                events.append(event)
        except (StorageError, RecordError) as error:
            self._failure = str(error)
            self._kill()
        return events

    def _is_over(self) -> bool:
        """Whether no rank of the trial can be running; sees to it that this comes true."""
        if self._killed_at and not self._placed.done():
            return True
        running = [rank for rank in self._ranks if not rank.ended]
        dead = [rank.ended for rank in self._ranks if rank.ended and rank.status not in _FINE]
        now = time.monotonic()
        if running and dead and now - min(dead) > _OTHERS_SECONDS:
            self._kill()
        for rank in running:
            if self._killed_at and now - self._killed_at > TERM_SECONDS:
                rank.lose("it does not answer")
        lost_at = [rank.asked_at for rank in self._ranks if rank.is_lost]
        gone = self._runner.gone_seconds
        return not running and now > max(lost_at, default=-gone) + gone

    def _end(self) -> EndEvent:
        end = self._own_end or end_of(self._reason(), leaving=self._patience.leaving)
        if self._failure and not self._patience.leaving:
            end = failed(self._failure)
        # What can't be written, a resumed search finds interrupted.
        with contextlib.suppress(StorageError):
            if not self._on_record:
                self._log.append(StartEvent(record=self.config.new_record(), pid=0))
            self._log.append(end)
            self._file.with_name(_ASKED_FILE).unlink(missing_ok=True)
        self._log.close()
        self.ended = True
        if self._runner.mirror is not None and (unsent := self._ranks[0].unsent):
            self._runner.mirror.note_unsent(f"node {self._ranks[0].node}: {unsent}")
        with contextlib.suppress(PausedError):  # nobody takes it back
            if not self._runner.cluster.is_gone:
                self._runner.cluster.ask_head(partial(remove_placement_group, self._group))
        return end

    def _reason(self) -> str:
        """Say in one line how the trial died: of its ranks, the first whose end has a cause."""
        if self._patience.killed_because:
            return self._patience.killed_because
        if not self._placed.done():
            return "it had no place yet"
        dead = sorted(
            (rank for rank in self._ranks if rank.status not in _FINE), key=lambda r: r.ended
        )
        own = [rank for rank in dead if not self._killed_at or rank.ended < self._killed_at]
        reasons = [self._reason_of(rank) for rank in own or dead or self._ranks[:1]]
        return next((reason for reason in reasons if "another rank" not in reason), reasons[0])

    def _reason_of(self, rank: FarRank) -> str:
        if not rank.problem:
            return describe_death(rank.status, rank.said)
        if rank.node_id and not self._runner.cluster.is_alive(rank.node_id):
            return f"node {rank.node} was lost"
        if "low on memory" in rank.problem:
            return f"out of memory: Ray ended it, node {rank.node} had too little"
        if not rank.is_lost:
            return rank.problem
        # Ray has many words for a node that is lost before an actor has told where it is.
        before = "" if rank.node_id else " before it began"
        return f"rank {rank.number} was lost{before}: {rank.problem}"

    def _kill(self) -> None:
        if not self._killed_at:
            self._killed_at = time.monotonic()
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for rank in self._ranks:
            if not rank.ended:
                rank.kill(number)
