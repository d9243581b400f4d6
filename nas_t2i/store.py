"""Studies on disk: written a line at a time, read back whole, without torch.

::

    results/<study>/study.json                StudyRecord
    results/<study>/.lock                     held while a driver searches the study
    results/<study>/trials/0007/config.json   what the trial was told, frozen
    results/<study>/trials/0007/events.jsonl  what it reported: one JSON object a line, appended
    results/<study>/leaderboard.{json,csv,md} the ranking, rewritten after each trial

A write that was interrupted leaves a last line without its end (a torn tail). A reader takes what
is whole and says where it stopped; the next writer moves the tail to ``events.jsonl.torn`` and goes
on, so that nothing is lost. Anything else that can't be read is a RecordError with its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from nas_t2i import __version__
from nas_t2i.errors import ConfigError, RecordError, StorageError, Where, did_you_mean
from nas_t2i.records import (
    RECORD_VERSION,
    CurvePoint,
    EndEvent,
    ProgressEvent,
    RungEvent,
    StartEvent,
    StudyRecord,
    TrialEvent,
    TrialRecord,
    TrialState,
)

STUDY_FILE = "study.json"
EVENTS_FILE = "events.jsonl"
LOCK_FILE = ".lock"
TRIALS_FOLDER = "trials"

_EVENTS: dict[str, type[TrialEvent]] = {
    "start": StartEvent,
    "progress": ProgressEvent,
    "rung": RungEvent,
    "end": EndEvent,
}
# A reader that asks whether a study is locked holds the lock for an instant.
_LOCK_PATIENCE_SECONDS = 1.0

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class TornTail:
    """A last line that was cut in the middle: where, and how many bytes of it there are."""

    where: Where
    size: int

    def __str__(self) -> str:
        return f"{self.where}: the last line is cut off after {self.size} bytes"


@dataclass(frozen=True)
class Study:
    """Everything on disk about one study, as far as it is whole."""

    folder: Path
    record: StudyRecord
    trials: list[TrialRecord]
    torn: list[TornTail]
    running: bool


# --- reading ---------------------------------------------------------------------------------


def find_studies(root: str | Path = "results") -> list[Path]:
    """Return the folders under `root` that hold a study.json, newest last (by creation)."""
    folders = [file.parent for file in Path(root).glob(f"*/{STUDY_FILE}")]
    return sorted(folders, key=lambda folder: (_created(folder / STUDY_FILE), folder.name))


def find_study(name: str, root: str | Path = "results") -> Path:
    """Return the folder of a study given by name (under `root`) or by path.

    Raises:
        RecordError: there is none; the message names the nearest study that there is.
    """
    path = Path(name)
    for folder in (Path(root) / name, path, path.parent):
        if (folder / STUDY_FILE).is_file() and (folder != path.parent or path.name == STUDY_FILE):
            return folder
    names = [folder.name for folder in find_studies(root)]
    raise _record_error(
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
    data = _json_object(_read_bytes(file), file)
    _check_version(data, Where(str(file)))
    return _validated(data, StudyRecord, file)


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
    running = is_locked(folder)
    trials, torn = [], []
    for file in sorted((folder / TRIALS_FOLDER).glob(f"*/{EVENTS_FILE}")):
        events, tail = read_events(file)
        if tail:
            torn.append(tail)
        if events:
            trials.append(assemble_trial(events, running=running, file=file))
    return Study(folder, record, sorted(trials, key=lambda t: t.number), torn, running)


def read_events(file: str | Path) -> tuple[list[TrialEvent], TornTail | None]:
    """Read one events.jsonl: its whole events in order, and its torn tail if there is one.

    Raises:
        RecordError: unreadable, or a line before the tail that is no event (file, line, column).
    """
    file = Path(file)
    *lines, last = _read_bytes(file).split(b"\n")
    events = [_event(line, file, number) for number, line in enumerate(lines, start=1) if line]
    if not last:
        return events, None
    number = len(lines) + 1
    if _is_json(last):  # only its line feed is missing
        return [*events, _event(last, file, number)], None
    # A power cut can leave zeros where the rest of the line was to be.
    column = len(last.rstrip(b"\0").decode("utf-8", "replace")) + 1
    return events, TornTail(Where(str(file), number, column), len(last))


class EventTail:
    """Follows an events.jsonl that another process writes: each `read` returns what is new.

    A line without its end is left for the next call; a file that isn't there yet holds nothing.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self._offset = 0
        self._line = 0

    def read(self) -> list[TrialEvent]:
        """Return the whole events since the last call, in order. Raises RecordError."""
        try:
            with self.file.open("rb") as stream:
                stream.seek(self._offset)
                content = stream.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _record_error(str(self.file), f"can't be read: {error.strerror}") from None
        whole = content[: content.rfind(b"\n") + 1]
        events = []
        for line in whole.split(b"\n")[:-1]:
            self._line += 1
            self._offset += len(line) + 1
            if line:
                events.append(_event(line, self.file, self._line))
        return events


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
        raise _record_error(
            Where(str(file), 1, 1), f"the first event is {first.event!r}", expected="'start'"
        )
    record, reason = first.record, ""
    state = TrialState.RUNNING if running else TrialState.INTERRUPTED
    points: dict[int, CurvePoint] = {point.step: point for point in record.curve}
    steps_done = record.steps_done
    for event in events:
        if isinstance(event, StartEvent):
            if _key(event.record) != _key(record):
                raise _record_error(
                    str(file),
                    f"holds the trials {_key(record)} and {_key(event.record)}",
                    expected="one trial a file",
                )
            record, reason = event.record, ""
            state = TrialState.RUNNING if running else TrialState.INTERRUPTED
        elif isinstance(event, EndEvent):
            state, reason = event.state, event.reason
        elif isinstance(event, RungEvent):
            points[event.point.step] = event.point
            steps_done = max(steps_done, event.point.step)
        else:
            steps_done = max(steps_done, event.step)
    return record.model_copy(
        update={
            "state": state,
            "reason": reason,
            "steps_done": steps_done,
            "curve": [points[step] for step in sorted(points)],
        }
    )


