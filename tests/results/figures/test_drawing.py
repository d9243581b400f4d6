"""Figures as files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas_t2i.errors import MissingExtraError, UserError
from nas_t2i.results.figures.drawing import draw
from nas_t2i.results.figures.every import KINDS
from nas_t2i.results.figures.ranked import ranked, read_ranked
from nas_t2i.store import Study
from tests.results.record_factory import study, trial

MEASURED = Path(__file__).parents[3] / "results" / "measured" / "v2"
STARTS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"latency"}))  # none is on record
def test_every_figure_is_drawn_with_its_names(kind: str, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    chart = KINDS[kind](read_ranked([MEASURED / "sdxl-embedded"]))
    assert chart is not None
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(chart, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert chart.title in text
    if kind in ("importance", "effects"):
        assert "channels" in text
    elif kind != "hypervolume":  # which is of all of them
        assert "1. SDXL-TD4" in text and "24. " not in text


@pytest.mark.parametrize("suffix", STARTS)
def test_a_format_by_its_ending_and_the_same_file_twice(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chart = KINDS["gmacs"](read_ranked([MEASURED / "sdxl-embedded"]))
    assert chart is not None
    for name in ("a", "b"):
        draw(chart, tmp_path / f"{name}.{suffix}")
    first = (tmp_path / f"a.{suffix}").read_bytes()
    assert first.startswith(STARTS[suffix])
    if suffix != "pdf":  # which has its date inside
        assert first == (tmp_path / f"b.{suffix}").read_bytes()


def test_what_cant_be_drawn_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = KINDS["gmacs"](read_ranked([MEASURED / "sdxl-embedded"]))
    assert chart is not None
    with pytest.raises(UserError, match=r"can't draw '\.pgn'; .*did you mean 'png'\?"):
        draw(chart, tmp_path / "a.pgn")
    with pytest.raises(UserError, match="--by-compute: this figure has no training steps"):
        draw(chart, tmp_path / "a.png", by_compute=True)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nas-t2i\[plots\]'"):
        draw(chart, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_formula_in_a_name_is_no_formula(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trials = [trial(f"$\\frac{i}$", {100: 0.5, 200: 0.6}, number=i) for i in range(2)]
    trials = [t.model_copy(update={"arch_id": f"unet-{t.number:012x}"}) for t in trials]
    found = ranked([Study(Path("x"), study(), trials, [], False)])
    for kind in ("gmacs", "curves", "types"):
        chart = KINDS[kind](found)
        assert chart is not None
        draw(chart, tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 10_000
