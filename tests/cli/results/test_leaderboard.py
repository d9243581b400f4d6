"""`nas-t2i results` on the record files of version 1, whole and damaged."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nas_t2i.cli.results.leaderboard import results_app
from nas_t2i.errors import IncomparableError, RecordError, StorageError, UserError
from nas_t2i.locks import StudyLock
from tests.results.record_factory import (
    HELD_OUT,
    study,
    trial,
    write_records,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "records_v1"
Run = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES, tmp_path / "results"))


@pytest.fixture
def run(root: Path) -> Run:
    def invoke(command: str, *arguments: str) -> str:
        """Return what is printed; a UserError passes through, as it does to the program's main."""
        result = CliRunner().invoke(
            app,
            ["results", command, "--results-dir", str(root), *arguments],
            catch_exceptions=False,
        )
        assert result.exit_code == 0, result.output
        return result.stdout

    app = typer.Typer()
    app.add_typer(results_app)
    return invoke


def copy_study(root: Path, name: str, **changes: str) -> Path:
    """Copy the fixture study under another name, with texts replaced in all of its files."""
    folder = Path(shutil.copytree(root / "embedded-demo", root / name))
    for file in (folder / "study.json", *folder.glob("trials/*/events.jsonl")):
        text = file.read_text().replace("embedded-demo", name)
        for old, new in changes.items():
            text = text.replace(old.replace("_", "-"), new)
        file.write_text(text)
    return folder


def tear(folder: Path, trial: str = "0001") -> Path:
    file = folder / "trials" / trial / "events.jsonl"
    file.write_bytes(file.read_bytes()[:-90])
    return file


