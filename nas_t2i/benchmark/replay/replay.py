"""One replay: a whole search of one method on a table, with everything but training in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nas_t2i.arch.limits import Limits
from nas_t2i.arch.space import Space, space_from_document
from nas_t2i.benchmark.replay.candidates import Recorded, TableMaker
from nas_t2i.benchmark.replay.method import Conditions, Method, budget_of
from nas_t2i.benchmark.replay.recorded import Curves, RecordedRunner
from nas_t2i.benchmark.table import Table
from nas_t2i.errors import RecordError, UserError
from nas_t2i.protocol.budget import Budget, recorded_budget
from nas_t2i.protocol.search import RacingRule
from nas_t2i.records import CurvePoint, EndEvent, ProgressEvent
from nas_t2i.search.candidates import Candidate, Proposals
from nas_t2i.search.driver import Driver
from nas_t2i.search.objectives.chooser import chooser_of
from nas_t2i.search.objectives.values import directions
from nas_t2i.search.racing.driver import RaceDriver
from nas_t2i.search.racing.ledger import Ledger, Piece
from nas_t2i.search.study import OptunaStudy
from nas_t2i.streams import derive_seed
from nas_t2i.yaml_files import Document


class Event(NamedTuple):
    """A rung that was reached for the first time in a replay."""

    seconds: float
    """Simulated, since the search began."""
    compute: float
    """Spent so far by all trials, in FLOPs."""
    arch_id: str
    seed: int
    """Of the search."""
    recorded_seed: int
    step: int


@dataclass
class Trace:
    """What happened in one replay, in order: a listener of the driver."""

    runner: RecordedRunner
    events: list[Event] = field(default_factory=list)

    def reached_rung(self, candidate: Candidate, seed: int, point: CurvePoint) -> None:
        """Note a rung."""
        arch_id = candidate.arch.arch_id
        self.events.append(
            Event(
                self.runner.now,
                self.runner.flops,
                arch_id,
                seed,
                self.runner.seed_of(arch_id, seed),
                point.step,
            )
        )

    def started(self, candidate: Candidate, seed: int) -> None:
        """Nothing."""

    def progress(self, candidate: Candidate, seed: int, event: ProgressEvent) -> None:
        """Nothing: recorded trials report none."""

    def ended(self, candidate: Candidate, seed: int, end: EndEvent) -> None:
        """Nothing."""

    def decided(self, piece: Piece) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""


class Replays:
    """Replays of one table under one set of conditions; what they share is made once."""

    def __init__(
        self, table: Table, conditions: Conditions, limits: Limits, *, included: bool
    ) -> None:
        """`included`: a space's named architectures come first, as in a real search.

        Raises:
            UserError: more seeds than are recorded.
            RecordError: a budget or a space in the table that can't be used.
        """
        if conditions.seeds > conditions.recorded_seeds:
            raise UserError(
                f"--seeds: got {conditions.seeds}; the table has {conditions.recorded_seeds}"
            )
        self.table, self.conditions = table, conditions
        self.curves = Curves(table)
        self.budget = budget_in(table)
        self.space = space_in(table, limits, included=included)
        self._recorded = Recorded(table, self.budget)

    def run(self, method: Method, seed: int, repeat: int, say: Callable[[str], None]) -> Trace:
        """Replay one search; `seed` and `repeat` decide all that is drawn in it.

        All methods see the same repeat alike: their samplers are seeded alike, and an
        architecture's trials play back the same recorded seeds in the same order.

        Raises:
            RecordError: a point that the table lacks; names it.
        """
        conditions, study_seed = self.conditions, derive_seed(seed, "benchmark", repeat)
        budget = budget_of(self.budget, method, conditions)
        rule = budget.search.early_stopping
        optuna = OptunaStudy(
            "replay",
            "",
            seed=study_seed,
            sampler=budget.search.sampler,
            sampler_options=budget.search.sampler_options,
            better=directions(budget),
            warn=say,
        )
        seeds = tuple(range(budget.search.seeds_per_architecture))
        proposals = Proposals(
            self.space,
            TableMaker(self._recorded, seeds),
            optuna,
            seed=study_seed,
            controls=False,
            exhaustive=budget.search.sampler == "grid",
            chooser=chooser_of(budget),
            known={},
            say=say,
        )
        runner = RecordedRunner(self.curves, self._seeds_of(study_seed))
        trace = Trace(runner)
        make: Callable[..., Driver] = Driver
        if isinstance(rule, RacingRule):
            make = partial(RaceDriver, rule=rule, ledger=Ledger(None), seed=study_seed)
        driver = make(
            budget=budget,
            study_name="replay",
            trials=conditions.trials,
            parallel=method.workers,
            proposals=proposals,
            optuna=optuna,
            runner=runner,
            clock=runner,
            listener=trace,
            candidates=[],
            say=say,
        )
        most = conditions.compute * self.curves.mean_trial[0]
        driver.asked_to_leave = lambda: runner.flops >= most
        try:
            driver.run()
        except KeyboardInterrupt:
            if runner.flops < most:  # a person, and not the end of the compute
                raise
        return trace

    def _seeds_of(self, study_seed: int) -> Callable[[str, int], int]:
        """Return which recorded seed plays which: an order of its own for each architecture."""
        orders: dict[str, list[int]] = {}

        def seed_of(arch_id: str, seed: int) -> int:
            if arch_id not in orders:
                derived = derive_seed(study_seed, f"recorded seeds of {arch_id}")
                order = np.random.default_rng(derived).permutation(self.table.seeds)
                orders[arch_id] = [int(recorded) for recorded in order]
            return orders[arch_id][seed]

        return seed_of


def budget_in(table: Table) -> Budget:
    """Return the budget of a table, which must agree with the table's axes. Raises RecordError."""
    budget = recorded_budget(table.manifest.budget.data, Path(f"table {table.name}"))
    if tuple(budget.rungs) != table.steps or budget.full_rungs != table.full_steps:
        raise RecordError(f"table {table.name}: its budget has other rungs than its points")
    return budget


def space_in(table: Table, limits: Limits, *, included: bool) -> Space:
    """Return the space of a table, within further limits.

    Without `included`, only what its parameters give; a plain list keeps its architectures.
    """
    space = space_from_document(
        Document(f"table {table.name}: space", table.manifest.space.data, {})
    )
    bounds = Limits(**{**dict(space.limits), **{k: v for k, v in limits if v is not None}})
    kept = space.included if included or not space.axes else ()
    return replace(space, limits=bounds, included=kept)
