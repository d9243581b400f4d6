"""What a benchmark of search methods costs: seconds for so many replayed searches, on one core.

    python benchmarks/replay_speed.py TABLE [--architectures 100] [--repeats 30]

The aim: 30 searches of 100 trials by the random sampler without early stopping in 10 s of one core.
Where the table has fewer architectures than are asked for, the space search_spaces/table.yaml lends
its own, and the table its curves, one after the other: only time is told here, no result.

alone: what Optuna itself takes for as many proposals and outcomes through its own ask and tell, in
memory, with a sampler for the whole study. The program makes a new sampler for each proposal, so
that a resumed study proposes what an uninterrupted one would.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: one core

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from nas_t2i.arch.catalog import name_of
from nas_t2i.arch.limits import Limits
from nas_t2i.arch.space import load_space
from nas_t2i.benchmark.form import ArchitectureEntry
from nas_t2i.benchmark.replay import method as named
from nas_t2i.benchmark.replay.run import Plan, Prepared, prepare, run
from nas_t2i.benchmark.table import Table
from nas_t2i.protocol.budget import recorded_budget
from nas_t2i.records import SpaceUsed
from nas_t2i.search.session import make_factory
from nas_t2i.search.study import OptunaStudy
from nas_t2i.shipped import find_file

SAMPLERS = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}


def stretched(table: Table, count: int) -> Table:
    """Return a table of `count` architectures of the space `table`, with curves in turn."""
    manifest = table.manifest
    space = load_space(find_file("table", "search_spaces"))
    factory = make_factory(recorded_budget(manifest.budget.data, Path("table")), ())
    entries = []
    for arch in list(space.enumerate())[:count]:
        candidate = factory.make(arch)
        entries.append(
            ArchitectureEntry(
                name=name_of(arch),
                arch_id=arch.arch_id,
                family=arch.FAMILY,
                arch=arch.canonical(),
                trained_arch=candidate.trained.canonical(),
                profile=candidate.profile,
                trained_profile=candidate.trained_profile,
            )
        )
    used = SpaceUsed(name=space.name, space_id=space.space_id, data=space.document.data)
    changed = {"architectures": entries, "space": used, "outside": [], "name": "stretched"}
    rows = np.arange(len(entries)) % len(table.architectures)
    arrays = {
        name: array[:, rows] if name == "pairs" else array[rows]
        for name, array in table.arrays.items()
        if name != "prompt_values"
    }
    return Table(
        manifest.model_copy(update=changed),
        {**arrays, "prompt_values": table.arrays["prompt_values"]},
    )


@dataclass
class Asked:
    """How often Optuna was asked, and told, in a benchmark."""

    drafts: int = 0
    kept: int = 0
    agreed: int = 0


def counted(prepared: Prepared) -> tuple[float, Asked]:
    """Run a benchmark; return its seconds at work and what Optuna was asked."""
    asked = Asked()
    originals = OptunaStudy.draft, OptunaStudy.agree

    def draft(self: OptunaStudy, *arguments: object, **options: object) -> object:
        asked.drafts += 1
        return originals[0](self, *arguments, **options)  # type: ignore[arg-type]

    def agree(self: OptunaStudy, *arguments: object) -> object:
        asked.agreed += 1
        return originals[1](self, *arguments)  # type: ignore[arg-type]

    OptunaStudy.draft, OptunaStudy.agree = draft, agree  # type: ignore[method-assign]
    try:
        begin = time.process_time()
        run(prepared, lambda *_: None, lambda _: None)
        return time.process_time() - begin, asked
    finally:
        OptunaStudy.draft, OptunaStudy.agree = originals  # type: ignore[method-assign]


def alone(prepared: Prepared, sampler: str, asked: Asked) -> float:
    """Return the seconds at work of Optuna's own loop for as many proposals."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    repeats = prepared.plan.repeats
    parameters = prepared.replays.space.parameters
    begin = time.process_time()
    for repeat in range(repeats):
        study = optuna.create_study(sampler=SAMPLERS[sampler](seed=repeat))
        tell_rungs = asked.agreed // max(1, asked.drafts)
        for number in range(asked.drafts // repeats):
            trial = study.ask()
            for parameter in parameters:
                trial.suggest_categorical(parameter.name, parameter.choices)
            for step in range(tell_rungs):
                trial.report(0.5, step)
            study.tell(trial, number % 7 / 7)
    return time.process_time() - begin


def main() -> None:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--architectures", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--samplers", default="random,tpe")
    parser.add_argument("--stoppers", default="none,racing")
    given = parser.parse_args()
    table = Table.load(given.table)
    if len(table.architectures) < given.architectures:
        table = stretched(table, given.architectures)
    print(
        f"{given.repeats} searches of {len(table.architectures)} trials each; seconds of one core "
        f"at work; load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
    )
    print(f"{'method':24} seconds  ms a trial  proposals   alone")
    for sampler in named.samplers(given.samplers):
        for stopper in named.stoppers(given.stoppers):
            method = named.Method(sampler, stopper, 1)
            # A race has a compute to give away; the others go through all there is.
            share = 0.5 if stopper.name == "racing" else 1.1
            compute = share * len(table.architectures)
            prepared = prepare(
                Plan(
                    table=table,
                    methods=[method],
                    repeats=given.repeats,
                    seed=0,
                    trials=None,
                    seeds=1,
                    compute=compute,
                    limits=Limits(),
                    included=True,
                    points=24,
                )
            )
            # Once, for what is made on first use.
            prepared.replays.run(method, 0, 0, lambda _: None)
            seconds, asked = counted(prepared)
            by_itself = alone(prepared, sampler.name, asked) if sampler.name in SAMPLERS else 0.0
            trials = given.repeats * prepared.conditions.trials
            print(
                f"{method.label:24} {seconds:7.1f}  {1000 * seconds / trials:10.2f}  "
                f"{asked.drafts:9}  {by_itself:6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
