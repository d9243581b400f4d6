"""The hypervolume of a front on the way, from the order that records tell."""

from datetime import UTC, datetime

import pytest

from nas_t2i.errors import RecordError
from nas_t2i.records import TrialState
from nas_t2i.results.figures.hypervolume import hypervolume_course
from nas_t2i.results.figures.ranked import read_ranked
from nas_t2i.results.fronts.course import course
from nas_t2i.results.fronts.history import history
from nas_t2i.results.fronts.wording import course_note
from nas_t2i.search.racing.ledger import RACE_FILE, Ledger, Piece
from nas_t2i.search.resume.rung_log import RungLog
from nas_t2i.store import read_contents
from tests.results.fronts.test_front import timed
from tests.results.record_factory import point, signals_of, study, trial, write_records


def cheap(step: int, loss: float):
    return point(step, [0.5, 0.5]).model_copy(update={"scores": {}, "signals": signals_of(loss)})


def made(**changes):
    """Three that ran to the end, and one that was stopped at a rung with signals alone."""
    trials = [
        trial("small", {100: 0.45, 200: 0.5}, gmacs=10.0, number=0, **changes),
        trial("waste", {100: 0.4, 200: 0.45}, gmacs=95.0, number=2, **changes),
        trial("large", {100: 0.7, 200: 0.8}, gmacs=90.0, number=3, **changes),
    ]
    curved = [
        one.model_copy(update={"curve": [cheap(20, 1 - one.curve[-1].scores["tifa"].value)]})
        if one.name == "stopped"
        else one
        for one in [*trials, trial("stopped", gmacs=50.0, number=1, state=TrialState.STOPPED)]
    ]
    return sorted(curved, key=lambda one: one.number)


def told(folder) -> list[tuple[str, int]]:
    """Whose points came up to which step, in their order."""
    found = history(read_contents(folder))
    return [(s.trial.name, s.trial.curve[s.end - 1].step) for s in found.stretches]


def test_without_a_log_trials_stand_in_the_order_in_which_they_began(tmp_path):
    folder = write_records(tmp_path / "demo", study(), made())
    assert told(folder) == [("small", 200), ("stopped", 20), ("waste", 200), ("large", 200)]
    assert history(read_contents(folder)).order == "in which trials began"


def test_rungs_stand_in_the_order_in_which_they_were_seen(tmp_path):
    folder = write_records(tmp_path / "demo", study(), made())
    with RungLog(folder) as log:
        for name, rung in (("waste", 100), ("small", 100), ("waste", 200), ("large", 200)):
            log.see(f"unet-{name}", 0, rung, 0.5)
    # The stopped one began before `waste`, of the smaller one the last rung was never logged.
    assert told(folder) == [
        ("stopped", 20),
        ("waste", 100),
        ("small", 100),
        ("small", 200),
        ("waste", 200),
        ("large", 200),
    ]
    assert history(read_contents(folder)).order == "in which full rungs were reached"


def race(folder, *pieces):
    ledger = Ledger(folder)
    for number, (name, begin, step) in enumerate(pieces):
        ledger.append(
            Piece(
                number=number,
                name=name,
                arch_id=f"unet-{name}",
                seed=0,
                begin=begin,
                step=step,
                why="race",
                known=0,
            )
        )


def test_a_race_has_the_order_of_its_decisions(tmp_path):
    folder = write_records(tmp_path / "demo", study(), made())
    race(
        folder,
        *(("large", 0, 100), ("stopped", 0, 20), ("small", 0, 200), ("large", 100, 200)),
        ("waste", 0, 200),
    )
    assert told(folder) == [
        ("large", 100),
        ("stopped", 20),
        ("small", 200),
        ("large", 200),
        ("waste", 200),
    ]


