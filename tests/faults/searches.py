"""Whole searches in processes that can be killed, and what they leave."""

import functools
import multiprocessing
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from diffusers import UNet2DConditionModel  # noqa: F401  once, for all the searches forked here

from nas_t2i.arch.space import load_space
from nas_t2i.errors import UserError
from nas_t2i.protocol.rungs import Rungs
from nas_t2i.search import session
from nas_t2i.search.driver import WallClock
from nas_t2i.search.racing.ledger import RACE_FILE, read_pieces
from nas_t2i.search.resume.rung_log import RUNGS_FILE, read_rungs
from nas_t2i.search.runner import TRIAL_MODULE, ProcessRunner
from nas_t2i.search.session import SearchRequest, run_search
from nas_t2i.search.stopping.asha import Asha
from nas_t2i.search.stopping.best_share import BestShare
from nas_t2i.search.stopping.race import Race
from nas_t2i.store import read_contents
from tests.faults.killing import die_at
from tests.training.tiny import tiny_budget

SPACE = """
name: faults
family: unet
parameters:
  channels: {choice: [64, 128, 192, 256]}
  channel_mult: [1, 2]
  res_blocks: 1
  transformer_depth: {2: {choice: [1, 7, 14]}}
include:
  - {name: base, family: unet, channels: 128, channel_mult: [1, 2], res_blocks: 1,
     transformer_depth: {2: 1}}
"""
RAY_LEASE_SECONDS, RAY_SLACK_SECONDS = 6.0, 1.5
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.faults.searches"])


class Silence:
    def __getattr__(self, _):
        return lambda *_: None


class _Hurry:
    """A driver that looks oftener at trials that take no time."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 10)


@dataclass(frozen=True)
class Plan:
    """A search of the campaign."""

    root: Path
    trials: int = 6
    seeds: int = 2
    parallel: int = 1
    storage: str = ""
    retries: int = 50  # a campaign kills a trial oftener than a machine does
    real: bool = False
    race: bool = False
    by_signal: bool = False
    retry_failed: bool = False
    wait_minutes: float = 10.0
    runner: str = "local"
    ranks: int = 1
    batch: int = 4
    micro_batch: int | str = "auto"
    steps: int = 6
    stopping: bool = True

    def request(self) -> SearchRequest:
        self.root.mkdir(exist_ok=True)
        space = self.root / "space.yaml"
        if not space.exists():
            space.write_text(SPACE)
        execution = {"runner": self.runner, "ranks": self.ranks, "micro_batch": self.micro_batch}
        budget = tiny_budget(self.steps, execution, batch=self.batch)
        rule = BestShare(keep=(0.6, 0.5), margin=0.5, min_peers=2) if self.stopping else None
        if self.race:
            rule = Race(rule="race", compute=self.trials * 0.8, ahead=3, sure=0.999)
        if self.by_signal:
            rule = Asha(rule="asha", eta=2, signal="heldout_loss")
            rungs = Rungs(full=budget.rungs[1:], cheap=budget.rungs[:1])
            budget = budget.model_copy(update={"rungs": rungs})
        search = budget.search.model_copy(
            update={
                "trials": self.trials,
                "seeds_per_architecture": self.seeds,
                "parallel": self.parallel,
                "sampler_options": {"n_startup_trials": 2},
                "early_stopping": rule,
                "retries": self.retries,
                "storage_wait_minutes": self.wait_minutes,
            }
        )
        return SearchRequest(
            space=load_space(space),
            budget=budget.model_copy(update={"search": search}),
            study="s",
            results_dir=self.root / "results",
            storage=self.storage,
            seed=0,
            cores=2,
            controls=False,
            retry_failed=self.retry_failed,
        )

    @property
    def folder(self) -> Path:
        return self.root / "results" / "s"


def quick_runner():
    """A runner of trials that take no time."""
    return functools.partial(ProcessRunner, module="tests.faults.quick_trial")


def hurry_on_ray(plan: Plan) -> None:
    """Let trials on a cluster take no time, and leases run out soon."""
    from nas_t2i.search.on_ray import runner

    module = TRIAL_MODULE if plan.real else "tests.faults.quick_trial"
    runner.RayRunner = functools.partial(
        getattr(runner.RayRunner, "func", runner.RayRunner),  # as it is without what was last asked
        module=module,
        lease_seconds=RAY_LEASE_SECONDS,
        slack_seconds=RAY_SLACK_SECONDS,
    )


def search(plan: Plan, said: list[str] | None = None) -> list[str]:
    """Search in this process; return what was said."""
    notes: list[str] = [] if said is None else said
    if not plan.real:
        session.ProcessRunner, session.WallClock = quick_runner(), _Hurry
    if plan.runner != "local":
        hurry_on_ray(plan)
    try:
        run_search(plan.request(), lambda *_: Silence(), notes.append)
    finally:
        session.ProcessRunner, session.WallClock = ProcessRunner, WallClock
    return notes


def _searching(plan: Plan, cache: str, kill_at: int, before: bool) -> None:
    os.environ["NAS_T2I_CACHE"] = cache
    if kill_at:
        die_at(kill_at, before=before)
    try:
        with (plan.root / "said").open("a", buffering=1) as said:

            class Lines(list):
                def append(self, line):
                    print(line, file=said)

            search(plan, Lines())
    except UserError as error:
        (plan.root / "error").write_text(str(error))
        os._exit(error.status)
    os._exit(0)


def start(plan: Plan, kill_at: int = 0, *, before: bool = False):
    """Search in a process of its own."""
    cache = os.environ["NAS_T2I_CACHE"]
    process = PROCESSES.Process(target=_searching, args=(plan, cache, kill_at, before), daemon=True)
    process.start()
    return process


def told(plan: Plan) -> list[tuple]:
    """What was seen and decided at rungs, and the pieces of a race, in order.

    A race depends on what was seen and not on when: that is sorted.
    """
    seen = [tuple(event.model_dump().items()) for event in read_rungs(plan.folder / RUNGS_FILE)]
    pieces = read_pieces(plan.folder / RACE_FILE)
    return [
        *(sorted(seen) if plan.race else seen),
        *(tuple(p.model_dump().items()) for p in pieces),
    ]


def records(plan: Plan) -> dict:
    """Each trial's end and curve, by architecture and seed.

    Trials of a race all rest at the end, some since long: not at which moment they were sent.
    """
    return {
        (t.arch_id, t.seed): (
            t.number,
            t.name,
            () if plan.race else (t.state, t.reason, t.steps_done),
            [p.model_copy(update={"seconds": 0, "evaluation_seconds": 0}) for p in t.curve],
        )
        for t in read_contents(plan.folder).trials
    }


def optuna_trials(plan: Plan):
    url = plan.request().storage_url
    if url.startswith("journal:"):
        backend = optuna.storages.journal.JournalFileBackend(url.removeprefix("journal:"))
        url = optuna.storages.JournalStorage(backend)
    study = optuna.load_study(study_name="s", storage=url)
    return study.get_trials(deepcopy=False)


def states(plan: Plan) -> list[tuple]:
    """What Optuna holds of each trial."""
    return [
        (t.number, t.state, t.value, t.intermediate_values, t.params, t.user_attrs)
        for t in optuna_trials(plan)
    ]


def on(plan: Plan, root: Path) -> Plan:
    """The same search elsewhere, left alone, with its own journal, on this machine."""
    return replace(plan, root=root, storage="", runner="local")
