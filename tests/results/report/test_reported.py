"""The paper's rows beside measured ones."""

from __future__ import annotations

import json
from pathlib import Path

from nas_t2i.results.figures.ranked import read_ranked
from nas_t2i.results.report.page import report
from nas_t2i.results.report.reported import ReportedRecord, beside, reported_records

ROOT = Path(__file__).parents[3]


def test_the_committed_file_is_what_the_package_holds() -> None:
    data = json.loads((ROOT / "results/paper/reported.json").read_text())
    assert [ReportedRecord(**row) for row in data] == reported_records()
    assert {row["kind"] for row in data} == {"reported"}


def test_they_stand_beside_measured_ones_and_in_no_ranking() -> None:
    found = read_ranked([ROOT / "results/measured/v2/sdxl-embedded"])
    rows = {row.name: row for row in beside(found)}
    assert rows["SDXL-TD4_4"].gmacs_reported == "143"
    assert abs(float(rows["SDXL-TD4_4"].gmacs) - 143) < 1
    assert len(found.rows) == 24 and all(row.score != 143 for row in found.rows)
    page = report(found)
    assert "Reported by the paper" in page
    assert page.index('id="reported"') > page.index('id="board"')
