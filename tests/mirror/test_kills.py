"""Drivers killed at any moment, their machine gone with all that was on it: the URL is enough."""

import multiprocessing
import os
import random
import shutil
import time

import pytest

from nas_t2i.mirror import owner, send
from tests.faults.searches import Plan, records, search, states, told
from tests.mirror.test_study import UrlPlan

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.mirror.test_study"])


def _searching(plan: UrlPlan, cache: str) -> None:
    os.environ["NAS_T2I_CACHE"] = cache
    owner.BEAT_SECONDS, owner.STALE_SECONDS, owner.SETTLE_SECONDS = 0.2, 1.5, 0.05
    send.PERIOD_SECONDS = 0.05
    with pytest.MonkeyPatch.context() as patch:
        plan.run(patch)
    os._exit(0)


def killed_until_it_ends(plan: UrlPlan, root, seed: int, most: int) -> int:
    """Search on machine after machine, each lost at a random moment; return how many were."""
    at_random, kills = random.Random(seed), 0  # noqa: S311
    while True:
        cache = root / f"machine-{kills}"
        process = _PROCESSES.Process(target=_searching, args=(plan, str(cache)))
        process.start()
        if kills < most:
            begun = cache / "results"
            while process.is_alive() and not list(begun.glob("*/s/study.json")):
                time.sleep(0.02)
            process.join(at_random.uniform(0.0, 2.5))
            process.kill()
        process.join()
        if process.exitcode == 0:
            os.environ["NAS_T2I_CACHE"] = str(cache)
            return kills
        assert process.exitcode == -9
        kills += 1
        shutil.rmtree(cache, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("race", [False, True])
def test_machines_are_lost_one_after_the_other(tmp_path, race, monkeypatch):
    monkeypatch.setenv("NAS_T2I_CACHE", "")
    plan = UrlPlan(tmp_path / "a", race=race, url=f"file://{tmp_path}/there")
    kills = killed_until_it_ends(plan, tmp_path, seed=20261126, most=12)
    whole = Plan(tmp_path / "b", race=race)
    search(whole)
    print(f"\n{kills} machines lost")
    assert kills
    assert records(plan) == records(whole)
    assert told(plan) == told(whole)
    if not race:
        assert states(plan) == states(whole)
