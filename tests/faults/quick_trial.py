"""A trial whose scores are a function of its key: everything around training is the real thing.

python -m tests.faults.quick_trial CONFIG START
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from nas_t2i.events import EventLog, read_events
from nas_t2i.files import write_json
from nas_t2i.locks import FolderLock
from nas_t2i.records import CurvePoint, EndEvent, RungEvent, Score, Signal, StartEvent, TrialState
from nas_t2i.search.decisions import Decisions, InterruptedTrialError
from nas_t2i.search.on_ray.pipes import PipedDecisions, Pipes
from nas_t2i.search.trial_config import TrialConfig, load_trial_config
from nas_t2i.streams import derive_seed
from tests.faults.killing import take_order

PROMPTS = 8
ORDER = "kill-a-trial"


def point(config: TrialConfig, rung: int, *, full: bool) -> CurvePoint:
    """What is measured at a rung: better with training, as good as the architecture, noisy.

    At one that is not full it is a signal, of which less is better.
    """
    quality = derive_seed(0, config.profile.arch_id, 0) % 1000 / 2000
    noise = np.random.default_rng(derive_seed(config.seed, config.key, rung) % 2**32)
    scores = (quality + rung / 100 + noise.normal(0, 0.02, PROMPTS)).tolist()
    mean, common = sum(scores) / PROMPTS, {"stderr": 0.01, "n": PROMPTS, "signature": "quick"}
    score = Score(metric="tifa", value=mean, per_prompt=scores, **common)
    clip = Score(metric="clip_score", value=rung / 10, **common)
    loss = [1 - score for score in scores]
    signal = Signal(name="heldout_loss", value=1 - mean, per_pair=loss, **common)
    return CurvePoint(
        step=rung,
        images=rung,
        training_flops=1.0,
        loss=1.0,
        seconds=1.0,
        evaluation_seconds=1.0,
        scores={"tifa": score, "clip_score": clip} if full else {},
        signals={"heldout_loss": signal},
    )


def train(config: TrialConfig, folder: Path, decisions: Decisions, log: EventLog) -> EndEvent:
    saved = folder / "saved.json"
    known = json.loads(saved.read_text())["reported"] if saved.exists() else 0
    events, _ = read_events(folder / "events.jsonl")
    on_record = {event.point.step for event in events if isinstance(event, RungEvent)}
    plan = config.budget["rungs"]  # checking the budget would import torch
    full = plan["full"] if isinstance(plan, dict) else plan
    rungs = sorted({*plan["signals"], *full}) if isinstance(plan, dict) else plan
    reported = known if all(r in on_record for r in rungs if r <= known) else 0
    log.append(StartEvent(record=config.new_record(), pid=0))
    try:
        for rung in rungs:
            decisions.check()
            if rung > reported:
                time.sleep(0.02)
                log.append(RungEvent(point=point(config, rung, full=rung in full)))
                write_json(saved, {"reported": rung})
            decided = rung in rungs[:-1]
            if decided and rung >= reported and not decisions.go_on(rung):
                return EndEvent(state=TrialState.STOPPED, reason=f"stopped early at step {rung}")
    except InterruptedTrialError as error:
        return EndEvent(state=TrialState.INTERRUPTED, reason=str(error))
    return EndEvent(state=TrialState.COMPLETE)


def share(path: Path) -> None:
    """Nothing is shared; trials are forked from a warm process as real ones are."""


def main(arguments: list[str], shared: None = None) -> int:
    path = Path(arguments[0])
    folder = path.parent
    config = load_trial_config(path)
    pipes = Pipes.of(arguments[1])
    if pipes is not None:
        take_order(folder.parent.parent / ORDER)
        pipes.append(train(config, folder, PipedDecisions(pipes), pipes))
        return 0
    with FolderLock(folder / ".lock", wait_seconds=60):
        decisions = Decisions(folder, arguments[1])
        if decisions.gone.is_set():
            return 0
        take_order(folder.parent.parent / ORDER)
        with EventLog(folder / "events.jsonl") as log:
            log.append(train(config, folder, decisions, log))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
