import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nas_t2i.cli.main import main
from tests.tracking.written import LINES

ROOT = Path(__file__).parents[2]
SDXL = str(ROOT / "search_spaces/sdxl.yaml")


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["search", *arguments])
    out, err = capsys.readouterr()
    code = end.value.code
    return (0 if code is None else int(code)), out, err


def test_a_dry_run_counts_profiles_predicts_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sought = ("--objectives", "tifa,-latency")
    code, out, err = run(capsys, SDXL, "--dry-run", "--trials", "8", *sought)
    assert (code, err) == (0, "")
    assert "space sdxl: 60 architectures" in out
    assert "8 architectures in a race for 16 trials' training" in out
    assert "latency would be measured of each proposal, while no trial runs: a pass of" in out
    assert "PFLOPs" in out and "at most" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a device")
def test_a_budget_for_a_device_that_is_not_here(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, SDXL, "--budget", "embedded_gpu", "--dry-run")
    assert (code, err) == (0, "")
    assert "not timed: no CUDA device is here." in " ".join(out.split())
    assert "in a race for 16 trials' training: about 0.02 PFLOPs, at most" in out
    code, out, err = run(capsys, SDXL, "--budget", "embedded_gpu")
    assert code == 2 and err.count("\n") == 1
    assert "got 1 ranks, one a device, for 0 devices; expected a machine with a CUDA device" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sdxll"], "sdxll: no such file; expected a path or one of"),
        (["no/such.yaml"], "no/such.yaml: no such file"),
        ([SDXL, "--budget", "embeded"], "did you mean 'embedded'?"),
        ([SDXL, "--study", "../up"], "--study: got '../up'; expected letters"),
        ([SDXL, "--sampler", "tpee"], "--sampler: got 'tpee'; expected 'tpe', 'random', "),
        ([SDXL, "--sampler", "tpee"], "'front' or 'grid'; did you mean 'tpe'?"),
        (
            [SDXL, "--sampler-option", "n_startup_trials"],
            "--sampler-option: got 'n_startup_trials'; expected NAME=VALUE",
        ),
        ([SDXL, "--sampler-option", "n_startup=3"], "search.sampler_options of 'tpe': "),
        ([SDXL, "--objectives", "tifa,-gmac"], "got '-gmac'; expected some of tifa, "),
        ([SDXL, "--objectives", "tifa"], "--objectives: search.objectives: got tifa; expected two"),
        ([SDXL, "--sampler", "nsga3"], "search.sampler: got 'nsga3', which is for several"),
        ([SDXL, "--track", "tensorbord=x"], "tracker: got 'tensorbord'; expected one of mlflow, t"),
        ([SDXL, "--track", "mlflow"], "--track: got 'mlflow'; expected mlflow=URI"),
        ([SDXL, "--track", "own:Tracker=x"], "own.py: no such file"),
        ([SDXL, "--storage", "study.db"], "storage 'study.db': not a URL"),
        (
            [SDXL, "--storage", "sqlite:////no/such/study.db"],
            "storage sqlite:////no/such/study.db: can't be used",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert expected in err
    assert err.count("\n") == 1 and err.startswith("nas-t2i: error: ")
    assert not (tmp_path / "results").exists()  # nothing half-made stays behind


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_told_before_anything_begins(
    capsys, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, name, None)
    option = [f"--{name}"] if name == "tensorboard" else [f"--{name}", "x"]
    code, _, err = run(capsys, SDXL, *option)
    assert code == 2 and err.count("\n") == 1
    assert f"pip install 'nas-t2i[{name}]'" in err
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_exist_or_fit_are_told_like_any_bad_input(capsys):
    code, _, err = run(capsys, SDXL, "--trails", "3")
    assert code == 2 and "--trials" in err and err.count("\n") == 1
    code, _, err = run(capsys, SDXL, "--trials", "0")
    assert code == 2 and "--trials" in err and err.count("\n") == 1
    code, _, err = run(capsys)
    assert code == 2 and "Missing" in err and err.count("\n") == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_trials_and_has_its_own_status(tmp_path, number, status):
    budget = (ROOT / "budgets/embedded_v1.yaml").read_text()
    (tmp_path / "b.yaml").write_text(budget.replace("scenes: 20000", "scenes: 500"))
    (tmp_path / "own.py").write_text(LINES)
    search = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "nas_t2i.cli.main",
            "search",
            SDXL,
            "--budget",
            "b.yaml",
            "--parallel=1",
            "--track=own:Lines=lines",
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    trials = tmp_path / "results/sdxl-embedded_v1/trials"
    deadline = time.monotonic() + 120
    while not any('"progress"' in log.read_text() for log in trials.glob("*/events.jsonl")):
        assert search.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    search.send_signal(number)
    _, errors = search.communicate(timeout=120)
    assert search.returncode == status
    assert "the running trials saved where they stood" in errors
    assert "interrupted; the same command carries on" in errors
    assert list(trials.glob("*/checkpoints/step-*/rank-0.pt"))
    deadline = time.monotonic() + 60
    while "null" not in (tmp_path / "lines").read_text():  # what is left to be sent comes behind
        assert time.monotonic() < deadline
        time.sleep(0.1)
    told = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert told[0][2]["training/loss"] > 0 and told[-1][1:] == [None, "interrupted"]
