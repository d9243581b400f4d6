"""Budget ids and resolved budgets: records of years ago are compared with new ones by them."""

from pathlib import Path

import pytest

from nas_t2i.protocol.budget import load_budget
from tests.golden.frozen import REWRITE, differences, read, write

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "budgets"
FROZEN = HERE / "budget_ids.json"
FILES = {
    **{f"shipped/{file.stem}": file for file in sorted(SHIPPED.glob("*.yaml"))},
    **{f"golden/{file.stem}": file for file in sorted((HERE / "budgets").glob("*.yaml"))},
}


def found(name: str) -> dict:
    budget = load_budget(FILES[name])
    return {"budget_id": budget.budget_id, "budget": budget.model_dump(mode="json")}


if REWRITE:  # before the tests are collected: there is one for each frozen budget
    write(FROZEN, {name: found(name) for name in FILES})


@pytest.mark.parametrize("name", sorted(read(FROZEN)))
def test_a_budget_keeps_its_id_and_its_values(name):
    frozen, now = read(FROZEN)[name], found(name)
    assert now["budget_id"] == frozen["budget_id"]
    assert not differences(frozen["budget"], now["budget"])


def test_ids_tell_all_budgets_apart():
    ids = [entry["budget_id"] for entry in read(FROZEN).values()]
    assert len(set(ids)) == len(ids)
