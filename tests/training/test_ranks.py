"""Several real ranks over gloo: the same run as one, and bit for bit the same after a kill."""

import pytest
import torch

from tests.training.ranks import run_ranks

STEPS = 5


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One rank, its whole batch at once, ZeRO stage 0."""
    return run_ranks(tmp_path_factory.mktemp("alone"), 1, steps=STEPS)


def assert_same_run(one, other):
    assert other.losses == pytest.approx(one.losses, rel=2e-5)
    assert other.weights.keys() == one.weights.keys() != set()
    for name, weight in one.weights.items():
        torch.testing.assert_close(other.weights[name], weight, rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_two_ranks_take_the_steps_of_one_and_a_killed_run_resumes_exactly(
    zero_stage, alone, tmp_path
):
    settings = {"steps": STEPS, "micro_batch": 1, "save_every": 2, "zero_stage": zero_stage}
    whole = run_ranks(tmp_path / "whole", 2, **settings)
    assert_same_run(alone, whole)

    run_ranks(tmp_path / "cut", 2, killed_at=3, **settings)
    resumed = run_ranks(tmp_path / "cut", 2, **settings)
    assert resumed.losses == whole.losses
    assert list(resumed.retaken) == [3]
    assert len(set(resumed.retaken[3])) == 1
    for name, weight in whole.weights.items():
        assert torch.equal(resumed.weights[name], weight), name


def test_the_micro_batch_changes_nothing_but_rounding(alone, tmp_path):
    assert_same_run(alone, run_ranks(tmp_path / "run", 1, steps=STEPS, micro_batch=2))


@pytest.mark.parametrize("part", ["optimizer", "param"])
def test_offload_settings_are_passed_through(part, alone, tmp_path):
    offloaded = run_ranks(
        tmp_path / "run",
        1,
        steps=STEPS,
        zero_stage=3,
        execution={"offload": {part: {"device": "cpu"}}},
    )
    assert_same_run(alone, offloaded)
