"""A benchmark as a whole: its numbers, its exports, its figure."""

import csv
import io
import json

import numpy as np
import pytest

from nas_t2i.arch.limits import Bound, Limits
from nas_t2i.benchmark.replay.exports import to_csv, to_json, to_rows
from nas_t2i.benchmark.replay.figure import draw
from nas_t2i.benchmark.replay.method import methods, samplers, stoppers
from nas_t2i.benchmark.replay.run import Plan, prepare, run
from nas_t2i.errors import UserError


def plan(table, *, sampler="random", stopper="none", workers=(1,), repeats=3, **changes) -> Plan:
    whole = {
        "table": table,
        "methods": methods(samplers(sampler), stoppers(stopper), workers),
        "repeats": repeats,
        "seed": 0,
        "trials": 12,
        "seeds": 1,
        "compute": 6.0,
        "limits": Limits(),
        "included": False,
        "points": 8,
    }
    return Plan(**(whole | changes))


@pytest.fixture(scope="module")
def found(table):
    told = []
    prepared = prepare(plan(table, sampler="random,grid", stopper="none,racing", workers=(1, 4)))
    made = run(prepared, lambda done, of, _: told.append((done, of)), lambda _: None)
    assert told == [(i, 24) for i in range(24)]
    return made


def test_more_compute_finds_more_and_more_workers_are_faster(found):
    assert found.best == "SDXL-TD4" and found.compute[-1] == 6.0
    for result in found.results:
        assert result.regret.value[-1] < found.guess
        assert (np.diff(result.seconds) >= 0).all()
        assert (np.diff(result.hypervolume.value) >= -1e-12).all()
        assert (result.regret.low <= result.regret.value + 1e-12).all()
    alone = {r.method.label: r.seconds[-1] for r in found.results if r.method.workers == 1}
    for result in found.results:
        if result.method.workers == 4:
            assert result.seconds[-1] < alone[result.method.label]


def test_the_same_again_is_the_same(table):
    one, again = (
        run(prepare(plan(table, repeats=2)), lambda *_: None, lambda _: None) for _ in range(2)
    )
    assert to_rows(one) == to_rows(again)
    other = run(prepare(plan(table, repeats=2, seed=1)), lambda *_: None, lambda _: None)
    assert to_rows(one) != to_rows(other)


def test_the_exports_hold_the_same_rows(found):
    rows = to_rows(found)
    assert len(rows) == 8 * 8
    data = json.loads(to_json(found))
    assert data["rows"] == rows and data["architectures"] == 33 and data["repeats"] == 3
    read = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert [float(row["regret"]) for row in read] == [row["regret"] for row in rows]
    assert {row["stopper"] for row in read} == {"none", "racing"}


def test_within_is_where_the_regret_stays(found):
    result = found.results[0]
    assert result.reached(found.compute, 1.0) == found.compute[0]
    assert result.reached(found.compute, -1.0) is None


def test_the_figure_names_every_line(found, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text stays text
        draw(found, tmp_path / "f.svg")
    text = (tmp_path / "f.svg").read_text()
    for told in ("random + none", "grid + racing", "4 at a time", "regret in TIFA", "drawn at"):
        assert told in text
    draw(found, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 10_000
    with pytest.raises(UserError, match=r"can't draw '.pgn'; .*did you mean 'png'"):
        draw(found, tmp_path / "f.pgn")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 34}, "--trials: got 34; the table has 33"),
        ({"seeds": 3}, "--seeds: got 3; the table has 2"),
        ({"limits": Limits(gmacs=Bound(max=1.0))}, "no architecture of it is within the limits"),
        ({"stopper": "racing", "compute": 1.0}, "expected at least"),
    ],
)
def test_a_plan_that_can_not_be_run_is_refused_first(table, changes, message):
    with pytest.raises(UserError, match=message):
        prepare(plan(table, **changes))


@pytest.mark.parametrize(("workers", "costs"), [(1, ("-gmacs",)), (4, ("-params", "-gmacs"))])
def test_searches_for_a_front_are_compared_by_its_hypervolume(table, tmp_path, workers, costs):
    chosen = plan(
        table,
        sampler="front,nsga3[population_size=4]",
        stopper="none,racing",
        workers=(workers,),
        repeats=2,
        objectives=("tifa", *costs),
    )
    made = run(prepare(chosen), lambda *_: None, lambda _: None)
    for result in made.results:
        assert 0 < result.front.value[-1] <= 1
    rows = to_rows(made)
    assert {"front_hypervolume", "front_hypervolume_low"} < set(rows[0])
    assert json.loads(to_json(made))["objectives"] == ["tifa", *costs]
    pytest.importorskip("matplotlib")
    draw(made, tmp_path / "front.svg")
    assert "that the front lacks" in (tmp_path / "front.svg").read_text()


@pytest.mark.parametrize(
    ("objectives", "changes", "told"),
    [
        (("tifa", "-gmac"), {}, "--objectives: .*got '-gmac'; .*did you mean '-gmacs'"),
        (("tifa", "-heldout_loss"), {}, "a replay knows the ranked metric's truth alone"),
        (("tifa", "-heldout_loss"), {}, "expected tifa and some of -gmacs, -params, -compute"),
        (("tifa", "-latency"), {}, "got -latency, which a table does not record; expected one of"),
        (("tifa", "-gmacs"), {"stopper": "median"}, "--stoppers median: .*judges by the score"),
        ((), {"sampler": "nsga3"}, "got 'nsga3', which is for several objectives"),
    ],
)
def test_objectives_that_can_not_be_compared_are_a_line(table, objectives, changes, told):
    with pytest.raises(UserError, match=told):
        prepare(plan(table, objectives=objectives, **changes))
