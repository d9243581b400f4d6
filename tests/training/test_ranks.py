"""Several real ranks over gloo: the same run as one, and bit for bit the same after a kill."""

import pytest
import torch

from tests.training.ranks import run_ranks


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One rank, whole batch at once, ZeRO stage 0."""
    return run_ranks(tmp_path_factory.mktemp("alone"), 1)


def assert_same_run(one, other):
    assert other.losses == pytest.approx(one.losses, rel=2e-5)
    for name, weight in one.weights.items():
        torch.testing.assert_close(other.weights[name], weight, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_two_ranks_take_the_steps_of_one(zero_stage, alone, tmp_path):
    both = run_ranks(tmp_path / "two", 2, micro_batch=1, zero_stage=zero_stage)
    assert_same_run(alone, both)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_the_micro_batch_changes_nothing_but_rounding(micro_batch, alone, tmp_path):
    assert_same_run(alone, run_ranks(tmp_path / "run", 1, micro_batch=micro_batch))


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_killed_and_resumed_is_bit_for_bit_the_uninterrupted_run(zero_stage, tmp_path):
    settings = {"steps": 5, "micro_batch": 1, "save_every": 2, "zero_stage": zero_stage}
    whole = run_ranks(tmp_path / "whole", 2, **settings)
    run_ranks(tmp_path / "cut", 2, killed_at=3, **settings)
    resumed = run_ranks(tmp_path / "cut", 2, **settings)
    assert resumed.losses == whole.losses
    assert list(resumed.retaken) == [3]
    assert len(set(resumed.retaken[3])) == 1
    assert resumed.weights.keys() == whole.weights.keys() != set()
    for name, weight in whole.weights.items():
        assert torch.equal(resumed.weights[name], weight), name
