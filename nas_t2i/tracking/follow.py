"""Feeds trackers from a study's folder: once, or for as long as it is searched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_t2i.environment import cache_dir
from nas_t2i.errors import UserError
from nas_t2i.events import EVENTS_FILE, EventTail
from nas_t2i.locks import FolderLock, is_locked, searcher
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialEvent
from nas_t2i.search.resume.rung_log import RUNGS_FILE, read_rungs
from nas_t2i.store import TRIALS_FOLDER, read_study
from nas_t2i.tracking.rows import (
    Measured,
    label,
    search_rows,
    search_runs,
    trial_rows,
    trial_run,
)
from nas_t2i.tracking.tracker import Row, Run, Tracker, TrackingError
from nas_t2i.untrusted.redact import redacted

Say = Callable[[str], None]
_NETWORK = ("requests", "urllib3")
_NICENESS = 10  # a search goes first
_LOCK_SECONDS = 60.0  # for who follows: an earlier search's may have some rows left to send


@dataclass
class _Open:
    """A run that a tracker has begun."""

    run: Run
    last: int  # step of the last row that the tracker holds


@dataclass
class _Trial:
    """A trial's folder as a tracker knows it."""

    tail: EventTail
    label: tuple[str, int] = ("", 0)
    open: _Open | None = None


class Feed:
    """One tracker, and how much of a study it was given. Knows nothing of other trackers."""

    def __init__(self, name: str, tracker: Tracker, folder: Path) -> None:
        self.name, self._tracker, self._folder = name, tracker, folder
        self._study = read_study(folder)
        self._trials: dict[Path, _Trial] = {}
        self._measured: dict[tuple[str, int], Measured] = {}
        self._smaller_is_better = False
        self._search: dict[str, _Open] = {}  # the search's own runs, by key

    @property
    def trials(self) -> int:
        """How many trials it was given."""
        return len(self._trials)

    def look(self) -> None:
        """Send what is new on record.

        Raises:
            RecordError: a record is damaged.
            TrackingError: it does not arrive.
        """
        files = list((self._folder / TRIALS_FOLDER).glob(f"*/{EVENTS_FILE}"))
        found = {file: file.stat() for file in files}
        # What is under way goes first: the tracker of a resumed study may know all the rest.
        for file in sorted(files, key=lambda file: (-found[file].st_mtime, file)):
            trial = self._trials.get(file)
            if trial is None or trial.tail.offset < found[file].st_size:
                self._read(file)
        self._tell_search()

    def finish(self) -> None:
        """Let everything arrive. Raises TrackingError."""
        with self._arriving():
            if not is_locked(self._folder):
                for begun in self._search.values():
                    self._tracker.end(begun.run, "ended", "")
            self._tracker.close()

    def _read(self, file: Path) -> None:
        trial = self._trials.get(file)
        events = trial.tail.read() if trial is not None else []
        if trial is None or (trial.open is None and events):
            # Begun again, it is told from the first event on: the tracker says what it holds.
            trial = self._trials[file] = _Trial(EventTail(file))
            events = trial.tail.read()
        if not events:
            return
        if trial.open is None:
            trial.open = self._begin(trial, events)
        self._note(trial, events)
        rows = list(trial_rows(events, self._study, file.parent, trial.open.last))
        self._log(trial.open, rows)
        last = events[-1]
        if isinstance(last, EndEvent):
            with self._arriving():
                self._tracker.end(trial.open.run, last.state.value, last.reason)
            trial.open = None

    def _begin(self, trial: _Trial, events: Sequence[TrialEvent]) -> _Open:
        record = next(event.record for event in events if isinstance(event, StartEvent))
        trial.label = label(record)
        self._measured[trial.label] = Measured(record.arch_id, record.control)
        run = trial_run(self._study, record)
        with self._arriving():
            return _Open(run, self._tracker.begin(run))

    def _note(self, trial: _Trial, events: Sequence[TrialEvent]) -> None:
        for event in events:
            if isinstance(event, RungEvent):
                point = event.point
                self._measured[trial.label].flops[point.step] = point.training_flops
                if self._study.metric in point.scores:
                    better = point.scores[self._study.metric].better
                    self._smaller_is_better = better == "smaller"

    def _tell_search(self) -> None:
        seen = read_rungs(self._folder / RUNGS_FILE)
        smaller = self._smaller_is_better
        both = search_rows(seen, self._measured, self._study, smaller_is_better=smaller)
        for run, rows in zip(search_runs(self._study), both, strict=True):
            if rows and run.key not in self._search:
                with self._arriving():
                    self._search[run.key] = _Open(run, self._tracker.begin(run))
            if rows:
                begun = self._search[run.key]
                self._log(begun, [row for row in rows if row.step > begun.last])

    def _log(self, begun: _Open, rows: Sequence[Row]) -> None:
        if rows:
            with self._arriving():
                self._tracker.log(begun.run, rows)
            begun.last = rows[-1].step

    @contextlib.contextmanager
    def _arriving(self) -> Iterator[None]:
        """Tell what a tracker's own packages, or the network, have to say in a line."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            package = type(error).__module__.partition(".")[0]
            if isinstance(error, OSError) or package in (*self._tracker.PACKAGES, *_NETWORK):
                raise TrackingError(f"{self.name}: {_one_line(error)}") from error
            raise


def send(feeds: Sequence[Feed]) -> None:
    """Send what is on record to each tracker.

    Raises:
        RecordError, TrackingError: the first that there was; the other trackers have everything.
    """
    problems = []
    for feed in feeds:
        try:
            feed.look()
            feed.finish()
        except UserError as problem:
            problems.append(problem)
    if problems:
        raise problems[0]


def follow(
    folder: Path,
    feeds: Sequence[Feed],
    say: Say,
    every: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send what comes, until the search that is under way ends, and then the rest.

    A tracker that fails is named once, and gets nothing more.
    """
    os.nice(_NICENESS)
    searching = searcher(folder)
    left = list(feeds)
    while left and searching and searcher(folder) == searching:
        left = [feed for feed in left if _goes_on(feed, feed.look, folder, say)]
        sleep(every)
    for feed in left:
        if _goes_on(feed, feed.look, folder, say):
            _goes_on(feed, feed.finish, folder, say)


def _goes_on(feed: Feed, act: Callable[[], None], folder: Path, say: Say) -> bool:
    try:
        act()
    except Exception as error:
        if not isinstance(error, UserError):
            sys.stderr.write(redacted(traceback.format_exc()))
            error = TrackingError(f"{feed.name}: {_one_line(error)}")
        say(
            f"{error}; the search goes on without it, and `nas-t2i results track {folder.name} "
            f"--track {feed.name}=...` sends what is missing"
        )
        return False
    return True


def tracking_lock(folder: Path, name: str, where: str, *, patient: bool) -> FolderLock:
    """Return the lock that one process of a machine holds while it sends a study to a place.

    Entered, it raises StorageError where another process keeps it.
    """
    what = hashlib.sha256(f"{folder.resolve()}\n{name}={where}".encode()).hexdigest()[:20]
    return FolderLock(
        cache_dir() / "locks" / f"tracking-{what}",
        wait_seconds=_LOCK_SECONDS if patient else 1.0,
        held=f"study {folder.name} is being sent to {name}",
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
