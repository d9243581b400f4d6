"""`nas-t2i results report`, `plot`, `scaling` and `statements` as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nas_t2i.cli.main import main
from tests.results.laws.test_pairs import grown
from tests.results.record_factory import study, trial, write_records

MEASURED = Path(__file__).parents[3] / "results" / "measured" / "v2"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def invoke(*arguments: str, status: int = 0) -> str:
        with pytest.raises(SystemExit) as left:
            main(["results", *arguments])
        captured = capsys.readouterr()
        assert left.value.code == status, captured.err
        return captured.err if status else captured.out

    return invoke


def test_a_report_is_written_where_it_is_asked_for(run, tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    said = run("report", "sdxl-embedded", "--results-dir", str(MEASURED), "-o", str(file))
    assert said.startswith(f"{file}: 1.") and "MB, 24 rows" in said
    assert file.read_text().startswith("<!doctype html>")


def test_bad_input_is_one_line_and_writes_nothing(run, tmp_path: Path) -> None:
    options = ("--results-dir", str(MEASURED), "-o", str(tmp_path / "r.html"))
    said = run("report", "sdxl-embeded", *options, status=2)
    assert said.count("\n") == 1 and "did you mean 'sdxl-embedded'?" in said
    said = run("report", "sdxl-embedded", *options[:2], "-o", str(tmp_path / "r.pdf"), status=2)
    assert "got the ending '.pdf'; expected .html" in said
    said = run(
        "plot", "gmac", "sdxl-embedded", *options[:2], "-o", str(tmp_path / "a.png"), status=2
    )
    assert said.count("\n") == 1 and "did you mean 'gmacs'?" in said
    said = run("scaling", "sdxl-embedded", *options[:2], "--predict", "parms=1", status=2)
    assert "did you mean 'params'?" in said
    said = run("scaling", "sdxl-embedded", *options[:2], "--predict", "compute=-1", status=2)
    assert "compute: got '-1'; expected a positive number" in said
    said = run("statements", "sdxl-embedded", *options[:2], "-o", str(tmp_path / "a.txt"), status=2)
    assert "expected .json" in said
    assert list(tmp_path.iterdir()) == []


def test_a_torn_study_gets_its_report_and_status_2(run, tmp_path: Path) -> None:
    root = Path(shutil.copytree(MEASURED / "extremes-embedded", tmp_path / "x" / "torn")).parent
    file = sorted((root / "torn" / "trials").glob("*/events.jsonl"))[0]
    file.write_text(file.read_text()[:-40])
    page = tmp_path / "r.html"
    said = run("report", "torn", "--results-dir", str(root), "-o", str(page), status=2)
    assert "an interrupted write" in said and said.count("\n") == 1
    assert "(an interrupted write); all before it is shown" in page.read_text()


def test_a_study_without_trials_has_a_report_and_no_law(run, tmp_path: Path) -> None:
    write_records(tmp_path / "demo", study("demo"), [])
    page = tmp_path / "r.html"
    assert "0 rows" in run("report", "demo", "--results-dir", str(tmp_path), "-o", str(page))
    assert "No trial is on record yet" in page.read_text()
    said = run("scaling", "demo", "--results-dir", str(tmp_path), status=2)
    assert "no trial has reached a rung yet" in said
    said = run("plot", "gmacs", "demo", "--results-dir", str(tmp_path), status=2)
    assert "not enough on record for the figure 'gmacs'" in said


def test_scaling_prints_laws_predictions_and_a_warning_outside(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy")
    monkeypatch.setattr("nas_t2i.results.laws.scaling.SAMPLES", 30)
    options = (
        "sdxl-exhaustive", "--results-dir", str(MEASURED), "--metric", "heldout_loss",
        "--predict", "compute=5e11", "--predict", "params=SDXL-C320",
    )  # fmt: skip
    said = run("scaling", *options)
    assert "S = a X^b      b = -0.4" in said and "S = f + a X^b  b = -0.8" in said
    inside, outside = said.split("compute = 5e+11")[-1].split("params = 2.392e+09")[0], said
    assert "Warning" not in inside
    assert "Warning: 2.392e+09 is outside of 1.47e+08" in outside
    file = tmp_path / "laws.json"
    assert run("scaling", *options, "-o", str(file)) == ""
    data = json.loads(file.read_text())
    assert {p["outside"] for p in data["predictions"]} == {True, False}
    assert [law["quantity"] for law in data["laws"]][:2] == ["compute", "compute"]


def test_budgets_of_several_sizes_of_data_have_a_law_in_pairs(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy")
    monkeypatch.setattr("nas_t2i.results.laws.scaling.SAMPLES", 30)
    names = []
    for group in grown(0.12):
        (made,) = group.studies
        names.append(made.record.study)
        write_records(tmp_path / names[-1], made.record, made.trials)
    at = ("--results-dir", str(tmp_path))
    said = run("scaling", *names, *at, "--predict", "pairs=1e9", "--predict", "compute=1e12")
    assert "TIFA against image-noun pairs of the training set, 1e+06 to 2e+08: 5 points on" in said
    assert "b = 0.1" in said and "compute = 1e+12: no law in compute, so no prediction" in said
    assert "Warning: 1e+09 is outside of 1e+06 to 2e+08" in said
    said = run("scaling", *names[:1], *at, status=2)
    assert said.count("\n") == 1 and "1 point on the Pareto front" in said
    said = run("statements", names[0], names[4], *at)
    assert "Here of-200000000 (200,000,000 image-noun pairs) scores better." in said


def test_faster_is_one_sentence(run) -> None:
    pytest.importorskip("scipy")
    said = run(
        "scaling", "comparison-embedded", "--results-dir", str(MEASURED),
        "--faster", "C256-SD2", "C192-2x4x",
    )  # fmt: skip
    assert "C256-SD2 reaches 0.432 in 1." in said and "x less compute (" in said


def test_statements_say_what_records_support(run, tmp_path: Path) -> None:
    said = run("statements", "sdxl-exhaustive", "--results-dir", str(MEASURED))
    assert "Here wider scores better." in said and "The records don't support this" in said
    assert "proxy of channels / 16" in said
    file = tmp_path / "s.json"
    run("statements", "sdxl-exhaustive", "--results-dir", str(MEASURED), "-o", str(file))
    assert {s["key"] for s in json.loads(file.read_text())} >= {"width-or-depth", "smaller", "data"}


def test_a_plot_is_drawn(run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "a.pdf"
    options = ("--results-dir", str(MEASURED), "-o", str(file), "--by-compute")
    said = run("plot", "heldout_loss", "sdxl-embedded", *options)
    assert "held-out loss while training" in said and file.read_bytes().startswith(b"%PDF")


def test_a_report_of_trials_that_failed(run, tmp_path: Path) -> None:
    made = trial("A", {}, state="failed")
    write_records(tmp_path / "demo", study("demo"), [made])
    page = tmp_path / "r.html"
    run("report", "demo", "--results-dir", str(tmp_path), "-o", str(page))
    assert "none with a score (failed)" in page.read_text()
