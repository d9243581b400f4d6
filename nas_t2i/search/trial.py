"""One trial, the whole pipeline, in its own process: config in, JSON lines out.

    python -m nas_t2i.search.trial results/STUDY/trials/KEY/config.json

The process appends events to ``events.jsonl`` beside its config. At each rung but the last it
waits for a line on its standard input that names the rung, "go 400" or "stop 400". When that input
closes (the driver is gone) or SIGTERM arrives, it saves where it stands and leaves; started again,
it goes on there.
"""

from __future__ import annotations

import os

# Nothing here may use more than the budget's threads: trials run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import queue
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import torch

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.environment import cache_dir, describe_environment
from nas_t2i.evaluation.evaluator import Evaluator
from nas_t2i.evaluation.pictures import save_sheet
from nas_t2i.events import EventLog
from nas_t2i.locks import FolderLock
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    ProgressEvent,
    RungEvent,
    StartEvent,
    TrialState,
)
from nas_t2i.search.trial_config import TrialConfig, load_trial_config
from nas_t2i.training.checkpoint import load_checkpoint, save_checkpoint
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.flops import training_flops
from nas_t2i.training.inputs import make_inputs
from nas_t2i.training.loop import DivergedError, Trainer

_REPORT_SECONDS = 1.0  # between two progress events


class _InterruptedError(Exception):
    """The driver is gone, or asked this process to leave."""


class Decisions:
    """What the driver says, read by a thread so that its absence is noticed at once."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self._said: queue.Queue[str] = queue.Queue()
        signal.signal(signal.SIGTERM, self._leave)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._said.put(line.strip())
        self.gone.set()

    def _leave(self, _signal: int, _frame: FrameType | None) -> None:
        self.gone.set()

    def go_on(self, rung: int) -> bool:
        """Wait for the word on `rung`. Raises _InterruptedError when the driver is gone."""
        while not self.gone.is_set():
            try:
                word, _, step = self._said.get(timeout=0.2).partition(" ")
            except queue.Empty:
                continue
            if step == str(rung):  # a resumed trial hears of rungs long behind it too
                return word == "go"
        raise _InterruptedError


def run_trial(config: TrialConfig, folder: Path, decisions: Decisions) -> EndEvent:
    """Train from rung to rung, report each, and return the trial's last word."""
    budget = Budget.model_validate(config.budget, strict=False)
    torch.set_num_threads(budget.training.threads)
    events = EventLog(folder / "events.jsonl")
    record = config.new_record()
    environment = describe_environment(budget.training.threads)
    record = record.model_copy(update={"environment": environment})
    events.append(StartEvent(record=record, pid=os.getpid()))

    inputs = make_inputs(
        budget, cache_dir(), shuffle_captions=config.control == "shuffled-captions"
    )
    denoiser = build_denoiser(
        arch_from_dict(config.trained_arch),
        latent_size=inputs.latent_shape[1],
        latent_channels=inputs.codec.channels,
        seed=config.seed,
    )
    trainer = Trainer(denoiser, inputs, budget, config.seed)
    evaluator = Evaluator(budget, inputs)
    evaluation_seconds = 0.0
    reported = 0  # the last rung that is on record
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        trainer.load_state_dict(state["trainer"])
        evaluation_seconds, reported = state["evaluation_seconds"], state["reported"]

    def save() -> None:
        state = {
            "trainer": trainer.state_dict(),
            "evaluation_seconds": evaluation_seconds,
            "reported": reported,
        }
        save_checkpoint(checkpoint, state)

    last_report = time.monotonic()

    def after_step(step: int, loss: float) -> None:
        nonlocal last_report
        if decisions.gone.is_set():
            raise _InterruptedError
        if time.monotonic() - last_report >= _REPORT_SECONDS:
            last_report = time.monotonic()
            events.append(ProgressEvent(step=step, loss=loss, seconds=trainer.seconds))

    try:
        for rung in budget.rungs:
            if rung > reported:
                trainer.train_to(rung, after_step)
                begin = time.perf_counter()
                with trainer.averaged_weights() as averaged:
                    pictures = evaluator.draw(averaged)
                score = evaluator.score(pictures)
                save_sheet(
                    folder / f"pictures-{rung:06d}.png", pictures, evaluator.prompts.captions
                )
                evaluation_seconds += time.perf_counter() - begin
                images = rung * budget.training.batch
                point = CurvePoint(
                    step=rung,
                    images=images,
                    training_flops=training_flops(config.trained_profile.gmacs, images),
                    loss=trainer.take_mean_loss(),
                    seconds=trainer.seconds,
                    evaluation_seconds=evaluation_seconds,
                    scores={score.metric: score},
                )
                reported = rung
                # On record first: cut between the two, a resumed trial repeats the rung exactly.
                events.append(RungEvent(point=point))
                save()
            at_rung = trainer.step == rung != budget.rungs[-1]
            if at_rung and not decisions.go_on(rung):
                return EndEvent(state=TrialState.STOPPED, reason=f"stopped early at step {rung}")
    except DivergedError as error:
        return EndEvent(state=TrialState.DIVERGED, reason=str(error))
    except _InterruptedError:
        save()
        return EndEvent(state=TrialState.INTERRUPTED, reason=f"interrupted at step {trainer.step}")
    return EndEvent(state=TrialState.COMPLETE)


def main(arguments: list[str]) -> int:
    """Run the trial whose config.json is named. Exit status 0 whenever it could tell its end."""
    path = Path(arguments[0])
    config = load_trial_config(path)
    # A process of an earlier, killed driver may still be saving: wait for it to leave.
    with FolderLock(path.parent / ".lock", wait_seconds=60):
        end = run_trial(config, path.parent, Decisions())
        EventLog(path.parent / "events.jsonl").append(end)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
