import math
from types import SimpleNamespace

import pytest
import torch

from nas_t2i.training.checkpoint import load_checkpoint, save_checkpoint
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.engine import learning_rate_factor
from nas_t2i.training.inputs import draw_pairs
from nas_t2i.training.loop import DivergedError
from tests.training.tiny import tiny_arch, tiny_budget, tiny_inputs, tiny_trainer


def train(trainer, step):
    losses = []
    trainer.train_to(step, lambda _, loss: losses.append(loss))
    return losses


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(cache_dir, tmp_path):
    budget = tiny_budget(6)
    whole = tiny_trainer(cache_dir, budget)
    losses = train(whole, 6)

    first = tiny_trainer(cache_dir, budget)
    begun = train(first, 3)
    save_checkpoint(tmp_path / "c.pt", first.state_dict())
    second = tiny_trainer(cache_dir, budget, seed=0)
    second.load_state_dict(load_checkpoint(tmp_path / "c.pt"))
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
    bare._engine = SimpleNamespace(module=plain)
    weights = list(plain.parameters())
    optimizer = torch.optim.AdamW(
        weights, lr=1.0, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    for step in range(3):
        factor = learning_rate_factor(step, budget.training)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * factor
        loss = bare._loss(step)
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


def test_pairs_open_from_easy_to_all_and_do_not_depend_on_anything_but_the_step():
    budget = tiny_budget(100, batch=8)
    budget = budget.model_copy(update={"data": budget.data.model_copy(update={"curriculum": 0.5})})
    early = torch.cat([draw_pairs(budget, 0, step, 1000) for step in range(5)])
    late = torch.cat([draw_pairs(budget, 0, step, 1000) for step in range(60, 90)])
    assert int(early.max()) < 1000 * (0.1 + 0.9 * 5 / 50)
    assert int(late.max()) > 900
    assert torch.equal(draw_pairs(budget, 0, 7, 1000), draw_pairs(budget, 0, 7, 1000))
    assert not torch.equal(draw_pairs(budget, 0, 7, 1000), draw_pairs(budget, 1, 7, 1000))


def test_shuffled_captions_are_the_same_captions_on_other_pictures(cache_dir):
    plain, shuffled = tiny_inputs(cache_dir), tiny_inputs(cache_dir, shuffle=True)
    assert torch.equal(plain.latents, shuffled.latents)
    own = plain.text[plain.caption_of]
    others = shuffled.text[shuffled.caption_of]
    assert not torch.equal(own, others)
    assert torch.allclose(own.sum(0), others.sum(0), atol=1e-3)
