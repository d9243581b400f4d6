"""`execution.compile: regional`, with torch's tracing as it is and without its C++ compiler."""

import functools
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch._dynamo import config as dynamo
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.utils import counters

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.errors import UserError
from nas_t2i.training.denoiser import build_denoiser, compile_blocks
from nas_t2i.training.ranks import join_ranks
from tests.training.tiny import NoiseFeed, tiny_arch, tiny_budget, trainer_on

# Of torch's own tracing.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(autouse=True)
def _traced_only(monkeypatch):
    compiled = functools.partialmethod(nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(nn.Module, "compile", compiled)
    with dynamo.patch(recompile_limit=8, fail_on_recompile_limit_hit=False):
        torch.compiler.reset()
        counters.clear()
        yield
        torch.compiler.reset()


def trained(steps, family="unet", execution=None, state=None, **training):
    budget = tiny_budget(4, execution, **training)
    trainer = trainer_on(NoiseFeed(0), budget, join_ranks("cpu"), 0, family)
    if state is not None:
        trainer.load_state_dict(state)
    losses = []
    trainer.train_to(steps, lambda _, loss: losses.append(loss))
    return trainer, losses


REGIONAL = {"compile": "regional"}


@pytest.mark.parametrize("family", ["unet", "pixart"])
def test_blocks_are_compiled_and_take_the_same_steps(family):
    _, eager = trained(2, family)
    assert not counters["frames"]
    trainer, regional = trained(2, family, REGIONAL)
    assert regional == pytest.approx(eager, rel=1e-5)
    model = trainer.denoiser.model
    compiled = {type(m).__name__ for m in model.modules() if m._compiled_call_impl is not None}
    assert compiled == {"BasicTransformerBlock", "ResnetBlock2D"} - (
        {"ResnetBlock2D"} if family == "pixart" else set()
    )
    frames = counters["frames"]
    assert frames["ok"] == frames["total"] > 0 and not counters["graph_break"]


def test_checkpointing_bfloat16_and_zero_train_with_it():
    execution = {"gradient_checkpointing": True, "channels_last": True}
    settings = {"precision": "bf16", "zero_stage": 2}
    _, eager = trained(2, execution=execution, **settings)
    _, regional = trained(2, execution=execution | REGIONAL, **settings)
    assert regional == pytest.approx(eager, rel=0.02)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit():
    _, losses = trained(4, execution=REGIONAL)
    first, begun = trained(2, execution=REGIONAL)
    _, rest = trained(4, execution=REGIONAL, state=deepcopy(first.state_dict()))
    assert begun + rest == losses


def wide_unet():
    """A UNet whose residual blocks have more shapes than torch's own limit of 8 allows."""
    return arch_from_dict(
        tiny_arch().canonical() | {"channel_mult": [1, 2, 3, 4], "transformer_depth": [0, 0, 0, 1]}
    )


def predict(denoiser, batch):
    text = torch.zeros(batch, 12, 64)
    return denoiser(torch.ones(batch, 12, 8, 8), torch.zeros(batch, dtype=torch.int64), text)


def test_none_of_many_shapes_is_left_out_and_evaluation_compiles_nothing():
    denoiser = build_denoiser(wide_unet(), latent_size=8, latent_channels=12, seed=0)
    denoiser.requires_grad_(False)
    before = predict(denoiser, 1)
    denoiser.prepare(tiny_budget(1, REGIONAL).execution)
    torch.testing.assert_close(predict(denoiser, 1), before)
    count = counters["frames"]["total"]
    assert counters["frames"]["ok"] == count > 8
    assert dynamo.fail_on_recompile_limit_hit
    predict(denoiser, 1)
    assert torch.equal(predict(denoiser.eval(), 1), before)
    predict(denoiser, 2)
    assert counters["frames"]["total"] == count


def test_reaching_the_limit_on_shapes_is_an_error(monkeypatch):
    monkeypatch.setattr("nas_t2i.training.denoiser._SHAPES", 8)
    denoiser = build_denoiser(wide_unet(), latent_size=8, latent_channels=12, seed=0)
    denoiser.requires_grad_(False)
    compile_blocks(denoiser.model)
    with pytest.raises(FailOnRecompileLimitHit):
        predict(denoiser, 1)


def test_a_model_without_such_blocks_is_told_in_a_line():
    with pytest.raises(UserError, match=r"got 'regional' for a Linear, which has no block named"):
        compile_blocks(nn.Linear(1, 1))
