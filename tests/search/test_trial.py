"""Real trials, each in its processes, on a budget of a few steps."""

import json
import os
import signal

import pytest
import torch

from nas_t2i import plugins
from nas_t2i.events import EventLog, read_events
from nas_t2i.plugins import Origin
from nas_t2i.records import EndEvent, ProgressEvent, RungEvent, StartEvent, TrialState
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.fork_server import ForkedProcess
from nas_t2i.search.resume.faults import failed
from nas_t2i.search.runner import TRIAL_MODULE, ProcessRunner
from nas_t2i.search.starter import Starter
from nas_t2i.search.trial import Trial, share
from nas_t2i.store import assemble_trial
from nas_t2i.training.feeds.inputs import latent_geometry
from nas_t2i.training.ranks import Ranks
from tests.search.processes import follow, wait_until
from tests.training.tiny import tiny_arch, tiny_budget


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, shared_cache):
    monkeypatch.setenv("NAS_T2I_CACHE", str(shared_cache))


def tiny_config(steps: int = 6, seed: int = 0, execution=None, **changes):
    budget = tiny_budget(steps, execution).model_copy(update={"proxy": None})
    # What is profiled is of no interest here; the catalogue's text width is.
    candidate = CandidateFactory(budget, latent_geometry(budget), (seed,)).make(tiny_arch())
    return candidate.config("tiny", 0, budget, seed).model_copy(update=changes)


STARTER = Starter(TRIAL_MODULE, print)  # one for all tests: imports take seconds


def start(folder, config):
    runner = ProcessRunner(folder, stall_seconds=300)
    runner._starter = STARTER
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # another environment is another server
    return runner.start(config)


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


