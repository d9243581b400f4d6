"""Curves as images."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas_t2i.errors import MissingExtraError, RecordError, UserError
from nas_t2i.records import TrialState
from nas_t2i.results.plots import plot_curves
from nas_t2i.store import read_trials
from tests.results.record_factory import HELD_OUT, beside, score, trial

FIXTURE = Path(__file__).parent.parent / "fixtures" / "records_v1" / "embedded-demo"


def test_a_drawing_names_every_line_and_chance(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text stays text
        plot_curves(read_trials(FIXTURE), tmp_path / "c.svg", title="Study x")
    text = (tmp_path / "c.svg").read_text()
    for told in ("1. SDXL-C320", "6. SDXL-C320 [no-cross-attention]", "chance 0.350", "Study x"):
        assert told in text
    assert "TIFA (mean over seeds" in text
    assert "IF-XL" not in text  # never reached a rung


def test_the_axis_names_the_metric_and_chance_is_drawn_where_it_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_curves([trial(scored=HELD_OUT)], tmp_path / "c.svg")
    text = (tmp_path / "c.svg").read_text()
    assert "held-out R² (mean over seeds" in text
    assert "chance" not in text and "TIFA" not in text


def test_an_additional_metric_is_drawn_where_it_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import matplotlib

    fid = score([0.0, 0.0], metric="fid", value=123.0, stderr=2.0, per_prompt=[])
    trials = [beside(trial("A"), fid, step=200), trial("B", {100: 0.3})]
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_curves(trials, tmp_path / "c.svg", metric="fid")
    text = (tmp_path / "c.svg").read_text()
    assert "FID, smaller is better (mean over seeds" in text and "ranked by TIFA" in text
    assert "1. A" in text and "2. B" not in text and "chance" not in text
    with pytest.raises(RecordError, match=r"x: no score of the metric 'fud'; .*mean 'fid'\?"):
        plot_curves(trials, tmp_path / "d.svg", title="x", metric="fud")
    assert not (tmp_path / "d.svg").exists()


def test_many_lines_and_one_point_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    many = [trial(f"n{i}", {100: 0.1 + i / 50}, number=i) for i in range(25)]
    plot_curves(many, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_what_cant_be_drawn_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"c\.pgn: can't draw '\.pgn'; .*did you mean 'png'\?"):
        plot_curves([trial()], tmp_path / "c.pgn")
    with pytest.raises(RecordError, match="no trial has reached a rung yet"):
        plot_curves([trial(curve={}, state=TrialState.RUNNING)], tmp_path / "c.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nas-t2i\[plots\]'"):
        plot_curves([trial()], tmp_path / "c.png")
    assert list(tmp_path.iterdir()) == []
