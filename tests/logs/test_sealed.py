"""Lines under a running checksum: whatever is done to them afterwards is noticed."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.errors import RecordError
from nas_t2i.events import EventLog, EventTail, read_events
from nas_t2i.logs.sealed import RunningSum, SealedLog, bodies_of, set_damage_aside
from nas_t2i.records import EndEvent, ProgressEvent, TrialState

EVENTS = [ProgressEvent(step=step, loss=0.5, seconds=step / 10) for step in range(1, 7)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "events.jsonl"
    for part in (EVENTS[:3], EVENTS[3:]):  # opened anew, the sum goes on
        with EventLog(file) as events:
            for event in part:
                events.append(event)
    return file


def test_lines_are_plain_json_and_come_back(log: Path) -> None:
    assert all(set(json.loads(line)) >= {"event", "sum"} for line in log.read_text().splitlines())
    assert read_events(log) == (EVENTS, None)
    assert EventTail(log).read() == EVENTS
    assert set_damage_aside(log) == ""
    assert [file.name for file in log.parent.iterdir()] == ["events.jsonl"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_line_removed_edited_doubled_or_moved_is_noticed_and_set_aside(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("log") / "events.jsonl"
    with EventLog(file) as events:
        for event in EVENTS:
            events.append(event)
    lines = file.read_text().splitlines()
    first = data.draw(st.integers(0, len(lines) - 2))
    match data.draw(st.sampled_from(["remove", "edit", "double", "swap", "strip"])):
        case "remove":
            del lines[first]
        case "edit":
            lines[first] = lines[first].replace('"loss":0.5', '"loss":0.6')
        case "double":
            lines.insert(first, lines[first])
            first += 1
        case "swap":
            lines[first], lines[first + 1] = lines[first + 1], lines[first]
        case "strip":
            first = max(first, 1)
            lines[first] = json.dumps({**json.loads(lines[first]), "sum": None}).replace(
                ', "sum": null', ""
            )
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordError, match=rf"events\.jsonl:{first + 1}: changed since it was"):
        read_events(file)
    damaged = file.read_bytes()
    assert f"events.jsonl:{first + 1}: changed" in set_damage_aside(file)
    assert read_events(file) == (EVENTS[:first], None)
    assert Path(f"{file}.damaged").read_bytes() == damaged
    with EventLog(file) as events:
        events.append(EVENTS[0])
    assert read_events(file) == ([*EVENTS[:first], EVENTS[0]], None)


def test_a_log_of_an_older_release_stays_readable_and_what_follows_covers_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("".join(event.model_dump_json() + "\n" for event in EVENTS[:3]))
    assert read_events(file) == (EVENTS[:3], None)
    with EventLog(file) as events:
        events.append(EVENTS[3])
    assert read_events(file) == (EVENTS[:4], None)
    file.write_text(file.read_text().replace('"step":2', '"step":9'))
    with pytest.raises(RecordError, match=r"events\.jsonl:4: changed"):
        read_events(file)


def test_a_line_that_could_not_be_written_leaves_the_sum_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lines.jsonl"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with SealedLog(file) as lines:
        lines.append_line(b'{"a":1}', durable=True)
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(Exception, match="No space left"):
                lines.append_line(b'{"a":2}', durable=True)
        lines.append_line(b'{"a":3}', durable=True)
    running = RunningSum()
    checked = [running.check(line) for line in file.read_bytes().split(b"\n")[:-1]]
    assert checked == [(b'{"a":1}', True), (b'{"a":3}', True)]


def test_two_logs_of_one_file_write_in_turn(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    with EventLog(file) as one, EventLog(file) as other:
        for number, event in enumerate(EVENTS):
            (one, other)[number % 2].append(event)
    assert read_events(file) == (EVENTS, None)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_one_look_at_the_last_checksum_says_what_a_look_at_each_says(data: st.DataObject) -> None:
    running = RunningSum()
    bodies = [b'{"event":"progress","step":%d}' % step for step in range(4)]
    lines = [running.seal(body) for body in bodies]
    assert bodies_of(lines) == bodies
    assert bodies_of([]) is None
    place = data.draw(st.integers(0, len(lines) - 1))
    changed = bytearray(lines[place])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    assert bodies_of([*lines[:place], bytes(changed), *lines[place + 1 :]]) is None
    assert bodies_of([*bodies[:1], *lines[1:]]) is None  # as an older release wrote: none has one


def test_of_progress_only_the_latest_is_wanted(log: Path) -> None:
    point = EVENTS[0].model_copy(update={"step": 99})
    with EventLog(log) as events:
        events.append(EndEvent(state=TrialState.INTERRUPTED))
        events.append(point)
    every = [*EVENTS, EndEvent(state=TrialState.INTERRUPTED), point]
    assert read_events(log) == (every, None)
    assert read_events(log, latest_progress=True) == (every[5:], None)
    log.write_bytes(log.read_bytes()[:-5])  # with a torn tail all are read one by one
    assert read_events(log, latest_progress=True)[0] == every[:-1]
