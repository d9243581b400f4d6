"""A trial that is not trained, because another study did: its record is told rung by rung.

The driver sees no difference. It is asked at each rung, so that early stopping and races decide on
what was known by then, and a trial that is stopped has a record up to there, as a trained one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.environment import describe_environment
from nas_t2i.errors import RecordError, StorageError, UserError
from nas_t2i.evaluation.sampling.sheet_layout import sheet_name
from nas_t2i.events import EVENTS_FILE, EventLog, read_events
from nas_t2i.files import read_bytes, write_atomically
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    RungEvent,
    StartEvent,
    TrialEvent,
    TrialRecord,
    TrialState,
)
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.resume.faults import failed
from nas_t2i.search.reuse.usable import Usable, digest_of, read_usable, signature_of, unlike
from nas_t2i.search.runner import Runner, RunningTrial, write_config
from nas_t2i.search.trial_config import TrialConfig
from nas_t2i.store import TRIALS_FOLDER, assemble_trial, find_study


class ReusingRunner:
    """Starts the trials that have no usable record elsewhere, by another runner.

    Args:
        runner: starts the others.
        trials: the folder of the study's trials.
        results: where the other studies are, a folder or a URL.
        budget: of the study.
        candidates: those of the study, so far; whose scores tell the signature that all must have.
        say: is told what is reused, and what was to be and can't.
    """

    def __init__(
        self,
        runner: Runner,
        trials: Path,
        results: str | Path,
        budget: Budget,
        candidates: Sequence[Candidate],
        say: Callable[[str], None],
    ) -> None:
        self._runner, self._trials, self._budget = runner, trials, budget
        self._candidates, self._say = candidates, say
        self._usable = read_usable(trials.parent)
        self._place = cache(partial(find_study, root=results, images=True))
        self._told: set[str] = set()
        self._here = describe_environment(budget.training.threads)

    def start(self, config: TrialConfig) -> RunningTrial:
        """Start a trial, or tell what is on record of it elsewhere."""
        usable = self._usable.get(config.key)
        if usable is None or _is_trained(self._trials / config.key):
            return self._runner.start(config)
        who = f"{config.name} seed {config.seed}"
        try:
            record, place = self._read(usable, config)
        except UserError as error:
            self._say(f"{who}: not reused from {usable.origin.study}: {error}")
            return self._runner.start(config)
        if config.key not in self._told:  # a race may start it again for each piece
            self._told.add(config.key)
            differences = unlike(record, self._here)
            self._say(
                f"{who}: reused from {usable.origin.study}, not trained"
                + (f"; it was trained with {differences}" if differences else "")
            )
        folder = write_config(self._trials, config).parent
        return ReusedTrial(config, folder, record, place)

    def _read(self, usable: Usable, config: TrialConfig) -> tuple[TrialRecord, Path]:
        """Return the record to use, with its origin, and its folder. Raises UserError."""
        folder = self._place(usable.folder) / TRIALS_FOLDER / usable.key
        file = folder / EVENTS_FILE
        if digest_of(read_bytes(file)) != usable.digest:
            raise RecordError(f"{file}: changed since this study began")
        record = assemble_trial(read_events(file)[0], running=False, file=file)
        trained = arch_from_dict(record.trained_arch).canonical()
        if (record.arch_id, record.seed, record.control, trained) != (
            config.profile.arch_id,
            config.seed,
            config.control,
            config.trained_arch,
        ):
            raise RecordError(f"{file}: of another trial")
        known = self._signature()
        if known not in ("", signature_of(record, self._budget)):
            raise RecordError(f"{file}: scored otherwise than this study ({known})")
        return record.model_copy(update={"reused": usable.origin}), folder

    def _signature(self) -> str:
        metric = self._budget.evaluation.metric
        scores = (
            point.scores[metric].signature
            for candidate in self._candidates
            for by_seed in candidate.points.values()
            for point in by_seed.values()
            if metric in point.scores
        )
        return next(scores, "")


class ReusedTrial:
    """A trial whose rungs are another study's, put on record here one by one."""

    def __init__(self, config: TrialConfig, folder: Path, record: TrialRecord, place: Path) -> None:
        """`record` is complete and has its origin; `place` is the folder it lies in.

        Raises:
            StorageError: the study's folder can't be written.
            RecordError: what an earlier start left there can't be read.
        """
        self.config = config
        self._folder, self._place = folder, place
        file = folder / EVENTS_FILE
        self._log = EventLog(file)
        past = [event for event in read_events(file)[0] if not isinstance(event, EndEvent)]
        start = StartEvent(
            record=config.new_record().model_copy(
                update={
                    "environment": record.environment,
                    "inputs": record.inputs,
                    "training_set": record.training_set,
                    "micro_batch": record.micro_batch,
                    "reused": record.reused,
                }
            )
        )
        self._log.append(start)
        self._new: list[TrialEvent] = [*past, start]
        told = [event.point.step for event in past if isinstance(event, RungEvent)]
        self._at = max(told, default=0)  # the rung it stands at
        self._ahead = [point for point in record.curve if point.step > self._at]
        self._said: dict[int, bool] = {}  # rung -> whether to go on
        self._leaving = self._ended = False

    def poll(self) -> Sequence[TrialEvent]:
        """Return the events since the last call; at most one rung."""
        if self._ended:
            return []
        events, self._new = self._new, []
        try:
            return [*events, *self._go_on()]
        except StorageError as error:
            return [*events, self._end(failed(str(error)))]

    def decide(self, rung: int, go: bool) -> None:
        """Answer it at a rung; the first word counts."""
        self._said.setdefault(rung, go)

    def leave(self) -> None:
        """Ask it to end where it stands."""
        self._leaving = True

    def _go_on(self) -> list[TrialEvent]:
        if self._leaving:
            reason = f"interrupted at step {self._at}: asked to leave"
            return [self._end(EndEvent(state=TrialState.INTERRUPTED, reason=reason))]
        if self._ahead and self._at:
            # What is said of a later rung only: it is to go on up to there.
            said = self._said.get(self._at, any(rung > self._at for rung in self._said) or None)
            if said is None:
                return []
            if not said:
                reason = f"stopped early at step {self._at}"
                return [self._end(EndEvent(state=TrialState.STOPPED, reason=reason))]
        events: list[TrialEvent] = [self._tell(self._ahead.pop(0))] if self._ahead else []
        if not self._ahead:
            events.append(self._end(EndEvent(state=TrialState.COMPLETE)))
        return events

    def _tell(self, point: CurvePoint) -> RungEvent:
        """Put a rung on record, with the images that were drawn at it, where they are kept."""
        sheet = self._place / sheet_name(point.step)
        if sheet.is_file():
            with contextlib.suppress(RecordError):  # they are for people
                write_atomically(self._folder / sheet.name, read_bytes(sheet))
        event = RungEvent(point=point)
        self._log.append(event)
        self._at = point.step
        return event

    def _end(self, end: EndEvent) -> EndEvent:
        # What can't be written, a resumed search finds interrupted.
        with contextlib.suppress(StorageError):
            self._log.append(end)
        self._log.close()
        self._ended = True
        return end


def _is_trained(folder: Path) -> bool:
    """Whether a trial was trained in this study before, in part at least."""
    file = folder / EVENTS_FILE
    events = read_events(file)[0] if file.exists() else []
    starts = [event for event in events if isinstance(event, StartEvent)]
    return bool(starts) and starts[-1].record.reused is None
