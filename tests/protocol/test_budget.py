from pathlib import Path

import pytest

from nas_t2i.errors import ConfigError
from nas_t2i.protocol.budget import Budget, load_budget

SHIPPED = Path(__file__).parents[2] / "budgets/embedded.yaml"


def changed(tmp_path, old: str, new: str) -> Path:
    text = SHIPPED.read_text()
    assert old in text
    path = tmp_path / "b.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_the_id_is_of_what_decides_a_score_and_of_nothing_else(tmp_path):
    budget = load_budget(SHIPPED)
    for old, new in (
        ("name: embedded", "name: other"),
        ("sampler: tpe", "sampler: random"),
        ("prompts:", "# a comment\n  prompts:"),
    ):
        assert load_budget(changed(tmp_path, old, new)).budget_id == budget.budget_id
    for old, new in (
        ("caption_drop: 0.1", "caption_drop: 0.2"),
        ("channel_divisor: 16", "channel_divisor: 32"),
        ("guidance: 2.0", "guidance: 3.0"),
        ("threads: 1", "threads: 2"),
    ):
        assert load_budget(changed(tmp_path, old, new)).budget_id != budget.budget_id


def test_a_budget_survives_the_round_trip_through_json():
    budget = load_budget(SHIPPED)
    again = Budget.model_validate(budget.model_dump(mode="json"), strict=False)
    assert again == budget and again.budget_id == budget.budget_id


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "sampler: tpe",
            "sampler: tpee",
            r"search\.sampler: got \"tpee\"; expected .*; did you mean 'tpe'",
        ),
        (
            "  prompts:",
            "  promts:",
            r"evaluation\.promts: unknown key 'promts'; .*did you mean 'prompts'",
        ),
        ("name: embedded", "name: ../up", r":\d+:1: name: got \"\.\./up\""),
        ("caption_drop: 0.1", "caption_drop: yes", r"caption_drop: got \"yes\"; expected a number"),
        ("source: shapes", "source: laion", r"data\.source: got \"laion\"; expected 'shapes'"),
        ("zero_stage: 0", "zero_stage: 2", r"training\.zero_stage: got 2; expected 0"),
    ],
)
def test_bad_values_are_told_with_line_column_and_key(tmp_path, old, new, expected):
    with pytest.raises(ConfigError, match=rf"b\.yaml:\d+:\d+: .*{expected}|{expected}") as error:
        load_budget(changed(tmp_path, old, new))
    assert "\n" not in str(error.value)


def test_rungs_end_at_the_last_step(tmp_path):
    text = SHIPPED.read_text()
    rungs = next(line for line in text.splitlines() if line.startswith("rungs:"))
    with pytest.raises(
        ConfigError, match=r"b\.yaml:\d+:1: rungs: got \[5, 3\]; expected ascending"
    ):
        load_budget(changed(tmp_path, rungs, "rungs: [5, 3]"))


def test_every_rung_but_the_last_has_its_share(tmp_path):
    text = SHIPPED.read_text()
    keep = next(line.partition("#")[0].strip() for line in text.splitlines() if "keep:" in line)
    with pytest.raises(ConfigError, match=r"got 1 shares; expected 2, one for each rung"):
        load_budget(changed(tmp_path, keep, "keep: [0.5]"))
    with pytest.raises(ConfigError, match=r"keep\[1\]: got 1.5; expected at most 1"):
        load_budget(changed(tmp_path, keep, "keep: [0.5, 1.5]"))
