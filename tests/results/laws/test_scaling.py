"""Laws, factors and statements from made-up records whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_t2i.errors import RecordError, UserError
from nas_t2i.records import TrialRecord
from nas_t2i.results.figures.ranked import RankedStudies, ranked, read_ranked
from nas_t2i.results.laws.faster import faster
from nas_t2i.results.laws.scaling import scaling
from nas_t2i.results.laws.statements import statements
from nas_t2i.store import Study
from tests.results.record_factory import study, trial

pytest.importorskip("scipy")
MEASURED = Path(__file__).parents[3] / "results" / "measured" / "v2"


def of(*trials: TrialRecord) -> RankedStudies:
    return ranked([Study(Path("nowhere"), study("demo"), list(trials), [], False)])


def sized(exponent: float, count: int = 14) -> RankedStudies:
    """Architectures whose score is a power of their parameters, and as many that are worse."""
    generator = np.random.default_rng(0)
    trials = []
    for i, params in enumerate(np.geomspace(1e8, 3e9, count)):
        for kind, loss in (("best", 1.0), ("worse", 0.9)):
            mean = (
                0.4 * (params / 1e8) ** exponent * loss * float(np.exp(generator.normal(0, 0.002)))
            )
            prompts = [mean - 0.05, mean + 0.05] * 10
            trials.append(
                trial(f"{kind}-{i}", {100: prompts}, number=len(trials), params=int(params),
                      gmacs=params / 1e7)
            )  # fmt: skip
    return of(*trials)


def test_the_exponent_of_the_front_is_found_within_its_interval() -> None:
    law = scaling(sized(0.2), "params")
    assert law.b.value == pytest.approx(0.2, abs=0.01)
    assert law.b.low <= 0.2 <= law.b.high and law.b.high - law.b.low < 0.05
    assert law.range == (1e8, 3e9) and law.points == 14 and law.residual < 0.01
    found = law.predict(1e9)
    assert found.low <= 0.4 * 10**0.2 <= found.high
    assert not law.is_outside(1e9) and law.is_outside(3.1e9) and law.is_outside(9e7)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        trials = []
        for i, params in enumerate(np.geomspace(1e8, 3e9, 16)):
            mean = 0.4 * (params / 1e8) ** 0.15 * float(np.exp(generator.normal(0, 0.01)))
            trials.append(trial(f"a{i}", {100: [mean] * 4}, number=i, params=int(params)))
        law = scaling(of(*trials), "params")
        held += law.b.low <= 0.15 <= law.b.high
    assert held >= 15


def test_too_few_points_and_a_score_of_zero_are_said() -> None:
    with pytest.raises(RecordError, match="2 points on the Pareto front; expected 4 or more"):
        scaling(of(trial("A", {100: 0.4, 200: 0.5})), "compute")
    trials = [
        trial(f"a{i}", {100: [i / 20] * 4}, number=i, params=(i + 1) * 10**8) for i in range(6)
    ]
    with pytest.raises(RecordError, match="a score of 0; expected positive ones"):
        scaling(of(*trials), "params")


def test_a_factor_is_known_exactly_where_curves_are() -> None:
    """On curves that are straight in the logarithm of the steps, A is four times as fast."""
    steps = (100, 200, 400, 800)

    def curve(speed: float) -> dict[int, Any]:
        return {s: [0.1 * np.log2(speed * s / 100) + d for d in (0.2, 0.3, 0.4)] for s in steps}

    found = faster(of(trial("A", curve(4)), trial("B", curve(1), number=1)), "A", "B", 0.6)
    by_cost = {s.cost: s for s in found.speedups}
    assert set(by_cost) == {"steps", "compute", "wall-clock"}
    for speedup in by_cost.values():
        assert speedup.ratio == pytest.approx(4, rel=1e-6)
        assert speedup.low - 1e-9 <= 4 <= speedup.high + 1e-9
    last = faster(of(trial("A", curve(4)), trial("B", curve(1), number=1)), "A", "B")
    assert last.never == 0 and last.speedups[0].low == pytest.approx(4)
    with pytest.raises(RecordError, match=r"B never reaches 0\.700: its best is 0\.600"):
        faster(of(trial("A", curve(4)), trial("B", curve(1), number=1)), "A", "B", 0.7)
    with pytest.raises(UserError, match=r"got 'AA'; expected an architecture"):
        faster(of(trial("A", curve(4))), "AA", "A")


def unet(name: str, score: float, *, number: int, gmacs: float = 100.0, **arch: Any) -> TrialRecord:
    values = {"family": "unet", "channels": 256, "transformer_depth": [0, 2, 2], **arch}
    return trial(name, {100: score}, number=number, gmacs=gmacs, arch=values)


def answers(found: RankedStudies) -> dict[str, Any]:
    return {statement.key: statement for statement in statements(found)}


def test_deeper_against_wider_takes_pairs_of_equal_compute_alone() -> None:
    made = answers(
        of(
            unet("wide", 0.80, number=0, channels=320),
            unet("deep", 0.45, number=1, channels=192, transformer_depth=[0, 2, 8], gmacs=105),
            unet("costly", 0.99, number=2, channels=128, transformer_depth=[0, 2, 9], gmacs=150),
            unet("other", 0.99, number=3, channels=128, transformer_depth=[0, 2, 9], res_blocks=9),
        )
    )["width-or-depth"]
    assert made.records == ("deep", "wide")
    assert made.difference.high < 0 and made.answer.startswith("Here wider scores better")
    assert "Of 1 pair only" in made.answer


def test_attention_at_the_lowest_resolution_alone() -> None:
    found = read_ranked([MEASURED / "comparison-embedded"])
    made = answers(found)
    low = made["attention-low-only"]
    assert set(low.records) == {f"C{w}-{kind}" for w in (128, 192, 256) for kind in ("4x", "2x4x")}
    assert low.difference.high < 0
    scores = {row.name: row.expected_score or 0.0 for row in found.rows}
    mean = np.mean([scores[f"C{w}-4x"] - scores[f"C{w}-2x4x"] for w in (128, 192, 256)])
    assert low.difference.value == pytest.approx(float(mean), abs=1e-9)
    assert not made["unet-or-transformer"].supported
    assert made["unet-or-transformer"].answer.startswith("The records don't support this")


def test_a_unet_and_a_transformer_of_one_size() -> None:
    made = answers(
        of(
            unet("U", 0.5, number=0),
            trial("T", {100: 0.5}, number=1, arch={"family": "pixart"}, family="pixart"),
            trial("L", {100: 0.9}, number=2, family="pixart", params=9 * 10**8),
        )
    )["unet-or-transformer"]
    assert set(made.records) == {"U", "T"}
    assert "Can't be told apart" in made.answer


def test_the_smallest_that_is_no_worse_than_the_reference() -> None:
    def sized_unet(name: str, score: float, number: int, params: int) -> TrialRecord:
        return trial(name, {100: score}, number=number, params=params)

    made = answers(
        of(
            sized_unet("tiny", 0.40, 0, 10**8),
            sized_unet("small", 0.90, 1, 4 * 10**8),
            sized_unet("SDXL-C320", 0.60, 2, 24 * 10**8),
            sized_unet("large", 0.60, 3, 40 * 10**8),
        )
    )["smaller"]
    assert made.records == ("small", "SDXL-C320")
    assert "83% smaller than SDXL-C320" in made.answer
    none = answers(of(sized_unet("a", 0.4, 0, 10**8), sized_unet("b", 0.9, 1, 10**9)))["smaller"]
    assert none.answer.startswith("No smaller one is shown to be as good as b")


def test_nothing_on_record_supports_nothing() -> None:
    assert not any(statement.supported for statement in statements(of()))