def test_at_the_end_it_is_the_hypervolume_of_the_front_and_before_it_of_what_was_known(tmp_path):
    folder = write_records(tmp_path / "demo", study(), made())
    race(
        folder,
        *(("small", 0, 200), ("stopped", 0, 20), ("waste", 0, 200), ("large", 0, 200)),
    )
    found = read_ranked([folder])
    front = found.front("gmacs")
    known = course(front, found.studies, (0.01, 0.5, 0.7, 1.0))
    assert [p.trials for p in known.points] == [1.1, 2.1, 3.1]
    assert [p.training_flops / 6e9 for p in known.points] == [220, 420, 620]
    last, place = known.points[-1], front.place
    assert (last.hypervolume, last.low, last.high) == (
        *(place.hypervolume, place.hypervolume_low, place.hypervolume_high),
    )
    # From the same point, chance and 95 GMACs: who is small was known alone, with the stopped one.
    by_hand = (0.5 - 0.35) * 85
    assert known.points[0].low < by_hand < known.points[0].high
    assert last.hypervolume > known.points[1].hypervolume
    note = course_note(front, known)
    assert f"{known.points[0].hypervolume:.1f} (" in note and "after 1.10, " in note
    assert "the race gave it away" in note


def test_the_figure_shows_it_and_needs_two_points(tmp_path):
    folder = write_records(tmp_path / "demo", study(), made())
    chart = hypervolume_course(read_ranked([folder]))
    (series,) = chart.series
    assert len(series.x) == len(series.compute) >= 2 and series.x[-1] == 3.1
    assert all(
        low <= y <= high for low, y, high in zip(series.low, series.y, series.high, strict=True)
    )
    assert "TIFA 0.350 (chance) up and 95.0 GMACs down" in chart.caption
    assert "in which trials began" in chart.caption
    one = write_records(tmp_path / "one", study("one"), made()[:1])
    assert hypervolume_course(read_ranked([one])) is None
    none = write_records(tmp_path / "none", study("none"), [])
    assert hypervolume_course(read_ranked([none])) is None


def test_it_is_that_of_the_objectives_which_the_study_sought(tmp_path):
    record = study()
    search = {"trials": 4, "objectives": ["tifa", "-latency", "-gmacs"]}
    used = record.budget.model_copy(update={"data": {"search": search}})
    seconds = {"small": 0.01, "stopped": 0.03, "waste": 0.05, "large": 0.04}
    trials = [one.model_copy(update={"latency": timed(seconds[one.name])}) for one in made(seed=0)]
    folder = write_records(tmp_path / "demo", record.model_copy(update={"budget": used}), trials)
    found = read_ranked([folder])
    assert found.sought.costs == ["latency", "gmacs"]
    chart = hypervolume_course(found)
    assert chart.y_title == "hypervolume, TIFA x ms x GMACs"
    assert "the front of TIFA, ms, GMACs" in chart.caption
    assert "TIFA 0.350 (chance) up, 50.0 ms down and 95.0 GMACs down" in chart.caption
    (series,) = chart.series
    place = found.sought.place
    assert series.y[-1] == pytest.approx(1e3 * place.hypervolume)  # in ms, as it says


def test_studies_follow_each_other_and_controls_and_what_broke_are_left_out(tmp_path):
    late = study("late", created=datetime(2026, 11, 21, tzinfo=UTC))
    control = trial("cheat", {200: 0.9}, gmacs=2.0, control="shuffled-captions", number=1)
    mad = trial("mad", {100: 0.9}, gmacs=1.0, state=TrialState.DIVERGED, number=2)
    folders = [
        write_records(tmp_path / "late", late, [trial("large", gmacs=90.0, study="late")]),
        write_records(tmp_path / "demo", study(), [trial("small", gmacs=10.0), control, mad]),
    ]
    found = read_ranked(folders)
    known = course(found.front("gmacs"), found.studies, (0.4, 0.6, 1.0))
    # `mad` was trained, too, but is of no front.
    assert [p.trials for p in known.points] == [1.0, 1.5, 2.5]
    assert known.points[0].hypervolume == known.points[1].hypervolume


def test_a_race_that_was_changed_is_refused_and_a_torn_line_passed_over(tmp_path):
    folder = write_records(tmp_path / "demo", study(), made())
    race(folder, ("small", 0, 200), ("large", 0, 200))
    file = folder / RACE_FILE
    content = file.read_bytes()
    file.write_bytes(content + b'{"version":1,"numb')
    assert told(folder)[0] == ("small", 200)
    assert file.read_bytes().endswith(b'"numb')  # it may be on its way
    file.write_bytes(content.replace(b'"step":200', b'"step":100', 1))
    with pytest.raises(RecordError, match=r"race.jsonl:1: changed since it was written"):
        told(folder)
