"""Laws and statements across budgets that differ in what a ranking holds fixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_t2i.data.embedded.training_set import training_set
from nas_t2i.errors import IncomparableError, RecordError
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.records import BudgetUsed, TrainingSet
from nas_t2i.results.figures.ranked import RankedStudies, ranked
from nas_t2i.results.laws.between import between
from nas_t2i.results.laws.pairs import pairs_law, size_of
from nas_t2i.results.laws.scaling import scaling
from nas_t2i.results.laws.statements import statements
from nas_t2i.store import Study
from tests.results.record_factory import study, trial

pytest.importorskip("scipy")
ROOT = Path(__file__).parents[3]
PAPER = load_budget(ROOT / "budgets/paper_256.yaml").model_dump(mode="json")
EMBEDDED = load_budget(ROOT / "budgets/embedded.yaml").model_dump(mode="json")
SIZES = (10**6, 3 * 10**6, 10**7, 4 * 10**7, 2 * 10**8)


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_t2i.results.laws.scaling.SAMPLES", 60)


def group(name: str, scores: dict[str, float], pairs: int | None, plain: Any) -> RankedStudies:
    """A study under a budget: its architectures at step 100, trained on so many pairs."""
    budget = Budget.model_validate(plain, strict=False)
    used = BudgetUsed(budget_id=budget.budget_id, data=plain)
    size = TrainingSet(images=10, captions=10, image_noun_pairs=pairs, nouns_by="textblob-0")
    trials = [
        trial(arch, {100: [score - 0.02, score + 0.02] * 8}, number=i).model_copy(
            update={"budget_id": used.budget_id, "training_set": size}
        )
        for i, (arch, score) in enumerate(scores.items())
    ]
    record = study(name, budget=used, budget_id=used.budget_id)
    return ranked([Study(Path(name), record, trials, [], False)])


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value | sections[key] if key in sections else value for key, value in PAPER.items()
    }


def with_data(shards: int) -> dict[str, Any]:
    """The paper's budget with so many shards of data."""
    source = {"source": "shards", "urls": [f"/data/{{0..{shards}}}.tar"], "weight": 1.0}
    return changed(data={"sources": [source]})


def grown(exponent: float) -> list[RankedStudies]:
    """Budgets of five sizes of data, scores a power of their image-noun pairs."""
    generator = np.random.default_rng(0)
    return [
        group(
            f"of-{pairs}",
            {
                f"a{i}": 0.3 * (pairs / 1e6) ** exponent * share
                * float(np.exp(generator.normal(0, 0.002)))
                for i, share in enumerate((1.0, 0.999, 0.998, 0.9, 0.8))
            },
            pairs,
            with_data(shards),
        )
        for shards, pairs in enumerate(SIZES)
    ]  # fmt: skip


def test_a_known_exponent_comes_back_from_budgets_of_several_sizes() -> None:
    law = pairs_law(grown(0.12))
    assert law.b.value == pytest.approx(0.12, abs=0.005)
    assert law.b.low <= 0.12 <= law.b.high and law.b.high - law.b.low < 0.02
    assert (law.quantity, law.points, law.architectures) == ("pairs", 5, 5)
    assert law.range == (1e6, 2e8) and law.is_outside(5e8)
    found = law.predict(2e7)
    assert found.low <= 0.3 * 20**0.12 <= found.high


def test_where_pairs_do_not_vary_the_records_do_not_support_it() -> None:
    one = grown(0.1)[:1]
    with pytest.raises(RecordError, match="don't support this: all are of 1,000,000 image-noun"):
        pairs_law(one)
    uncounted = group("a", {"A": 0.4}, None, with_data(1))
    with pytest.raises(RecordError, match="don't support this: nouns are not counted"):
        pairs_law([uncounted])
    few = grown(0.1)[:3]
    with pytest.raises(RecordError, match="3 points on the Pareto front; expected 4"):
        pairs_law(few)


