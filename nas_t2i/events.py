"""The event log of a trial: one JSON object a line, appended by one process, followed by others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from nas_t2i.errors import Where, did_you_mean
from nas_t2i.files import (
    check_version,
    is_json,
    json_object,
    read_bytes,
    record_error,
    validated,
)
from nas_t2i.logs.sealed import RunningSum, SealedLog, bodies_of
from nas_t2i.records import (
    RECORD_VERSION,
    EndEvent,
    ProgressEvent,
    RungEvent,
    StartEvent,
    TrialEvent,
)
from nas_t2i.untrusted.json_text import MOST_LEVELS, may_hold_long_number

EVENTS_FILE = "events.jsonl"
_EVENTS: dict[str, type[TrialEvent]] = {
    "start": StartEvent,
    "progress": ProgressEvent,
    "rung": RungEvent,
    "end": EndEvent,
}
_PROGRESS = b'{"event":"progress",'
_SOUND: TypeAdapter[TrialEvent] = TypeAdapter(Annotated[TrialEvent, Field(discriminator="event")])


def progress_interval(seconds: float, stall_seconds: float) -> float:
    """Return the seconds between two progress events of a trial that has trained so long.

    A sixtieth of its training: one at first, and ten at most, for a thousand trials of hours would
    fill their driver with them. Often enough that none is taken for stalled.
    """
    return min(max(1.0, seconds / 60), 10.0, stall_seconds / 4)


@dataclass(frozen=True, slots=True)
class TornTail:
    """A last line that was cut in the middle: where, and how many bytes of it there are."""

    where: Where
    size: int

    def __str__(self) -> str:
        return f"{self.where}: the last line is cut off after {self.size} bytes"


class EventLog(SealedLog):
    """Appends events to one events.jsonl, each line under the file's running checksum.

    Rungs and ends are on the disk when `append` returns; progress may still be on its way.

    Raises:
        StorageError: as `SealedLog`.
    """

    def append(self, event: TrialEvent) -> None:
        """Write one event as one line, in one write. Raises StorageError."""
        self.append_line(event_line(event), durable=isinstance(event, RungEvent | EndEvent))


def event_line(event: TrialEvent) -> bytes:
    """Return an event as one line of JSON, without a checksum and without a line feed."""
    exclude = {"record": {"curve"}} if isinstance(event, StartEvent) else None
    return event.model_dump_json(exclude=exclude).encode()


class EventTail:
    """Follows an events.jsonl that another process writes: each `read` returns what is new.

    A line without its end is left for the next call; a file that isn't there yet holds nothing.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self.offset = 0
        """Bytes of the file that were read as whole events."""
        self._line = 0
        self._sum = RunningSum()

    def read(self) -> list[TrialEvent]:
        """Return the whole events since the last call, in order. Raises RecordError."""
        try:
            with self.file.open("rb") as stream:
                stream.seek(self.offset)
                content = stream.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise record_error(str(self.file), f"can't be read: {error.strerror}") from None
        whole = content[: content.rfind(b"\n") + 1]
        events = []
        for line in whole.split(b"\n")[:-1]:
            self._line += 1
            self.offset += len(line) + 1
            events += _events(line, self._sum, self.file, self._line)
        return events


def read_events(
    file: str | Path, *, latest_progress: bool = False
) -> tuple[list[TrialEvent], TornTail | None]:
    """Read one events.jsonl: its whole events in order, and its torn tail if there is one.

    With `latest_progress` a progress report may be left out where the next line is one too: of a
    trial's lines most are, and they say nothing more once there is a later one.

    Raises:
        RecordError: unreadable, or a line before the tail that is no event (file, line, column).
    """
    file = Path(file)
    *lines, last = read_bytes(file).split(b"\n")
    if not last and latest_progress and (bodies := bodies_of(lines)):
        is_progress = [body.startswith(_PROGRESS) for body in bodies]
        superseded = [now and later for now, later in pairwise([*is_progress, False])]
        return [
            parse_event(body, file, number)
            for number, body in enumerate(bodies, start=1)
            if not superseded[number - 1]
        ], None
    running = RunningSum()
    events: list[TrialEvent] = []
    for number, line in enumerate(lines, start=1):
        events += _events(line, running, file, number)
    if not last:
        return events, None
    number = len(lines) + 1
    if is_json(last):  # only its line feed is missing
        return [*events, *_events(last, running, file, number)], None
    # A power cut can leave zeros where the rest of the line was to be.
    column = len(last.rstrip(b"\0").decode("utf-8", "replace")) + 1
    return events, TornTail(Where(str(file), number, column), len(last))


def _events(line: bytes, running: RunningSum, file: Path, number: int) -> list[TrialEvent]:
    """Parse the one event of a line, none of an empty one. Raises RecordError."""
    body, right = running.check(line)
    events = [parse_event(body, file, number)] if body else []
    if not right:
        raise record_error(
            Where(str(file), number),
            "changed since it was written, or a line before it is gone (its checksum is wrong)",
            hint="`nas-t2i search` sets it aside and measures it again",
        )
    return events


def parse_event(content: bytes, file: Path, line: int) -> TrialEvent:
    """Parse one line of an events.jsonl; `line` is its number. Raises RecordError."""
    return _sound_event(content) or _located_event(content, file, line)


def _sound_event(content: bytes) -> TrialEvent | None:
    """Parse and validate a line in one pass; None where that does not do, or might do too much.

    Of ten thousand trials nearly every line is sound: those must not pay for knowing the place of
    a mistake, nor for the limits that only hostile lines come near.
    """
    if content.count(b"[") + content.count(b"{") > MOST_LEVELS or may_hold_long_number(content):
        return None
    try:
        event = _SOUND.validate_json(content)
    except ValidationError:
        return None
    newer = isinstance(event, StartEvent) and event.record.version > RECORD_VERSION
    return None if newer else event


def _located_event(content: bytes, file: Path, line: int) -> TrialEvent:
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
