"""Figures as data: fronts, curves, ranks, importances of known effects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.records import TrialState
from nas_t2i.results.figures.chart import Role
from nas_t2i.results.figures.curves import curve
from nas_t2i.results.figures.element_types import element_types
from nas_t2i.results.figures.every import KINDS
from nas_t2i.results.figures.importance import what_matters
from nas_t2i.results.figures.parameters import varied
from nas_t2i.results.figures.ranked import RankedStudies, ranked, read_ranked
from nas_t2i.results.figures.rung_ranks import rung_rankings
from nas_t2i.results.figures.tradeoff import pareto_front, tradeoff
from nas_t2i.results.figures.wording import duration, number, percent, scaled
from nas_t2i.store import Study
from tests.results.fronts.test_front import timed
from tests.results.record_factory import beside, score, signals_of, study, trial

MEASURED = Path(__file__).parents[3] / "results" / "measured" / "v2"


def of(*trials) -> RankedStudies:
    return ranked([Study(Path("nowhere"), study("demo"), list(trials), [], False)])


ROW = of(trial("A")).rows[0]


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"latency"}))  # none is on record
def test_every_figure_of_a_race_can_be_made_and_of_nothing_none(kind: str) -> None:
    chart = KINDS[kind](read_ranked([MEASURED / "sdxl-embedded"]))
    assert chart is not None
    for series in chart.series:
        assert len(series.x) == len(series.y)
        for ends in (series.low, series.high, series.compute, series.hover):
            assert len(ends) in (0, len(series.x))
        middle = series.x if chart.categories else series.y
        assert len(series.low) == len(series.high)
        for low, value, high in zip(series.low, middle, series.high, strict=False):
            assert low <= value <= high
        if chart.categories:
            assert set(series.y) <= set(chart.categories)
    assert KINDS[kind](of()) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_a_front_has_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    rows = [
        ROW.model_copy(update={"gmacs": float(cost), "score": float(value)})
        for (cost, value) in points
    ]
    front = pareto_front(rows, "gmacs", lambda row: row.score or 0.0)
    kept = {(row.gmacs, row.score) for row in front}
    for row in rows:
        beaten = any(
            other.gmacs <= row.gmacs
            and (other.score or 0) >= (row.score or 0)
            and (other.gmacs, other.score) != (row.gmacs, row.score)
            for other in rows
        )
        assert ((row.gmacs, row.score) in kept) == (not beaten)
    assert [row.gmacs for row in front] == sorted({row.gmacs for row in front})


def test_predictions_are_hollow_and_stand_on_no_front() -> None:
    found = read_ranked([MEASURED / "sdxl-embedded"])
    chart = tradeoff(found, "gmacs")
    assert chart is not None
    predicted = {row.rank for row in found.rows if row.predicted}
    assert predicted and {s.rank for s in chart.series if s.hollow} == predicted
    (front,) = [s for s in chart.series if s.role is Role.FRONT]
    hollow = {(s.x[0], s.y[0]) for s in chart.series if s.hollow}
    assert not hollow & set(zip(front.x, front.y, strict=True))


def test_latencies_are_drawn_where_all_are_of_one_machine() -> None:
    def on(hardware: str, *names: str):
        return [
            trial(name, number=i).model_copy(update={"latency": timed(i + 1.0, hardware=hardware)})
            for i, name in enumerate(names)
        ]

    chart = tradeoff(of(*on("CPU A", "A", "B")), "latency_s")
    assert chart is not None and chart.x_title.endswith("on CPU A (fp32, batch 1)")
    assert [s.x for s in chart.series if s.rank] == [(1.0,), (2.0,)]
    assert "1,000 ms a forward pass" in chart.series[0].hover[0]
    assert tradeoff(of(*on("CPU A", "A"), *on("CPU B", "B")), "latency_s") is None
    assert tradeoff(of(*on("CPU A", "A"), trial("B", number=1)), "latency_s") is None
    assert tradeoff(of(trial("A")), "latency_s") is None


def test_a_curve_goes_as_far_as_the_seed_that_went_furthest() -> None:
    def signalled(made):
        curve = [p.model_copy(update={"signals": signals_of(1 / p.step)}) for p in made.curve]
        return made.model_copy(update={"curve": curve})

    trials = [
        signalled(trial("A", {100: 0.4, 200: 0.5, 300: 0.6})),
        signalled(trial("A", {100: 0.3}, seed=1, state=TrialState.STOPPED)),
    ]
    chart = curve(of(*trials), "heldout_loss")
    assert chart is not None
    assert chart.series[0].x == (100, 200, 300)
    assert chart.series[0].y == pytest.approx((1 / 100, 1 / 200, 1 / 300))


def test_curves_are_of_whoever_was_measured_and_say_what_is_better() -> None:
    fid = score([0.0, 0.0], metric="fid", value=123.0, stderr=2.0, per_prompt=[])
    found = of(beside(trial("A"), fid, step=200), trial("B", {100: 0.3}, number=1))
    chart = curve(found, "fid")
    assert chart is not None and chart.y_title == "FID, smaller is better"
    assert [(s.name, s.x, s.y) for s in chart.series] == [("A", (200.0,), (123.0,))]
    ranked_by = curve(found, "tifa")
    assert ranked_by is not None and ranked_by.y_title == "TIFA"
    assert [s.name for s in ranked_by.series] == ["A", "B", "chance 0.350"]
    assert curve(found, "clip_score") is None


def test_what_came_later_changes_no_earlier_rank() -> None:
    start = {"A": 0.6, "B": 0.5, "C": 0.4}
    one = of(*(trial(n, {100: v, 200: v}, number=i) for i, (n, v) in enumerate(start.items())))
    other = of(
        *(trial(n, {100: v, 200: 1 - v}, number=i) for i, (n, v) in enumerate(start.items()))
    )
    first, second = rung_rankings(one)[0], rung_rankings(other)[0]
    assert first.ranks == second.ranks
    assert first.ranks["unet-a", ""][0] == 1
    assert first.winner_place == 1 and second.winner_place == 3


def _designed(effect, count: int = 24) -> RankedStudies:
    generator = np.random.default_rng(0)
    trials = []
    for i in range(count):
        arch = {
            "family": "unet",
            "channels": [128, 256, 384][i % 3],
            "depth": [1, 2][(i // 3) % 2],
            "idle": int(generator.integers(0, 4)),
            "constant": 7,
        }
        trials.append(trial(f"a{i}", {100: effect(arch)}, number=i, arch=arch))
    return of(*trials)


def test_importance_finds_the_parameter_that_makes_the_difference() -> None:
    found = _designed(lambda a: 0.4 + a["channels"] / 2000 + a["depth"] / 100)
    fitted = what_matters(found)
    assert fitted is not None and fitted.explained > 0.8
    by_name = {i.parameter: i for i in fitted.importances}
    assert set(by_name) == {"channels", "depth", "idle"}
    assert fitted.importances[0].parameter == "channels"
    assert by_name["channels"].low > 0.7 > by_name["depth"].high
    assert by_name["idle"].low <= 0.01 and abs(by_name["idle"].value) < 0.05
    values = [effect.value for effect in by_name["channels"].effects]
    assert values == sorted(values)
    by_width: dict[int, list[float]] = {}
    for row in found.rows:
        by_width.setdefault(row.arch["channels"], []).append(row.expected_score or 0.0)
    assert values == pytest.approx([float(np.mean(by_width[w])) for w in (128, 256, 384)], abs=0.01)


def test_importance_of_nothing_explains_nothing() -> None:
    generator = np.random.default_rng(1)
    fitted = what_matters(_designed(lambda _: 0.5 + float(generator.normal(0, 0.05))))
    assert fitted is not None and fitted.explained < 0.3


def test_parameters_that_vary_together_are_one() -> None:
    rows = of(
        *(
            trial(
                f"a{i}",
                {100: 0.5},
                number=i,
                arch={"family": "unet", "transformer_depth": [0, 2, 2 + i % 2], "mid": i % 2},
            )
            for i in range(4)
        )
    ).rows
    (parameter,) = varied(rows)
    assert parameter.name == "transformer_depth[4], mid (together)"
    assert parameter.levels == ("2", "3")


def test_types_show_the_best_the_worst_and_controls() -> None:
    trials = [trial(f"a{i}", {100: 0.5 + i / 40}, number=i) for i in range(12)]
    trials.append(trial("a0", {100: 0.35}, number=99, control="no-cross-attention"))
    chart = element_types(of(*trials))
    assert chart is not None and chart.categories == ("counting", "color")
    assert [s.rank for s in chart.series] == [1, 2, 3, 4, 5, 6, 7, 11, 12, 13]
    assert chart.series[-1].role is Role.CONTROL


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (number(0.0123456), "0.0123"),
        (number(1234.5), "1,230"),
        (number(None), "-"),
        (scaled(2.39e9), "2.39 B"),
        (scaled(1.368e12, "FLOPs"), "1.37 TFLOPs"),
        (scaled(999.9e6), "1.00 B"),
        (percent(0.004), "<1 %"),
        (percent(0.68), "68 %"),
        (percent(0.999), ">99 %"),
        (duration(431), "7 min 11 s"),
        (duration(11100), "3 h 5 min"),
        (duration(0.5), "0.50 s"),
    ],
)
def test_numbers_as_people_read_them(text: str, told: str) -> None:
    assert text == told
