"""The committed race against the committed study of its whole space: the figure that docs quote."""

from dataclasses import replace
from pathlib import Path

import pytest

from nas_t2i.errors import UserError

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "results/measured"


def test_the_documented_figure_comes_out(capsys):
    import predictions_held

    predictions_held.main(MEASURED / "sdxl-embedded", MEASURED / "sdxl-exhaustive")
    *rows, last = capsys.readouterr().out.splitlines()
    assert last.startswith("of 24 predicted scores 24 lie in their 95 % intervals; of 33 ranks 32")
    assert sum("~" in row for row in rows) == 24
    readme = (ROOT / "README.md").read_text()
    assert "all 24 scores that it predicted" in readme and "predictions_held.py" in readme


def test_what_lies_outside_is_not_held():
    import predictions_held

    found = predictions_held.outcomes(MEASURED / "sdxl-embedded", MEASURED / "sdxl-exhaustive")
    best = found[0]
    assert best.score_held and best.rank_held
    assert sorted(one.rank for one in found) == list(range(1, 34))
    assert not replace(best, score=best.row.expected_high + 0.001).score_held
    assert not replace(best, rank=best.row.rank_high + 1).rank_held


def test_another_budget_and_a_part_of_the_space_are_refused():
    import predictions_held

    race = MEASURED / "sdxl-embedded"
    with pytest.raises(UserError, match="got the budget budget-"):
        predictions_held.outcomes(race, MEASURED / "v2/sdxl-exhaustive")
    with pytest.raises(UserError, match="expected every architecture of the race"):
        predictions_held.outcomes(race, MEASURED / "comparison-embedded")
