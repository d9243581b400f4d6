"""From the start of a trial's process to its first training step, and what the time goes into.

    python benchmarks/trial_start.py [--arch SDXL-C320] [--budget embedded] [--rounds 3]

The whole is taken from real trials, started as `nas-t2i search` starts them: forked from a warm
process, and anew (`execution.warm_start: false`), in turns; from just before the trial's process
begins until its log tells that a step is done. The parts are taken from another process
that does the same things one after the other and looks at two clocks in between: the time of day,
and the time that a processor was at work, which other processes disturb less. The two take turns.
A first, uncounted round caches the text encoder, DeepSpeed's compiled operator and the files that
imports read.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.records import EndEvent, ProgressEvent
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.launch import find_machines, make_launch
from nas_t2i.search.runner import ProcessRunner, TrialProcess
from nas_t2i.search.trial_config import TrialConfig
from nas_t2i.shipped import find_file
from nas_t2i.training.feeds.inputs import latent_geometry

_POLL_SECONDS = 0.005
_PARTS = """
import sys, time
begun, path = float(sys.argv[1]), sys.argv[2]
marks, before = {}, (begun, 0.0)
def mark(name):
    global before
    now = (time.time(), time.process_time())
    marks[name] = (now[0] - before[0], now[1] - before[1])
    before = now
mark("start Python")
import torch
mark("import torch")
import nas_t2i.search.trial
import json
from pathlib import Path
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.environment import cache_dir, describe_environment
from nas_t2i.evaluation.at_rung import RungEvaluator
from nas_t2i.protocol.budget import Budget
from nas_t2i.search.trial_config import load_trial_config
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.loop import Trainer
from nas_t2i.training.micro_batch import frozen_micro_batch
from nas_t2i.training.ranks import join_ranks
mark("import nas_t2i")
path = Path(path)
config = load_trial_config(path)
budget = Budget.model_validate(config.budget, strict=False)
torch.set_num_threads(budget.training.threads)
ranks = join_ranks(budget.training.device)
mark("read the config, join the ranks")
inputs = Inputs(budget, cache_dir(), device=str(ranks.device))
mark("make the inputs")
micro_batch = frozen_micro_batch(path.parent, config, ranks)
describe_environment(budget.training.threads)
mark("micro-batch, environment")
import diffusers
arch, (channels, side, _) = arch_from_dict(config.trained_arch), inputs.latent_shape
getattr(diffusers, arch.diffusers_config(side)[0])
mark("import diffusers")
denoiser = build_denoiser(
    arch, latent_size=side, latent_channels=channels, seed=config.seed,
    precision=budget.training.precision,
)
denoiser.to(ranks.device).prepare(budget.execution)
mark("build the model")
import deepspeed
mark("import DeepSpeed")
trainer = Trainer(
    denoiser, inputs.make_feed(config.seed), budget, config.seed, ranks, micro_batch
)
mark("set up the engine")
RungEvaluator(budget, inputs)
mark("make the evaluator")
trainer.train_to(1, lambda *_: None)
mark("first step")
print("MARKS " + json.dumps(marks))
"""


def make_config(arch: str, budget: Budget, *, warm_start: bool) -> TrialConfig:
    """Return the config of a trial of `arch`, as a search would write it."""
    execution = budget.execution.model_copy(update={"warm_start": warm_start})
    budget = budget.model_copy(update={"execution": execution})
    factory = CandidateFactory(budget, latent_geometry(budget), (0,))
    return factory.make(resolve_arch(arch).arch).config("trial-start", 0, budget, 0)


def seconds_of_a_trial(config: TrialConfig, runner: ProcessRunner) -> float:
    """Start a real trial, return the seconds to the end of its first step, and send it away."""
    begin = time.perf_counter()
    trial = runner.start(config)
    first = _first_progress(trial)
    seconds = time.perf_counter() - begin
    trial.leave()
    while not trial.ended:
        trial.poll()
        time.sleep(_POLL_SECONDS)
    # A trial tells of a step a second after its beginnings at the earliest; what it trained by
    # then besides the first step is not its start.
    return seconds - first.seconds * (first.step - 1) / first.step


def _first_progress(trial: TrialProcess) -> ProgressEvent:
    while True:
        for event in trial.poll():
            if isinstance(event, ProgressEvent):
                return event
            assert not isinstance(event, EndEvent), event.reason
        time.sleep(_POLL_SECONDS)


def seconds_of_parts(config: TrialConfig, folder: Path) -> dict[str, tuple[float, float]]:
    """Do in a process of its own what a trial does until its first step.

    Returns each part's seconds and, of these, those that a processor was at work.
    """
    budget = Budget.model_validate(config.budget, strict=False)
    path = folder / "config.json"
    path.write_text(config.model_dump_json())
    machines = find_machines(budget)
    devices = machines.devices[:1] if machines.devices else ()
    launch = make_launch(budget, machines, devices, "unused", [], folder)
    done = subprocess.run(
        [sys.executable, "-c", _PARTS, str(time.time()), str(path)],
        env=launch.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("MARKS "))
    marks = json.loads(line.removeprefix("MARKS "))
    return {part: (wall, processor) for part, (wall, processor) in marks.items()}


def _numbered(config: TrialConfig, seed: int) -> TrialConfig:
    """Return the config of another trial, of which nothing is saved yet."""
    return config.model_copy(update={"seed": seed})


def main() -> None:
    """Print the median seconds of the whole and of each part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", default="SDXL-C320", help="what `nas-t2i profile --arch` takes")
    parser.add_argument("--budget", default="embedded", help="of one rank")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    budget = load_budget(find_file(options.budget, "budgets"))
    forked = make_config(options.arch, budget, warm_start=True)
    anew = make_config(options.arch, budget, warm_start=False)
    wholes: dict[str, list[float]] = {"forked": [], "anew": []}
    parts: list[dict[str, tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as name:
        warm = ProcessRunner(Path(name, "forked"), stall_seconds=600)
        for number in range(options.rounds + 1):
            folder = Path(name, str(number))
            folder.mkdir()
            one = seconds_of_a_trial(_numbered(forked, number), warm)
            other = seconds_of_a_trial(anew, ProcessRunner(folder / "anew", stall_seconds=600))
            marks = seconds_of_parts(anew, folder)
            if number:  # the first round warms up
                wholes["forked"].append(one)
                wholes["anew"].append(other)
                parts.append(marks)
    print(f"load of the machine: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    for way, seconds in wholes.items():
        by_round = ", ".join(f"{whole:.2f}" for whole in seconds)
        print(
            f"{statistics.median(seconds):6.2f} s  {way}, to its first step (by round: {by_round})"
        )
    ratios = [a / b for a, b in zip(wholes["anew"], wholes["forked"], strict=True)]
    by_round = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    print(f"{statistics.median(ratios):6.1f}    times as long anew (by round: {by_round})")
    print("its parts, in another process: seconds, and of these at work")
    for part in parts[0]:
        wall, processor = (
            statistics.median(marks[part][clock] for marks in parts) for clock in (0, 1)
        )
        print(f"{wall:6.2f} s {processor:6.2f} s  {part}")
    wall, processor = (
        statistics.median(sum(times[clock] for times in marks.values()) for marks in parts)
        for clock in (0, 1)
    )
    print(f"{wall:6.2f} s {processor:6.2f} s  all of them")


if __name__ == "__main__":
    main()
