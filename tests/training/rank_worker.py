"""One rank of a small run: ``python -m tests.training.rank_worker JSON``; see `ranks.py`."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from nas_t2i.evaluation.signals import Signals
from nas_t2i.protocol.signals import SignalSettings
from nas_t2i.training.checkpoint import Checkpoints
from nas_t2i.training.loop import DivergedError
from nas_t2i.training.ranks import Ranks, join_ranks
from tests.training.tiny import NoiseFeed, NoiseInputs, tiny_budget, trainer_on


def main() -> None:
    ranks = join_ranks("cpu")
    work(json.loads(sys.argv[1]), ranks)
    # As a trial does: a process that ends with threads of its group alive may be aborted.
    ranks.wait()
    ranks.leave()


def work(job: dict[str, Any], ranks: Ranks) -> None:
    torch.set_num_threads(1)
    budget = tiny_budget(job["steps"], job["execution"], **job["training"])
    feed = NoiseFeed(0, bad_sample=job["bad_sample"])
    trainer = trainer_on(feed, budget, ranks, micro_batch=job["micro_batch"])
    folder = Path(job["folder"])
    checkpoints = Checkpoints(folder / "checkpoints", keep=2, ranks=ranks)
    if (state := checkpoints.load()) is not None:
        trainer.load_state_dict(*state)
    curve = folder / "curve.jsonl"

    def after_step(step: int, loss: float) -> None:
        if ranks.is_first:
            with curve.open("a") as file:
                file.write(json.dumps([step, loss]) + "\n")
        if step == job["killed_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if step % job["save_every"] == 0:
            checkpoints.save(step, trainer.state_dict())

    try:
        trainer.train_to(job["steps"], after_step)
    except DivergedError as error:
        (folder / f"diverged-{ranks.rank}").write_text(str(error))
        return
    # An odd number of pairs: the ranks' shares differ.
    budget = budget.model_copy(update={"signals": SignalSettings(pairs=9)})
    with trainer.averaged_weights() as averaged:
        signals = Signals(budget, NoiseInputs()).measure(averaged, ranks)
        (folder / f"signals-{ranks.rank}.json").write_text(
            json.dumps({name: signal.model_dump() for name, signal in signals.items()})
        )
        if ranks.is_first:
            torch.save(averaged.state_dict(), folder / "averaged.pt")


if __name__ == "__main__":
    main()
