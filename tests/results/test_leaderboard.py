"""The order of a ranking, its ties and what it refuses to compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.errors import IncomparableError, RecordError, UserError
from nas_t2i.records import TrialRecord, TrialState
from nas_t2i.results.leaderboard import (
    LeaderboardRow,
    numeric_columns,
    rank_trials,
    sort_rows,
)
from tests.results.record_factory import HELD_OUT, point, prompt_scores, trial

STOPPED, COMPLETE, FAILED = TrialState.STOPPED, TrialState.COMPLETE, TrialState.FAILED
DIVERGED, RUNNING, INTERRUPTED = TrialState.DIVERGED, TrialState.RUNNING, TrialState.INTERRUPTED


def names(rows: list[LeaderboardRow]) -> list[str]:
    return [row.name for row in rows]


def by_name(trials: list[TrialRecord]) -> dict[str, LeaderboardRow]:
    return {row.name: row for row in rank_trials(trials)}


def prompts(count: int, right: int) -> list[float]:
    return [1.0] * right + [0.0] * (count - right)


# --- the order -------------------------------------------------------------------------------


def test_no_trials_no_rows() -> None:
    assert rank_trials([]) == []


def test_the_expected_final_score_decides_also_of_what_was_stopped() -> None:
    rows = rank_trials(
        [
            trial("dead", {}, state=FAILED, reason="killed"),
            trial("early", {100: 0.9}, state=STOPPED),
            trial("mad", {100: 0.5, 200: 0.9}, state=DIVERGED),
            trial("second", {100: 0.4, 200: 0.5}),
            trial("late", {100: 0.37}, state=STOPPED),
            trial("first", {100: 0.5, 200: 0.6}),
            trial("waiting", {}, state=RUNNING),
        ]
    )
    order = ["early", "first", "second", "late", "waiting", "mad", "dead"]
    assert names(rows) == order
    assert [row.rank for row in rows] == list(range(1, 8))
    assert [row.predicted for row in rows] == [True, False, False, True, False, False, False]
    assert [row.measured_seeds for row in rows] == [0, 1, 1, 0, 0, 0, 0]
    assert rows[-1].score is None and rows[-1].expected_score is None
    assert rows[5].score == pytest.approx(0.9, abs=0.1)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_ranks_depend_on_nothing_but_the_trials(data: st.DataObject) -> None:
    ends = st.sampled_from([STOPPED, COMPLETE, FAILED, RUNNING])
    values = st.lists(st.sampled_from([0.1, 0.3, 0.5]), max_size=3)
    trials = [
        trial(
            f"n{i}",
            {100 * (k + 1): v for k, v in enumerate(data.draw(values))},
            state=data.draw(ends),
            number=i,
            params=10**8 * data.draw(st.integers(1, 3)),
        )
        for i in range(data.draw(st.integers(1, 6)))
    ]
    rows = rank_trials(trials)
    assert rank_trials(data.draw(st.permutations(trials))) == rows
    assert sorted(names(rows)) == sorted(t.name for t in trials)
    tied = {row.name: set(row.tied_with) for row in rows}
    assert all(name in tied[other] for name, others in tied.items() for other in others)
    assert all(name not in others for name, others in tied.items())
    working = [row.state is not FAILED for row in rows]
    assert working == sorted(working, reverse=True)


def test_a_control_that_was_never_stopped_stands_below_what_beats_it() -> None:
    rows = rank_trials(
        [
            trial("A", {100: 0.5, 200: 0.7}),
            trial("A", {100: 0.3, 200: 0.35}, control="no-cross-attention"),
            trial("A", {100: 0.32, 200: 0.4}, control="shuffled-captions"),
            trial("B", {100: 0.4}, state=STOPPED),
            trial("C", {100: 0.35}, state=STOPPED),
            trial("D", {100: 0.6}, state=DIVERGED),
        ]
    )
    assert names(rows) == [
        "A",
        "B",
        "C",
        "A [shuffled-captions]",
        "A [no-cross-attention]",
        "D",
    ]


def test_a_control_that_wins_is_not_hidden() -> None:
    rows = rank_trials(
        [trial("A", {100: 0.4, 200: 0.5}), trial("B", {100: 0.5, 200: 0.6}, control="shuffled")]
    )
    assert names(rows) == ["B [shuffled]", "A"]


# --- seeds -----------------------------------------------------------------------------------


def test_seeds_of_one_architecture_are_one_row() -> None:
    curves = [{200: prompts(10, 6)}, {200: [0.0] * 2 + [1.0] * 8}]
    (row,) = rank_trials([trial(curve=c, seed=i + 3) for i, c in enumerate(curves)])
    assert (row.score, row.score_by_seed) == (pytest.approx(0.7), [0.6, 0.8])
    assert (row.seed, row.seeds) == (3, [3, 4])
    assert row.score_seed_std == pytest.approx(math.sqrt(0.02))
    # The prompts' means over the seeds: 0.5 twice, 1 four times, 0.5 four times.
    means = [0.5] * 2 + [1.0] * 4 + [0.5] * 4
    assert row.score_stderr == pytest.approx(np.std(means, ddof=1) / math.sqrt(10))


def test_a_stopped_seed_is_not_left_out() -> None:
    (row,) = rank_trials(
        [
            trial(curve={100: prompts(10, 6), 200: prompts(10, 9)}),
            trial(curve={100: prompts(10, 2)}, seed=1, state=STOPPED),
        ]
    )
    assert (row.step, row.state, row.score) == (100, STOPPED, pytest.approx(0.4))


@pytest.mark.parametrize("state", [FAILED, INTERRUPTED, RUNNING])
def test_a_seed_that_got_no_say_is_left_out_and_named(state: TrialState) -> None:
    (row,) = rank_trials(
        [
            trial(curve={100: prompts(10, 6), 200: prompts(10, 9)}),
            trial(curve={100: prompts(10, 2)}, seed=1, state=state, steps_done=130),
        ]
    )
    assert (row.step, row.state, row.score, row.seeds) == (200, COMPLETE, 0.9, [0])
    assert row.reason == f"seed 1: {state} at step 130 (left out)"


def test_one_diverged_seed_condemns_the_architecture() -> None:
    rows = rank_trials(
        [
            trial("A", {200: 0.9}),
            trial("A", {}, seed=1, state=DIVERGED, reason="loss is nan"),
            trial("B", {200: 0.3}),
        ]
    )
    assert names(rows) == ["B", "A"]
    assert (rows[1].state, rows[1].reason) == (DIVERGED, "seed 1: loss is nan (left out)")


def test_the_same_seed_twice_is_one_measurement() -> None:
    first = trial(curve={200: prompts(10, 6)}, study="old")
    later = trial(curve={200: prompts(10, 7)}, study="new")
    broken = trial(curve={}, state=FAILED, study="newest")
    (row,) = rank_trials([first, later, broken])
    assert (row.score, row.seeds, row.study) == (0.7, [0], "new")


# --- ties ------------------------------------------------------------------------------------


def test_ties_are_of_finals_and_what_is_predicted_ties_more() -> None:
    seeds = range(3)
    rows = by_name(
        [trial("A", {100: 0.6, 200: 0.95}, seed=i) for i in seeds]
        + [trial("B", {100: 0.6, 200: 0.93}, seed=i) for i in seeds]
        + [trial("C", {100: 0.38, 200: 0.4}, seed=i) for i in seeds]
        + [trial("D", {100: 0.6}, seed=i, state=STOPPED) for i in seeds]
    )
    assert "B" in (rows["A"].tied_with or []) and "C" not in (rows["A"].tied_with or [])
    assert {"A", "B"} <= set(rows["D"].tied_with or [])
    assert [rows[name].predicted for name in "ABCD"] == [False, False, False, True]
    assert sum(row.probability_best or 0 for row in rows.values()) == pytest.approx(1)


def test_of_many_entries_only_the_best_are_compared_in_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nas_t2i.results.beliefs.MOST_COMPARED", 2)
    rows = rank_trials(
        [trial(name, {200: v}) for name, v in {"A": 0.9, "B": 0.8, "C": 0.5}.items()]
    )
    assert [row.tied_with is None for row in rows] == [False, False, True]


def test_broken_trials_are_not_compared() -> None:
    rows = by_name([trial("A", {200: 0.5}), trial("B", {200: 0.5}, state=DIVERGED)])
    assert rows["A"].tied_with == rows["B"].tied_with == []


def test_seed_noise_counts_in_ties() -> None:
    # Prompts alone tell A from B; but seeds of one architecture differ as much as they do.
    def seeds(name: str, *values: float) -> list[TrialRecord]:
        shared = np.array(prompt_scores(0.5)) * 0.3
        curves = [{200: list(shared + value)} for value in values]
        return [trial(name, curve, seed=i) for i, curve in enumerate(curves)]

    noisy = by_name([*seeds("A", 0.45, 0.65), *seeds("B", 0.37, 0.57)] * 1)
    assert noisy["A"].tied_with == ["B"]
    calm = [s for i in range(20) for s in seeds(f"X{i}", *[0.2 + 0.03 * i] * 4)]
    told = by_name(calm + seeds("A", *[0.51] * 4) + seeds("B", *[0.39] * 4))
    assert "B" not in (told["A"].tied_with or [])


def test_scores_without_prompts_fall_back_to_standard_errors() -> None:
    def bare(name: str, value: float) -> TrialRecord:
        curve = point(200, [0.0, 1.0], value=value, stderr=0.02, per_prompt=[])
        return trial(name, {}).model_copy(update={"curve": [curve]})

    rows = by_name([bare("A", 0.8), bare("B", 0.77), bare("C", 0.4)])
    assert rows["A"].tied_with == ["B"]
    assert rows["A"].score_stderr == pytest.approx(0.02)


def test_a_prompt_that_could_not_be_scored_is_left_out_for_both() -> None:
    a, b = prompt_scores(0.5), prompt_scores(0.5)
    b[0] = math.nan
    curve = point(200, b, value=0.5, stderr=0.02)
    rows = by_name([trial("A", {200: a}), trial("B", {}).model_copy(update={"curve": [curve]})])
    assert rows["A"].tied_with == ["B"]
    assert rows["B"].score_stderr is None


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            trial("B", budget_id="gpu-2", study="big"),
            r"different budgets .*: embedded-1 \(study demo, A\) and gpu-2 \(study big, B\)",
        ),
        (
            trial("B", budget_id="gpu-2", scored=HELD_OUT),
            r"different metrics .*: tifa \(study demo, A\) and heldout_r2 \(study demo, B\)",
        ),
        (
            trial("B", {}).model_copy(
                update={"curve": [point(200, prompt_scores(0.5), signature="tifa/blip/60")]}
            ),
            "different metric signatures .*: tifa/shapes-1/60 .* and tifa/blip/60 ",
        ),
        (
            trial("B", {200: prompt_scores(0.5, prompts=7)}),
            "different numbers of prompts: 7, 60",
        ),
        (
            trial("A", {200: prompt_scores(0.5, prompts=7)}, seed=1),
            "A: seeds scored on different numbers of prompts: 60, 7",
        ),
    ],
)
def test_unlike_scores_are_refused(other: TrialRecord, message: str) -> None:
    with pytest.raises(IncomparableError, match=message):
        rank_trials([trial("A"), other])


# --- fronts, sorting, rows -------------------------------------------------------------------


def on_front(rows: Sequence[LeaderboardRow], cost: str) -> list[str]:
    kept = [row for row in rows if cost in row.pareto]
    return names(sorted(kept, key=lambda row: getattr(row, cost)))


def trials_for_fronts() -> list[TrialRecord]:
    return [
        trial("big", {100: 0.6, 200: 0.8}, params=900, gmacs=90.0),
        trial("good", {100: 0.6, 200: 0.75}, params=300, gmacs=50.0),
        trial("poor", {100: 0.5, 200: 0.6}, params=400, gmacs=60.0),
        trial("lean", {100: 0.5, 200: 0.5}, params=350, gmacs=20.0),
        trial("tiny", {100: 0.4}, params=10, gmacs=1.0, state=STOPPED),
        trial("cheat", {100: 0.9, 200: 0.95}, params=20, gmacs=2.0, control="shuffled"),
        trial("mad", {200: 0.99}, params=5, gmacs=0.5, state=DIVERGED),
    ]


def test_the_front_holds_who_is_not_beaten_in_both() -> None:
    rows = rank_trials(trials_for_fronts())
    assert on_front(rows, "params") == ["good", "big"]
    assert on_front(rows, "gmacs") == ["lean", "good", "big"]
    # Score and compute of a stopped trial are of the same moment: it competes.
    assert on_front(rows, "training_flops") == ["tiny", "big"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=8))
def test_the_front_is_what_a_comparison_of_all_pairs_leaves(drawn: list[tuple[int, int]]) -> None:
    trials = [
        trial(f"a{i}", {100: prompts(8, score)}, params=cost)
        for i, (cost, score) in enumerate(drawn)
    ]
    kept = {
        f"a{i}"
        for i, (cost, score) in enumerate(drawn)
        if not any(
            other != (cost, score) and other[0] <= cost and other[1] >= score for other in drawn
        )
    }
    assert set(on_front(rank_trials(trials), "params")) == kept


def test_sorting() -> None:
    rows = rank_trials([*trials_for_fronts(), trial("none", {}, state=FAILED, params=1)])
    assert names(sort_rows(rows, "params"))[:3] == ["none", "mad", "tiny"]
    assert names(sort_rows(rows, "-params"))[:2] == ["big", "poor"]
    assert names(sort_rows(rows, "score"))[:2] == ["mad", "cheat [shuffled]"]
    assert sort_rows(rows, "score")[-1].name == sort_rows(rows, "-score")[-1].name == "none"
    assert sort_rows(rows, "rank") == rows


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("parms", r"'parms' is no column; expected one of rank, score, .*did you mean 'params'\?"),
        ("state", "'state' is not a number; expected one of rank"),
        ("-zzz", "'zzz' is no column"),
    ],
)
def test_sorting_by_what_is_no_number(column: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        sort_rows([], column)


def test_every_numeric_column_sorts() -> None:
    rows = rank_trials([trial("A"), trial("B", {}, state=FAILED)])
    columns = numeric_columns()
    assert {"score", "params", "gmacs", "training_flops", "seconds", "step"} <= set(columns)
    assert all(len(sort_rows(rows, column)) == 2 for column in columns)


def test_a_row_says_what_was_trained_and_what_is_full() -> None:
    (row,) = rank_trials([trial("A", {100: 0.5, 200: 0.6}, params=5_000, gmacs=20.0)])
    assert (row.params, row.gmacs, row.attention_share) == (5_000, 20.0, 0.6)
    assert (row.trained_params, row.trained_gmacs) == (50, 0.2)
    assert (row.training_flops, row.seconds, row.step) == (200 * 6e9, 20.0, 200)
    assert (row.chance, row.n_prompts, row.by_type["counting"]) == (0.35, 60, 0.5)


def test_rows_speak_of_the_metric_of_their_scores() -> None:
    rows = rank_trials(
        [
            trial("A", {200: [-0.2, 0.1]}, scored=HELD_OUT),
            trial("B", {200: [0.6, 0.9]}, scored=HELD_OUT),
            trial("C", {}, state=FAILED),
        ]
    )
    assert names(rows) == ["B", "A", "C"]
    assert {row.metric for row in rows} == {"heldout_r2"}
    assert [row.score for row in rows] == [pytest.approx(0.75), pytest.approx(-0.05), None]
    assert [row.chance for row in rows] == [None] * 3
    (unscored,) = rank_trials([trial("C", {}, state=FAILED)])
    assert unscored.metric == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arch_id": "unet-aaaaaa111111"}, ["A (111111)", "A (222222)"]),
        ({"arch_id": "unet-aaaaaa111111", "control": "A"}, ["A (111111)", "A (222222)"]),
        ({"arch_id": "unet-aaaaaa111111", "control": "shuffled"}, ["A [shuffled]", "A"]),
    ],
)
def test_names_are_unique(changes: dict[str, Any], expected: list[str]) -> None:
    rows = rank_trials(
        [trial("A", {200: 0.9}, **changes), trial("A", {200: 0.3}, arch_id="unet-bbbbbb222222")]
    )
    assert names(rows) == expected


def test_a_seed_without_a_score_does_not_decide_the_state_of_a_row() -> None:
    whole = trial("A", {100: [0.5, 0.6], 200: [0.7, 0.8]})
    paused = trial("A", {}, seed=1, state=TrialState.STOPPED)
    broken = trial("A", {}, seed=1, state=TrialState.DIVERGED)
    assert [row.state for row in rank_trials([whole, paused])] == [TrialState.COMPLETE]
    assert [row.state for row in rank_trials([paused])] == [TrialState.STOPPED]
    assert [row.state for row in rank_trials([whole, broken])] == [TrialState.DIVERGED]


def test_an_infinite_score_of_a_prompt_is_refused_in_a_line() -> None:
    sound, broken = trial("A", {200: [0.7, 0.8]}), trial("B", {200: [0.7, 0.8]})
    (score_,) = broken.curve[0].scores.values()
    endless = score_.model_copy(update={"per_prompt": [0.5, math.inf]})
    curve = [broken.curve[0].model_copy(update={"scores": {endless.metric: endless}})]
    with pytest.raises(RecordError, match=r"^B seed 0: tifa of a prompt is infinite"):
        rank_trials([sound, broken.model_copy(update={"curve": curve})])
