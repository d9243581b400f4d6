"""What the signals cost of a trial: the time of all its rungs' signals over that of the trial.

    python benchmarks/signals_cost.py --arch SDXL-TD4_4

Trains one architecture under a budget in this process, with the parts that a trial has. Whole time
is start (but for Python's imports), training, signals and scores; each is printed with its share.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nas_t2i.arch.catalog import lookup
from nas_t2i.environment import cache_dir
from nas_t2i.evaluation.at_rung import RungEvaluator
from nas_t2i.evaluation.signals import Signals
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.protocol.rungs import described
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.shipped import find_file
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.feeds.inputs import Inputs, latent_geometry
from nas_t2i.training.loop import Trainer
from nas_t2i.training.ranks import join_ranks


def measure(budget: Budget, arch_name: str) -> dict[str, float]:
    """Train and measure as a trial does; return the seconds of its parts."""
    seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        seconds[part] += time.perf_counter() - begin

    torch.set_num_threads(budget.training.threads)
    with timed("start"):
        ranks = join_ranks(budget.training.device)
        geometry = latent_geometry(budget)
        trained = CandidateFactory(budget, geometry, (0,)).trained(lookup(arch_name))
        inputs = Inputs(budget, cache_dir())
        denoiser = build_denoiser(
            trained, latent_size=geometry.size, latent_channels=geometry.channels, seed=0
        ).to(ranks.device)
        trainer = Trainer(denoiser, inputs.make_feed(0), budget, 0, ranks)
        evaluator = RungEvaluator(budget, inputs)
    with timed("signals"):
        signals = Signals(budget, inputs)
    for rung in budget.rungs:
        with timed("training"):
            trainer.train_to(rung, lambda _step, _loss: None)
        with trainer.averaged_weights() as averaged:
            with timed("signals"):
                signals.measure(averaged, ranks)
            if rung in budget.full_rungs:
                with timed("scores"):
                    evaluator.measure(averaged, rung, ranks)
    return seconds


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="embedded")
    parser.add_argument("--arch", default="SDXL-TD4_4")
    parser.add_argument("--ladder", action="store_true", help="with the rungs left out")
    parser.add_argument("--pairs", type=int, default=0, help="default: the budget's")
    arguments = parser.parse_args()
    budget = load_budget(find_file(arguments.budget, "budgets"))
    if arguments.ladder:
        data = budget.model_dump(mode="json")
        del data["rungs"]
        data["search"]["early_stopping"] = None
        budget = Budget.model_validate(data, strict=False)
    if arguments.pairs and budget.signals is not None:
        signals = budget.signals.model_copy(update={"pairs": arguments.pairs})
        budget = budget.model_copy(update={"signals": signals})
    seconds = measure(budget, arguments.arch)
    whole = sum(seconds.values())
    print(
        f"{arguments.arch}, budget {budget.name}, {described(budget.rungs)}, "
        f"{budget.signal_pairs} pairs: {whole:.1f} s"
    )
    for part, spent in seconds.items():
        print(f"{part:<10}{spent:8.2f} s{100 * spent / whole:8.2f} %")


if __name__ == "__main__":
    main()
