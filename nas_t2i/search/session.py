"""Open a study or continue it, put the parts of a search together, and run it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from nas_t2i import plugins
from nas_t2i.arch.reach import check_reachable
from nas_t2i.arch.space import Space
from nas_t2i.environment import cache_dir, compiles_first, describe_environment
from nas_t2i.errors import UserError
from nas_t2i.evaluation.at_rung import chance_level, check_evaluation
from nas_t2i.locks import StudyLock
from nas_t2i.mirror.study import Mirror
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.search import RacingRule
from nas_t2i.records import (
    BudgetUsed,
    SpaceUsed,
    StudyRecord,
)
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.beforehand.latencies import open_latencies
from nas_t2i.search.beforehand.timing import all_beforehand, time_all, time_included
from nas_t2i.search.beforehand.trainable import count_trainable
from nas_t2i.search.candidates import Candidate, Proposals
from nas_t2i.search.driver import Driver, Listener, WallClock
from nas_t2i.search.launch import find_machines, trials_at_once
from nas_t2i.search.leaving import listening_to_signals, terminated_as_interrupted
from nas_t2i.search.objectives.chooser import chooser_of
from nas_t2i.search.objectives.values import directions
from nas_t2i.search.racing.driver import RaceDriver
from nas_t2i.search.racing.ledger import Ledger
from nas_t2i.search.resume.content import check_same_content
from nas_t2i.search.resume.faults import Faults
from nas_t2i.search.resume.fetching import FetchingRunner
from nas_t2i.search.resume.known import known_candidates, mend_records
from nas_t2i.search.resume.owner import own
from nas_t2i.search.resume.rung_log import RungLog
from nas_t2i.search.resume.settings import Settings, check_same_settings
from nas_t2i.search.resume.warm_start import begin_from, read_source
from nas_t2i.search.reuse.replayed import ReusingRunner
from nas_t2i.search.reuse.usable import list_usable
from nas_t2i.search.runner import ProcessRunner, Runner
from nas_t2i.search.study import OptunaStudy, check_sampler
from nas_t2i.store import STUDY_FILE, TRIALS_FOLDER, write_study
from nas_t2i.training.feeds.inputs import check_inputs, latent_geometry
from nas_t2i.untrusted.redact import redacted

if TYPE_CHECKING:
    from nas_t2i.search.on_ray.cluster import Cluster

_GRID = 20_000  # architectures that `sampler: grid` lists: it takes seconds
_COUNTED = 200  # architectures that are profiled beforehand, to count those within the limits


@dataclass(frozen=True)
class SearchRequest:
    """What the user asked for, defaults filled in."""

    space: Space
    budget: Budget
    study: str
    results_dir: Path
    storage: str  # "" for the journal in the study's own folder
    seed: int
    cores: int
    controls: bool
    retry_failed: bool
    warm_start: str = ""  # the study whose measurements the sampler begins with
    mirror: Mirror | None = None  # where results are at a URL: `results_dir` is its root then

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return self.results_dir / self.study

    @property
    def results(self) -> str | Path:
        """Where other studies are looked for by their names."""
        return self.results_dir if self.mirror is None else self.mirror.results

    @property
    def place(self) -> str:
        """What to call where the study lies: a path or a URL."""
        return str(self.folder) if self.mirror is None else self.mirror.url

    @property
    def storage_url(self) -> str:
        """The Optuna storage: the journal in the study's folder unless another was given."""
        return self.storage or f"journal:{self.folder / 'optuna.journal'}"

    @property
    def storage_shown(self) -> str:
        """The storage as it is recorded: without a password, wherever the folder is moved."""
        return redacted(self.storage) if self.storage else "journal:optuna.journal"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every architecture's trials."""
        return tuple(range(self.seed, self.seed + self.budget.search.seeds_per_architecture))

    @cached_property
    def factory(self) -> CandidateFactory:
        """The maker of candidates for the budget's latents and text."""
        return make_factory(self.budget, self.seeds)

    @cached_property
    def architectures(self) -> int:
        """How many architectures the search is to try; `sampler: grid` may find fewer in a space
        of more than 200, where limits and equal proxies are not counted beforehand.
        """
        wanted, count = max(self.budget.search.trials, len(self.space.included)), self.space.count()
        if self.budget.search.sampler == "grid" and count <= _COUNTED:
            count = count_trainable(self.space, self.factory)
        return min(wanted, count)

    @property
    def times_all(self) -> bool:
        """Where latencies are measured: whether all are, before the first trial."""
        front = self.budget.search.sampler == "front"
        return all_beforehand(self.space, trials=self.architectures, front=front)

    @cached_property
    def cluster(self) -> Cluster | None:
        """The Ray cluster that trials run on, if they do; a first look connects to it."""
        name, _, address = self.budget.execution.runner.partition(":")
        if name != "ray":
            return None
        from nas_t2i.search.on_ray.cluster import Cluster

        cluster = Cluster(address)
        try:
            cluster.check_room(self.budget, on_one_node=self.mirror is not None)
        except BaseException:
            cluster.close()
            raise
        return cluster

    @cached_property
    def parallel(self) -> int:
        """How many trials run side by side; on a cluster without a plan: as it begins."""
        if self.cluster is not None:
            return self.budget.search.parallel or self.cluster.room(self.budget)
        return trials_at_once(self.budget, find_machines(self.budget), self.cores)


