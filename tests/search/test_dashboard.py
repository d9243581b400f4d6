"""A study as ``optuna-dashboard`` shows it: the real package, asked over HTTP on this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nas_t2i.store import read_contents
from tests.faults.searches import Plan, search


@contextmanager
def dashboard(journal: Path) -> Iterator[Any]:
    """Yield what asks the dashboard's API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    options = ["--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref", "-q"]
    process = subprocess.Popen([sys.executable, "-c", code, str(journal), *options])

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}") as answer:
            return json.load(answer)

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ask("meta")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        yield ask
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("race", [False, True])
def test_it_opens_a_study_and_shows_what_it_cost_and_what_became_of_it(
    race: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    plan = Plan(tmp_path / "plan", trials=4, seeds=1, race=race)
    search(plan)
    with dashboard(plan.folder / "optuna.journal") as ask:
        (summary,) = ask("studies")["study_summaries"]
        study = ask(f"studies/{summary['study_id']}?after=0")
    trials = [{a["key"]: a["value"] for a in t["user_attrs"]} for t in study["trials"]]
    told = {attributes["name"]: attributes for attributes in trials if "arch" in attributes}
    notes = {
        a["key"].removeprefix("architecture "): json.loads(a["value"])
        for a in study["user_attrs"]
        if a["key"].startswith("architecture ")
    }
    on_record = read_contents(plan.folder).trials
    assert {record.name for record in on_record} == set(told)
    assert set(notes) == (set(told) if race else set())
    for record in on_record:
        sizes = told[record.name]
        assert int(sizes["params"]) == record.profile.params
        assert float(sizes["gmacs"]) == record.profile.gmacs
        assert int(sizes["trained_params"]) == record.trained_profile.params
        # A race tells Optuna how the first rung went; what became of it follows beside the trial.
        found = notes[record.name] if race else sizes
        point = record.curve[-1]
        assert found["state"] == record.state.value
        assert int(found["step"]) == point.step
        assert float(found["training_flops"]) == point.training_flops
        for name, value in {
            "tifa": point.scores["tifa"].value,
            "clip_score": point.step / 10,
            "heldout_loss": point.signals["heldout_loss"].value,
        }.items():
            assert float(found[name]) == pytest.approx(value)
        assert found.get("reason", "") == record.reason
        if "value_is" in sizes:
            assert int(sizes["step"]) == record.curve[0].step
            assert float(sizes["clip_score"]) == record.curve[0].step / 10
            assert "at the first rung" in sizes["value_is"]
    assert any("value_is" in sizes for sizes in told.values()) == race
    assert any("reason" in found for found in (notes if race else told).values())
