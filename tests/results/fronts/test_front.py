"""The front of a ranking: on made records whose order is plain, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from nas_t2i.errors import IncomparableError, RecordError, UserError
from nas_t2i.records import Latency, TrialRecord, TrialState
from nas_t2i.results.fronts.front import Front, read_limits, read_reference, with_front
from nas_t2i.results.fronts.latencies import Latencies, read_latencies
from nas_t2i.results.fronts.objectives import objectives_of, ranked_against
from nas_t2i.results.fronts.wording import front_notes, sought_note
from nas_t2i.results.leaderboard import rank_trials
from nas_t2i.results.tables.exports import render_leaderboard, to_markdown
from nas_t2i.results.tables.tabular import to_csv, to_json
from tests.results.record_factory import HELD_OUT, signals_of, trial


def trials(scored: dict | None = None) -> list[TrialRecord]:
    """Two seeds each of four that are plainly apart, a control and one that diverged."""
    made = []
    for seed in (0, 1):
        made += [
            trial("small", {100: 0.4, 200: 0.45}, gmacs=10.0, params=90, seed=seed, scored=scored),
            trial("bent", {100: 0.6, 200: 0.7}, gmacs=30.0, params=100, seed=seed, scored=scored),
            trial("large", {100: 0.7, 200: 0.8}, gmacs=90.0, params=300, seed=seed, scored=scored),
            trial("waste", {100: 0.4, 200: 0.5}, gmacs=95.0, params=400, seed=seed, scored=scored),
        ]
    mad = trial("mad", {100: 0.9}, gmacs=1.0, state=TrialState.DIVERGED, scored=scored)
    control = trial("cheat", {200: 0.9}, gmacs=2.0, control="shuffled-captions", scored=scored)
    return [*made, mad, control]


def front_of(made: list[TrialRecord], *costs: str, **options) -> Front:
    return with_front(rank_trials(made), made, ranked_against(costs, made), **options)


def test_the_front_its_knee_and_its_hypervolume() -> None:
    front = front_of(trials(), "gmacs")
    assert [row.name for row in front.among] == ["small", "bent", "large", "waste"]
    on = [row.front.probability for row in front.among if row.front]
    assert on[0] == 1.0 and min(on[:3]) > 0.95 and on[3] < 0.05
    assert [row.name for row in front.shown] == ["small", "bent", "large"]
    assert front.knee == "bent"
    place = front.place
    assert place is not None
    assert place.reference == {"tifa": 0.35, "gmacs": 95.0}
    by_hand = (0.45 - 0.35) * 20 + (0.7 - 0.35) * 60 + (0.8 - 0.35) * 5
    assert place.hypervolume_low < by_hand < place.hypervolume_high
    assert place.hypervolume == pytest.approx(by_hand, rel=0.1)


def test_the_draws_are_those_of_the_probability_of_being_the_best() -> None:
    made = trials()
    rows = rank_trials(made)
    told = {row.name: row.probability_best for row in rows}
    for row in front_of(made, "params").among:
        assert row.front and row.front.probability_best == told[row.name]
    # Nothing is cheaper than the cheapest, nothing better than the best.
    best = front_of(made, "params").among[2]
    assert best.front and best.front.probability >= told[best.name]


def test_within_limits_only_those_within_compete() -> None:
    front = front_of(trials(), "gmacs", limits={"gmacs": 50.0, "params": 100.0})
    assert [row.name for row in front.among] == ["small", "bent"]
    assert front.among[1].front and front.among[1].front.probability_best > 0.95
    assert front_notes(front)[0].startswith("best under 50 GMACs and 100 parameters: bent with")
    with pytest.raises(UserError, match=r"--under gmacs=5: no architecture .* least is gmacs 10"):
        front_of(trials(), "gmacs", limits={"gmacs": 5.0})


def test_a_reference_moves_the_hypervolume_alone() -> None:
    place = front_of(trials(), "gmacs", reference=(0.0, 195.0)).place
    plain = front_of(trials(), "gmacs").place
    assert place and plain
    # .35 more below the front, from 10 GMACs on, and 100 GMACs more to its right.
    added = 0.35 * 85 + 0.8 * 100
    assert place.hypervolume - plain.hypervolume == pytest.approx(added, rel=0.1)
    assert place.probability == plain.probability


def test_compute_is_that_to_the_last_rung_also_of_who_stopped() -> None:
    made = [*trials(), trial("stopped", {100: 0.35}, gmacs=40.0, state=TrialState.STOPPED)]
    front = front_of(made, "compute")
    stopped = next(row for row in front.among if row.name == "stopped")
    assert stopped.predicted and stopped.front and stopped.front.costs == {"compute": 200 * 6e9}


def test_without_a_chance_level_the_lowest_is_the_reference_and_without_scores_there_is_none() -> (
    None
):
    front = front_of(trials(HELD_OUT), "gmacs")
    lowest = min(row.expected_score or 1 for row in front.among)
    assert front.place and front.place.reference["heldout_r2"] == pytest.approx(lowest)
    empty = front_of([trial("A", {})], "gmacs")
    assert (empty.place, empty.shown, front_notes(empty)) == (None, [], [])


def test_a_smaller_score_may_be_the_better_one() -> None:
    made = [
        trial(name, {200: value}, gmacs=gmacs, scored={"better": "smaller", "chance": None})
        for name, value, gmacs in (("a", 0.6, 1.0), ("b", 0.3, 2.0), ("c", 0.7, 3.0))
    ]
    front = front_of(made, "gmacs")
    assert [row.name for row in front.shown][:2] == ["a", "b"]
    assert front.place and front.place.reference["tifa"] > 0.5


def test_exports_have_the_place_of_each_row() -> None:
    front = front_of(trials(), "gmacs")
    data = json.loads(to_json(front.shown))
    assert data[1]["front"]["costs"] == {"gmacs": 30.0} and data[1]["front"]["probability"] > 0.9
    records = list(csv.DictReader(io.StringIO(to_csv(front.rows))))
    bent = next(record for record in records if record["name"] == "bent")
    assert (bent["front_objectives"], bent["front_gmacs"]) == ("tifa; -gmacs", "30.0")
    assert (
        float(bent["front_tifa_low"]) < float(bent["front_tifa"]) < float(bent["front_tifa_high"])
    )
    assert bent["front_tifa"] == bent["expected_score"] and bent["front_reference_gmacs"] == "95.0"
    assert {r["front_tifa"] for r in records if r["name"].startswith(("mad", "cheat"))} == {""}
    plain = rank_trials(trials())
    assert "front" not in to_csv(plain) and "front" not in json.loads(to_json(plain))[0]


# --- more than one score and one cost --------------------------------------------------------


def with_loss(made: list[TrialRecord], losses: dict[str, float]) -> list[TrialRecord]:
    """Trials with the held-out loss of their name at every rung, and twice as much at the first."""
    return [
        one.model_copy(
            update={
                "curve": [
                    p.model_copy(
                        update={"signals": signals_of(losses[one.name] * (2 if not i else 1))}
                    )
                    for i, p in enumerate(one.curve)
                ]
            }
        )
        for one in made
    ]


LOSSES = {"small": 0.3, "bent": 0.29, "large": 0.28, "waste": 0.2, "mad": 0.9, "cheat": 0.1}


def test_a_front_against_two_costs() -> None:
    made = trials()
    made += [trial("odd", {200: 0.6}, gmacs=200.0, params=95, seed=seed) for seed in (0, 1)]
    of_both = front_of(made, "gmacs", "params")
    assert [row.name for row in of_both.shown] == ["small", "bent", "large", "odd"]
    assert [row.name for row in front_of(made, "gmacs").shown] == ["small", "bent", "large"]
    place = of_both.among[0].front
    assert place and place.reference == {"tifa": 0.35, "gmacs": 200.0, "params": 400.0}
    assert place.costs == {"gmacs": 10.0, "params": 90.0} and place.probability_knee is None
    # small and odd (200 GMACs are the reference: nothing), bent from 30 and 100 on, large.
    by_hand = 0.1 * 190 * 310 + (0.7 - 0.45) * 170 * 300 + 0.1 * 110 * 100
    assert place.hypervolume == pytest.approx(by_hand, rel=0.1)
    notes = front_notes(of_both)
    assert len(notes) == 2 and "as cheap in GMACs of one forward pass and parameters" in notes[0]
    assert (
        "TIFA x GMACs x parameters, from TIFA 0.350 (chance) up, 200 GMACs down and 400 "
        in (notes[1])
    )
    assert notes[1].endswith("; --reference SCORE,COST,COST sets it")
    moved = front_of(made, "gmacs", "params", reference=(0.35, 400.0, 400.0)).place
    assert moved and moved.hypervolume > 2 * place.hypervolume


def test_a_front_of_a_metric_that_is_not_ranked_by() -> None:
    made = with_loss(trials(), LOSSES)
    rows = rank_trials(made)
    front = with_front(rows, made, objectives_of(("-heldout_loss", "-gmacs"), made))
    # By the loss, `waste` is no waste; the control is of no front, however good.
    assert [row.name for row in front.among] == ["small", "bent", "large", "waste"]
    places = {row.name: row.front for row in front.among if row.front}
    waste = places["waste"]
    assert waste.probability > 0.95 and waste.probability_best > 0.95
    assert waste.scores["heldout_loss"].low < 0.2 < waste.scores["heldout_loss"].high
    assert waste.reference["heldout_loss"] == max(
        place.scores["heldout_loss"].expected for place in places.values()
    )
    # What all lose from rung to rung says nothing of how sure a loss is.
    assert waste.scores["heldout_loss"].high - waste.scores["heldout_loss"].low < 0.1
    told = "\n".join(front_notes(front))
    assert "as good in held-out loss and as cheap" in told
    assert f"from held-out loss {waste.reference['heldout_loss']:.3f} down and 95.0 GMACs down" in (
        told
    )


def test_a_front_of_two_metrics_without_a_cost() -> None:
    made = with_loss(trials(), LOSSES)
    rows = rank_trials(made)
    front = with_front(rows, made, objectives_of(("tifa", "-heldout_loss"), made))
    assert [row.name for row in front.among] == [
        row.name for row in rows if row.probability_best is not None
    ]
    shown = {row.name: row.front for row in front.shown if row.front}
    assert {"large", "waste"} <= set(shown) and front.knee is None
    own = {row.name: row.probability_best for row in rows}
    for name, place in shown.items():
        assert place.probability_best == own[name]  # by the first of them, the ranked one
        assert place.costs == {} and place.probability_knee is None
    assert (
        "drawn independently: what a lucky seed does to both is not in it"
        in (front_notes(front)[0])
    )
    console = Console(file=io.StringIO(), width=60, force_terminal=False)
    render_leaderboard(front.rows, console)
    header = console.file.getvalue().splitlines()[1]
    assert "expected held-out loss" in header and "P(front)" in header
    again = with_front(rows, made, objectives_of(("tifa", "-heldout_loss"), made))
    assert again.place == front.place


# --- latencies -------------------------------------------------------------------------------


def latency_file(tmp_path: Path, *changes: dict) -> Path:
    common = {"hardware": "GPU A", "dtype": "bf16", "batch": 1, "repeats": 9}
    rows = [
        {"arch_id": f"unet-{name}", "latency": common | {"median_s": 0.01 * i} | more}
        for i, (name, more) in enumerate(
            zip(("small", "bent", "large", "waste"), changes or ({},) * 4, strict=False), start=1
        )
    ]
    file = tmp_path / "latencies.json"
    file.write_text(json.dumps(rows))
    return file


def test_latencies_of_a_file_are_a_cost(tmp_path: Path) -> None:
    known = read_latencies(latency_file(tmp_path))
    front = front_of(trials(), "latency", latencies=known)
    assert [row.front.costs["latency"] for row in front.among if row.front] == [
        0.01,
        0.02,
        0.03,
        0.04,
    ]
    assert "latency on GPU A (bf16, batch 1)" in front_notes(front)[0]
    with pytest.raises(
        RecordError, match="no latency on record of bent, large, small, waste; expected"
    ):
        front_of(trials(), "latency", latencies=Latencies({}, {}))


def timed(seconds: float, **changes) -> Latency:
    """What a study has on record of an architecture that takes so long."""
    return Latency.model_validate(
        {
            **dict.fromkeys(("median_s", "first_quartile_s", "third_quartile_s"), seconds),
            **{"repeats": 5, "batch": 1, "latent_size": 32, "text_tokens": 77, "dtype": "fp32"},
            **{"compiled": False, "hardware": "CPU A", "threads": 1, "torch": "2"},
            **changes,
        }
    )


def test_a_study_has_its_own_latencies() -> None:
    seconds = {"small": 0.04, "bent": 0.02, "large": 0.03, "waste": 0.01, "mad": 0.01}
    made = [
        t if t.control else t.model_copy(update={"latency": timed(seconds[t.name])})
        for t in trials()
    ]
    front = front_of(made, "latency", limits={"latency": 0.03})
    assert [row.name for row in front.among] == ["waste", "bent", "large"]
    notes = front_notes(front)
    assert "latency on CPU A (fp32, batch 1)" in notes[1] and "taken for exact" in notes[1]
    rows = {row.name: row for row in rank_trials(made)}
    assert rows["bent"].latency_s == 0.02 and rows["cheat [shuffled-captions]"].latency_s is None
    lines = to_csv(list(rows.values())).splitlines()
    assert "latency_s" in lines[0] and "latency_s" not in to_csv(rank_trials(trials()))
    assert "latency_s" not in json.loads(to_json(rank_trials(trials())))[0]
    assert "ms/pass" in to_markdown(list(rows.values()))
    other = made[3].model_copy(update={"latency": timed(0.01, hardware="CPU B")})
    told = "demo/waste: latencies of unlike hardware don't compare: 'CPU B', and 'CPU A' of demo/"
    with pytest.raises(IncomparableError, match=told):
        front_of([*made[:3], other], "latency")
    with pytest.raises(RecordError, match="no latency on record of waste; expected a study that"):
        front_of([*made[:3], other.model_copy(update={"latency": None})], "latency")


def test_latencies_of_unlike_hardware_are_refused(tmp_path: Path) -> None:
    file = latency_file(tmp_path, {}, {"hardware": "GPU B"})
    with pytest.raises(IncomparableError, match=r"\[1\]: latencies of unlike hardware .*'GPU A'"):
        read_latencies(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", r"latencies.json:1:2: .*JSON"),
        ("{}", "no list of profiles; expected what `nas-t2i profile"),
        ('[{"arch_id": "a"}]', r"\[0\]: no latency"),
    ],
)
def test_what_is_no_file_of_latencies(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "latencies.json"
    file.write_text(text)
    with pytest.raises(RecordError, match=told):
        read_latencies(file)
    with pytest.raises(RecordError, match="can't be read"):
        read_latencies(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gmac=1", r"--under: got 'gmac=1'; .* latency; did you mean 'gmacs'\?"),
        ("gmacs", "expected COST=NUMBER"),
        ("compute=1,training_flops=2", r"got compute twice; expected each cost once"),
        ("gmacs=-1", "--under gmacs: got '-1'; expected a number above 0"),
        ("gmacs=1e999", "expected a number, as"),
    ],
)
def test_limits_that_say_nothing(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_limits(text.split(","))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,2", "got 'a'; expected a number"),
        ("1,b", "got 'b'; expected a number"),
        ("nan,2", "got 'nan'; expected a number"),
        ("1", "got 1 numbers; expected one for each of tifa, -gmacs"),
        ("1,2,3", "got 3 numbers; expected one for each of tifa, -gmacs"),
        ("0.1,-3", "got -3 for gmacs; expected more than 0"),
    ],
)
def test_references_that_are_none(text: str, told: str) -> None:
    with pytest.raises(UserError, match=f"--reference: {told}"):
        front_of(trials(), "gmacs", reference=read_reference(text))


def test_what_a_table_is_not_about_is_said() -> None:
    front = front_of(trials(), "gmacs")
    assert sought_note(["-gmacs", "tifa"], "tifa", front) == sought_note([], "tifa", None) == ""
    assert sought_note(["tifa", "-gmacs", "-params"], "tifa", front) == (
        "this front is of tifa, -gmacs; sought: tifa, -gmacs, -params, which --pareto shows the "
        "front of"
    )
    assert sought_note(["-heldout_loss", "tifa"], "tifa", None) == (
        "ranked by TIFA alone; sought: -heldout_loss, tifa, which --pareto shows the front of"
    )


def test_the_cost_of_a_front_is_there_on_a_narrow_screen() -> None:
    for cost, title in (("gmacs", "GMACs"), ("params", "params")):
        rows = front_of(trials(), cost).rows
        console = Console(file=io.StringIO(), width=50, force_terminal=False)
        render_leaderboard(rows, console)
        assert title in console.file.getvalue().splitlines()[1]


def test_what_limits_and_references_say() -> None:
    assert read_limits(["training_flops=1e15"]) == {"compute": 1e15}
    assert read_limits(["gmacs=100", "params=3e8"]) == {"gmacs": 100.0, "params": 3e8}
    assert read_reference("-0.5,180") == (-0.5, 180.0)
