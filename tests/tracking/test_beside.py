"""A search with trackers beside it: all of it arrives, and no tracker costs it anything."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from nas_t2i.locks import StudyLock
from nas_t2i.records import EndEvent, TrialState
from nas_t2i.search import session
from nas_t2i.search.session import run_search
from nas_t2i.store import read_contents
from nas_t2i.tracking.beside import LOG_FILE, Beside
from tests.faults import searches
from tests.results.record_factory import trial
from tests.tracking.readers import Held, tensorboard
from tests.tracking.written import LINES, WrittenStudy

OWN = (
    LINES
    + """
import time
class Broken(Tracker):
    def begin(self, run):
        return NOTHING
    def log(self, run, rows):
        raise ValueError("no room\\nfor rows")
    def end(self, run, state, reason):
        raise AssertionError("it gets nothing more")
class Hanging(Broken):
    def begin(self, run):
        Path(self.where).touch()
        time.sleep(600)
class Dying(Broken):
    def begin(self, run):
        import os
        os._exit(9)
"""
)


@pytest.fixture(autouse=True)
def beside_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    Path("own.py").write_text(OWN)


def problems(said: list[str]) -> list[str]:
    return [line for line in said if not line.startswith("sending the rest")]


def wait_until(true, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_rows_arrive_while_a_search_runs_and_one_that_fails_is_named_once(tmp_path: Path) -> None:
    made = trial("A", {100: 0.4, 200: 0.6}, arch_id="unet-a")
    said: list[str] = []
    search = WrittenStudy(tmp_path / "demo", made)
    trackers = [("own:Broken", "x"), ("tensorboard", "tb")]
    with StudyLock(search.folder):
        beside = Beside(search.folder, trackers, said.append)
        search.reach(made, 100)
        wait_until(lambda: "scores/tifa" in tensorboard("tb").get("A_seed_0", Held()).values)
        search.reach(made, 200)
        search.append(made, EndEvent(state=TrialState.COMPLETE))
    beside.finish(60)
    held = tensorboard("tb")["A_seed_0"]
    assert [step for step, _ in held.values["scores/tifa"]] == [100, 200]
    assert held.state == "complete"
    (line,) = problems(said)
    assert line.startswith("own:Broken: ValueError: no room for rows; the search goes on")
    assert "ValueError: no room" in (search.folder / LOG_FILE).read_text()


def test_a_tracker_that_hangs_or_dies_costs_a_search_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    search = WrittenStudy(tmp_path / "demo", made := trial("A"))
    with StudyLock(search.folder):
        search.reach(made, 100)
        hanging = Beside(search.folder, [("own:Hanging", "begun")], said.append)
        dying = Beside(search.folder, [("own:Dying", "x")], said.append)
        wait_until(Path("begun").exists)
    dying.finish(60)
    assert problems(said) == [
        f"the process of the trackers ended with status 9; {search.folder / LOG_FILE} tells more"
    ]
    begin = time.monotonic()
    hanging.finish(0.2)
    assert time.monotonic() - begin < 30
    assert said[-1] == f"process {hanging._process.pid} goes on sending to the trackers"
    os.kill(hanging._process.pid, signal.SIGKILL)
    hanging._process.wait()


def test_a_search_that_goes_on_sends_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ProcessRunner", searches.quick_runner())
    said: list[str] = []
    for trials in (1, 3):
        plan = searches.Plan(tmp_path / "plan", trials=trials)
        started: list[Beside] = []

        def listener(*_, folder=plan.folder, started=started):
            started.append(Beside(folder, [("own:Lines", "lines")], said.append))
            return searches.Silence()

        run_search(plan.request(), listener, lambda _: None)
        started[0].finish(60)
    assert problems(said) == []
    told = [json.loads(line) for line in Path("lines").read_text().splitlines()]
    rows = [(run, step) for run, step, _ in told if step is not None]
    assert len(set(rows)) == len(rows)
    on_record = read_contents(plan.folder).trials
    assert len(on_record) == 6
    for record in on_record:
        run = f"{record.name} seed {record.seed}"
        found = {step: values["scores/tifa"] for name, step, values in told if name == run and step}
        assert found == {point.step: point.scores["tifa"].value for point in record.curve}
        assert [run, None, record.state.value] in told
    measured = sum(len(record.curve) for record in on_record)
    assert [step for run, step in rows if run == "search"] == list(range(1, measured + 1))