@pytest.mark.parametrize("kept", [0, 2, 4], ids=lambda step: f"up to step {step}")
def test_rungs_that_a_cut_record_lost_are_measured_again_the_same(kept, tmp_path):
    config = tiny_config(execution={"keep_checkpoints": 2})
    follow(start(tmp_path, config))
    whole = curve(tmp_path, config)
    log = tmp_path / config.key / "events.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    rungs = [number for number, line in enumerate(lines) if '"event":"rung"' in line]
    # Cut where a line ends: every line that is left is as it was written.
    log.write_text("".join(lines[: rungs[kept // 2]] if kept else []))
    events = follow(start(tmp_path, config))
    assert events[-1].state is TrialState.COMPLETE
    assert curve(tmp_path, config) == whole
    said = (tmp_path / config.key / "stderr.log").read_text()
    assert "but are no longer on record" in said


def test_a_forked_trial_leaves_what_one_that_is_started_anew_leaves(tmp_path):
    warm = tiny_config()
    plain = tiny_config(execution={"warm_start": False})
    server = ProcessRunner(tmp_path / "warm", stall_seconds=300)
    before = server.start(tiny_config(seed=1))  # so that the one compared is not the first
    assert follow(before)[-1].state is TrialState.COMPLETE
    trial = server.start(warm)
    assert isinstance(trial._process, ForkedProcess)
    assert follow(trial)[-1].state is TrialState.COMPLETE
    assert follow(start(tmp_path / "plain", plain))[-1].state is TrialState.COMPLETE

    assert curve(tmp_path / "warm", warm) == curve(tmp_path / "plain", plain)
    folders = [tmp_path / "warm" / warm.key, tmp_path / "plain" / plain.key]
    records = [started(folder).model_dump() for folder in folders]
    assert records[0] == records[1]
    saved = [sorted((folder / "checkpoints").rglob("*.pt")) for folder in folders]
    assert saved[0]
    for one, other in zip(*saved, strict=True):
        assert one.name == other.name
        assert_same(*(torch.load(file, weights_only=True) for file in (one, other)))
    images = [file.name for file in sorted(folders[0].glob("*.png"))]
    assert len(images) == 3
    for name in images:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def started(folder):
    events, _ = read_events(folder / "events.jsonl")
    return next(event.record for event in events if isinstance(event, StartEvent))


def assert_same(one, other, key=""):
    """Nested plain values and tensors are equal, bit for bit, but for their clocks."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name], str(name))
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif "seconds" not in key:
        assert one == other


def test_only_trials_of_the_same_budget_and_captions_share_inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_used", {})  # with code from outside nothing is shared
    config = tiny_config()
    (tmp_path / "config.json").write_text(config.model_dump_json())
    (tmp_path / "events.jsonl").touch()
    shared = share(tmp_path / "config.json")

    def inputs(**changes):
        changed = config.model_copy(update=changes)
        return Trial(changed, tmp_path, Ranks.alone(), None, shared)._inputs()

    assert inputs(seed=3) is inputs(control="no-cross-attention") is shared.inputs
    assert inputs(control="shuffled-captions") is not shared.inputs
    assert inputs(budget=tiny_budget(9).model_dump(mode="json")) is not shared.inputs
    outside = Origin(kind="families", name="elsewhere:Family")
    with_plugins = config.model_copy(update={"plugins": [outside]})
    (tmp_path / "config.json").write_text(with_plugins.model_dump_json())
    assert share(tmp_path / "config.json") is None


def test_a_trial_stops_when_told_and_leaves_when_its_driver_is_gone(tmp_path):
    config = tiny_config()
    trial = start(tmp_path, config)
    trial.decide(2, False)
    events = follow(trial)
    assert events[-1].state is TrialState.STOPPED
    assert events[-1].reason == "stopped early at step 2"

    orphan = start(tmp_path / "orphan", config)
    wait_until(lambda: any(isinstance(event, StartEvent) for event in orphan.poll()))
    orphan._log.close()  # what it sees when its driver is killed
    wait_until(lambda: orphan._process.poll() is not None)
    end = orphan.poll()[-1]
    assert isinstance(end, EndEvent) and end.state is TrialState.INTERRUPTED
    assert end.reason.endswith("the driver is gone")


def test_a_stopped_trial_that_is_taken_up_again_ends_like_one_that_was_never_stopped(tmp_path):
    config = tiny_config()
    follow(start(tmp_path / "whole", config))
    for rung in (2, 4):
        trial = start(tmp_path / "again", config)
        for earlier in range(2, rung, 2):
            trial.decide(earlier, True)
        trial.decide(rung, False)
        assert follow(trial)[-1].state is TrialState.STOPPED
        events, _ = read_events(tmp_path / "again" / config.key / "events.jsonl")
        assert assemble_trial(events, running=False).state is TrialState.STOPPED
    trial = start(tmp_path / "again", config)
    trial.decide(4, True)
    assert follow(trial)[-1].state is TrialState.COMPLETE
    assert curve(tmp_path / "again", config) == curve(tmp_path / "whole", config)
    events, _ = read_events(tmp_path / "again" / config.key / "events.jsonl")
    assert assemble_trial(events, running=False).state is TrialState.COMPLETE


def test_two_ranks_leave_together_and_go_on_together(tmp_path):
    config = tiny_config(execution={"ranks": 2, "micro_batch": 1})

    def leave_at_first_rung(trial, event):
        if isinstance(event, RungEvent):
            trial.leave()

    (*_, end) = follow(start(tmp_path, config), on_event=leave_at_first_rung)
    assert end.state is TrialState.INTERRUPTED and "asked to leave" in end.reason
    events = follow(start(tmp_path, config))
    assert events[-1].state is TrialState.COMPLETE
    assert [e.point.step for e in events if isinstance(e, RungEvent)] == [2, 4, 6]


def test_after_running_out_of_memory_it_is_trained_with_half_the_micro_batch(tmp_path):
    config = tiny_config(steps=1)
    whole = follow(start(tmp_path / "whole", config))
    folder = tmp_path / "again" / config.key
    folder.mkdir(parents=True)
    with EventLog(folder / "events.jsonl") as log:
        log.append(StartEvent(record=config.new_record()))
        log.append(failed("out of memory: 2 GiB"))
    events = follow(start(tmp_path / "again", config))
    assert events[-1].state is TrialState.COMPLETE
    sizes = [
        next(e.record.micro_batch for e in reversed(told) if isinstance(e, StartEvent))
        for told in (whole, events)
    ]
    assert sizes == [4, 2]


def test_a_trial_that_cannot_start_tells_why_in_one_line(tmp_path):
    config = tiny_config(trained_arch={"family": "unet", "channels": 8, "channel_mult": [1]})
    (end,) = [e for e in follow(start(tmp_path, config)) if isinstance(e, EndEvent)]
    assert end.state is TrialState.FAILED
    assert end.reason == "transformer_depth: the key 'transformer_depth' is missing"


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


def test_what_lies_in_the_folder_is_plain_json_and_images(tmp_path):
    config = tiny_config(steps=1)
    events = follow(start(tmp_path, config))
    folder = tmp_path / config.key
    assert json.loads((folder / "config.json").read_text())["arch"]["family"] == "unet"
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "events.jsonl", "checkpoints", "pictures-000001.png"} <= names
    assert not [e for e in events if isinstance(e, ProgressEvent) and e.step > 1]


def test_a_trial_goes_on_from_the_weights_of_another_one_and_tells_when_there_are_none(tmp_path):
    first = tiny_config()
    assert follow(start(tmp_path / "first/trials", first))[-1].state is TrialState.COMPLETE
    (tmp_path / "first/study.json").write_text("{}")

    def going_on_from(folder):
        config = tiny_config()
        return config.model_copy(update={"budget": config.budget | {"init_from": str(folder)}})

    second = going_on_from(tmp_path / "first")
    assert follow(start(tmp_path / "second", second))[-1].state is TrialState.COMPLETE
    before, after = (
        curve(folder, config)[0].loss
        for folder, config in ((tmp_path / "first/trials", first), (tmp_path / "second", second))
    )
    assert after < before

    (*_, end) = follow(start(tmp_path / "third", going_on_from(tmp_path / "nowhere")))
    assert end.state is TrialState.FAILED
    assert end.reason.startswith("budget: init_from: no weights in ")
