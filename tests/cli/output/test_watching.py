"""A study seen from another terminal while it is searched."""

from __future__ import annotations

import io
from pathlib import Path

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.watching import image, watch
from nas_t2i.events import EventLog
from nas_t2i.locks import StudyLock
from nas_t2i.records import EndEvent, RungEvent, StartEvent, TrialState
from nas_t2i.results.figures.ranked import read_ranked
from tests.results.record_factory import study, trial, write_records


def begun(folder: Path, made, points: int) -> EventLog:
    log = EventLog(folder / "trials" / f"{made.arch_id}-s{made.seed}" / "events.jsonl")
    log.append(StartEvent(record=made.model_copy(update={"curve": []})))
    for reached in made.curve[:points]:
        log.append(RungEvent(point=reached))
    return log


def test_it_tells_what_changes_until_the_search_ends(tmp_path: Path) -> None:
    folder = write_records(tmp_path / "demo", study("demo"), [])
    made = trial("A\x1b[31m", {100: 0.4, 200: 0.6}, arch_id="unet-a")
    lock = StudyLock(folder)
    lock.__enter__()
    with begun(folder, made, 1) as log:
        steps = iter(
            [
                lambda: None,
                lambda: log.append(RungEvent(point=made.curve[1])),
                lambda: log.append(EndEvent(state=TrialState.COMPLETE)),
                lambda: lock.__exit__(None, None, None),
            ]
        )
        shown = io.StringIO()
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            next(steps)()

        watch(lambda: folder, Console(file=shown, width=200), 0.5, sleep)
    lines = shown.getvalue().splitlines()
    assert len(lines) == 4 and len(waits) == 4 and min(waits) >= 0.5
    assert lines[0].startswith("study demo: 1 running; A")
    assert "1 complete" in lines[2] and "not being searched" not in lines[2]
    assert "it is not being searched" in lines[3]
    assert "\x1b" not in shown.getvalue()


def test_the_picture_has_who_runs_and_who_leads(tmp_path: Path) -> None:
    folder = write_records(tmp_path / "demo", study("demo"), [trial("A", {100: 0.4, 200: 0.6})])
    with StudyLock(folder), begun(folder, trial("B", {100: 0.45}, number=1), 1):
        found = read_ranked([folder])
        console = Console(file=io.StringIO(), width=120)
        console.print(image(found, console))
        text = console.file.getvalue()
    assert "1 running, 1 complete" in text
    assert "B" in text.split("under way")[1].split("#")[0] and "100/200" in text
    assert "expected (95 %)" in text


def test_a_study_at_rest_is_one_line(tmp_path: Path) -> None:
    folder = write_records(tmp_path / "demo", study("demo"), [])
    shown = io.StringIO()
    watch(lambda: folder, Console(file=shown, width=200), 1.0)
    assert shown.getvalue() == "study demo: no trial yet; it is not being searched\n"
