"""Real trial processes on a budget of a few steps."""

import json
import signal
import time

import pytest

from nas_t2i.events import read_events
from nas_t2i.records import EndEvent, ProgressEvent, RungEvent, TrialState
from nas_t2i.search.candidates import CandidateFactory
from nas_t2i.search.runner import ProcessRunner
from nas_t2i.store import assemble_trial
from nas_t2i.training.inputs import latent_geometry
from tests.training.tiny import tiny_arch, tiny_budget

DEADLINE_SECONDS = 120


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, shared_cache):
    monkeypatch.setenv("NAS_T2I_CACHE", str(shared_cache))


def tiny_config(steps: int = 6, seed: int = 0, **changes):
    budget = tiny_budget(steps).model_copy(update={"proxy": None})
    # What is profiled is of no interest here; the catalogue's text width is.
    candidate = CandidateFactory(budget, latent_geometry(budget), (seed,)).make(tiny_arch())
    return candidate.config("tiny", 0, budget, seed).model_copy(update=changes)


def start(folder, config, **options):
    return ProcessRunner(folder, threads=1, stall_seconds=options.get("stall", 60)).start(config)


def follow(trial, *, on_event=lambda trial, event: None):
    """Poll a trial to its end, letting it go on at every rung; return all its events."""
    events, deadline = [], time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        for event in trial.poll():
            events.append(event)
            if isinstance(event, EndEvent):
                return events
            if isinstance(event, RungEvent):
                trial.decide(event.point.step, True)
            on_event(trial, event)
        time.sleep(0.02)
    raise AssertionError(f"no end after {DEADLINE_SECONDS} s: {events}")


def curve(folder, config):
    """The last point told of each rung, without its clocks."""
    events, _ = read_events(folder / config.key / "events.jsonl")
    points = {e.point.step: e.point for e in events if isinstance(e, RungEvent)}
    return [p.model_copy(update={"seconds": 0, "evaluation_seconds": 0}) for p in points.values()]


def test_a_trial_that_is_killed_and_one_that_is_sent_away_end_like_an_uninterrupted_one(tmp_path):
    config = tiny_config()
    events = follow(start(tmp_path / "whole", config))
    assert events[-1].state is TrialState.COMPLETE
    assert [e.point.step for e in events if isinstance(e, RungEvent)] == [2, 4, 6]
    whole = curve(tmp_path / "whole", config)
    assert whole[-1].training_flops == pytest.approx(
        3 * 2 * config.trained_profile.gmacs * 1e9 * 6 * 4
    )

    def kill_at_first_rung(trial, event):
        if isinstance(event, RungEvent):
            trial._signal(signal.SIGKILL)

    (*_, end) = follow(start(tmp_path / "cut", config), on_event=kill_at_first_rung)
    assert end.state is TrialState.FAILED
    assert end.reason == "killed by SIGKILL (out of memory?)"

    def leave_at_second_rung(trial, event):
        if isinstance(event, RungEvent) and event.point.step == 4:
            trial.leave()

    (*_, end) = follow(start(tmp_path / "cut", config), on_event=leave_at_second_rung)
    assert end.state is TrialState.INTERRUPTED
    (*_, end) = follow(start(tmp_path / "cut", config))
    assert end.state is TrialState.COMPLETE
    assert curve(tmp_path / "cut", config) == whole


def test_a_trial_stops_when_told_and_leaves_when_its_driver_is_gone(tmp_path):
    config = tiny_config()
    trial = start(tmp_path, config)
    trial.decide(2, False)
    events = follow(trial)
    assert events[-1].state is TrialState.STOPPED
    assert events[-1].reason == "stopped early at step 2"

    orphan = start(tmp_path / "orphan", config)
    orphan._process.stdin.close()  # what it sees when its driver is killed
    status = orphan._process.wait(DEADLINE_SECONDS)
    assert status == 0
    end = orphan.poll()[-1]
    assert isinstance(end, EndEvent) and end.state is TrialState.INTERRUPTED


def test_a_trial_that_cannot_start_tells_why_in_one_line(tmp_path):
    config = tiny_config(trained_arch={"family": "unet", "channels": 8, "channel_mult": [1]})
    (end,) = [e for e in follow(start(tmp_path, config)) if isinstance(e, EndEvent)]
    assert end.state is TrialState.FAILED
    assert end.reason.startswith("exit status 1: ") and "\n" not in end.reason
    assert "Traceback" in (tmp_path / config.key / "stderr.log").read_text()


def test_a_trial_that_dies_before_its_first_word_is_on_record_and_can_be_continued(tmp_path):
    config = tiny_config(steps=1)
    trial = start(tmp_path, config)
    trial.leave()  # while Python still imports: nobody handles the signal yet
    (end,) = follow(trial)
    assert end.state is TrialState.INTERRUPTED
    events, _ = read_events(tmp_path / config.key / "events.jsonl")
    record = assemble_trial(events, running=False)
    assert record.state is TrialState.INTERRUPTED and record.name == config.name
    assert follow(start(tmp_path, config))[-1].state is TrialState.COMPLETE


def test_a_silent_trial_is_killed_and_named(tmp_path):
    config = tiny_config()
    trial = start(tmp_path, config, stall=2.0)
    trial._signal(signal.SIGSTOP)
    (*_, end) = follow(trial)
    assert end.state is TrialState.FAILED
    assert end.reason.startswith("silent for")


def test_what_lies_in_the_folder_is_plain_json_and_pictures(tmp_path):
    config = tiny_config(steps=1)
    events = follow(start(tmp_path, config))
    folder = tmp_path / config.key
    assert json.loads((folder / "config.json").read_text())["arch"]["family"] == "unet"
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "events.jsonl", "checkpoint.pt", "pictures-000001.png"} <= names
    assert not [e for e in events if isinstance(e, ProgressEvent) and e.step > 1]
