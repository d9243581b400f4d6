"""A score is predicted where the study's law holds for the run, and nowhere else."""

from pathlib import Path

import pytest

from nas_t2i.protocol.budget import load_budget
from nas_t2i.results.figures.ranked import ranked
from nas_t2i.results.scale_up.score import predicted_score
from nas_t2i.store import Study
from tests.results.record_factory import study, trial

pytest.importorskip("scipy")
PAPER = load_budget(Path(__file__).parents[3] / "budgets/paper_256.yaml")


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr("nas_t2i.results.laws.scaling.SAMPLES", 30)


def changed(**changes):
    data = PAPER.model_dump(mode="json")
    for path, value in changes.items():
        section, _, key = path.partition("__")
        if key:
            data[section][key] = value
        else:
            data[section] = value
    return type(PAPER).model_validate(data, strict=False)


def of_a_power_law(exponent):
    """Six architectures along one curve of 6e9 FLOPs a step."""
    trials = []
    for i in range(6):
        curve = {
            step: [0.3 * (step / 100) ** exponent * (1 - 0.001 * i)] * 4
            for step in (100, 200, 400, 800, 1600)
        }
        trials.append(trial(f"a{i}", curve, number=i))
    return ranked([Study(Path("nowhere"), study("demo"), trials, [], False)])


PROXY = {
    "channel_divisor": 16,
    "channel_multiple": 4,
    "head_dim": 4,
    "norm_groups": 4,
    "depth_divisor": 3,
    "res_block_divisor": 2,
    "transformer_depth_divisor": 7,
}


def test_the_law_of_the_same_setting_is_asked_and_its_range_is_said():
    found = of_a_power_law(0.1)
    longer = changed(training__steps=1_200_000, rungs=[1_200_000], execution={"ranks": 4})
    inside = predicted_score(found, PAPER, longer, 500 * 6e9)
    truth = 0.3 * 5**0.1
    assert f"{truth:.3f} (95 %" in inside[0] and len(inside) == 2
    outside = predicted_score(found, changed(proxy=PROXY), longer, 1e9 * 6e9)
    assert [line.partition(":")[0] for line in outside[2:]] == ["Warning"] * 3
    assert "outside of 6e+11 to 9.6e+12, where the law was fitted" in outside[2]
    assert "no TIFA is more than 1" in outside[3] and "of proxies" in outside[4]


def test_another_setting_or_too_few_records_give_none():
    found = of_a_power_law(0.1)
    other = changed(training__batch=4096, objective__weighting="min_snr")
    (line,) = predicted_score(found, PAPER, other, 500 * 6e9)
    assert "differs from this run in objective.weighting, training.batch, and a law" in line
    few = ranked([Study(Path("nowhere"), study("demo"), [trial("A", {100: 0.4})], [], False)])
    (line,) = predicted_score(few, PAPER, PAPER, 500 * 6e9)
    assert line.startswith("No score is predicted: demo: tifa against compute: 1 point on the")
