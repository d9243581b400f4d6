"""Sampling's own attention against diffusers': equal results, fewer projections."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.evaluation.sampling import kv_cache as attention
from nas_t2i.evaluation.sampling.ddim import sample
from nas_t2i.training.denoiser import Denoiser, build_denoiser
from nas_t2i.training.noise import ldm_schedule
from tests.training.tiny import tiny_arch

TOKENS, WIDTH = 12, 64


def unet(head_dim: int, family: str = "unet", deepest: int = 2) -> Denoiser:
    """A model with heads of that width, at 4 x 4 and 2 x 2 tokens."""
    arch = arch_from_dict({
        "family": family, "channels": 16, "channel_mult": [1, 2, 2], "res_blocks": 1,
        "transformer_depth": [0, 1, deepest], "head_dim": head_dim, "norm_groups": 4,
        "text_dim": WIDTH, "latent_channels": 12,
    })  # fmt: skip
    return build_denoiser(arch, latent_size=8, latent_channels=12, seed=0).eval()


def pixart() -> Denoiser:
    return build_denoiser(tiny_arch("pixart"), latent_size=8, latent_channels=12, seed=0).eval()


def draw(denoiser, guidance: float = 3.0, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return sample(
        denoiser,
        torch.randn(5, TOKENS, WIDTH, generator=generator),
        torch.randn(TOKENS, WIDTH, generator=generator),
        latent_shape=(12, 8, 8),
        schedule=ldm_schedule(),
        prediction="sample",
        steps=4,
        guidance=guidance,
        seed=0,
        batch=batch,
    )


def plain(denoiser: Denoiser):
    """The same model behind a function, which hides its modules: diffusers' own attention."""
    return lambda x, t, text: denoiser(x, t, text)


# Heads of 4 are taken many at a time, of 16 one at a time where there are many tokens.
@pytest.mark.parametrize("make", [lambda: unet(4), lambda: unet(16), pixart])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("room", [0, 20_000, 2**30])
def test_latents_are_those_of_diffusers_own_attention(make, guidance, room, monkeypatch):
    monkeypatch.setattr(attention, "_KEPT_BYTES", room)
    denoiser = make()
    ours, theirs = draw(denoiser, guidance), draw(plain(denoiser), guidance)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert ours.std() > 0.01


def test_the_batch_does_not_matter():
    denoiser = unet(4)
    whole = draw(denoiser, batch=5)
    for batch in (1, 2, 64):
        torch.testing.assert_close(draw(denoiser, batch=batch), whole, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_as_close_as_bfloat16_is_to_itself():
    denoiser = unet(4)
    denoiser._bf16 = True
    torch.testing.assert_close(draw(denoiser), draw(plain(denoiser)), rtol=1e-5, atol=1e-5)


def calls_of(denoiser: Denoiser, projection: str) -> list[int]:
    """The rows that the first cross-attention's projection is given, a number a call."""
    rows: list[int] = []
    cross = next(m for n, m in denoiser.named_modules() if n.endswith("attn2"))
    getattr(cross, projection).register_forward_hook(
        lambda _, inputs, __: rows.append(len(*inputs))
    )
    return rows


@pytest.mark.parametrize("projection", ["to_k", "to_v"])
def test_text_is_projected_once_a_batch_and_the_null_text_for_one_image(projection):
    denoiser = unet(4)
    rows = calls_of(denoiser, projection)
    draw(denoiser)
    assert rows == [4, 3]  # 3 and 2 texts, and the null text
    rows.clear()
    draw(denoiser, guidance=1.0)
    assert rows == [3, 2]


def test_what_has_no_room_is_projected_at_every_step(monkeypatch):
    monkeypatch.setattr(attention, "_KEPT_BYTES", 0)
    denoiser = unet(4)
    rows = calls_of(denoiser, "to_k")
    draw(denoiser)
    assert rows == [4] * 4 + [3] * 4


def test_the_model_has_its_own_attention_back_whatever_happens():
    denoiser = unet(4)

    def processors():
        return [m.processor for m in denoiser.modules() if hasattr(m, "processor")]

    before = processors()
    with pytest.raises(ZeroDivisionError), attention.sampling_attention(denoiser, 1):
        assert not set(map(id, processors())) & set(map(id, before))
        raise ZeroDivisionError
    assert all(one is other for one, other in zip(processors(), before, strict=True))


def test_attention_of_other_kinds_and_compiled_models_are_left_alone():
    other = unet(4, "if_unet", deepest=1)
    assert attention._plain_attentions(other) == []
    compiled = unet(4)
    assert attention._plain_attentions(compiled)
    compiled.model.compile()  # nothing is traced before the first call
    assert attention._plain_attentions(compiled) == []
    assert attention._plain_attentions(nn.Linear(1, 1)) == []


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 4), heads=st.integers(1, 3), tokens=st.integers(1, 5), seen=st.integers(1, 7),
    width=st.integers(1, 6), seed=st.integers(0, 9),
)  # fmt: skip
def test_many_heads_at_a_time_are_scaled_dot_product_attention(n, heads, tokens, seen, width, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, tokens, heads * width, generator=generator)
    key, value = torch.randn(2, n, seen, heads * width, generator=generator)
    small = [attention._split_small(part, heads) for part in (x, key, value)]
    ours = attention._join_small(attention._attend_small(*small), n)
    parts = [attention._split(part, heads) for part in (x, key, value)]
    theirs = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    torch.testing.assert_close(ours, theirs)
