"""Several objectives in a budget: what they mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_t2i.errors import ConfigError
from nas_t2i.protocol.budget import Budget, load_budget

SHIPPED = Path(__file__).parents[2] / "budgets"


def budget(tmp_path: Path, objectives: str, stopping: str = "", name: str = "embedded") -> Budget:
    text = (SHIPPED / f"{name}.yaml").read_text()
    text = text.replace("  sampler: tpe\n", f"  sampler: tpe\n  objectives: {objectives}\n")
    if stopping:
        head, _, rest = text.partition("  early_stopping:\n")
        tail = rest[rest.index("  stall_minutes") :]
        text = f"{head}  early_stopping: {stopping}\n{tail}"
    (tmp_path / "b.yaml").write_text(text)
    return load_budget(tmp_path / "b.yaml")


def test_signs_say_the_direction_and_costs_are_exact(tmp_path: Path) -> None:
    sought = budget(tmp_path, "[tifa, -gmacs, -compute]").objectives
    assert [str(objective) for objective in sought] == ["tifa", "-gmacs", "-compute"]
    assert [objective.exact for objective in sought] == [False, True, True]
    assert [objective.sign for objective in sought] == [1, -1, -1]
    free = budget(tmp_path, "[text_gain, -heldout_loss]", "null").objectives
    assert [objective.better for objective in free] == ["larger", "smaller"]


def test_they_change_no_id_and_leave_no_trace_where_there_are_none(tmp_path: Path) -> None:
    plain = load_budget(SHIPPED / "embedded.yaml")
    sought = budget(tmp_path, "[tifa, -gmacs]")
    assert sought.budget_id == plain.budget_id
    dumped = plain.model_dump(mode="json")["search"]
    assert "objectives" not in dumped and "dominated" not in dumped["early_stopping"]
    assert "latency" not in dumped
    again = Budget.model_validate(sought.model_dump(mode="json"), strict=False)
    assert again == sought and len(again.objectives) == 2


@pytest.mark.parametrize(
    ("objectives", "stopping", "told"),
    [
        ("[tifa, -gmac]", "", r"search\.objectives: got '-gmac'; expected .*mean '-gmacs'\?"),
        ("[tifa, gmacs]", "", r"got 'gmacs', which seeks the worst; expected -gmacs"),
        ("[-tifa, -gmacs]", "", r"got '-tifa', which seeks the worst; expected tifa"),
        ("[tifa, -gmacs, -gmacs]", "", r"got '-gmacs' twice"),
        ("[tifa]", "", r"got tifa; expected two or more, one of them measured, as tifa, -gmacs"),
        ("[-params, -gmacs]", "", r"got -params, -gmacs; expected two or more, one of them"),
        ("[tifa, -fid]", "", r"got '-fid'; expected some of tifa, -heldout_loss"),
        ("[-heldout_loss, -gmacs]", "", r"in a race, which brings the best by tifa to the end"),
        (
            "[tifa, -gmacs]",
            "{rule: best_share, keep: [0.5], margin: 1.0, min_peers: 4}",
            r"early_stopping 'best_share', which judges by the score alone; expected rule race",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, objectives: str, stopping: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        budget(tmp_path, objectives, stopping)
    assert "\n" not in str(raised.value)


def test_a_sampler_for_several_is_refused_for_one(tmp_path: Path) -> None:
    text = (SHIPPED / "embedded.yaml").read_text().replace("sampler: tpe", "sampler: nsga3")
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(ConfigError, match="got 'nsga3', which is for several objectives"):
        load_budget(tmp_path / "b.yaml")
    sought = budget(tmp_path, "[tifa, -gmacs]")
    plan = sought.search.model_copy(update={"sampler": "front"})
    sought.model_copy(update={"search": plan}).check_objectives()
    plan = plan.model_copy(update={"objectives": ("tifa", "-gmacs", "-params")})
    sought.model_copy(update={"search": plan}).check_objectives()
    plan = plan.model_copy(update={"objectives": ("tifa", "-heldout_loss", "-params")})
    with pytest.raises(ValueError, match="got 'front' for tifa, -heldout_loss, -params; expected"):
        sought.model_copy(update={"search": plan}).check_objectives()
