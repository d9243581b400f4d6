"""Studies on disk: written a line at a time, read back whole, without torch.

::

    results/<study>/study.json                StudyRecord
    results/<study>/.lock                     held while a driver searches the study
    results/<study>/trials/0007/config.json   what the trial was given, frozen
    results/<study>/trials/0007/events.jsonl  what it reported: one JSON object a line, appended
    results/<study>/leaderboard.{json,csv,md} the ranking, rewritten after each trial

A write that was interrupted leaves a last line without its end (a torn tail). A reader takes what
is whole and says where it stopped; the next writer moves the tail to ``events.jsonl.torn`` and goes
on, so that nothing is lost. Anything else that can't be read is a RecordError with its place.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nas_t2i.errors import RecordError, Where, did_you_mean
from nas_t2i.events import EVENTS_FILE, TornTail, read_events
from nas_t2i.files import make_folder, read_record, record_error, write_json
from nas_t2i.locks import is_locked
from nas_t2i.mirror.fetch import copy_to_read, seems_searched, studies_at
from nas_t2i.mirror.place import is_name, is_url
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    RungEvent,
    StartEvent,
    StudyRecord,
    TrialEvent,
    TrialRecord,
    TrialState,
)
from nas_t2i.untrusted.json_text import parse_json
from nas_t2i.untrusted.regular_files import read_regular

STUDY_FILE = "study.json"
TRIALS_FOLDER = "trials"


@dataclass(frozen=True)
class Study:
    """Everything on disk about one study, as far as it is whole."""

    folder: Path
    record: StudyRecord
    trials: list[TrialRecord]
    torn: list[TornTail]
    running: bool

    @property
    def seeds_per_arch(self) -> int:
        """Seeds of an architecture: as the study was made, or as it was carried on with more."""
        return max(self.record.seeds_per_arch, len({trial.seed for trial in self.trials}))


def find_studies(root: str | Path = "results", *, images: bool = False) -> list[Path]:
    """Return the folders under `root` that hold a study.json, newest last (by creation).

    Of studies at a URL, they are copies of the records as they are now, with `images` of those too.

    Raises:
        UserError: a URL that can't be read.
    """
    if isinstance(root, str) and is_url(root):
        root = root.rstrip("/")
        copies = [copy_to_read(root, name, images=images) for name in studies_at(root)]
        folders = [folder for folder in copies if folder is not None]
    else:
        folders = [file.parent for file in Path(root).glob(f"*/{STUDY_FILE}")]
    return sorted(folders, key=lambda folder: (_created(folder / STUDY_FILE), folder.name))


def find_study(name: str, root: str | Path = "results", *, images: bool = False) -> Path:
    """Return the folder of a study given by name (under `root`), by path or by URL.

    Of a study at a URL, it is a copy of its records as they are now, with `images` of those too.

    Raises:
        RecordError: there is none; the message names the nearest study that there is.
        UserError: a URL that can't be read.
    """
    if is_url(name):
        root, _, name = name.rstrip("/").rpartition("/")
    if isinstance(root, str) and is_url(root):
        return _study_at(root.rstrip("/"), name, images=images)
    path = Path(name)
    for folder in (Path(root) / name, path, path.parent):
        if (folder / STUDY_FILE).is_file() and (folder != path.parent or path.name == STUDY_FILE):
            return folder
    raise _no_study(name, root, [folder.name for folder in find_studies(root)])


def _study_at(url: str, name: str, *, images: bool) -> Path:
    folder = copy_to_read(url, name, images=images) if is_name(name) else None
    if folder is None:
        raise _no_study(name, url, sorted(studies_at(url)))
    return folder


def _no_study(name: str, root: str | Path, names: Sequence[str]) -> RecordError:
    return record_error(
        name,
        f"no such study under {root}/",
        expected=f"one of {', '.join(names)}" if names else "",
        hint=did_you_mean(name, names) if names else "`nas-t2i search` makes one",
    )


def read_study(folder: str | Path) -> StudyRecord:
    """Read the study.json of a study folder.

    Raises:
        RecordError: missing, cut, malformed, or of a newer version (file, line, column).
    """
    file = Path(folder) / STUDY_FILE
    return read_record(file, StudyRecord)


def read_trials(folder: str | Path) -> list[TrialRecord]:
    """Read the trials of a study folder in order of their number, as far as they are whole.

    Raises:
        RecordError: a line neither whole nor the torn tail of its file (file, line, column).
    """
    return read_contents(folder).trials


def read_contents(folder: str | Path) -> Study:
    """Read a study and its trials, with the tails that interrupted writes left.

    Raises:
        RecordError: as `read_study` and `read_trials`.
    """
    folder = Path(folder)
    record = read_study(folder)
    # Asked before the trials are read: a study that ends meanwhile then counts as running, which
    # is the harmless mistake.
    running = is_locked(folder) or seems_searched(folder)
    trials, torn = [], []
    with without_collection():
        for file in sorted((folder / TRIALS_FOLDER).glob(f"*/{EVENTS_FILE}")):
            events, tail = read_events(file, latest_progress=True)
            if tail:
                torn.append(tail)
            if events:
                trials.append(assemble_trial(events, running=running, file=file))
    return Study(folder, record, sorted(trials, key=lambda t: t.number), torn, running)


def trained_elsewhere(folder: Path) -> str:
    """Return where a trial's weights are if its study reused it, in words; "" if it did not."""
    file = folder / EVENTS_FILE
    starts = (
        [e for e in read_events(file)[0] if isinstance(e, StartEvent)] if file.is_file() else []
    )
    origin = starts[-1].record.reused if starts else None
    return f"it was trained in study {origin.study} ({origin.path})" if origin else ""