# --- writing ---------------------------------------------------------------------------------


def write_atomically(file: str | Path, content: str | bytes) -> None:
    """Write a whole file or nothing: beside it first, then renamed over it.

    Raises:
        StorageError: the folder is missing, not writable, or the disk is full.
    """
    file = Path(file)
    data = content.encode() if isinstance(content, str) else content
    try:
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o666 & ~_umask())  # mkstemp's files are private
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{file}: can't be written: {error.strerror}") from None


def write_json(file: str | Path, data: BaseModel | dict[str, Any] | list[Any]) -> None:
    """Write a record or plain data as indented JSON, atomically. Raises StorageError."""
    if isinstance(data, BaseModel):
        text = data.model_dump_json(indent=2)
    else:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(file, text + "\n")


def write_study(folder: str | Path, record: StudyRecord) -> None:
    """Write study.json, and the folder if need be. Raises StorageError."""
    _make_folder(Path(folder))
    write_json(Path(folder) / STUDY_FILE, record)


def repair_torn_tail(file: str | Path) -> str:
    """End the last line of a file of JSON lines: move what is torn of it to ``FILE.torn``.

    Returns what was done, in words, or "" where there was nothing to do. Only for a file that
    nobody is writing: what looks torn may be a line on its way.

    Raises:
        StorageError: the file can't be read or written.
    """
    file = Path(file)
    torn_file = Path(f"{file}.torn")
    try:
        if not file.exists():
            return ""
        with file.open("r+b") as stream:
            content = stream.read()
            start = content.rfind(b"\n") + 1
            tail = content[start:]
            if not tail:
                return ""
            if _is_json(tail):
                stream.write(b"\n")
                return ""
            # Kept beside the file and on the disk before it is cut off here.
            with torn_file.open("ab") as torn:
                torn.write(tail + b"\n")
                torn.flush()
                os.fsync(torn.fileno())
            stream.truncate(start)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StorageError(f"{file}: can't be repaired: {error.strerror}") from None
    line = content.count(b"\n") + 1
    return f"{file}:{line}: an interrupted write left {len(tail)} bytes, moved to {torn_file.name}"


class EventLog:
    """Appends events to one events.jsonl; one writer at a time.

    A torn tail found on opening is moved to ``events.jsonl.torn``. Rungs and ends are on the disk
    when `append` returns; progress may still be on its way.

    Raises:
        StorageError: the file can't be opened or written; what was there before stays readable.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        _make_folder(self.file.parent)
        repair_torn_tail(self.file)
        try:
            self._descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"{self.file}: can't be opened: {error.strerror}") from None

    def append(self, event: TrialEvent) -> None:
        """Write one event as one line, in one write. Raises StorageError."""
        exclude = {"record": {"curve"}} if isinstance(event, StartEvent) else None
        line = event.model_dump_json(exclude=exclude).encode() + b"\n"
        before = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, line) < len(line):
                raise OSError(0, "only a part of the line fitted on the disk")
            if isinstance(event, RungEvent | EndEvent):
                os.fsync(self._descriptor)
        except OSError as error:
            # The next line must not be glued to half of this one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, before)
            raise StorageError(f"{self.file}: can't be written: {error.strerror}") from None

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class FolderLock:
    """A lock on what lies in a folder; the system lets go of it when its process ends.

    Use as a context manager. `held` says in messages what another process does meanwhile.
    flock(2) is advisory; over NFS it works from Linux 2.6.12 on.

    Raises:
        StorageError: another process holds it and keeps it for `wait_seconds`.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        wait_seconds: float = _LOCK_PATIENCE_SECONDS,
        held: str = "",
    ) -> None:
        self.file = Path(file)
        self._wait_seconds = wait_seconds
        self._held = held or f"{self.file.parent} is in use"
        self._descriptor = -1

    def __enter__(self) -> Self:
        _make_folder(self.file.parent)
        try:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"{self.file}: can't be opened: {error.strerror}") from None
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The file stays: unlinking it would let two processes lock two files of one name.
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StorageError(f"{self._held} by {self._owner()}") from None
                time.sleep(0.05)
            except OSError as error:
                raise StorageError(f"{self.file}: can't be locked: {error.strerror}") from None

    def _owner(self) -> str:
        try:
            owner = json.loads(self.file.read_text())
            return f"process {owner['pid']} on host {owner['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


