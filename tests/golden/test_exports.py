"""Exports of the committed studies: others read them by column and by key."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden.frozen import REPOSITORY, differences, frozen, nas_t2i

FROZEN = Path(__file__).parent / "exports"
MEASURED = REPOSITORY / "results" / "measured" / "v1"
STUDIES = ("comparison-embedded", "extremes-embedded", "sdxl-embedded")


# Numbers out of draws: their last digits are the machine's linear algebra.
DRAWN = ("expected_score", "expected_low", "expected_high", "probability_best")
DRAWN += ("rank_low", "rank_high")


def export(study: str, form: str, cache: Path) -> list[dict]:
    where = ("--results-dir", MEASURED, study)
    text = nas_t2i("results", "leaderboard", *where, "--export", form, cache=cache)
    return json.loads(text) if form == "json" else list(csv.DictReader(io.StringIO(text)))


def stable(rows: list[dict]) -> list[dict]:
    assert all(set(DRAWN) < set(row) for row in rows)
    return [{key: value for key, value in row.items() if key not in DRAWN} for row in rows]


def numbers(row: dict[str, str]) -> dict[str, Any]:
    """A row of CSV; what is a number, or several, is compared as one."""
    return {key: number(value) for key, value in row.items()}


def number(text: str) -> Any:
    if "; " in text:
        return [number(part) for part in text.split("; ")]
    name, equals, value = text.partition("=")
    if equals and name.isidentifier():  # of by_type
        return [name, number(value)]
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize("study", STUDIES)
def test_csv(study, tmp_path):
    now = export(study, "csv", tmp_path)
    old = frozen(FROZEN / f"{study}.csv.json", stable(now))
    assert len(now) == len(old) > 0
    assert not differences([numbers(row) for row in old], [numbers(row) for row in now], study)
    columns = frozen(FROZEN / "columns.json", list(now[0]))
    assert [name for name in now[0] if name in columns] == columns  # in their order


@pytest.mark.parametrize("study", STUDIES)
def test_json(study, tmp_path):
    now = export(study, "json", tmp_path)
    old = frozen(FROZEN / f"{study}.json", stable(now))
    assert len(now) == len(old) > 0
    assert not differences(old, now, study)


def test_compare(tmp_path):
    pair = ("comparison-embedded/C256-SD2", "comparison-embedded/C256-2x4x")
    where = ("--results-dir", MEASURED)
    text = nas_t2i("results", "compare", *pair, *where, "--export", "json", cache=tmp_path)
    now = json.loads(text)
    assert not differences(frozen(FROZEN / "compare.json", now), now, "compare")


def test_reliability(tmp_path):
    file = tmp_path / "reliability.json"
    study = ("--results-dir", MEASURED, "comparison-embedded")
    nas_t2i("results", "reliability", *study, "-o", file, cache=tmp_path)
    now = json.loads(file.read_text())
    assert not differences(frozen(FROZEN / "reliability.json", now), now, "reliability")
