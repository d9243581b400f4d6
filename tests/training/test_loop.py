import math
from copy import deepcopy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nas_t2i.errors import StorageError
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.engine import learning_rate_factor
from nas_t2i.training.feeds.shapes import ShapesFeed
from nas_t2i.training.loop import DivergedError
from tests.training.tiny import (
    tiny_arch,
    tiny_budget,
    tiny_encoded_shapes,
    tiny_trainer,
)


def train(trainer, step):
    losses = []
    trainer.train_to(step, lambda _, loss: losses.append(loss))
    return losses


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(cache_dir):
    budget = tiny_budget(6)
    whole = tiny_trainer(cache_dir, budget)
    losses = train(whole, 6)

    first = tiny_trainer(cache_dir, budget)
    begun = train(first, 3)
    state = deepcopy(first.state_dict())
    second = tiny_trainer(cache_dir, budget, seed=0)
    second.load_state_dict(state)
    assert begun + train(second, 6) == losses
    with whole.averaged_weights() as a, second.averaged_weights() as b:
        for one, other in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(one, other)
    assert second.take_mean_loss() == pytest.approx(sum(losses) / 6, abs=0)


def test_another_seed_is_another_run(cache_dir):
    budget = tiny_budget(2)
    one, other = tiny_trainer(cache_dir, budget), tiny_trainer(cache_dir, budget, seed=1)
    assert train(one, 2) != train(other, 2)