class StudyLock(FolderLock):
    """Held by the driver of a study while it searches.

    Raises:
        StorageError: "study X is being searched by process N on host H".
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        super().__init__(folder / LOCK_FILE, held=f"study {folder.name} is being searched")


def is_locked(folder: str | Path) -> bool:
    """Say whether a driver is searching this study right now."""
    with contextlib.suppress(OSError), (Path(folder) / LOCK_FILE).open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# --- helpers ---------------------------------------------------------------------------------


def _record_error(
    where: Where | str, problem: str, *, expected: str = "", hint: str = ""
) -> RecordError:
    """Word a RecordError exactly as the errors of the files that people write."""
    return RecordError(str(ConfigError(where, problem, expected=expected, hint=hint)))


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise _record_error(str(file), "no such file", expected="a study's folder") from None
    except OSError as error:
        raise _record_error(str(file), f"can't be read: {error.strerror}") from None


def _json_object(content: bytes, file: Path, first_line: int = 1) -> dict[str, Any]:
    """Parse one JSON object; `first_line` is the line of the file that `content` starts on."""
    try:
        data = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        line, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
        raise _record_error(
            Where(str(file), first_line + line, column + 1), "not UTF-8 text"
        ) from None
    except json.JSONDecodeError as error:
        raise _record_error(
            Where(str(file), first_line + error.lineno - 1, error.colno),
            f"not whole JSON ({error.msg})",
            expected="one JSON object",
        ) from None
    if not isinstance(data, dict):
        raise _record_error(
            Where(str(file), first_line, 1), f"got {data!r:.60}", expected="one JSON object"
        )
    return data


def _check_version(data: dict[str, Any], where: Where) -> None:
    version = data.get("version")
    if isinstance(version, int) and version > RECORD_VERSION:
        raise _record_error(
            where,
            f"a record of version {version}",
            expected=f"at most {RECORD_VERSION}, which this nas-t2i ({__version__}) reads",
            hint="update nas-t2i",
        )


def _event(content: bytes, file: Path, line: int) -> TrialEvent:
    """Parse one line of an events.jsonl; `line` is its number."""
    data = _json_object(content, file, line)
    kind = data.get("event")
    model = _EVENTS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise _record_error(
            Where(str(file), line, 1, "event"),
            f"got {kind!r:.60}",
            expected=f"one of {', '.join(_EVENTS)}",
            hint=did_you_mean(str(kind), _EVENTS),
        )
    if isinstance(data.get("record"), dict):
        _check_version(data["record"], Where(str(file), line, 1, "record.version"))
    return _validated(data, model, file, line)


def _validated(
    data: dict[str, Any], model: type[ModelT], file: Path, line: int | None = None
) -> ModelT:
    """Validate one JSON object; `line` is its line in a file of many, None for a whole file."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # Only a bad record pays for the reader that knows every key's place: JSON is YAML too.
        from nas_t2i.yaml_files import Document, config_error, parse_document

        text = file.read_text(encoding="utf-8")
        if line is not None:
            text = text.split("\n")[line - 1]
        document = parse_document(text, str(file))
        if line is not None:
            places = {
                k: (row + line - 1, column) for k, (row, column) in document.positions.items()
            }
            document = Document(str(file), document.data, places)
        raise RecordError(str(config_error(document, model, error))) from None


def _key(record: TrialRecord) -> tuple[str, str, int, str]:
    return record.arch_id, record.budget_id, record.seed, record.control


def _created(file: Path) -> datetime:
    """When a study was made; a study.json that can't be read is as old as its file."""
    try:
        created = datetime.fromisoformat(json.loads(file.read_bytes())["created"])
        return created if created.tzinfo else created.replace(tzinfo=UTC)
    except (OSError, ValueError, KeyError, TypeError):
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: can't be made: {error.strerror}") from None


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _umask() -> int:
    # There is no way to read it without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
