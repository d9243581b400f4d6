"""What another study trained is marked wherever a study is shown, and not counted as spent."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from nas_t2i.records import Reused, TrialState
from nas_t2i.results.figures.ranked import read_ranked
from nas_t2i.results.leaderboard import rank_trials
from nas_t2i.results.report.board import board
from nas_t2i.results.report.expense import by_state
from nas_t2i.results.report.origin import provenance
from nas_t2i.results.tables.exports import to_markdown
from nas_t2i.results.tables.tabular import to_csv
from nas_t2i.store import read_contents, read_trials
from tests.results.record_factory import study, trial, write_records

ORIGIN = Reused(study="first", path="first/trials/unet-b-s1", git_revision="abc")
TRIALS = [
    trial("A"),
    trial("B"),
    trial("B", seed=1, reused=ORIGIN, number=2),
    trial("C", {100: 0.3}, state=TrialState.STOPPED, reused=ORIGIN, number=3),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_records(tmp_path / "results" / "demo", study(), TRIALS)


def test_the_leaderboard_and_its_exports_tell_it(folder: Path) -> None:
    rows = rank_trials(read_trials(folder))
    assert {row.name: row.reused for row in rows} == {"A": {}, "B": {1: "first"}, "C": {0: "first"}}
    text = to_markdown(rows, study=study())
    assert "complete\\*" in text and "stopped\\*" in text
    assert "reused: 2 trials trained in first, not here" in text
    assert "reused" not in to_markdown(rank_trials([trial("A")]))
    cells = {row["name"]: row["reused"] for row in csv.DictReader(io.StringIO(to_csv(rows)))}
    assert cells == {"A": "", "B": "1=first", "C": "0=first"}


def test_the_report_tells_it_and_counts_as_spent_what_was_trained_here(folder: Path) -> None:
    lines = by_state(read_trials(folder))
    assert [(line.state, line.trials) for line in lines] == [
        ("complete", 2),
        ("reused, not trained here", 2),
    ]
    assert lines[0].steps == "400" and lines[1].steps == "300"
    states = [row.cells[13].text for row in board(read_ranked([folder])).rows]
    assert sorted(states) == [
        "complete",
        "complete, reused from first",
        "stopped, reused from first",
    ]
    (term,) = [t for t in provenance(read_contents(folder)) if t.name == "reused"]
    assert term.value.startswith("B seed 1, trained in first/trials/unet-b-s1 at abc; C seed 0")
