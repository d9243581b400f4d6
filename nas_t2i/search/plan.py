"""What a search would do: the size of the space, a few candidates, time and compute."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import mean
from typing import NamedTuple

import torch

from nas_t2i.arch.reach import check_reachable
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.search import RacingRule
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.beforehand.latencies import open_latencies
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.reuse.usable import described, find_usable
from nas_t2i.search.session import SearchRequest, check_grid
from nas_t2i.store import STUDY_FILE
from nas_t2i.streams import derive_seed
from nas_t2i.training.flops import training_flops
from nas_t2i.training.speed import Speed, measure_speed

_SAMPLES = 3
_LISTED = 2000  # architectures that are listed to count their proxies: a second or so
_START_SECONDS = 5.0  # process start to first step; measured by benchmarks/trial_start.py


@dataclass(frozen=True)
class Plan:
    """The outcome of a dry run. Times are seconds on this machine, compute is in FLOPs.

    Where the device that trials train on is not here, nothing is timed: what depends on it is None.
    """

    count: int
    count_is_exact: bool
    proxies: int | None  # different ones the budget would train; None: not counted
    warning: str
    latencies: str  # what would be measured, and when; "" for nothing
    reusable: str  # what need not be trained, in words; "" for nothing
    samples: Sequence[tuple[Candidate, Speed | None]]
    trials: int  # architectures times seeds; in a race, architectures
    parallel: int | None
    seconds_likely: float | None
    seconds_at_most: float | None
    flops_likely: float
    flops_at_most: float


def plan_search(request: SearchRequest) -> Plan:
    """Check everything, profile and time a few sampled architectures; train and write nothing."""
    check_grid(request)
    space, budget = request.space, request.budget
    latencies = _latencies(request)
    factory = request.factory
    warning = check_reachable(space, factory.profile)
    rng = random.Random(derive_seed(request.seed, "dry run"))  # noqa: S311
    archs = {}
    for _ in range(100 * _SAMPLES):
        arch = space.sample(rng)
        if space.limits.check(factory.profile(arch)) is None:
            archs[arch.arch_id] = arch
        if len(archs) == min(_SAMPLES, space.count()):
            break
    candidates = [factory.make(arch) for arch in archs.values()]
    here = budget.training.device == "cpu" or torch.cuda.is_available()
    speeds = [measure_speed(c.trained, budget) for c in candidates] if here else []
    parallel = request.parallel if here or request.cluster is not None else None

    racing = isinstance(budget.search.early_stopping, RacingRule)
    trials = request.architectures * (1 if racing else len(request.seeds))
    likely = expected_length(budget)
    longest = Length(budget.training.steps, len(budget.full_rungs), len(budget.rungs))
    if racing:  # one trial more than its compute, where the leader is not at the last rung
        longest = Length(
            *(mean + most / trials for mean, most in zip(likely, longest, strict=True))
        )
    mean_gmacs = sum(c.trained_profile.gmacs for c in candidates) / len(candidates)

    def seconds(length: Length) -> float | None:
        if not speeds or parallel is None:
            return None
        # A race may start a trial again for each rung.
        starts = length.rungs if racing else 1.0
        one = starts * _START_SECONDS + length.steps * mean(speed.step for speed in speeds)
        one += length.full_rungs * mean(speed.evaluation for speed in speeds)
        one += length.rungs * mean(speed.signals for speed in speeds)
        return one * trials / parallel

    def flops(steps: float) -> float:
        return trials * training_flops(mean_gmacs, int(steps * budget.training.batch))

    return Plan(
        count=space.count(),
        count_is_exact=space.count_is_exact,
        proxies=_count_proxies(request, factory),
        warning=warning,
        latencies=latencies,
        reusable=_reusable(request),
        samples=list(zip_longest(candidates, speeds)),
        trials=trials,
        parallel=parallel,
        seconds_likely=seconds(likely),
        seconds_at_most=seconds(longest),
        flops_likely=flops(likely.steps),
        flops_at_most=flops(longest.steps),
    )


def _latencies(request: SearchRequest) -> str:
    """Say which latencies would be measured, when and how."""
    found = open_latencies(request.space, request.budget, request.folder, lambda _: None)
    if found is None:
        return ""
    when = "of each proposal, while no trial runs"
    if request.times_all:
        when = "of all that may be proposed, before the first trial"
    bound = request.space.limits.latency
    hard = "; the limit on it is not in the counts above" if bound and not bound.soft else ""
    return f"latency would be measured {when}: a pass of {found.described}{hard}"


def _reusable(request: SearchRequest) -> str:
    """Say what a study that has not begun would find in others."""
    if (request.folder / STUDY_FILE).exists() or not request.budget.search.reuse:
        return ""
    problems: list[str] = []
    found = find_usable(request.folder, request.results, request.budget, problems.append)
    return "; ".join([*([described(found)] if found else []), *problems])


def _count_proxies(request: SearchRequest, factory: CandidateFactory) -> int | None:
    """Count what the budget would train; a space too large to list quickly is not counted."""
    if request.budget.proxy is None or request.space.count() > _LISTED:
        return None
    return len({factory.trained(arch).arch_id for arch in request.space.enumerate()})


class Length(NamedTuple):
    """How far a trial gets; means over trials."""

    steps: float
    full_rungs: float
    rungs: float  # full or not


def expected_length(budget: Budget) -> Length:
    """Return the mean length of a trial if each full rung lets just its share go on.

    In a race: what an architecture gets of the whole compute, over all its seeds, the leader's way
    to the last rung included; the part that leaves the first rung is taken as whole trials.
    """
    rule, trials, full = budget.search.early_stopping, budget.search.trials, budget.full_rungs
    if isinstance(rule, RacingRule):
        last = budget.rungs[-1]
        whole = (rule.compute - trials * budget.rungs[0] / last) / trials
        return Length(
            rule.compute * last / trials, whole * len(full), 1 + whole * (len(budget.rungs) - 1)
        )
    decided = budget.decided_rungs
    shares = rule.expected_shares(decided, trials) if rule else [1.0] * (len(decided) - 1)
    going_on = dict(zip(decided, shares, strict=False))
    share, steps, full_rungs, rungs, previous = 1.0, 0.0, 0.0, 0.0, 0
    for rung in budget.rungs:
        steps += share * (rung - previous)
        full_rungs += share * (rung in full)
        rungs += share
        share, previous = share * going_on.get(rung, 1.0), rung
    return Length(steps, full_rungs, rungs)
