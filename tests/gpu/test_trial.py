"""Whole trials on a GPU, in processes of their own, from the config to the last rung."""

import json
import subprocess
import sys

import pytest

from nas_t2i.events import read_events
from nas_t2i.records import RungEvent, StartEvent, TrialState
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.runner import ProcessRunner
from nas_t2i.training.feeds.inputs import latent_geometry
from tests.search.processes import follow
from tests.training.ranks import ROOT
from tests.training.tiny import tiny_arch, tiny_budget

pytestmark = pytest.mark.gpu

SPACE = """
name: two
family: unet
parameters:
  channels: {choice: [128, 192]}
  channel_mult: [1, 2]
  res_blocks: 1
  attention_resolutions: [2]
  transformer_depth: 1
"""
BUDGET = (
    ("device: cpu", "device: cuda"),
    ("precision: fp32", "precision: bf16"),
    ("scenes: 20000", "scenes: 500"),
    ("rungs: [300, 420, 540]", "rungs: [2, 4]"),
    ("  steps: 540", "  steps: 4"),
    ("  steps: 250", "  steps: 2"),
    ("    keep: [0.6, 0.5]", "    keep: [0.5]"),
    ("  prompts: 512", "  prompts: 8"),
)


def curve(folder):
    """Step, loss and TIFA of each rung on record."""
    events, _ = read_events(folder / "events.jsonl")
    points = {event.point.step: event.point for event in events if isinstance(event, RungEvent)}
    return [(step, point.loss, point.scores["tifa"].value) for step, point in points.items()]


def test_a_trial_that_left_at_a_rung_goes_on_from_its_checkpoint(tmp_path):
    budget = tiny_budget(6, device="cuda").model_copy(update={"proxy": None})
    candidate = CandidateFactory(budget, latent_geometry(budget), (0,)).make(tiny_arch())
    config = candidate.config("tiny", 0, budget, 0)

    def start(name):
        return ProcessRunner(tmp_path / name, stall_seconds=300).start(config)

    events = follow(start("whole"))
    assert events[-1].state is TrialState.COMPLETE, events[-1].reason
    (begun,) = (event.record for event in events if isinstance(event, StartEvent))
    assert begun.environment.accelerator.startswith("1 x ")

    def leave_at_first_rung(trial, event):
        if isinstance(event, RungEvent):
            trial.leave()

    (*_, end) = follow(start("cut"), on_event=leave_at_first_rung)
    assert end.state is TrialState.INTERRUPTED, end.reason
    assert list((tmp_path / "cut" / config.key / "checkpoints").glob("step-*/rank-0.pt"))
    (*_, end) = follow(start("cut"))
    assert end.state is TrialState.COMPLETE, end.reason
    whole, cut = (curve(tmp_path / name / config.key) for name in ("whole", "cut"))
    assert [step for step, *_ in cut] == [step for step, *_ in whole] == [2, 4, 6]
    # Sums on a GPU may round otherwise from run to run; a fresh start would be far off.
    for (_, loss, tifa), (_, whole_loss, whole_tifa) in zip(cut, whole, strict=True):
        assert loss == pytest.approx(whole_loss, rel=1e-3)
        assert tifa == pytest.approx(whole_tifa, abs=0.1)


def test_a_search_of_two_trials(tmp_path):
    text = (ROOT / "budgets/embedded_v1.yaml").read_text()
    for old, new in BUDGET:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "gpu.yaml").write_text(text)
    (tmp_path / "two.yaml").write_text(SPACE)
    options = ("--budget", "gpu.yaml", "--trials=2", "--seeds=1", "--study=two")
    search = (sys.executable, "-m", "nas_t2i.cli.main", "search", "two.yaml", *options)
    done = subprocess.run(search, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "results/two/leaderboard.json").read_text())
    assert len(rows) == 2
    assert {row["state"] for row in rows} <= {"complete", "stopped"}
    configs = sorted((tmp_path / "results/two/trials").glob("*/config.json"))
    assert len(configs) == 2
    assert all(len(curve(config.parent)) >= 1 for config in configs)
