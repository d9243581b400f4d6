"""A trial that trains nothing, in as many ranks as it is given: what its name says happens.

    python -m tests.search.tiny_trials CONFIG START

Each rank leaves ``rankN.json`` (its pid and environment) beside the config, and "over" ends them.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from nas_t2i.arch.catalog import lookup
from nas_t2i.errors import UserError
from nas_t2i.events import EventLog
from nas_t2i.files import write_json
from nas_t2i.locks import FolderLock
from nas_t2i.protocol.budget import load_budget
from nas_t2i.protocol.rungs import Rungs
from nas_t2i.records import CurvePoint, EndEvent, Profile, RungEvent, StartEvent, TrialState
from nas_t2i.search.decisions import Decisions, InterruptedTrialError
from nas_t2i.search.on_ray.pipes import PipedDecisions, Pipes
from nas_t2i.search.trial_config import TrialConfig
from tests.search.processes import rank, runs

ROOT = Path(__file__).parents[2]


def quick_budget(steps: int = 3, cheap: int = 0, **execution):
    """A budget of a rung a step, the first `cheap` of them with signals alone."""
    whole = load_budget(ROOT / "budgets/embedded.yaml")
    return whole.model_copy(
        update={
            "training": whole.training.model_copy(update={"steps": steps, "batch": 4}),
            "rungs": Rungs(range(cheap + 1, steps + 1), range(1, cheap + 1)),
            "execution": whole.execution.model_copy(update={"micro_batch": "auto"} | execution),
        }
    )


def quick_config(name: str = "whole", *, seed=0, steps=3, cheap=0, **execution):
    """The config of a trial whose name is what happens to it."""
    budget = quick_budget(steps, cheap, **execution)
    arch = lookup("SD2-C320")
    numbers = dict.fromkeys(Profile.model_fields, 1)
    words = {"name": name, "arch_id": arch.arch_id, "family": "unet"}
    profile = Profile(**(numbers | words | {"uncounted_ops": {}, "levels": []}))
    return TrialConfig(
        study="proxy",
        number=0,
        optuna_number=None,
        name=name,
        arch=arch.canonical(),
        trained_arch=arch.canonical(),
        profile=profile,
        trained_profile=profile,
        budget=budget.model_dump(mode="json"),
        budget_id=budget.budget_id,
        seed=seed,
    )


def run_out_of_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    bytearray(1 << 31)


CRASHES = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "out of memory": run_out_of_memory,
    "exit": lambda: os._exit(7),
}


def lead(config: TrialConfig, folder: Path, decisions: Decisions, log: EventLog) -> EndEvent:
    saved = folder / "step"
    reported = int(saved.read_text()) if saved.exists() else 0
    told = config.budget["rungs"]
    rungs = told if isinstance(told, list) else sorted([*told["signals"], *told["full"]])
    try:
        for rung in rungs:
            decisions.check()
            if config.name == "silent":
                time.sleep(600)
            if config.name in CRASHES:
                CRASHES[config.name]()
            if config.name.startswith("a rank"):
                wait_in_vain(folder)
            if rung > reported:
                point = CurvePoint(
                    step=rung, images=0, training_flops=0, loss=0, seconds=0, evaluation_seconds=0
                )
                log.append(RungEvent(point=point))
                saved.write_text(str(rung))
            if rung >= reported and rung != rungs[-1] and not decisions.go_on(rung):
                return EndEvent(state=TrialState.STOPPED, reason=f"stopped early at step {rung}")
    except InterruptedTrialError as error:
        return EndEvent(state=TrialState.INTERRUPTED, reason=str(error))
    return EndEvent(state=TrialState.COMPLETE)


def wait_in_vain(folder: Path) -> None:
    """Do what a collective does when another rank is gone."""
    while not (folder / "rank1.json").exists() or runs(rank(folder, 1)["pid"]):
        time.sleep(0.02)
    raise RuntimeError("connection closed by peer")


def follow(config: TrialConfig, folder: Path) -> None:
    """Do what the first rank does: until it is over, however politely others ask."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if config.name == "a rank is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.name == "a rank fails":
        raise ValueError("one rank is wrong")
    while not (folder / "over").exists():
        time.sleep(0.02)


def share(path: Path) -> str:
    if os.environ.get("TINY_TRIALS_SHARE") == "a thread":
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    if os.environ.get("TINY_TRIALS_SHARE") == "jemalloc":
        thread = threading.Thread(target=time.sleep, args=(600,), daemon=True)
        thread.start()
        Path(f"/proc/self/task/{thread.native_id}/comm").write_text("jemalloc_bg_thd")
    if os.environ.get("TINY_TRIALS_SHARE") == "an error":
        raise ValueError("nothing to share")
    if os.environ.get("TINY_TRIALS_SHARE") == "a refusal":
        raise UserError("something has started CUDA")
    return f"made in {os.getpid()}"


def main(arguments: list[str], shared: str = "nothing") -> int:
    path = Path(arguments[0])
    folder, number = path.parent, int(os.environ.get("RANK", 0))
    config = TrialConfig.model_validate_json(path.read_bytes())
    print(f"this is {config.name}, seed {config.seed}", file=sys.stderr)
    write_json(
        folder / f"rank{number}.json",
        {"pid": os.getpid(), "environment": dict(os.environ), "shared": shared},
    )
    pipes = Pipes.of(arguments[1])
    if number:
        follow(config, folder)
        return 0
    if pipes is not None:
        (folder / "over").unlink(missing_ok=True)
        pipes.append(StartEvent(record=config.new_record(), pid=os.getpid()))
        pipes.append(lead(config, folder, PipedDecisions(pipes), pipes))
        (folder / "over").touch()
        return 0
    with FolderLock(folder / ".lock", wait_seconds=30):
        (folder / "over").unlink(missing_ok=True)
        launched = config.budget["execution"]["ranks"] > 1
        decisions = Decisions(folder, arguments[1], launched=launched)
        if decisions.gone.is_set():
            return 0
        with EventLog(folder / "events.jsonl") as log:
            log.append(StartEvent(record=config.new_record(), pid=os.getpid()))
            end = lead(config, folder, decisions, log)
            log.append(end)
        (folder / "over").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
