"""A benchmark: every method, every repeat, and what came out of it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from nas_t2i.arch.limits import Limits
from nas_t2i.benchmark.replay.measures import Course, Middle, Picker, Truth, course, middle
from nas_t2i.benchmark.replay.method import Conditions, Method, budget_of
from nas_t2i.benchmark.replay.replay import Replays
from nas_t2i.benchmark.table import Table
from nas_t2i.errors import UserError
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.objectives import COUNTED, read_objectives
from nas_t2i.statistics import FloatArray
from nas_t2i.streams import derive_seed

Say = Callable[[str], None]
Tell = Callable[[int, int, Method], None]


@dataclass(frozen=True)
class Plan:
    """What is to be run; everything but the methods is the same for all of them."""

    table: Table
    methods: Sequence[Method]
    repeats: int
    seed: int
    trials: int | None
    """Architectures a search tries; None: all there are."""
    seeds: int
    compute: float | None
    """In trials of mean cost to the last rung; None: half of what all architectures would take."""
    limits: Limits
    included: bool
    points: int
    """On the compute axis."""
    objectives: tuple[str, ...] = ()
    """The ranked metric and an exact cost; none: the ranked metric alone is sought."""


@dataclass(frozen=True)
class Result:
    """What one method came to, over all repeats; arrays are (points,)."""

    method: Method
    regret: Middle
    found: Middle
    """The probability that the best was picked."""
    hypervolume: Middle
    front: Middle
    """The hypervolume of who is on the front of the expected scores."""
    seconds: FloatArray
    """Simulated, when so much compute had been spent; interquartile mean."""
    spent: float
    """Compute in all, in trials; interquartile mean."""

    def reached(self, compute: FloatArray, close: float) -> float | None:
        """Return the compute from which on the regret stays within `close`; None: it never does."""
        within = self.regret.value <= close + 1e-12
        if not within[-1]:
            return None
        outside = np.flatnonzero(~within)
        return float(compute[outside[-1] + 1 if outside.size else 0])


@dataclass(frozen=True)
class Benchmark:
    """Everything that a benchmark of methods on one table gave."""

    table: Table
    conditions: Conditions
    architectures: int
    """That could be found."""
    best: str
    best_score: float
    guess: float
    """Regret of one drawn at random."""
    compute: FloatArray
    """(points,), in trials of mean cost to the last rung."""
    mean_trial: tuple[float, float]
    """FLOPs and seconds of such a trial."""
    repeats: int
    seed: int
    results: Sequence[Result]


@dataclass(frozen=True)
class Prepared:
    """A plan that was checked: what it will run on."""

    plan: Plan
    conditions: Conditions
    truth: Truth
    replays: Replays

    @property
    def searches(self) -> int:
        """How many replays there are."""
        return self.plan.repeats * len(self.plan.methods)


def prepare(plan: Plan) -> Prepared:
    """Check a plan: nothing is replayed.

    Raises:
        UserError: limits nobody meets, seeds that are not recorded, settings that don't fit.
        RecordError: a budget or a space in the table that can't be used.
    """
    table = plan.table
    recorded = len(table.seeds)
    probe = Replays(
        table, Conditions(1, plan.seeds, recorded, 1.0), plan.limits, included=plan.included
    )
    truth = Truth.of(table, probe.space, _costs_of(probe.budget, plan.objectives))
    count = len(truth.arch_ids)
    trials = count if plan.trials is None else plan.trials
    if trials > count:
        raise UserError(
            f"--trials: got {trials}; the table has {count} architectures that a search may find"
        )
    compute = plan.compute if plan.compute is not None else max(2.0, trials * plan.seeds / 2)
    conditions = Conditions(trials, plan.seeds, recorded, compute, plan.objectives)
    for method in plan.methods:
        budget_of(probe.budget, method, conditions)
    replays = Replays(table, conditions, plan.limits, included=plan.included)
    return Prepared(plan, conditions, truth, replays)


def run(prepared: Prepared, tell: Tell, say: Say) -> Benchmark:
    """Replay every method in every repeat; `tell` hears how many are done, of how many.

    Raises:
        RecordError: a point that the table lacks; names it.
    """
    plan, truth, replays = prepared.plan, prepared.truth, prepared.replays
    picker = Picker(plan.table)
    trial_flops, _ = replays.curves.mean_trial
    compute = np.linspace(0, prepared.conditions.compute, plan.points + 1)[1:]
    results, done = [], 0
    with _what_is_there_stays():
        for method in plan.methods:
            courses = []
            for repeat in range(plan.repeats):
                tell(done, prepared.searches, method)
                trace = replays.run(method, plan.seed, repeat, say)
                courses.append(course(truth, picker, trace.events, compute * trial_flops))
                done += 1
            results.append(_result(method, courses, plan.seed, trial_flops))
    best = int(np.argmax(truth.scores))
    sign = 1 if plan.table.better == "larger" else -1
    return Benchmark(
        table=plan.table,
        conditions=prepared.conditions,
        architectures=len(truth.arch_ids),
        best=plan.table.architecture(truth.arch_ids[best]).name,
        best_score=sign * float(truth.scores[best]),
        guess=truth.guess,
        compute=compute,
        mean_trial=replays.curves.mean_trial,
        repeats=plan.repeats,
        seed=plan.seed,
        results=results,
    )


def _result(method: Method, courses: Sequence[Course], seed: int, trial_flops: float) -> Result:
    derived = derive_seed(seed, "benchmark bootstrap")

    def over(values: Sequence[FloatArray], *, plain: bool = False) -> Middle:
        return middle(np.stack(values), seed=derived, plain=plain)

    return Result(
        method=method,
        regret=over([one.regret for one in courses]),
        found=over([one.found for one in courses], plain=True),
        hypervolume=over([one.hypervolume for one in courses]),
        front=over([one.front for one in courses]),
        seconds=over([one.seconds for one in courses]).value,
        spent=float(over([np.array([one.spent]) for one in courses]).value[0]) / trial_flops,
    )


def _costs_of(budget: Budget, objectives: Sequence[str]) -> list[str]:
    """Return the costs that hypervolumes are against. Raises UserError."""
    if not objectives:
        return ["gmacs"]
    try:
        sought = read_objectives(objectives, budget.evaluation, signals=bool(budget.signal_pairs))
    except ValueError as error:
        raise UserError(f"--objectives: {error}") from None
    costs = [objective.name for objective in sought if objective.exact]
    measured = [objective.name for objective in sought if not objective.exact]
    if "latency" in costs:
        raise UserError(
            f"--objectives: got -latency, which a table does not record; expected one of "
            f"-{', -'.join(COUNTED)}"
        )
    if measured != [budget.evaluation.metric]:
        raise UserError(
            f"--objectives: got {','.join(objectives)}; expected {budget.evaluation.metric} and "
            f"some of -{', -'.join(COUNTED)}: a replay knows the ranked metric's truth alone"
        )
    return costs


@contextmanager
def _what_is_there_stays() -> Iterator[None]:
    """Keep the collector from looking through all that was loaded, again and again."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
