"""One trial, the whole pipeline, in its own process: config in, JSON lines out.

    python -m nas_t2i.search.trial results/STUDY/trials/KEY/config.json START

The process appends events to ``events.jsonl`` beside its config. At each rung but the last it
waits for the driver's decision on the rung (nas_t2i.search.decisions). When the driver is gone or
asks it to leave, or SIGTERM arrives, it saves where it stands and leaves; started again, it goes on
there.
"""

from __future__ import annotations

import os

# Nothing here may use more than the budget's threads: trials run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from nas_t2i import plugins
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.environment import cache_dir, describe_environment
from nas_t2i.errors import UserError
from nas_t2i.evaluation.at_rung import AtRung, RungEvaluator, open_log
from nas_t2i.evaluation.sampling.contact_sheet import save_sheet
from nas_t2i.evaluation.sampling.sheet_layout import sheet_name
from nas_t2i.evaluation.signals import Signals
from nas_t2i.events import EVENTS_FILE, EventLog, progress_interval, read_events
from nas_t2i.locks import FolderLock
from nas_t2i.protocol.budget import recorded_budget
from nas_t2i.records import (
    CurvePoint,
    EndEvent,
    ProgressEvent,
    RungEvent,
    Signal,
    StartEvent,
    TrialEvent,
    TrialState,
)
from nas_t2i.search.decisions import Decisions, InterruptedTrialError
from nas_t2i.search.on_ray.pipes import PipedDecisions, Pipes
from nas_t2i.search.resume.faults import failed
from nas_t2i.search.trial_config import TrialConfig, load_trial_config
from nas_t2i.training.checkpoint import CheckpointError, Checkpoints
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.engine import import_deepspeed
from nas_t2i.training.feeds.inputs import Inputs, may_be_shared
from nas_t2i.training.flops import training_flops
from nas_t2i.training.initial import load_initial_weights
from nas_t2i.training.loop import DivergedError, Trainer
from nas_t2i.training.micro_batch import frozen_micro_batch, smaller_micro_batch
from nas_t2i.training.ranks import Ranks, check_cuda_after_fork, join_ranks
from nas_t2i.training.saved_state import trial_state
from nas_t2i.untrusted.redact import print_traceback, redacted

PREEMPTED = 75  # exit status of a trial that saved and left (EX_TEMPFAIL: try again)


class Events(Protocol):
    """Where a trial's events go."""

    def append(self, event: TrialEvent) -> None:
        """Put one on record."""


class Link(NamedTuple):
    """How a trial's first rank hears from its driver, and is heard."""

    decisions: Decisions
    events: Events


@dataclass(frozen=True)
class Shared:
    """What the trials of a budget have in common and none of them changes."""

    budget: dict[str, Any]
    inputs: Inputs


