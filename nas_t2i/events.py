"""The event log of a trial: one JSON object a line, appended by one process, followed by others."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from nas_t2i.errors import StorageError, Where, did_you_mean
from nas_t2i.files import (
    Closing,
    check_version,
    is_json,
    json_object,
    make_folder,
    read_bytes,
    record_error,
    repair_torn_tail,
    validated,
)
from nas_t2i.records import EndEvent, ProgressEvent, RungEvent, StartEvent, TrialEvent

EVENTS_FILE = "events.jsonl"
_EVENTS: dict[str, type[TrialEvent]] = {
    "start": StartEvent,
    "progress": ProgressEvent,
    "rung": RungEvent,
    "end": EndEvent,
}


@dataclass(frozen=True, slots=True)
class TornTail:
    """A last line that was cut in the middle: where, and how many bytes of it there are."""

    where: Where
    size: int

    def __str__(self) -> str:
        return f"{self.where}: the last line is cut off after {self.size} bytes"


class EventLog(Closing):
    """Appends events to one events.jsonl; one writer at a time.

    A torn tail found on opening is moved to ``events.jsonl.torn``. Rungs and ends are on the disk
    when `append` returns; progress may still be on its way.

    Raises:
        StorageError: the file can't be opened or written; what was there before stays readable.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        make_folder(self.file.parent)
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
            raise record_error(str(self.file), f"can't be read: {error.strerror}") from None
        whole = content[: content.rfind(b"\n") + 1]
        events = []
        for line in whole.split(b"\n")[:-1]:
            self._line += 1
            self._offset += len(line) + 1
            if line:
                events.append(_event(line, self.file, self._line))
        return events


def read_events(file: str | Path) -> tuple[list[TrialEvent], TornTail | None]:
    """Read one events.jsonl: its whole events in order, and its torn tail if there is one.

    Raises:
        RecordError: unreadable, or a line before the tail that is no event (file, line, column).
    """
    file = Path(file)
    *lines, last = read_bytes(file).split(b"\n")
    events = [_event(line, file, number) for number, line in enumerate(lines, start=1) if line]
    if not last:
        return events, None
    number = len(lines) + 1
    if is_json(last):  # only its line feed is missing
        return [*events, _event(last, file, number)], None
    # A power cut can leave zeros where the rest of the line was to be.
    column = len(last.rstrip(b"\0").decode("utf-8", "replace")) + 1
    return events, TornTail(Where(str(file), number, column), len(last))


def _event(content: bytes, file: Path, line: int) -> TrialEvent:
    """Parse one line of an events.jsonl; `line` is its number."""
    data = json_object(content, file, line)
    kind = data.get("event")
    model = _EVENTS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise record_error(
            Where(str(file), line, 1, "event"),
            f"got {kind!r:.60}",
            expected=f"one of {', '.join(_EVENTS)}",
            hint=did_you_mean(str(kind), _EVENTS),
        )
    if isinstance(data.get("record"), dict):
        check_version(data["record"], Where(str(file), line, 1, "record.version"))
    return validated(data, model, file, line)
