"""Writing, reading and mending studies on disk."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.errors import RecordError, StorageError
from nas_t2i.events import EventLog, EventTail, read_events
from nas_t2i.files import repair_torn_tail, write_atomically, write_json
from nas_t2i.locks import FolderLock, StudyLock, is_locked
from nas_t2i.records import (
    EndEvent,
    ProgressEvent,
    RungEvent,
    StartEvent,
    TrialEvent,
    TrialState,
)
from nas_t2i.store import (
    assemble_trial,
    find_studies,
    find_study,
    read_contents,
    read_study,
    read_trials,
    write_study,
)
from tests.results.record_factory import point, prompt_scores, study, trial

FIXTURE = Path(__file__).parent / "fixtures" / "records_v1" / "embedded-demo"


def progress(step: int) -> ProgressEvent:
    return ProgressEvent(step=step, loss=0.5, seconds=step / 10)


def rung(step: int, value: float = 0.5) -> RungEvent:
    return RungEvent(point=point(step, prompt_scores(value, prompts=4)))


def start(**changes: Any) -> StartEvent:
    return StartEvent(record=trial(curve={}, state=TrialState.RUNNING, **changes))


def end(state: TrialState = TrialState.COMPLETE, reason: str = "") -> EndEvent:
    return EndEvent(state=state, reason=reason)


def written(file: Path, *events: TrialEvent) -> Path:
    with EventLog(file) as log:
        for event in events:
            log.append(event)
    return file


def some_study(folder: Path, **changes: Any) -> Path:
    write_study(folder, study(folder.name, **changes))
    return folder


# --- records of version 1 stay readable ------------------------------------------------------


def test_a_study_of_version_1_is_read() -> None:
    contents = read_contents(FIXTURE)
    assert contents.record.budget_id == "budget-9b2c1d"
    assert contents.record.rungs == [120, 240, 400]
    assert (len(contents.trials), contents.torn, contents.running) == (13, [], False)
    assert [t.number for t in contents.trials] == list(range(13))
    first, failed = contents.trials[0], contents.trials[-1]
    assert [p.step for p in first.curve] == [120, 240, 400]
    assert len(first.curve[-1].scores["tifa"].per_prompt) == 24
    assert (failed.state, failed.steps_done) == (TrialState.FAILED, 60)
    assert failed.reason == "killed by SIGKILL (out of memory?)"


# --- events ----------------------------------------------------------------------------------


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    events = [start(), progress(50), rung(100), end(TrialState.STOPPED, "below the median")]
    file = written(tmp_path / "trials" / "0000" / "events.jsonl", *events)
    assert read_events(file) == (events, None)
    lines = file.read_text().splitlines()
    assert len(lines) == 4
    assert all(json.loads(line) for line in lines)
    assert "curve" not in json.loads(lines[0])["record"]


def test_a_loss_that_is_no_number_is_strict_json(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    file = written(tmp_path / "e.jsonl", ProgressEvent(step=1, loss=math.nan, seconds=1.0))
    json.loads(file.read_text(), parse_constant=refuse)
    (event,), _ = read_events(file)
    assert isinstance(event, ProgressEvent)
    assert math.isnan(event.loss)


def test_the_reason_of_an_end_may_hold_anything(tmp_path: Path) -> None:
    reason = os.fsdecode(b"died \xff\n\x00 of it")
    file = written(tmp_path / "e.jsonl", start(), end(TrialState.FAILED, reason))
    assert len(read_events(file)[0]) == 2


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 10_000))
def test_whatever_is_cut_off_nothing_whole_is_lost(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    events = [start(), progress(50), rung(100), progress(150)]
    file = written(tmp_path_factory.mktemp("cut") / "events.jsonl", *events)
    content = file.read_bytes()
    cut = min(cut, len(content) - 1)
    file.write_bytes(content[:-cut])
    kept, torn = read_events(file)
    assert kept == events[: len(kept)]
    whole_lines = content[:-cut].count(b"\n")
    # A line may be whole but for its line feed.
    assert len(kept) in (whole_lines, whole_lines + 1)
    with EventLog(file) as log:
        log.append(end())
    after, torn_after = read_events(file)
    assert (after, torn_after) == ([*kept, end()], None)
    moved = Path(f"{file}.torn")
    assert moved.exists() == (torn is not None)
    if torn:
        assert moved.read_bytes() == content[:-cut].rpartition(b"\n")[2] + b"\n"


def test_a_torn_tail_says_where(tmp_path: Path) -> None:
    file = written(tmp_path / "events.jsonl", start(), progress(50))
    with file.open("ab") as stream:
        stream.write('{"event": "rung", "é'.encode() + b"\0\0\0")
    _, torn = read_events(file)
    assert torn is not None
    assert str(torn) == f"{file}:3:21: the last line is cut off after 24 bytes"


def test_two_torn_tails_are_both_kept(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    for tail in (b'{"event": "st', b'{"eve'):
        with file.open("ab") as stream:
            stream.write(tail)
        assert f"moved to {file.name}.torn" in repair_torn_tail(file)
    assert Path(f"{file}.torn").read_bytes() == b'{"event": "st\n{"eve\n'
    assert repair_torn_tail(file) == ""
    assert repair_torn_tail(tmp_path / "none") == ""


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "events.jsonl"
    write = os.write
    with EventLog(file) as log:
        log.append(start())
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
        with pytest.raises(StorageError, match="can't be written"):
            log.append(progress(1))
        monkeypatch.undo()
        log.append(progress(2))
    assert read_events(file) == ([start(), progress(2)], None)


def test_rungs_and_ends_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append(start())
        log.append(progress(1))
        assert not synced
        log.append(rung(100))
        log.append(end())
    assert len(synced) == 2


def test_a_tail_follows_a_file_that_grows(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    tail = EventTail(file)
    assert tail.read() == []
    written(file, start(), progress(50))
    assert tail.read() == [start(), progress(50)]
    written(file, rung(100))
    line = b"\n".join(file.read_bytes().split(b"\n")[-2:])
    os.truncate(file, file.stat().st_size - len(line) + 30)
    assert tail.read() == []
    with file.open("ab") as stream:
        stream.write(line[30:])
    assert tail.read() == [rung(100)]
    with file.open("ab") as stream:
        stream.write(b"{}\n")
    with pytest.raises(RecordError, match=r"events\.jsonl:4:1: event: got None"):
        tail.read()


# --- trials from events ----------------------------------------------------------------------


def test_a_resumed_trial_counts_a_replayed_rung_once() -> None:
    record = assemble_trial(
        [start(), rung(100, 0.2), rung(200, 0.4), start(), rung(200, 0.6), end()], running=False
    )
    assert [p.step for p in record.curve] == [100, 200]
    assert record.curve[1] == rung(200, 0.6).point
    assert (record.state, record.steps_done) == (TrialState.COMPLETE, 200)


@pytest.mark.parametrize(
    ("events", "running", "state"),
    [
        ([start(), progress(5)], True, TrialState.RUNNING),
        ([start(), progress(5)], False, TrialState.INTERRUPTED),
        ([start(), end(TrialState.INTERRUPTED, "left"), start()], True, TrialState.RUNNING),
        ([start(), end(TrialState.FAILED, "died")], True, TrialState.FAILED),
    ],
)
def test_where_a_trial_stands(events: list[TrialEvent], running: bool, state: TrialState) -> None:
    record = assemble_trial(events, running=running)
    assert record.state == state
    assert record.reason == ("died" if state is TrialState.FAILED else "")


def test_a_file_holds_one_trial_from_its_start() -> None:
    with pytest.raises(RecordError, match="the first event is 'rung'; expected 'start'"):
        assemble_trial([rung(100)], running=False)
    with pytest.raises(RecordError, match=r"holds the trials .*unet-a.* and .*unet-b"):
        assemble_trial([start(), start(name="B")], running=False)


def test_a_trial_that_never_started_is_no_trial(tmp_path: Path) -> None:
    folder = some_study(tmp_path / "s")
    written(folder / "trials" / "0000" / "events.jsonl")
    (folder / "trials" / "0001").mkdir()
    assert read_trials(folder) == []


# --- trouble ---------------------------------------------------------------------------------


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"step":60,', '"step":60', r":2:30: not whole JSON \(.*\); expected one JSON object"),
        ('"step":60', '"step":"x"', r':2:21: step: got "x"; expected a valid integer'),
        ('"step":60', '"stp":60', r":2:21: stp: unknown key 'stp'; .* did you mean 'step'\?"),
        ('"progress"', '"progres"', r":2:1: event: got 'progres'; .* did you mean 'progress'\?"),
        ('{"event":"progress"', '["event"', r":2:\d+: not whole JSON"),
        (
            '"version":1',
            '"version":2',
            r":1:1: record.version: a record of version 2; expected at most 1, .*update nas-t2i",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = shutil.copytree(FIXTURE, tmp_path / "s")
    file = folder / "trials" / "0000" / "events.jsonl"
    replace(file, old, new)
    with pytest.raises(RecordError, match=message) as caught:
        read_trials(folder)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{"event": "\xff"}\n')
    with pytest.raises(RecordError, match=r"events\.jsonl:1:12: not UTF-8 text"):
        read_events(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:200], r"study\.json:\d+:\d+: not whole JSON"),
        (lambda t: "", r"study\.json:1:1: not whole JSON"),
        (lambda t: "[1]", r"study\.json:1:1: got \[1\]; expected one JSON object"),
        (
            lambda t: t.replace('"version": 1', '"version": 7'),
            r"study\.json: a record of version 7; expected at most 1",
        ),
        (
            lambda t: t.replace('"rungs": [', '"rungs": ["x",'),
            r'study\.json:\d+:\d+: rungs\[0\]: got "x"',
        ),
        (
            lambda t: t.replace('"budget_id": "budget-9b2c1d"', '"budget_id": "other"', 1),
            r"study\.json:.*budget_id and budget\.budget_id differ",
        ),
    ],
)
def test_a_bad_study_file_is_named(tmp_path: Path, change: Any, message: str) -> None:
    folder = shutil.copytree(FIXTURE, tmp_path / "s")
    file = folder / "study.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(RecordError, match=message):
        read_study(folder)


# --- finding ---------------------------------------------------------------------------------


def test_studies_are_found_newest_last(tmp_path: Path) -> None:
    for name, day in (("late", "2026-12-02"), ("early", "2026-12-01")):
        some_study(tmp_path / name, created=f"{day}T00:00:00Z")
    (tmp_path / "paper").mkdir()
    assert [folder.name for folder in find_studies(tmp_path)] == ["early", "late"]


def test_a_cut_study_file_does_not_hide_the_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        some_study(tmp_path / name)
    (tmp_path / "a" / "study.json").write_text("{")
    assert {folder.name for folder in find_studies(tmp_path)} == {"a", "b"}


def test_a_study_is_found_by_name_folder_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = some_study(tmp_path / "results" / "small-sdxl")
    monkeypatch.chdir(tmp_path)
    relative = Path("results/small-sdxl")
    assert find_study("small-sdxl") == relative
    assert find_study("results/small-sdxl") == relative
    assert find_study(str(folder / "study.json")) == folder
    with pytest.raises(RecordError, match=r"small-sd: .* did you mean 'small-sdxl'\?"):
        find_study("small-sd")


# --- locks and whole files -------------------------------------------------------------------


def _hold(folder: Path, held: Any, release: Any) -> None:
    with StudyLock(folder):
        held.set()
        release.wait(30)


def test_a_study_is_searched_by_one_process(tmp_path: Path) -> None:
    folder = some_study(tmp_path / "s")
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(folder, held, release))
    holder.start()
    try:
        assert held.wait(30)
        assert is_locked(folder)
        expected = f"study s is being searched by process {holder.pid} on host "
        with (
            pytest.raises(StorageError, match=expected),
            FolderLock(folder / ".lock", wait_seconds=0, held="study s is being searched"),
        ):
            pass
    finally:
        release.set()
        holder.join(30)
    assert not is_locked(folder)
    with StudyLock(folder):
        assert is_locked(folder)


def test_the_lock_decides_whether_a_trial_runs(tmp_path: Path) -> None:
    folder = some_study(tmp_path / "s")
    written(folder / "trials" / "0" / "events.jsonl", start())
    with StudyLock(folder):
        contents = read_contents(folder)
        assert (contents.running, contents.trials[0].state) == (True, TrialState.RUNNING)
    assert read_trials(folder)[0].state == TrialState.INTERRUPTED


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f.json"
    write_json(file, [1])

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"f\.json: can't be written: No space left on device"):
        write_atomically(file, "other")
    assert file.read_text() == "[\n  1\n]\n"
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none/f: can't be written: No such file"):
        write_atomically(tmp_path / "none" / "f", "x")
