"""examples/real-recipe as a user runs it: img2dataset shards, OpenCLIP text, AutoencoderKL latents,
two ranks, ZeRO stage 2; its driver and ranks killed in the middle, and the same command again.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nas_t2i.events import read_events
from nas_t2i.records import ProgressEvent, RungEvent
from nas_t2i.store import read_trials
from nas_t2i.training.checkpoint import load_state, newest_checkpoint

pytest.importorskip("img2dataset")
EXAMPLE = Path(__file__).parents[2] / "examples/real-recipe"
STEPS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards, encoders and the encoded pairs, with a budget of a few steps."""
    folder = tmp_path_factory.mktemp("real-recipe")
    run(folder, [sys.executable, str(EXAMPLE / "make_inputs.py")])
    text = (EXAMPLE / "budget.yaml").read_text()
    for old, new in (("steps: 60", f"steps: {STEPS}"), ("[20, 40, 60]", f"[8, 16, {STEPS}]")):
        assert old in text
        text = text.replace(old, new)
    (folder / "budget.yaml").write_text(
        text.replace("checkpoint_minutes: 0.05", "checkpoint_minutes: 0.01")
    )
    lines = (EXAMPLE / "space.yaml").read_text().splitlines(keepends=True)
    (folder / "space.yaml").write_text("".join(lines[:3] + lines[-2:]))  # the smaller one alone
    prepared = nas_t2i(folder, "data", "prepare", "budget.yaml")
    assert "complete" in prepared
    return folder


def run(folder, command, **options):
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def environment(folder):
    return os.environ | {"NAS_T2I_CACHE": str(folder / "nas-t2i"), "PYTHONWARNINGS": "ignore"}


def nas_t2i(folder, *arguments):
    return run(folder, [sys.executable, "-m", "nas_t2i.cli.main", *arguments])


def search(study):
    files = ("space.yaml", "--budget", "budget.yaml")
    return ("search", *files, "--study", study, "--trials", "1", "--no-reuse")


def curve_and_weights(folder, study):
    (record,) = read_trials(folder / "results" / study)
    trial = folder / "results" / study / "trials" / f"{record.arch_id}-s0"
    states = [
        load_state(newest_checkpoint(trial / "checkpoints") / f"rank-{rank}.pt")["trainer"]
        for rank in (0, 1)
    ]
    points = [p.model_copy(update={"seconds": 0, "evaluation_seconds": 0}) for p in record.curve]
    return record, points, states


def test_the_real_recipe_killed_and_resumed_is_the_uninterrupted_run(folder):
    nas_t2i(folder, *search("whole"))
    record, points, states = curve_and_weights(folder, "whole")
    assert [point.step for point in points] == [8, 16, STEPS]
    # Two checkpoints are kept; what was used is on record.
    assert record.micro_batch == 4 and set(record.inputs) == {"data", "text", "latents"}
    assert record.inputs["text"].startswith("openclip")
    assert points[-1].scores["heldout_r2"].value > points[0].scores["heldout_r2"].value > 0

    kill_after_the_first_rung(folder, "cut")
    nas_t2i(folder, *search("cut"))
    _, points_again, states_again = curve_and_weights(folder, "cut")
    assert points_again == points
    for one, other in zip(states, states_again, strict=True):
        assert one["step"] == other["step"] == STEPS
        for weight, weight_again in zip(one["weights"], other["weights"], strict=True):
            assert torch.equal(weight, weight_again)
        for adam, adam_again in zip(one["engine"]["adam"], other["engine"]["adam"], strict=True):
            assert all(torch.equal(adam[name], adam_again[name]) for name in adam)


def kill_after_the_first_rung(folder, study):
    """Start the search and SIGKILL its driver and every rank between the first two rungs."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "nas_t2i.cli.main", *search(study)],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        logs = list((folder / "results" / study / "trials").glob("*/events.jsonl"))
        events = read_events(logs[0])[0] if logs else []
        if any(isinstance(e, RungEvent | ProgressEvent) for e in events):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the trial never began to train")
    pids = [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and is_rank(pid, logs[0])]
    assert len(pids) >= 2
    driver.kill()
    for pid in pids:
        os.kill(int(pid.name), signal.SIGKILL)
    driver.wait()


def is_rank(process, log):
    try:
        return str(log.parent).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


def test_the_shards_are_what_img2dataset_writes(folder):
    report = json.loads(next((folder / "shards").glob("00000_stats.json")).read_text())
    assert report["successes"] == 60
    told = nas_t2i(folder, "data", "check", "budget.yaml")
    assert "samples seen" in told and "240" in told and "dropped by aesthetic >= 4.5" in told