def test_a_leaderboard_needs_no_torch() -> None:
    program = (
        "import sys; from nas_t2i.cli.results.leaderboard import results_app\n"
        "try: results_app(['leaderboard', '--results-dir', sys.argv[1]])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'optuna', 'diffusers', 'matplotlib', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(FIXTURES)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "SDXL-TD4_4" in done.stdout


def test_the_table(run: Run) -> None:
    text = run("leaderboard", "embedded-demo")
    assert text.startswith("Study embedded-demo (chance level of TIFA: 0.350)\n")
    assert "SDXL-C320 [no-cross-attention]" in text
    assert text == run("leaderboard")


def test_a_study_can_be_named_by_its_folder(run: Run, root: Path) -> None:
    assert run("leaderboard", str(root / "embedded-demo")) == run("leaderboard")


def test_without_a_name_every_study_has_a_table_the_newest_last(run: Run, root: Path) -> None:
    folder = copy_study(root, "older", budget_9b2c1d="budget-other")
    file = folder / "study.json"
    file.write_text(file.read_text().replace("2026-11-20", "2026-11-19"))
    text = run("leaderboard")
    assert 0 <= text.index("Study older") < text.index("Study embedded-demo")
    rows = json.loads(run("leaderboard", "--export", "json"))
    assert [row["rank"] for row in rows] == [*range(1, 9), *range(1, 9)]
    assert run("leaderboard", "--export", "md").count("| # | name |") == 2


def test_named_studies_of_one_budget_stand_in_one_ranking(run: Run, root: Path) -> None:
    copy_study(root, "other", unet_1f3a9c2b7d10="unet-ffffffffffff")
    rows = json.loads(run("leaderboard", "embedded-demo", "other", "--export", "json"))
    assert len(rows) == 9
    assert sorted(row["study"] for row in rows if "TD4_4" in row["name"]) == [
        "embedded-demo",
        "other",
    ]


def test_studies_of_two_budgets_are_not_mixed(run: Run, root: Path) -> None:
    copy_study(root, "other", budget_9b2c1d="budget-2")
    with pytest.raises(IncomparableError, match=r"budget-9b2c1d \(study embedded-demo.*budget-2"):
        run("leaderboard", "embedded-demo", "other")


def test_studies_of_two_metrics_have_tables_of_their_own_and_are_not_mixed(
    run: Run, root: Path
) -> None:
    record = study("own-pairs", metric="heldout_r2", chance=None)
    write_records(root / "own-pairs", record, [trial(study="own-pairs", scored=HELD_OUT)])
    text = run("leaderboard")
    assert "Study own-pairs\n" in text
    assert text.count("TIFA ± SE") == text.count("held-out R² ± SE") == 1
    rows = json.loads(run("leaderboard", "--export", "json"))
    assert {row["study"]: row["metric"] for row in rows} == {
        "embedded-demo": "tifa",
        "own-pairs": "heldout_r2",
    }
    message = r"different metrics .*: tifa \(study embedded-demo.* and heldout_r2 \(study own-pairs"
    with pytest.raises(IncomparableError, match=message):
        run("leaderboard", "embedded-demo", "own-pairs")


def test_exports_to_files(run: Run, tmp_path: Path) -> None:
    for name in ("a.json", "a.csv", "a.md"):
        assert run("leaderboard", "-o", str(tmp_path / name)) == ""
        assert (tmp_path / name).read_text() == run("leaderboard", "--export", name[2:])
    assert len(json.loads((tmp_path / "a.json").read_text())) == 8
    with pytest.raises(UserError, match=r"a\.txt: the ending names no format; expected one of csv"):
        run("leaderboard", "-o", str(tmp_path / "a.txt"))
    with pytest.raises(StorageError, match="can't be written"):
        run("leaderboard", "-o", str(tmp_path / "none" / "a.md"))


def test_sorting_and_the_front(run: Run) -> None:
    table = csv.DictReader(io.StringIO(run("leaderboard", "--sort", "params", "--export", "csv")))
    params = [int(row["params"]) for row in table]
    assert params == sorted(params)
    with pytest.raises(UserError, match=r"--sort: 'gmac' is no column; .*did you mean 'gmacs'\?"):
        run("leaderboard", "--sort", "gmac")


JSON = ("--export", "json")
TWO_COSTS = ("--cost", "gmacs", "--cost", "params")


def test_the_front(run: Run) -> None:
    front = json.loads(run("leaderboard", "--pareto", "--export", "json"))
    names = [row["name"] for row in front]
    assert {"SDXL-C192", "SDXL-C320"} < set(names)
    assert all(row["front"]["probability"] >= 0.05 for row in front)
    assert [row["gmacs"] for row in front] == sorted(row["gmacs"] for row in front)
    shown = run("leaderboard", "--pareto", "--under", "gmacs=90")
    assert "P(front)" in shown and "\nhypervolume: " in shown and "\nknee: " in shown
    assert "\nbest under 90 GMACs: " in shown and "SDXL-C320" not in shown
    assert "hypervolume: " in run("leaderboard", "--pareto", "--export", "md")
    cheap = run("leaderboard", "--pareto", "--cost", "training_flops", "--export", "csv")
    assert cheap == run("leaderboard", "--pareto", "--cost", "compute", "--export", "csv")
    rows = list(csv.DictReader(io.StringIO(cheap)))
    assert {row["front_objectives"] for row in rows} == {"tifa; -compute"}
    assert min(float(row["front_compute"]) for row in rows) > 0
    both = json.loads(run("leaderboard", "--pareto", *TWO_COSTS, *JSON))
    same = run("leaderboard", "--pareto", "--objectives", "tifa,-gmacs,-params", *JSON)
    assert both == json.loads(same)
    assert set(names) <= {row["name"] for row in both}  # one cost more spares who was dominated
    assert set(both[0]["front"]["costs"]) == {"gmacs", "params"}
    # All that is within, on the front or not.
    within = json.loads(run("leaderboard", "--under", "gmacs=90", "--export", "json"))
    assert [row["rank"] for row in within] == sorted(row["rank"] for row in within)
    assert max(row["gmacs"] for row in within) <= 90


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--reference", "0,1"), "expected them with --pareto or --under"),
        (("--cost", "params"), "expected them with --pareto or --under"),
        (("--objectives", "tifa,-gmacs"), "expected them with --pareto or --under"),
        (("--pareto", "--cost", "gmac"), "--cost: got 'gmac'; .*did you mean 'gmacs'"),
        (("--pareto", "--cost", "gmacs", "--cost", "gmacs"), "--cost: got gmacs twice"),
        (
            ("--pareto", "--cost", "gmacs", "--objectives", "tifa,-gmacs"),
            "--cost gmacs --objectives tifa,-gmacs: got both; expected one of them",
        ),
        (("--pareto", "--objectives", "tifa,-gmac"), "--objectives: got '-gmac'; expected some"),
        (("--pareto", "--reference", "1,2,3"), "--reference: got 3 numbers; expected one for each"),
        (("--pareto", "--cost", "latency"), "no latency on record of .*; expected a study"),
        (("--under", "latency=1"), "no latency on record of .* or --latencies FILE"),
        (("--under", "gmacs=.001"), "no architecture is within"),
    ],
)
def test_questions_about_a_front_that_have_no_answer(
    run: Run, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        run("leaderboard", *arguments)


def test_no_studies(run: Run, root: Path) -> None:
    with pytest.raises(RecordError, match=r"embedded-dem: no such study .*did you mean"):
        run("leaderboard", "embedded-dem")
    shutil.rmtree(root)
    with pytest.raises(RecordError, match=r"no studies under .*; `nas-t2i search` makes one"):
        run("leaderboard")


def test_a_torn_tail_costs_nothing_but_its_line(
    root: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tear(root / "embedded-demo")
    with pytest.raises(RecordError) as caught:
        results_app(["leaderboard", "--results-dir", str(root)], standalone_mode=False)
    line = str(caught.value)
    assert line.startswith(f"{file}:7:")
    assert "the last line is cut off after" in line
    assert "searching on with --study embedded-demo mends it" in line
    assert "\n" not in line
    table = capsys.readouterr().out
    assert table.startswith("Study embedded-demo")
    assert "#1 SDXL-C320: seed 1: interrupted at step 320 (left out)" in table
    # Under way, it is no damage: the line may just be being written.
    with StudyLock(root / "embedded-demo"):
        assert "embedded-demo (being searched now)" in run("leaderboard")


def test_several_torn_tails_are_still_one_line(root: Path) -> None:
    tear(root / "embedded-demo")
    tear(root / "embedded-demo", "0002")
    with pytest.raises(RecordError, match=r"0001/events\.jsonl:7.*\(and 1 more\)$"):
        results_app(["leaderboard", "--results-dir", str(root)], standalone_mode=False)


def test_a_study_that_cant_be_read_does_not_hide_the_others(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copy_study(root, "cut") / "study.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(RecordError, match=r"cut/study\.json:\d+:\d+: not whole JSON"):
        results_app(["leaderboard", "--results-dir", str(root)], standalone_mode=False)
    assert "Study embedded-demo" in capsys.readouterr().out


def test_the_command_that_drew_curves_names_the_one_that_does(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.png"
    with pytest.raises(UserError, match="expected `nas-t2i results plot curves`"):
        run("curves", "embedded-demo", "--metric", "text_gain", "-o", str(file))
    assert not file.exists()


def test_a_study_with_objectives_has_their_front_and_says_so_where_another_is_shown(
    run: Run,
) -> None:
    folder = str(FIXTURES.parents[2] / "results" / "measured" / "sdxl-front-embedded")
    sought = "; sought: tifa, -gmacs, which --pareto shows the front of"
    assert f"\nranked by TIFA alone{sought}\n" in run("leaderboard", folder)
    shown = run("leaderboard", folder, "--pareto")
    assert "P(front)" in shown and sought not in shown
    other = run("leaderboard", folder, "--pareto", "--objectives", "-heldout_loss,tifa")
    assert f"\nthis front is of -heldout_loss, tifa{sought}\n" in other
    assert "expected held-out loss" in other.splitlines()[1]
