"""The real trainer on a Ray cluster, its results on a server of S3: nothing else is shared."""

import shutil
from dataclasses import replace

import pytest

from nas_t2i.events import read_events
from nas_t2i.records import RungEvent, StartEvent, TrialState
from nas_t2i.store import find_study, read_contents
from tests.faults.searches import Plan, on, records, search
from tests.mirror.conftest import s3, s3_server  # noqa: F401  fixtures
from tests.mirror.test_study import UrlPlan
from tests.search.on_ray.conftest import end_cluster, start_cluster


@pytest.fixture
def cluster(s3):  # noqa: F811
    """A cluster whose nodes were started with the credentials in their environment."""
    cluster = start_cluster(1, 1)
    yield cluster
    end_cluster(cluster)


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_on_ray_with_results_on_s3_is_cut_and_leaves_what_a_local_one_leaves(
    cluster,
    s3,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    whole = Plan(tmp_path / "ray", trials=2, seeds=1, real=True, stopping=False)
    local = on(whole, tmp_path / "local")
    search(local)
    for name, seconds in (("BEAT", 0.5), ("SETTLE", 0.05)):
        monkeypatch.setattr(f"nas_t2i.mirror.owner.{name}_SECONDS", seconds)
    plan = UrlPlan(**vars(replace(whole, runner=f"ray:{cluster.address}")), url=s3)
    with pytest.raises(KeyboardInterrupt):
        plan.run(monkeypatch, rungs=2)
    # The next machine has nothing of the study; nodes bring the checkpoints from the bucket.
    shutil.rmtree(plan.folder)
    plan.run(monkeypatch)
    assert rungs_by_start(plan, 0) == [[2, 4], [6]]  # not from its beginning
    assert not list(plan.folder.glob("trials/*/checkpoints"))
    assert not list((plan.folder.parents[2] / "on-ray").glob("*"))
    assert records(plan) == records(local)
    trials = read_contents(find_study("s", s3)).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert trials == read_contents(plan.folder).trials


def rungs_by_start(plan: Plan, number: int) -> list[list[int]]:
    """Return the steps of the rungs that a trial told, a list for each of its starts."""
    trial = next(t for t in read_contents(plan.folder).trials if t.number == number)
    (log,) = plan.folder.glob(f"trials/{trial.arch_id}-s{trial.seed}/events.jsonl")
    told: list[list[int]] = []
    for event in read_events(log)[0]:
        if isinstance(event, StartEvent):
            told.append([])
        elif isinstance(event, RungEvent):
            told[-1].append(event.point.step)
    return told
