"""`nas-t2i results track` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_t2i.cli.main import main
from tests.results.record_factory import study, trial, write_records

OWN = """
from pathlib import Path
from nas_t2i.tracking.tracker import NOTHING, Tracker
class Printing(Tracker):
    def begin(self, run):
        print("begin", run.name, run.params["architecture"] if "architecture" in run.params else "")
        return NOTHING
    def log(self, run, rows):
        print([row.step for row in rows])
    def end(self, run, state, reason):
        print(state)
class Away(Printing):
    def begin(self, run):
        raise ConnectionError("no route to http://me:secret@host")
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    Path("own.py").write_text(OWN)
    write_records(tmp_path / "results" / "demo", study("demo"), [trial("A")])

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["results", "track", *arguments])
        return (int(end.value.code or 0), *capsys.readouterr())

    return run


def test_a_tracker_of_ones_own_is_named_by_its_file(run) -> None:
    code, out, err = run("demo", "--track", "own:Printing=x")
    assert (code, err) == (0, "")
    told = ["begin A seed 0 A", "[100, 200]", "complete", "own:Printing: 1 trial(s) in x"]
    assert out.splitlines() == told


def test_who_is_away_is_told_in_a_line_and_the_others_get_it_all(run) -> None:
    code, out, err = run("demo", "--track", "own:Away=x", "--track", "own:Printing=x")
    assert code == 1 and err.count("\n") == 1 and "complete" in out
    assert "own:Away: ConnectionError: no route to http://me:***@host" in err


def test_without_a_tracker_there_is_nothing_to_do(run) -> None:
    code, _, err = run("demo")
    assert code == 2 and "got no tracker; expected --tensorboard, --wandb PROJECT" in err


def test_tensorboard_is_in_the_folder_of_the_study(run) -> None:
    code, out, err = run("demo", "--tensorboard")
    place = Path("results/demo/tensorboard")
    assert (code, out, err) == (0, f"tensorboard: 1 trial(s) in {place}\n", "")
    assert list(Path("results/demo/tensorboard/demo").glob("A_seed_0-*/events.out.*.nas-t2i"))
