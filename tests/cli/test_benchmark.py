"""`nas-t2i benchmark` and `nas-t2i results power` as they are typed."""

import csv
import io
import json
from pathlib import Path

import pytest

from nas_t2i.cli.main import main

ROOT = Path(__file__).parents[2]
MEASURED = str(ROOT / "results" / "measured" / "v2")


def called(capsys, *arguments: object, status: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code or 0) == status, err
    return out, err


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("table") / "t.npz"
    with pytest.raises(SystemExit):
        main(["benchmark", "build", "sdxl-exhaustive", "--results-dir", MEASURED, "-o", str(file)])
    return file


def test_build_and_show_say_what_there_is(table, capsys):
    out, _ = called(capsys, "benchmark", "show", table)
    assert "architectures  33 (unet)" in out and "best           SDXL-TD4, TIFA 0.7558" in out
    assert "git revision" in out and "torch 2" in out


def test_a_word_that_is_no_command_is_a_table(table, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--repeats", "2", "--trials", "8", "--compute", "4", "--stoppers", "none,median"]
    out, _ = called(capsys, "benchmark", table, *few, "-o", "points.csv", "-o", "points.json")
    assert "the best is SDXL-TD4 (TIFA 0.7558" in out and "tpe" in out and "median" in out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "points.csv").read_text())))
    assert len(rows) == 4 * 24
    again, _ = called(capsys, "benchmark", "run", table, *few, "--export", "json")
    assert json.loads(again) == json.loads((tmp_path / "points.json").read_text())


def test_a_dry_run_says_how_much_it_is(table, capsys):
    out, _ = called(capsys, "benchmark", table, "--dry-run", "--trials", "6", "--compute", "3")
    assert "4 methods x 30 repeats = 120 searches of at most 6 architectures" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samplers", "tpee"], "did you mean 'tpe'"),
        (["--stoppers", "mediann"], "did you mean 'median'"),
        (["--workers", "1,x"], "--workers: got '1,x'"),
        (["--trials", "99"], "--trials: got 99; the table has 33"),
        (["-o", "x.txt"], "can't draw '.txt'"),
        (["--max-gmacs", "-1"], "limits: gmacs.max: got -1"),
    ],
)
def test_what_does_not_fit_is_a_line(table, capsys, arguments, message):
    out, err = called(capsys, "benchmark", table, *arguments, status=2)
    assert message in err and err.count("\n") == 1 and not out


def test_no_table_and_no_study_are_a_line(capsys, tmp_path):
    _, err = called(capsys, "benchmark", "biuld", status=2)
    assert "got 'biuld'; expected build, show, run or a table; did you mean 'build'?" in err
    _, err = called(capsys, "benchmark", tmp_path / "none.npz", status=2)
    assert "no such file" in err
    _, err = called(
        capsys, "benchmark", "build", "x", "--results-dir", MEASURED, "-o", "t.npz", status=2
    )
    assert "no such study" in err
    _, err = called(
        capsys, "benchmark", "build", "sdxl-embedded", "--results-dir", MEASURED,
        "-o", tmp_path / "t.npz", status=2,
    )  # fmt: skip
    assert "not trained to the end" in err and not (tmp_path / "t.npz").exists()


def test_power_of_a_study_and_of_its_table_are_the_same(table, capsys):
    asked = ["--difference", "0.1", "--export", "json"]
    out, _ = called(capsys, "results", "power", table, *asked)
    study = ["sdxl-exhaustive", "--results-dir", MEASURED]
    of_study, _ = called(capsys, "results", "power", *study, *asked)
    assert json.loads(of_study)["rows"] == json.loads(out)["rows"]
    shown, _ = called(capsys, "results", "power", table, "--difference", "0.1")
    assert "seeds for 80%, by prompts: " in shown and "between seeds of one" in shown


def test_a_difference_that_can_not_be_is_a_line(table, capsys):
    _, err = called(capsys, "results", "power", table, "--difference", "0.9", status=2)
    assert "--difference: got 0.9 around the level" in err
    _, err = called(capsys, "results", "power", table, "--seeds", "0", status=2)
    assert "--seeds: got '0'" in err
