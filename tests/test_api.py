"""The package from Python: lazy, typed, and the same as the commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nas_t2i
from nas_t2i.errors import ConfigError, UserError

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "results/measured/v1"
EXAMPLE = ROOT / "examples/evaluate"


def test_importing_the_package_loads_nothing_else():
    code = "import sys, nas_t2i; print(sorted(m for m in sys.modules if m.startswith('nas_t2i')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "['nas_t2i', 'nas_t2i.version']"


def test_what_is_offered_is_there():
    assert set(nas_t2i.__all__) <= set(dir(nas_t2i))
    for name in nas_t2i.__all__:
        assert getattr(nas_t2i, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        _ = nas_t2i.serch


def test_spaces_budgets_and_profiles():
    space, budget = nas_t2i.load_space("sdxl"), nas_t2i.load_budget("embedded")
    assert space.count() > 10
    assert budget.budget_id == nas_t2i.load_budget(ROOT / "budgets/embedded.yaml").budget_id
    by_name = nas_t2i.profile("SDXL-TD4_4")
    assert by_name.name == "SDXL-TD4_4" and 1.3e9 < by_name.params < 1.35e9
    with pytest.raises(ConfigError, match="did you mean 'embedded'"):
        nas_t2i.load_budget("embeded")


def test_results_are_those_of_the_leaderboard():
    results = nas_t2i.load_results(MEASURED / "sdxl-embedded")
    rows = results.leaderboard()
    recorded = json.loads((MEASURED / "sdxl-embedded/leaderboard.json").read_text())
    assert [row.name for row in rows] == [row["name"] for row in recorded]
    assert results.studies[0].study == "sdxl-embedded" and len(results.trials) == 16
    assert repr(results) == "<Results of sdxl-embedded: 16 trials>"
    frame = results.to_pandas()
    assert list(frame["rank"]) == [row.rank for row in rows]
    assert frame.loc[0, "channel_mult"] == rows[0].arch["channel_mult"]
    assert len(nas_t2i.load_results(MEASURED).studies) == 3
    with pytest.raises(UserError, match="no study; expected a study's folder"):
        nas_t2i.load_results(ROOT / "docs")


def test_images_are_scored():
    metrics = {"tifa": {"questions": EXAMPLE / "questions.json", "vqa": "shapes"}}
    found = nas_t2i.evaluate(images=EXAMPLE / "images.json", metrics=metrics)
    (result,) = found.results
    assert result.score is not None and result.score.n == 6
