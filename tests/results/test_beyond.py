"""Who is beyond a soft limit is said wherever a study is ranked."""

from __future__ import annotations

import json
from pathlib import Path

from nas_t2i.records import SpaceUsed
from nas_t2i.results.figures.ranked import read_ranked
from nas_t2i.results.report.board import board
from nas_t2i.results.tables.exports import write_leaderboard
from tests.results.fronts.test_front import timed
from tests.results.record_factory import study, trial, write_records

LIMITS = {"gmacs": {"max": 100, "soft": True}, "params": {"max": 4.0e8}}
SPACE = SpaceUsed(name="sdxl", space_id="space-1", data={"limits": LIMITS})


def test_the_leaderboard_its_exports_and_the_report_say_who_is_beyond(tmp_path: Path) -> None:
    trials = [trial("A", gmacs=150.0), trial("B", gmacs=90.0, number=1)]
    folder = write_records(tmp_path / "demo", study(space=SPACE), trials)
    assert {row.name: row.beyond for row in write_leaderboard(folder)} == {"A": ["gmacs"], "B": []}
    note = "A: beyond the soft gmacs limit"
    assert (folder / "leaderboard.md").read_text().count(note) == 1
    rows = json.loads((folder / "leaderboard.json").read_text())
    assert sorted(row["beyond"] for row in rows) == [[], ["gmacs"]]
    states = [row.cells[13].text for row in board(read_ranked([folder])).rows]
    assert sorted(states) == ["complete", "complete, beyond the soft gmacs limit"]
    space = SPACE.model_copy(update={"data": {"limits": {"latency": {"max": 0.1, "soft": True}}}})
    slow = trials[0].model_copy(update={"latency": timed(0.2)})
    folder = write_records(tmp_path / "timed", study(space=space), [slow, trials[1]])
    assert {r.name: r.beyond for r in write_leaderboard(folder)} == {"A": ["latency"], "B": []}
    plain = write_records(tmp_path / "plain", study(), trials)
    assert all(row.beyond == [] for row in write_leaderboard(plain))
