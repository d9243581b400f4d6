"""Rankings as JSON, CSV, Markdown and on screens of several widths."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from nas_t2i.records import TrialState
from nas_t2i.results.leaderboard import LeaderboardRow, rank_trials
from nas_t2i.results.tables.exports import (
    export,
    render_leaderboard,
    to_csv,
    to_json,
    to_markdown,
    write_leaderboard,
)
from nas_t2i.store import read_contents
from tests.results.record_factory import HELD_OUT, beside, score, study, trial, write_records

FIXTURE = Path(__file__).parents[2] / "fixtures" / "records_v1" / "embedded-demo"
PROMISED = {
    *(
        "rank",
        "name",
        "arch_id",
        "family",
        "metric",
        "score",
        "score_stderr",
        "tied_with",
        "params",
        "gmacs",
    ),
    *("attention_share", "training_flops", "seconds", "step", "state", "study", "budget_id"),
    "seed",
}


@pytest.fixture(scope="module")
def rows() -> list[LeaderboardRow]:
    return rank_trials(read_contents(FIXTURE).trials)


def screen(rows: list[LeaderboardRow], width: int, encoding: str = "utf-8") -> list[str]:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding, errors="strict")
    console = Console(
        file=stream, width=width, force_terminal=True, no_color=True, color_system=None
    )
    render_leaderboard(rows, console, study=study())
    stream.flush()
    return buffer.getvalue().decode(encoding).splitlines()


def test_json_has_the_promised_fields(rows: list[LeaderboardRow]) -> None:
    data = json.loads(to_json(rows))
    assert len(data) == 8
    assert all(set(row) >= PROMISED for row in data)
    first, last = data[0], data[-1]
    assert (first["rank"], first["name"], first["state"]) == (1, "SDXL-C320", "complete")
    assert first["tied_with"] == ["SDXL-TD4_4", "SD2-C320"]
    assert 0.5 < first["probability_best"] < 1 and (first["rank_low"], first["measured_seeds"]) == (
        1,
        2,
    )
    assert (last["score"], last["training_flops"], last["tied_with"]) == (None, None, [])
    assert [LeaderboardRow.model_validate(row) for row in data] == rows


def test_csv_has_a_line_a_row(rows: list[LeaderboardRow]) -> None:
    table = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [row["name"] for row in table] == [row.name for row in rows]
    assert table[1]["tied_with"] == "SDXL-C320; SD2-C320"
    assert table[-1]["score"] == ""
    assert "color=" in table[0]["by_type"]


CLIP = {"metric": "clip_score", "signature": "clip|a", "chance": None, "by_type": {}}
FID = {**CLIP, "metric": "fid", "value": 123.456, "stderr": 1.5, "n": 48, "signature": "fid|a"}


def with_additional_metrics(other_clip: str = "clip|a") -> list[LeaderboardRow]:
    """A complete trial with CLIP score and FID, and a stopped one that lacks the FID."""
    clip = [0.2, 0.3, 0.25]
    fid = score([0.0, 0.0], **FID).model_copy(update={"per_prompt": []})
    first = beside(beside(trial("A"), score(clip, **CLIP)), fid, step=200)
    second = trial("B", {100: 0.3}, state=TrialState.STOPPED)
    second = beside(second, score(clip, **CLIP | {"signature": other_clip}))
    return rank_trials([first, second])


def test_additional_metrics_have_columns_of_their_own() -> None:
    rows = with_additional_metrics()
    table = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [float(row["clip_score"]) for row in table] == pytest.approx([0.25, 0.25])
    assert [row["fid"] for row in table] == ["123.456", ""]
    assert (table[0]["fid_n"], table[0]["fid_signature"]) == ("48", "fid|a")
    assert [LeaderboardRow.model_validate(row) for row in json.loads(to_json(rows))] == rows
    lines = screen(rows, 140)
    (first,) = (line for line in lines if line.startswith("1 "))
    (second,) = (line for line in lines if line.startswith("2 "))
    assert "0.250 ± 0.029" in first and "123.46 ± 1.50" in first
    assert "0.250 ± 0.029" in second and "123.46" not in second
    text = " ".join(" ".join(lines).split())
    assert "CLIP score ± SE" in text
    assert "not ranked by: CLIP score, FID; measured at each row's step, in columns" in text
    told = "FID: smaller is better; the fewer the images, the more it is too high (here 48)."
    assert told in text
    # On a narrow screen they go, but after what was not asked for, and before the ranks.
    assert "123.46 ± 1.50" in "".join(screen(rows, 110))
    narrow = "".join(screen(rows, 50))
    assert "123.46" not in narrow and "P(best)" in narrow


def test_additional_metrics_that_were_measured_otherwise_are_not_put_side_by_side() -> None:
    rows = with_additional_metrics("clip|b")
    text = to_markdown(rows)
    assert "CLIP score ± SE" not in text and "FID ± SE" in text
    assert "CLIP score is not shown: not measured alike in all rows" in text
    signatures = [row.additional["clip_score"].signature for row in rows]
    assert signatures == ["clip|a", "clip|b"]


def test_seeds_that_were_measured_otherwise_have_no_common_signature() -> None:
    seeds = [
        beside(trial("A", seed=seed), score([0.2, 0.3], **CLIP | {"signature": f"clip|{seed}"}))
        for seed in (0, 1)
    ]
    (row,) = rank_trials(seeds)
    assert row.additional["clip_score"].signature == ""
    assert "CLIP score ± SE" not in to_markdown([row])


def test_an_additional_score_that_is_no_finite_number_does_not_stop_a_ranking() -> None:
    (row,) = rank_trials([beside(trial("A"), score([0.0, 0.0], **FID | {"value": float("nan")}))])
    assert row.additional["fid"].value is None
    assert json.loads(to_json([row]))[0]["further"]["fid"]["value"] is None
    assert "| not finite |" in to_markdown([row])


def test_an_additional_metric_that_a_seed_lacks_is_left_out() -> None:
    (row,) = rank_trials([beside(trial("A"), score([0.2, 0.3], **CLIP)), trial("A", seed=1)])
    assert (row.seeds, row.additional) == ([0, 1], {})


@pytest.mark.parametrize("name", ["=1+1", "+A1", "-2", "@SUM(A1)", "\tx"])
def test_csv_holds_no_formula(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv(rank_trials([trial(name)]))))
    assert row["name"] == f"'{name}"


def test_markdown_keeps_its_columns_whatever_the_names() -> None:
    text = to_markdown(rank_trials([trial("a|b\nc <i>")]), study=study())
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert r"a\|b c &lt;i>" in table[2]
    assert len({line.replace(r"\|", "").count("|") for line in table}) == 1
    assert "chance level of TIFA: 0.350" in text


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_the_table_fits_the_screen(rows: list[LeaderboardRow], width: int) -> None:
    lines = screen(rows, width)
    assert max(map(len, lines)) <= width
    table = [line for line in lines if line[:2].strip().isdigit()]
    assert len(table) == len(rows)
    assert all("0.906 ± 0.017" in line for line in table[:1])


def test_a_wide_screen_holds_everything(rows: list[LeaderboardRow]) -> None:
    text = "\n".join(screen(rows, 120))
    first = next(line for line in text.splitlines() if line.startswith("1 "))
    told = (
        "1 SDXL-C320 0.906 ± 0.017 0.899 (0.854-0.936) 84% 1-2 2.39 B 98.2 60% 75.42 98 400 "
        "complete"
    )
    assert " ".join(first.split()) == told
    for told in (
        "chance level of TIFA: 0.350",
        "attn: attention's share",
        "Seed noise is in it, from",
        "early stopping: below the median at a rung",
        "What was trained is the proxy",
        "#8 IF-XL-C704: killed by SIGKILL (out of memory?)",
    ):
        assert told in text.replace("\n", " ").replace("  ", " ")


def test_a_plain_screen_gets_plain_text(rows: list[LeaderboardRow]) -> None:
    lines = screen(rows, 100, encoding="ascii")
    assert any("0.906 +/- 0.017" in line for line in lines)


def test_long_names_are_cut_and_few_seeds_are_said() -> None:
    lines = screen(rank_trials([trial("x" * 90)]), 100)
    assert any("xxx.." in line for line in lines)
    assert "Seed noise is in it, from a prior alone: nothing was repeated." in " ".join(lines)


def test_a_table_without_its_study_still_says_what_was_trained() -> None:
    text = to_markdown(rank_trials([trial("A")]))
    assert "TFLOPs and s of the smaller proxy that was trained" in text


def test_no_trials_yet_is_no_crash() -> None:
    assert "No trials yet" in screen([], 80)[0]


@pytest.fixture(scope="module")
def held_out_rows() -> list[LeaderboardRow]:
    """Two seeds below zero and one that never got a score; the metric has no chance level."""
    return rank_trials(
        [
            trial("A", {200: [-0.2, -0.1]}, scored=HELD_OUT),
            trial("A", {200: [-0.1, 0.0]}, seed=1, scored=HELD_OUT),
            trial("B", {}, state=TrialState.FAILED, reason="killed"),
        ]
    )


@pytest.mark.parametrize(
    ("encoding", "title", "score"),
    [
        ("utf-8", "held-out R² ± SE", "-0.100 ± 0.050"),
        ("ascii", "held-out R^2 +/- SE", "-0.100 +/- 0.050"),
    ],
)
def test_the_screen_names_the_metric(
    held_out_rows: list[LeaderboardRow], encoding: str, title: str, score: str
) -> None:
    lines = screen(held_out_rows, 120, encoding)
    assert lines[0].strip() == "Study demo"
    assert title in lines[1]
    assert any(score in line for line in lines)
    assert not any("TIFA" in line or "chance" in line for line in lines)


def test_files_name_the_metric(held_out_rows: list[LeaderboardRow]) -> None:
    first, last = json.loads(to_json(held_out_rows))
    assert (first["metric"], first["chance"]) == ("heldout_r2", None)
    assert (last["metric"], last["score"]) == ("heldout_r2", None)
    table = list(csv.DictReader(io.StringIO(to_csv(held_out_rows))))
    told = (table[0]["metric"], float(table[0]["score"]), table[0]["chance"])
    assert told == ("heldout_r2", pytest.approx(-0.1), "")
    # No apostrophe: numbers are no formula, though they begin with a minus.
    by_seed = [float(value) for value in table[0]["score_by_seed"].split("; ")]
    assert by_seed == pytest.approx([-0.15, -0.05])
    text = to_markdown(held_out_rows)
    assert text.startswith("**Study demo**\n\n| # | name | held-out R² ± SE |")


def test_before_the_first_score_no_metric_is_named() -> None:
    text = to_markdown(rank_trials([trial("A", {}, state=TrialState.RUNNING)]))
    assert "| # | name | score ± SE |" in text


def test_ranks_and_predictions_are_written_shortly() -> None:
    stopped = {f"S{i}": trial(f"S{i}", {100: 0.5}, state=TrialState.STOPPED) for i in range(2)}
    made = [trial("A", {100: 0.5, 200: 0.9}), trial("B", {100: 0.3, 200: 0.4})]
    text = "\n".join(screen(rank_trials([*made, *stopped.values()]), 160))
    assert text.count("~0.") == 2
    assert "P(best)" in text and "ranks" in text and "tied" not in text
    assert "not all at once" in " ".join(text.split())


def test_a_study_gets_its_three_files(tmp_path: Path) -> None:
    write_records(tmp_path, study(), [trial("A", {100: 0.5}, state=TrialState.STOPPED)])
    rows = write_leaderboard(tmp_path)
    assert [row.name for row in rows] == ["A"]
    assert json.loads((tmp_path / "leaderboard.json").read_text())[0]["name"] == "A"
    assert (tmp_path / "leaderboard.csv").read_text() == export(rows, "csv")
    assert "What was trained is the proxy" in (tmp_path / "leaderboard.md").read_text()
    before = (tmp_path / "leaderboard.json").read_bytes()
    write_leaderboard(tmp_path)
    assert (tmp_path / "leaderboard.json").read_bytes() == before