def make_factory(budget: Budget, seeds: tuple[int, ...]) -> CandidateFactory:
    """Return the maker of candidates for a budget's latents and text."""
    return CandidateFactory(budget, latent_geometry(budget), seeds)


def check_grid(request: SearchRequest) -> None:
    """Raise UserError for a space that is too large to be gone through."""
    count = request.space.count()
    if request.budget.search.sampler == "grid" and count > _GRID:
        raise UserError(
            f"search.sampler: got 'grid' for a space of {count:,} architectures; expected at most "
            f"{_GRID:,}, or another sampler"
        )


def run_search(
    request: SearchRequest,
    make_listener: Callable[[list[Candidate], CandidateFactory], Listener],
    say: Callable[[str], None],
) -> list[Candidate]:
    """Search until the study is complete; return its candidates.

    Everything that can be wrong with the input is found before the study's folder is made.

    Raises:
        UserError: limits nobody meets, a storage that can't be used, a study of other settings.
        KeyboardInterrupt: SIGINT, or SIGTERM (`TerminatedError`); what ran has saved.
    """
    if request.mirror is not None and request.budget.execution.runner == "local":
        _check_one_machine(request.budget)
    with contextlib.ExitStack() as connected:
        connected.enter_context(terminated_as_interrupted())
        latencies = open_latencies(request.space, request.budget, request.folder, say)
        if latencies is not None:
            request.factory.latencies = connected.enter_context(latencies)
        if request.cluster is not None:
            connected.callback(request.cluster.close)
            url = "" if request.mirror is None else request.mirror.url
            request.cluster.check_nodes(request.folder, url)
        return _search(request, make_listener, say)


def _check_one_machine(budget: Budget) -> None:
    """Raise UserError where trials would need a folder that machines share."""
    if find_machines(budget).nodes:
        raise UserError(
            "--results-dir: got a URL for a trial on the nodes of execution.hostfile; expected a "
            "path that they share, or --runner ray"
        )


def _search(
    request: SearchRequest,
    make_listener: Callable[[list[Candidate], CandidateFactory], Listener],
    say: Callable[[str], None],
) -> list[Candidate]:
    factory = request.factory
    if warning := check_reachable(request.space, factory.profile):
        say(warning)
    check_grid(request)
    check_same_settings(request.folder, _settings(request))
    source = read_source(request.warm_start, request.results, request.folder, request.budget)
    # Once, before trials that all need it, and before anything is made that they would fail in.
    check_inputs(request.budget, cache_dir(), say)
    if request.budget.signals is not None and not request.budget.signal_pairs:
        say("no signals are measured: no pairs are held out (data.held_out in the budget)")
    check_evaluation(request.budget)
    check_sampler(request.budget.search.sampler, request.budget.search.sampler_options)
    parallel = request.parallel  # there may be no such device
    latencies = factory.latencies
    if latencies is not None and not (request.folder / STUDY_FILE).exists():
        time_included(request.space, factory, latencies)  # one may be beyond a limit
    # A storage elsewhere must answer before anything is made here; the journal needs its folder.
    optuna = _open_optuna(request, say) if request.storage else None
    if optuna is not None:
        _own(request, optuna)
    with StudyLock(request.folder), _runner(request, say) as runner:
        mend_records(request.folder, say)
        check_same_content(request.folder, request.budget)
        if not (request.folder / STUDY_FILE).exists():
            if request.budget.search.reuse:
                list_usable(request.folder, request.results, request.budget, say)
            write_study(request.folder, _study_record(request))
        optuna = optuna or _open_optuna(request, say)
        _own(request, optuna)
        if latencies is not None:
            latencies.keep()
        begin_from(source, request.space, request.budget, factory, optuna, say)
        rungs = RungLog(request.folder)
        if rungs.note:
            say(f"{rungs.note}; what it decided is decided again, unless a trial's record tells")
        candidates = known_candidates(
            request.folder,
            request.budget,
            factory,
            optuna,
            rungs,
            retry_failed=request.retry_failed,
            say=say,
        )
        if latencies is not None:
            time_included(request.space, factory, latencies)
            if request.times_all:
                time_all(request.space, factory, latencies)
        proposals = Proposals(
            request.space,
            factory,
            optuna,
            seed=request.seed,
            controls=request.controls,
            exhaustive=request.budget.search.sampler == "grid",
            chooser=chooser_of(request.budget),
            known={candidate.key: candidate for candidate in candidates},
            say=say,
        )
        if request.budget.search.reuse:
            trials = request.folder / TRIALS_FOLDER
            place, budget = request.results, request.budget
            runner = ReusingRunner(runner, trials, place, budget, candidates, say)
        rule = request.budget.search.early_stopping
        make_driver: Callable[..., Driver] = Driver
        if isinstance(rule, RacingRule):
            ledger = Ledger(request.folder)
            make_driver = partial(RaceDriver, rule=rule, ledger=ledger, seed=request.seed)
        driver = make_driver(
            budget=request.budget,
            study_name=request.study,
            trials=request.budget.search.trials,
            parallel=parallel,
            proposals=proposals,
            optuna=optuna,
            room=_room(request),
            latencies=latencies,
            runner=runner,
            clock=WallClock(),
            listener=make_listener(candidates, factory),
            candidates=candidates,
            rung_log=rungs,
            check=(lambda: None) if request.mirror is None else request.mirror.check,
            faults=Faults(request.budget.search.retries, request.folder),
            say=say,
        )
        if compiles_first(request.budget.training.device):
            say("the first trial here compiles an operator of DeepSpeed, once, in about 20 seconds")
        with rungs, listening_to_signals(say) as driver.asked_to_leave:
            optuna.patience.leave = driver.asked_to_leave
            if latencies is not None:
                latencies.leave = driver.asked_to_leave
            driver.run()
    return candidates