def assemble_trial(
    events: Sequence[TrialEvent], *, running: bool, file: str | Path = EVENTS_FILE
) -> TrialRecord:
    """Put the events of one trial together; `running` says whether its driver is still there.

    A resumed trial starts again and may report rungs again: of equal steps the last one counts.

    Raises:
        RecordError: the first event is no start, or a later start is of another trial.
    """
    first = events[0]
    if not isinstance(first, StartEvent):
        raise record_error(
            Where(str(file), 1, 1), f"the first event is {first.event!r}", expected="'start'"
        )
    record, reason, fault = first.record, "", ""
    failures: list[str] = []
    attempt, last_failure = 1, ""
    state = TrialState.RUNNING if running else TrialState.INTERRUPTED
    points: dict[int, CurvePoint] = {point.step: point for point in record.curve}
    steps_done = record.steps_done
    for event in events:
        if isinstance(event, StartEvent):
            if _key(event.record) != _key(record):
                raise record_error(
                    str(file),
                    f"holds the trials {_key(record)} and {_key(event.record)}",
                    expected="one trial a file",
                )
            record, reason, fault = event.record, "", ""
            attempt, last_failure = len(failures) + 1, failures[-1] if failures else ""
            state = TrialState.RUNNING if running else TrialState.INTERRUPTED
        elif isinstance(event, EndEvent):
            state, reason, fault = event.state, event.reason, event.fault
            if state is TrialState.FAILED:
                failures.append(reason)
        elif isinstance(event, RungEvent):
            points[event.point.step] = event.point
            steps_done = max(steps_done, event.point.step)
        else:
            steps_done = max(steps_done, event.step)
    return record.model_copy(
        update={
            "state": state,
            "reason": reason,
            "fault": fault,
            "attempt": attempt,
            "last_failure": last_failure,
            "steps_done": steps_done,
            "curve": [points[step] for step in sorted(points)],
        }
    )


def write_study(folder: str | Path, record: StudyRecord) -> None:
    """Write study.json, and the folder if need be. Raises StorageError."""
    make_folder(Path(folder))
    write_json(Path(folder) / STUDY_FILE, record)


@contextmanager
def without_collection() -> Iterator[None]:
    """Look for no cycles among records: they hold none, and it costs a third of a ranking."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _key(record: TrialRecord) -> tuple[str, str, int, str]:
    return record.arch_id, record.budget_id, record.seed, record.control


def _created(file: Path) -> datetime:
    """When a study was made; a study.json that can't be read is as old as its file."""
    try:
        created = datetime.fromisoformat(parse_json(read_regular(file))["created"])
        return created if created.tzinfo else created.replace(tzinfo=UTC)
    except (OSError, ValueError, KeyError, TypeError):
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
