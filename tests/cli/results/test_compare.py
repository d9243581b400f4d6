"""`nas-t2i results compare` on the screen and in files."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nas_t2i.cli.results.compare import compare_command
from tests.results.record_factory import prompt_scores, study, trial, write_records

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path):
    made = [
        trial(name, {200: prompt_scores(mean, noise=10 * number + seed)}, seed=seed)
        for number, (name, mean) in enumerate({"good": 0.6, "fair": 0.5, "same": 0.5}.items())
        for seed in range(2)
    ]
    write_records(tmp_path / "demo", study(), made)
    return tmp_path


def test_the_table_ends_with_a_clear_sentence(root, capsys):
    compare_command("demo/good", "demo/fair", root)
    out = capsys.readouterr().out
    assert out.startswith("A: demo/good:200, seeds 0, 1\nB: demo/fair:200, seeds 0, 1\n")
    assert "95 % interval" in out and "60 prompts in common" in out
    assert "all + seed noise" in out  # three architectures with two seeds: three repeats
    assert out.splitlines()[-1] == (
        "demo/good:200 is better: the 95 % interval over prompts and seeds excludes 0."
    )
    compare_command("demo/fair", "demo/same@1", root)
    assert "Can't be told apart" in capsys.readouterr().out.splitlines()[-1]


def test_left_out_prompts_are_counted(root, capsys, tmp_path):
    holes = prompt_scores(0.5)[:-2] + [float("nan")] * 2
    write_records(tmp_path / "holes", study("holes"), [trial("A", {200: holes})])
    compare_command("demo/fair", "holes/A", root)
    out = capsys.readouterr().out
    assert "58 prompts in common, left out 2 of A and 2 of B; over all of their own: " in out


def test_json_and_csv_hold_the_same_numbers(root, capsys):
    compare_command("demo/good", "demo/fair", root, "", "json")
    data = json.loads(capsys.readouterr().out)
    assert data["a"] == {"name": "demo/good:200", "seeds": [0, 1], "left_out": 0}
    assert data["common"] == 60 and data["seed_noise"]["repeats"] == 3
    assert data["verdict"].startswith("demo/good:200 is better")
    compare_command("demo/good", "demo/fair", root, "", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["what"] for row in rows] == ["all", "all + seed noise", "color", "counting"]
    assert [float(row["difference"]) for row in rows] == [
        row["difference"] for row in data["differences"]
    ]
    assert rows[2]["low"] == "" and data["differences"][2]["low"] is None


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "nas_t2i.cli.main", "results", "compare", *arguments],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip


def test_the_program_refuses_in_one_line(root):
    done = run("demo/good", "demo/fare", "--results-dir", str(root))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        "nas-t2i: error: demo: no architecture 'fare'; expected one of fair, good, same; "
        "did you mean 'fair'?\n"
    )


def test_help_shows_examples():
    done = run("--help")
    assert done.returncode == 0
    assert "nas-t2i results compare sdxl-embedded/SDXL-TD4_4 sdxl-embedded/SDXL-TD2" in done.stdout


def test_figures_of_all_images_together_are_not_compared_by_prompt(tmp_path):
    file = tmp_path / "fid.json"
    file.write_text(json.dumps({"version": 1, "results": [{"metric": "fid", "better": "smaller"}]}))
    done = run(str(file), str(file))
    assert done.returncode == 2
    assert "no metric with a score of each prompt (FID has one for all images)" in done.stderr
