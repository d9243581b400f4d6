"""Several real ranks over gloo: run and signals are those of one, bit for bit after a kill."""

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
    signals = one.signals[0]
    assert all(found == other.signals[0] for found in other.signals.values())
    for name, signal in signals.items():
        found = other.signals[0][name]
        assert (found["n"], found["signature"]) == (9, signal["signature"])
        for key in ("value", "stderr", "per_pair"):
            assert found[key] == pytest.approx(signal[key], rel=2e-4, abs=2e-5)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "zero_stage", [pytest.param(0, marks=SLOW), 1, pytest.param(2, marks=SLOW), 3]
)
def test_two_ranks_take_the_steps_of_one_and_a_killed_run_resumes_exactly(
    zero_stage, alone, tmp_path
):
    settings = {"steps": STEPS, "micro_batch": 1, "save_every": 2, "zero_stage": zero_stage}
    whole = run_ranks(tmp_path / "whole", 2, **settings)
    assert_same_run(alone, whole)
    assert whole.signals.keys() == {0, 1}

    run_ranks(tmp_path / "cut", 2, killed_at=3, **settings)
    resumed = run_ranks(tmp_path / "cut", 2, **settings)
    assert resumed.losses == whole.losses
    assert list(resumed.retaken) == [3]
    assert len(set(resumed.retaken[3])) == 1
    for name, weight in whole.weights.items():
        assert torch.equal(resumed.weights[name], weight), name


def test_the_micro_batch_changes_nothing_but_rounding(alone, tmp_path):
    assert_same_run(alone, run_ranks(tmp_path / "run", 1, steps=STEPS, micro_batch=2))


@pytest.mark.parametrize("zero_stage", [1, 3])
def test_one_rank_may_use_any_stage(zero_stage, alone, tmp_path):
    assert_same_run(alone, run_ranks(tmp_path / "run", 1, steps=STEPS, zero_stage=zero_stage))


def test_offload_settings_are_passed_through(alone, tmp_path):
    # Of weights, and at stage 3, DeepSpeed offloads from CUDA devices only.
    offload = {"optimizer": {"device": "cpu"}}
    run = run_ranks(tmp_path / "run", 1, steps=STEPS, zero_stage=2, execution={"offload": offload})
    assert_same_run(alone, run)


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_one_rank_s_bad_number_ends_the_run_on_every_rank_with_step_and_loss(zero_stage, tmp_path):
    # Sample 11 is the last of step 3: the second rank's.
    run = run_ranks(tmp_path / "run", 2, bad_sample=11, zero_stage=zero_stage, micro_batch=1)
    told = [(tmp_path / f"run/diverged-{rank}").read_text() for rank in (0, 1)]
    expected = f"non-finite loss or gradient at step 3; last finite loss {run.losses[1]:.4g}"
    assert told == [expected, expected]
    assert len(run.losses) == 2
