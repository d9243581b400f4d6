"""A recipe with what is asked for in its place, as a budget that the program reads."""

from pathlib import Path

import pytest

from nas_t2i.errors import ConfigError, UserError
from nas_t2i.protocol.budget import load_budget
from nas_t2i.records import BudgetUsed
from nas_t2i.results.scale_up.recipe import (
    Wish,
    checked,
    full_scale,
    recipe_of_file,
    recipe_of_study,
)
from tests.results.record_factory import study

BUDGETS = Path(__file__).parents[3] / "budgets"


@pytest.mark.parametrize("name", ["paper_256", "paper_256_bs4096", "paper_512"])
def test_what_nobody_asked_for_is_the_recipe_s(name):
    recipe = recipe_of_file(BUDGETS / f"{name}.yaml")
    _, budget = checked(*full_scale(recipe, []), Path("budget.yaml"))
    kept = {"exclude": {"name", "search"}}
    assert budget.model_dump(**kept) == load_budget(BUDGETS / f"{name}.yaml").model_dump(**kept)
    assert budget.budget_id == recipe.budget.budget_id  # what is computed is the same


def used(**data):
    plain = load_budget(BUDGETS / "paper_256.yaml").model_dump(mode="json")
    plain["data"] |= data
    budget = type(load_budget(BUDGETS / "paper_256.yaml")).model_validate(plain, strict=False)
    return BudgetUsed(budget_id=budget.budget_id, data=plain)


def test_a_study_of_real_data_is_its_own_recipe_at_full_scale():
    found = used(held_out=0)
    found.data["rungs"] = {"signals": [30_000, 60_000], "full": [300_000, 600_000]}
    found.data["evaluation"]["prompts"] = 128
    found.data["proxy"] = {
        "channel_divisor": 4,
        "channel_multiple": 4,
        "head_dim": 16,
        "norm_groups": 4,
        "depth_divisor": 2,
        "res_block_divisor": 1,
        "transformer_depth_divisor": 1,
    }
    record = study("demo", budget=found, budget_id=found.budget_id)
    recipe = recipe_of_study(record, Path("study.json"))
    steps = Wish(("training", "steps"), "--steps", 1_200_000)
    text, budget = checked(*full_scale(recipe, [steps]), Path("budget.yaml"))
    assert budget.proxy is None and budget.evaluation.prompts == 128
    assert budget.full_rungs == (600_000, 1_200_000)
    assert budget.rungs.cheap == (60_000, 120_000)
    assert "steps: 1200000             # --steps; the recipe has 600000" in text


def test_a_secret_that_is_not_on_record_is_asked_for():
    found = used(sources=[{"source": "shards", "urls": ["https://me:word@host/0.tar"]}])
    record = study("demo", budget=found, budget_id=found.budget_id)
    with pytest.raises(UserError, match="holds a secret, which is not on record; expected"):
        recipe_of_study(record, Path("study.json"))


def test_wishes_that_make_no_budget_are_told_by_their_key():
    recipe = recipe_of_file(BUDGETS / "paper_256.yaml")
    wish = Wish(("execution", "ranks"), "--ranks", 3)
    with pytest.raises(ConfigError, match=r"not written\):\d+:\d+: training: got a batch of 2048"):
        checked(*full_scale(recipe, [wish]), Path("budget.yaml"))
