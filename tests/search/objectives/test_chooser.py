"""The sampler that knows costs exactly: its arithmetic, and what it chooses where that is plain."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.arch.space import load_space
from nas_t2i.ranking.front import hypervolume
from nas_t2i.search.candidates import Proposals
from nas_t2i.search.objectives.chooser import Option, added_hypervolume, choose, chooser_of
from nas_t2i.search.session import make_factory
from nas_t2i.search.study import OptunaStudy, Outcome
from tests.results.record_factory import profile
from tests.training.tiny import tiny_budget

SPACE = """
name: tiny
family: unet
parameters:
  channels: {choice: [128, 192, 256, 320, 384]}
  channel_mult: [1, 2]
  res_blocks: {choice: [1, 2]}
  transformer_depth: {2: {choice: [1, 14]}}
"""


@settings(deadline=None, max_examples=25)
@given(st.data(), st.integers(1, 3), st.floats(-0.5, 1.5), st.floats(0.01, 0.5))
def test_the_expected_improvement_is_what_draws_add_on_average(
    data, costs, mean, deviation
) -> None:
    price = st.tuples(*[st.floats(0.5, 9)] * costs)
    known = data.draw(st.lists(st.tuples(st.floats(0, 1), price), min_size=1, max_size=5))
    cost = data.draw(price)
    scores, prices = np.array([one[0] for one in known]), np.array([one[1] for one in known])
    found = added_hypervolume(
        np.array([mean]), np.array([deviation]), np.array([cost]), (scores, prices)
    )
    reference = [float(scores.min()), *(1.1 * np.maximum(prices.max(axis=0), cost))]
    drawn = np.random.default_rng(0).normal(mean, deviation, 20_000)
    before = hypervolume(scores[None], prices, reference)
    table = np.column_stack([np.broadcast_to(scores, (len(drawn), len(scores))), drawn])
    added = hypervolume(table, np.concatenate([prices, [cost]]), reference) - before
    error = added.std() / len(drawn) ** 0.5
    whole = 9.9**costs
    assert found[0] == pytest.approx(added.mean(), abs=5 * error + 2e-4 * whole)


def option(gmacs: float, depth: int) -> Option:
    made = profile(f"unet-{gmacs}-{depth}", "x", int(1e6 * gmacs), gmacs)
    return Option({"family": "unet", "depth": [1, depth]}, made, (gmacs,))


def test_the_first_are_spread_over_the_costs() -> None:
    pool = [option(cost, 1) for cost in (7.0, 1.0, 100.0, 10.0, 30.0)]
    tried: list[Option] = []
    for expected in (1.0, 100.0, 30.0):
        chosen = pool[choose(tried, [None] * len(tried), pool)]
        assert chosen.costs == (expected,)
        tried.append(chosen)
        pool.remove(chosen)


def test_costs_of_unlike_sizes_count_alike_where_the_first_are_spread() -> None:
    made = [
        dataclasses.replace(option(1.0, 1), costs=costs)
        for costs in ((1.0, 5e6), (9.0, 1e6), (9.0, 8e6), (5.0, 5e6))
    ]
    assert choose([], [], made) == 0
    assert choose(made[:1], [None], made[1:]) == 0  # (9, 1e6): 1.00 and .57 of the ranges away


def test_then_whoever_adds_most_and_not_what_is_dominated() -> None:
    # More depth is better at every cost; cost alone buys nothing.
    tried = [option(cost, depth) for cost in (10.0, 30.0, 50.0, 70.0) for depth in (1, 3)]
    scores = [0.1 * o.arch["depth"][1] + 0.001 * i for i, o in enumerate(tried)]
    pool = [option(60.0, 1), option(60.0, 3), option(12.0, 5), option(80.0, 2)]
    assert choose(tried, scores, pool) == 2


def test_proposals_are_those_of_an_uninterrupted_search(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    space = load_space(tmp_path / "space.yaml")
    budget = tiny_budget()
    plan = budget.search.model_copy(
        update={"objectives": ("tifa", "-gmacs"), "sampler": "front", "early_stopping": None}
    )
    budget = budget.model_copy(update={"search": plan})
    factory = make_factory(budget, (0,))

    def propose(url: str, count: int, known: list) -> list:
        study = OptunaStudy(
            "s",
            url,
            seed=0,
            sampler="front",
            sampler_options={},
            better=["larger", "smaller"],
            warn=print,
        )
        supply = Proposals(
            space,
            factory,
            study,
            seed=0,
            controls=False,
            exhaustive=False,
            known={candidate.key: candidate for candidate in known},
            say=print,
            chooser=chooser_of(budget),
        )
        found = [*known]
        for _ in range(count):
            candidate = supply.next(planned_only=False)
            if candidate is None:
                break
            score = candidate.profile.params / 1e8
            outcome = Outcome("complete", None, {}, (score, candidate.profile.gmacs))
            study.agree(candidate.optuna_number, outcome)
            found.append(candidate)
        return found

    whole = propose("", 100, [])
    assert len({c.key for c in whole}) == len(whole) > 8
    costs = [c.profile.gmacs for c in whole]
    assert costs[0] == min(costs) and costs[1] == max(costs)
    url = f"journal:{tmp_path / 's.journal'}"
    parts = propose(url, 5, propose(url, 4, []))
    assert [c.key for c in parts] == [c.key for c in itertools.islice(whole, 9)]