class Trial:
    """One trial in this process; every rank has one and they act together.

    The first rank alone writes events and reads the driver's decisions, which it shares. What
    `shared` holds need not be made again.
    """

    def __init__(
        self,
        config: TrialConfig,
        folder: Path,
        ranks: Ranks,
        link: Link | None,
        shared: Shared | None = None,
    ) -> None:
        self._config, self._folder, self._ranks = config, folder, ranks
        self._decisions = None if link is None else link.decisions
        self._events = None if link is None else link.events
        self._shared = shared
        plugins.restore(config.plugins)
        self._budget = recorded_budget(config.budget, folder / "config.json")
        file = folder / EVENTS_FILE
        told = ranks.agree(_told(file) if ranks.is_first else None)
        self._on_record: list[int] = told[0]
        self._out_of_memory: int = told[1]
        self._evaluation_seconds = 0.0
        self._reported = 0  # the last rung that is on record
        self._last_report = self._last_save = time.monotonic()

    def run(self) -> EndEvent:
        """Train from rung to rung, report each, and return the trial's end event."""
        try:
            self._make_parts()
            for rung in self._budget.rungs:
                if rung > self._reported:
                    self._trainer.train_to(rung, self._after_step)
                    self._report_rung(rung)
                at_rung = self._trainer.step == rung != self._budget.rungs[-1]
                if at_rung and not self._go_on(rung):
                    return EndEvent(
                        state=TrialState.STOPPED, reason=f"stopped early at step {rung}"
                    )
        except DivergedError as error:
            return EndEvent(state=TrialState.DIVERGED, reason=str(error))
        except CheckpointError as error:
            return failed(str(error))
        except InterruptedTrialError as error:
            return self._leave(error)
        except UserError as error:
            if self._ranks.size > 1:  # perhaps here alone: the launcher ends the other ranks
                raise
            return failed(str(error))
        return EndEvent(state=TrialState.COMPLETE)

    def _make_parts(self) -> None:
        config, budget, ranks = self._config, self._budget, self._ranks
        torch.set_num_threads(budget.training.threads)
        inputs = self._inputs()
        micro_batch = smaller_micro_batch(
            frozen_micro_batch(self._folder, config, ranks), self._out_of_memory
        )
        if self._events is not None:
            record = config.new_record().model_copy(
                update={
                    "environment": describe_environment(budget.training.threads, ranks.device_name),
                    "inputs": inputs.fingerprints,
                    "training_set": inputs.training_set,
                    "micro_batch": micro_batch,
                }
            )
            self._events.append(StartEvent(record=record, pid=os.getpid()))
        denoiser = build_denoiser(
            arch_from_dict(config.trained_arch),
            latent_size=inputs.latent_shape[1],
            latent_channels=inputs.latent_shape[0],
            seed=config.seed,
            precision=budget.training.precision,
        )
        self._checkpoints = Checkpoints(
            self._folder / "checkpoints", budget.execution.keep_checkpoints, ranks
        )
        saved = self._checkpoints.load(self._is_on_record)
        if saved is None and budget.init_from:
            load_initial_weights(denoiser, budget.init_from, config.key)
        denoiser.to(ranks.device).prepare(budget.execution)
        self._feed = inputs.make_feed(config.seed)
        self._trainer = Trainer(denoiser, self._feed, budget, config.seed, ranks, micro_batch)
        log = open_log(budget, self._folder, ranks)
        self._evaluator = RungEvaluator(budget, inputs, log)
        self._signals = Signals(budget, inputs) if budget.signal_pairs else None
        if saved is not None:
            self._trainer.load_state_dict(*(state["trainer"] for state in saved))
            self._evaluation_seconds = saved[0]["evaluation_seconds"]
            self._reported = saved[0]["reported"]

    def _is_on_record(self, saved: dict[str, Any]) -> bool:
        """Whether every rung that a checkpoint knows as reported can be read back.

        Rungs are on the disk before the checkpoint that says so. Where one is missing, the record
        was cut: training goes on from before it, so that it is measured again.
        """
        trial_state(saved, f"{self._folder}/checkpoints")
        missing = [
            rung
            for rung in self._budget.rungs
            if rung <= saved["reported"] and rung not in self._on_record
        ]
        if missing:
            self._say(
                f"the checkpoint of step {saved['trainer']['step']} is passed over: "
                f"rungs {missing} were measured before it, but are no longer on record"
            )
        return not missing

    def _inputs(self) -> Inputs:
        shuffle = self._config.control == "shuffled-captions"
        if self._shared and self._shared.budget == self._config.budget and not shuffle:
            return self._shared.inputs
        return Inputs(
            self._budget,
            cache_dir(),
            shuffle_captions=shuffle,
            device=str(self._ranks.device),
            say=self._say,
        )

    def _after_step(self, step: int, loss: float) -> None:
        now, seconds = time.monotonic(), self._trainer.seconds
        interval = progress_interval(seconds, 60 * self._budget.search.stall_minutes)
        if self._events is not None and now - self._last_report >= interval:
            self._last_report = now
            self._events.append(ProgressEvent(step=step, loss=loss, seconds=seconds))
        interrupted, due = self._ranks.agree(
            (
                self._decisions is not None and self._decisions.gone.is_set(),
                now - self._last_save >= 60 * self._budget.execution.checkpoint_minutes,
            )
        )
        if interrupted:
            self._raise_interrupted()
        if due:
            self._save()

    def _report_rung(self, rung: int) -> None:
        begin = time.perf_counter()
        signals: dict[str, Signal] = {}
        at_rung = None
        with self._trainer.averaged_weights() as averaged:
            if self._signals is not None:
                signals = self._signals.measure(averaged, self._ranks)
            if rung in self._budget.full_rungs:
                at_rung = self._evaluator.measure(averaged, rung, self._ranks)
        loss = self._trainer.take_mean_loss()
        values = [signal.value for signal in signals.values()]
        if not all(math.isfinite(v) for v in (*values, *_ranked_score(at_rung))):
            raise DivergedError(rung, loss)
        if at_rung is not None and self._ranks.is_first and len(at_rung.measured.images):
            path = self._folder / sheet_name(rung)
            save_sheet(path, at_rung.measured.images, at_rung.measured.captions)
        self._evaluation_seconds += time.perf_counter() - begin
        images = rung * self._budget.training.batch
        point = CurvePoint(
            step=rung,
            images=images,
            training_flops=training_flops(self._config.trained_profile.gmacs, images),
            loss=loss,
            seconds=self._trainer.seconds,
            evaluation_seconds=self._evaluation_seconds,
            image_noun_pairs_seen=(
                self._feed.image_noun_pairs_seen(images) if self._ranks.is_first else None
            ),
            scores={} if at_rung is None else at_rung.scores,
            signals=signals,
        )
        self._reported = rung
        # On record first: cut between the two, a resumed trial repeats the rung exactly.
        if self._events is not None:
            self._events.append(RungEvent(point=point))
        self._save()

    def _go_on(self, rung: int) -> bool:
        """Wait for the driver's decision on a rung; the same on every rank."""
        word: bool | str = ""
        if self._decisions is not None:
            try:
                word = self._decisions.go_on(rung)
            except InterruptedTrialError as error:
                word = str(error)
        word = self._ranks.agree(word)
        if isinstance(word, str):
            raise InterruptedTrialError(word)
        return word

    def _raise_interrupted(self) -> None:
        if self._decisions is not None:
            self._decisions.check()
        raise InterruptedTrialError

    def _leave(self, why: InterruptedTrialError) -> EndEvent:
        step = self._trainer.step
        reason = f"interrupted at step {step}" + (f": {why}" if str(why) else "")
        try:
            self._save()
        except DivergedError as error:
            return EndEvent(state=TrialState.DIVERGED, reason=str(error))
        except CheckpointError as error:
            return failed(f"{reason}; {error}")
        return EndEvent(state=TrialState.INTERRUPTED, reason=reason)

    def _save(self) -> None:
        state = self._trainer.state_dict()
        if state is not None:
            state = {
                "trainer": state,
                "evaluation_seconds": self._evaluation_seconds,
                "reported": self._reported,
            }
        self._checkpoints.save(self._trainer.step, state)
        self._last_save = time.monotonic()

    def _say(self, text: str) -> None:
        if self._ranks.is_first:
            print(redacted(text), file=sys.stderr, flush=True)