def test_training_lowers_the_loss(cache_dir):
    losses = train(tiny_trainer(cache_dir, tiny_budget(60, batch=16)), 60)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_the_engine_takes_the_steps_of_plain_pytorch(cache_dir):
    """DeepSpeed's engine against a bare loop: same weights after three clipped AdamW steps."""
    budget = tiny_budget(3)
    ours, bare = tiny_trainer(cache_dir, budget), tiny_trainer(cache_dir, budget)
    train(ours, 3)
    settings = budget.training.optimizer
    plain = build_denoiser(tiny_arch(), latent_size=8, latent_channels=12, seed=0)
    bare._engine.module = plain
    weights = list(plain.parameters())
    optimizer = torch.optim.AdamW(
        weights, lr=1.0, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    for step in range(3):
        factor = learning_rate_factor(step, budget.training)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * factor
        loss = bare._loss(bare._make_batches(step)[0])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, settings.grad_clip)
        optimizer.step()
    for one, other in zip(ours.denoiser.parameters(), weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_average_follows_the_weights_and_is_lent_not_given(cache_dir):
    trainer = tiny_trainer(cache_dir, tiny_budget(4))
    train(trainer, 4)
    before = [weight.detach().clone() for weight in trainer.denoiser.parameters()]
    with trainer.averaged_weights() as averaged:
        moved = [not torch.equal(a, b) for a, b in zip(averaged.parameters(), before, strict=True)]
        assert any(moved) and not averaged.training
    assert all(
        torch.equal(a, b) for a, b in zip(trainer.denoiser.parameters(), before, strict=True)
    )
    assert trainer.denoiser.training


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(cache_dir):
    trainer = tiny_trainer(cache_dir, tiny_budget(4))
    train(trainer, 2)
    with torch.no_grad():
        next(trainer.denoiser.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="step 3; last finite loss 0"):
        train(trainer, 4)


def test_steps_read_late_as_on_a_gpu_are_the_same_and_all_read_at_the_end(cache_dir):
    budget = tiny_budget(4)
    plain, late = tiny_trainer(cache_dir, budget), tiny_trainer(cache_dir, budget)
    late._reads_late = True
    losses, told = train(plain, 4), train(late, 4)
    assert math.isnan(told[0])
    assert told[1:3] == losses[:2] and told[3] == losses[3]
    assert late.take_mean_loss() == plain.take_mean_loss()


def test_a_loss_that_is_not_finite_is_told_a_step_late_at_most_and_saved_never(cache_dir):
    trainer = tiny_trainer(cache_dir, tiny_budget(6))
    trainer._reads_late = True
    train(trainer, 2)
    with torch.no_grad():
        next(trainer.denoiser.parameters()).fill_(math.nan)
    done = []
    with pytest.raises(DivergedError, match="step 3; last finite loss 0"):
        trainer.train_to(6, lambda step, _: done.append(step))
    assert done == [3]

    trainer = tiny_trainer(cache_dir, tiny_budget(6))
    trainer._reads_late = True
    with torch.no_grad():
        next(trainer.denoiser.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="step 1; last finite loss nan"):
        trainer.train_to(6, lambda *_: trainer.state_dict())
    assert trainer.step == 1


class Calls(TorchDispatchMode):
    """Notes the name of each operation that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["unet", "pixart"])
def test_a_step_reads_nothing_from_its_device(family, cache_dir):
    # Any of these would make the host wait for a GPU, of DeepSpeed's or of our own.
    reads = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"}
    trainer = tiny_trainer(cache_dir, tiny_budget(3), family=family, micro_batch=2)
    train(trainer, 1)
    with Calls() as calls:
        trainer._take_step()
        trainer._update_average()
    assert "aten::_fused_adamw_" in calls.names
    assert not reads & set(calls.names)
    with Calls() as calls:
        float(torch.ones(1))
    assert reads & set(calls.names)


def test_cuda_graphs_get_a_mode_of_compiling_and_gradients_of_their_own(cache_dir, monkeypatch):
    # On a CPU there are none: what is left to see is what torch is asked for, and that gradients
    # which begin at zero in memory of their own come to the same.
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _, **how: asked.append(how))
    plain = tiny_trainer(cache_dir, tiny_budget(3, {"micro_batch": 2}), micro_batch=2)
    assert asked == []
    replayed = tiny_budget(3, {"micro_batch": 2, "compile": "reduce-overhead"})
    other = tiny_trainer(cache_dir, replayed, micro_batch=2)
    assert asked == [{"mode": "reduce-overhead"}]
    assert train(other, 3) == train(plain, 3)
    tiny_trainer(cache_dir, tiny_budget(1, {"compile": True}))
    assert asked[1:] == [{}]


def test_a_pure_transformer_trains_too(cache_dir):
    losses = train(tiny_trainer(cache_dir, tiny_budget(2), family="pixart"), 2)
    assert all(math.isfinite(loss) for loss in losses)


def test_learning_rate_warms_up_holds_and_decays_but_is_never_zero():
    training = tiny_budget(100).training
    optimizer = training.optimizer.model_copy(update={"warmup_steps": 10, "decay_share": 0.3})
    training = training.model_copy(update={"optimizer": optimizer})
    factors = [learning_rate_factor(step, training) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:71] == [1.0] * 62
    assert factors[99] == pytest.approx(1 / 30)
    assert min(factors) > 0


def test_pairs_open_from_easy_to_all_and_do_not_depend_on_anything_but_the_number(cache_dir):
    pairs = tiny_encoded_shapes(cache_dir)
    rows = len(pairs.latents)
    feed = ShapesFeed(pairs, 0, batch=8, curriculum_steps=50.0)
    early, late = feed.rows(0, 5 * 8), feed.rows(60 * 8, 30 * 8)
    assert int(early.max()) < rows * (0.1 + 0.9 * 5 / 50)
    assert int(late.max()) > 0.9 * rows
    assert torch.equal(feed.rows(3, 20), feed.rows(0, 40)[3:23])
    other = ShapesFeed(pairs, 1, batch=8, curriculum_steps=50.0)
    assert not torch.equal(late, other.rows(60 * 8, 30 * 8))


def test_bfloat16_keeps_masters_gradients_and_results_in_float32(cache_dir):
    exact = tiny_trainer(cache_dir, tiny_budget(3))
    rounded = tiny_trainer(cache_dir, tiny_budget(3, precision="bf16"))
    losses = train(exact, 3), train(rounded, 3)
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    for weight in rounded.denoiser.parameters():
        assert weight.dtype == torch.float32
    moments = rounded.state_dict()["engine"]["adam"]
    assert {value.dtype for state in moments for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("option", ["gradient_checkpointing", "channels_last"])
def test_options_of_the_execution_change_nothing_but_rounding(option, cache_dir):
    plain = tiny_trainer(cache_dir, tiny_budget(3))
    other = tiny_trainer(cache_dir, tiny_budget(3, {option: True}))
    assert train(other, 3) == pytest.approx(train(plain, 3), rel=1e-5)


def test_a_checkpoint_of_other_ranks_or_stages_is_refused_by_name(cache_dir):
    trainer = tiny_trainer(cache_dir, tiny_budget(2))
    state = trainer.state_dict() | {"ranks": 2, "zero_stage": 2}
    with pytest.raises(StorageError, match=r"written by 2 rank\(s\) at ZeRO stage 2; this run"):
        trainer.load_state_dict(state)
