"""The card of exported weights."""

from __future__ import annotations

from pathlib import Path

from nas_t2i.results.report.model_card import model_card
from nas_t2i.store import read_study, read_trials
from tests.results.record_factory import trial

MEASURED = Path(__file__).parents[3] / "results" / "measured" / "v2"


def test_it_says_what_was_trained_how_and_what_it_scored() -> None:
    study = read_study(MEASURED / "sdxl-exhaustive")
    made = next(t for t in read_trials(MEASURED / "sdxl-exhaustive") if t.name == "SDXL-TD2")
    card = model_card(made, study.budget.data, 432, "averaged")
    assert card.startswith("---\nlicense: other\n") and "# SDXL-TD2\n" in card
    assert "**Licence: fill in.**" in card
    score = made.curve[-1].scores["tifa"]
    for told in (
        f"| TIFA | {score.value:.4f} ± {score.stderr:.4f} over 512 prompts, chance level 0.295",
        "| a proxy of | SDXL-TD2 (unet-d24b89269997): 849 M parameters",
        "| budget | budget-2cf4fa755ab6 |",
        "| training | steps 432; batch 32",
        "| held-out loss |",
        "AMD EPYC",
    ):
        assert told in card, told
    assert "None on record at step 7" in model_card(made, {}, 7, "raw")
    assert "`nas-t2i scale-up sdxl-exhaustive --name SDXL-TD2`" in card
    assert "They are written" not in card
    assert "there in scale-up/SDXL-TD2." in model_card(made, {}, 7, "raw", "scale-up/SDXL-TD2")


def test_names_are_no_markup() -> None:
    made = trial("![x](http://evil.example) | <img src=x>", arch_id="unet-a")
    card = model_card(made, {"data": {"x": "<script>"}}, 200, "raw")
    assert "![x](" not in card and "<img" not in card and "<script" not in card
    for line in card.splitlines():
        if line.startswith("| ") and not line.startswith("| |"):
            assert line.replace("\\|", "").count("|") == 3