def _told(file: Path) -> tuple[list[int], int]:
    """Return the rungs that are on record, and how many attempts ran out of memory."""
    events, _ = read_events(file)
    ends = [event for event in events if isinstance(event, EndEvent)]
    rungs = {event.point.step for event in events if isinstance(event, RungEvent)}
    return sorted(rungs), sum(end.fault == "memory" for end in ends)


def _ranked_score(at_rung: AtRung | None) -> list[float]:
    return [] if at_rung is None else [at_rung.measured.score.value]


def share(path: Path) -> Shared | None:
    """Import what every trial needs, and make what those of a one-threaded budget share.

    For a process that trials are forked from (nas_t2i.search.fork_server): it starts no thread.
    Returns None where each trial makes its own, and tells why if it can't.

    Raises:
        UserError: trials on CUDA that are forked from this process could not use it.
    """
    import_deepspeed()
    from diffusers import UNet2DConditionModel  # noqa: F401  it brings what the others need

    if os.environ.get("DS_ACCELERATOR") == "cuda":
        check_cuda_after_fork()
    try:
        config = load_trial_config(path)
        if config.plugins:  # code from outside may do anything when it is imported
            return None
        budget = recorded_budget(config.budget, path)
        if not may_be_shared(budget):
            return None
        torch.set_num_threads(budget.training.threads)
        return Shared(config.budget, Inputs(budget, cache_dir()))
    except UserError:
        return None


def main(arguments: list[str], shared: Shared | None = None) -> int:
    """Run the trial whose config.json and start are named, or one rank of it.

    Exit status 0 when it recorded its end event, `PREEMPTED` when it was asked to leave and saved.
    """
    sys.excepthook = print_traceback  # the driver keeps the end of it as the trial's reason
    path = Path(arguments[0])
    config = load_trial_config(path)
    pipes = Pipes.of(arguments[1])  # first: the others, who may be gone, are waited for
    ranks = join_ranks(config.budget["training"]["device"])
    with _driver(path.parent, arguments[1], pipes, ranks) as link:
        gone = link is not None and link.decisions.gone.is_set()
        if ranks.agree(gone):  # nobody listens, or a later start of this trial took over
            return 0
        end = Trial(config, path.parent, ranks, link, shared).run()
        if link is not None:
            link.events.append(end)
        ranks.wait()  # a launcher ends all ranks when one leaves with another status than 0
    ranks.leave()
    return PREEMPTED if end.state is TrialState.INTERRUPTED else 0


@contextlib.contextmanager
def _driver(folder: Path, start: str, pipes: Pipes | None, ranks: Ranks) -> Iterator[Link | None]:
    """Yield the first rank's way to and from the driver; None on the others."""
    if not ranks.is_first:
        # A scheduler may send SIGTERM to every process: the first rank decides for all.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        yield None
    elif pipes is not None:
        yield Link(PipedDecisions(pipes), pipes)
    else:
        # A process of an earlier, killed driver may still be saving: wait for it to leave.
        with (
            FolderLock(folder / ".lock", wait_seconds=60),
            EventLog(folder / EVENTS_FILE) as events,
        ):
            yield Link(Decisions(folder, start, launched=ranks.size > 1), events)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