@contextlib.contextmanager
def _runner(request: SearchRequest, say: Callable[[str], None]) -> Iterator[Runner]:
    """Yield what starts the trials; on a cluster, be the only one who does for this study."""
    trials, stall_seconds = request.folder / TRIALS_FOLDER, 60 * request.budget.search.stall_minutes
    if request.cluster is None:
        own = ProcessRunner(trials, stall_seconds=stall_seconds, say=say)
        yield own if request.mirror is None else FetchingRunner(own, request.mirror)
        return
    from nas_t2i.search.on_ray.runner import RayRunner

    request.cluster.hold(request.place)
    runner = RayRunner(
        trials, request.cluster, stall_seconds=stall_seconds, say=say, mirror=request.mirror
    )
    with contextlib.closing(runner):
        yield runner


def _room(request: SearchRequest) -> Callable[[], int] | None:
    """Return what tells how many trials there is room for, where that is planned by nobody."""
    if request.cluster is None or request.budget.search.parallel:
        return None
    return partial(request.cluster.room, request.budget)


def _own(request: SearchRequest, optuna: OptunaStudy) -> None:
    settings = {  # what every trial of a study shares
        "space": request.space.space_id,
        "budget": request.budget.budget_id,
        "seed": str(request.seed),
    }
    url = "" if request.mirror is None else request.mirror.url
    own(optuna, request.folder, settings, shared=bool(request.storage), url=url)


def _open_optuna(request: SearchRequest, say: Callable[[str], None]) -> OptunaStudy:
    return OptunaStudy(
        request.study,
        request.storage_url,
        seed=request.seed,
        sampler=request.budget.search.sampler,
        sampler_options=request.budget.search.sampler_options,
        better=directions(request.budget),
        own=not request.storage,
        wait_minutes=request.budget.search.storage_wait_minutes,
        warn=say,
    )


def _settings(request: SearchRequest) -> Settings:
    return Settings(
        space=request.space.space_id,
        budget=request.budget,
        seed=request.seed,
        warm_start=request.warm_start,
        storage=request.storage_shown,
    )


def _study_record(request: SearchRequest) -> StudyRecord:
    budget, space = request.budget, request.space
    stopping = budget.search.early_stopping
    rule = "none: every trial runs to the end"
    if stopping is not None:
        rule = stopping.described(budget.decided_rungs)
    if budget.objectives:
        if isinstance(stopping, RacingRule):
            rule = stopping.described_for_front(budget.decided_rungs)
        rule += f"; sought at once: {', '.join(map(str, budget.objectives))}"
    trained = "the full architecture"
    if budget.proxy:
        trained = f"a proxy of channels / {budget.proxy.channel_divisor}"
    return StudyRecord(
        study=request.study,
        space=SpaceUsed(name=space.name, space_id=space.space_id, data=space.document.data),
        budget=BudgetUsed(
            name=budget.name, budget_id=budget.budget_id, data=budget.model_dump(mode="json")
        ),
        budget_id=budget.budget_id,
        seed=request.seed,
        storage=request.storage_shown,
        created=datetime.now(UTC),
        environment=describe_environment(budget.training.threads),
        seeds_per_arch=len(request.seeds),
        rungs=list(budget.rungs),
        metric=budget.evaluation.metric,
        chance=chance_level(budget),
        warm_start=request.warm_start,
        stop_rule=rule,
        note=(
            "Params, GMACs and attention share are of the full architecture; scores, training "
            f"compute and seconds are of what was trained: {trained}."
        ),
        plugins=plugins.used(),
    )