def test_budgets_that_differ_in_more_than_data_are_no_law() -> None:
    one, *_ = grown(0.1)
    other = group("b", {"A": 0.4}, 5, changed(training={"steps": 6 * 10**5, "batch": 4096}))
    with pytest.raises(IncomparableError, match=r"differ in training\.batch; expected one budget"):
        pairs_law([one, other])


def test_held_out_pairs_of_other_data_are_other_pairs() -> None:
    with pytest.raises(IncomparableError, match="heldout_loss: is of each budget's own held-out"):
        pairs_law(grown(0.1), "heldout_loss")


def test_embedded_records_of_earlier_releases_have_their_size_by_construction() -> None:
    older = group("a", {"A": 0.4}, None, EMBEDDED)
    data = Budget.model_validate(EMBEDDED, strict=False).data
    assert size_of(older) == training_set(data).image_noun_pairs == 47_056
    small = {**EMBEDDED, "data": EMBEDDED["data"] | {"scenes": 500}}
    assert 1100 < size_of(group("b", {"A": 0.4}, None, small)) < 1250


def test_more_data_are_compared_over_the_architectures_that_both_have() -> None:
    groups = grown(0.12)
    made = {found.key: found for found in statements(groups[2], [groups[0], groups[4]])}
    assert made["data"].supported and not made["vae"].supported and not made["captions"].supported
    assert made["data"].answer == "Here of-200000000 (200,000,000 image-noun pairs) scores better."
    difference = made["data"].difference
    assert difference is not None and difference.low > 0
    truth = np.mean([0.3 * (200**0.12 - 1) * share for share in (1, 0.999, 0.998, 0.9, 0.8)])
    assert difference.low <= truth <= difference.high
    assert made["data"].records == ("a0", "a1", "a2", "a3", "a4")


def test_codecs_and_captions_are_asked_of_budgets_that_differ_in_them_alone() -> None:
    scores = {f"a{i}": 0.5 for i in range(3)}
    plain = group("plain", scores, 9, with_data(1))
    other = with_data(1)
    other["latents"] = other["latents"] | {"model": "stabilityai/sd-vae-ft-mse"}
    made = {found.key: found for found in between(plain, [group("sd2", scores, 9, other)])}
    assert made["vae"].answer == "Can't be told apart: the interval includes 0."
    assert not made["data"].supported
    other = with_data(1)
    other["data"] = other["data"] | {"captions": [{"field": "txt", "probability": 1.0}]}
    low = dict.fromkeys(scores, 0.3)
    made = {found.key: found for found in between(plain, [group("alt", low, 4, other)])}
    assert made["captions"].answer == "Here plain (9 image-noun pairs) scores better."
    assert not made["data"].supported and not made["vae"].supported


def test_without_an_architecture_of_both_nothing_is_said() -> None:
    one = group("one", {"A": 0.4}, 5, with_data(1))
    other = group("other", {"B": 0.4}, 50, with_data(2))
    made = {found.key: found for found in between(one, [other])}
    assert "no architecture was measured at the last rung of both" in made["data"].answer


def test_pairs_seen_have_a_law_within_one_budget() -> None:
    trials = []
    for i, share in enumerate((1.0, 0.999, 0.998)):
        curve = {step: [share * 0.3 * (step / 100) ** 0.2] * 4 for step in (100, 200, 400, 800)}
        made = trial(f"a{i}", curve, number=i)
        points = [p.model_copy(update={"image_noun_pairs_seen": 40 * p.step}) for p in made.curve]
        trials.append(made.model_copy(update={"curve": points}))
    law = scaling(ranked([Study(Path("seen"), study("seen"), trials, [], False)]), "seen")
    assert law.b.value == pytest.approx(0.2, abs=0.005) and law.range == (4000.0, 32000.0)
    with pytest.raises(RecordError, match="tifa against seen: the records don't support this"):
        scaling(group("old", {"A": 0.4}, 5, EMBEDDED), "seen")
