"""Noise schedule, targets and their inverses."""

from typing import get_args

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.training import noise
from nas_t2i.training.noise import Prediction, Weighting

SCHEDULE = noise.ldm_schedule()


def test_schedule_is_ldms() -> None:
    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    torch.testing.assert_close(
        SCHEDULE.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-6
    )
    assert float(SCHEDULE.alphas_cumprod[0]) == pytest.approx(0.99915, abs=1e-6)
    assert float(SCHEDULE.alphas_cumprod[-1]) == pytest.approx(0.00466, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(t=st.lists(st.integers(0, 999), min_size=1, max_size=4), seed=st.integers(0, 9))
@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_targets_convert_back(prediction: Prediction, t: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, len(t), 3, 2, 2, generator=generator, dtype=torch.float64)
    times = torch.tensor(t)
    x = noise.add_noise(SCHEDULE, x0, eps, times)
    output = noise.target(SCHEDULE, prediction, x0, eps, times)
    back = noise.to_x0_eps(SCHEDULE, prediction, output, x, times)
    torch.testing.assert_close(back[0], x0)
    torch.testing.assert_close(back[1], eps)


def test_add_noise_is_diffusers() -> None:
    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    x0, eps = draw(0), draw(1)
    t = torch.tensor([0, 10, 500, 999])
    expected = theirs.add_noise(x0, eps, t)  # type: ignore[arg-type]
    torch.testing.assert_close(noise.add_noise(SCHEDULE, x0, eps, t), expected)
    velocity = theirs.get_velocity(x0, eps, t)  # type: ignore[arg-type]
    torch.testing.assert_close(noise.target(SCHEDULE, "v", x0, eps, t), velocity)


def draw(seed: int) -> torch.Tensor:
    return noise.draw_noise(seed, 0, (4, 3, 2, 2))


@pytest.mark.parametrize("weighting", ["min_snr", "min_snr_plus_one"])
def test_weights_agree_between_predictions(weighting: Weighting) -> None:
    """A weighted error is the same whichever of x0, epsilon and v is predicted."""
    t = torch.arange(0, 1000, 37)
    x = torch.randn(len(t), 2, dtype=torch.float64)
    x0 = torch.randn(len(t), 2, dtype=torch.float64)
    x0_guess = x0 + torch.randn(len(t), 2, dtype=torch.float64)
    losses = []
    for prediction in get_args(Prediction):
        outputs = []
        for clean in (x0, x0_guess):
            eps = noise.to_x0_eps(SCHEDULE, "sample", clean, x, t)[1]
            outputs.append(noise.target(SCHEDULE, prediction, clean, eps, t))
        weight = noise.loss_weight(SCHEDULE, prediction, t, weighting)
        losses.append(weight.double() * ((outputs[0] - outputs[1]) ** 2).sum(dim=1))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-5, atol=0)


def test_uniform_weight_is_one_and_names_are_checked() -> None:
    t = torch.tensor([0, 999])
    assert noise.loss_weight(SCHEDULE, "epsilon", t).tolist() == [1.0, 1.0]
    assert noise.loss_weight(SCHEDULE, "sample", t, "min_snr", 5.0)[0] == 5.0
    with pytest.raises(ValueError, match="weighting"):
        noise.loss_weight(SCHEDULE, "sample", t, "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prediction"):
        noise.target(SCHEDULE, "x", t, t, t)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 50), count=st.integers(1, 8))
def test_draws_are_keyed_by_the_global_sample_index(start: int, count: int) -> None:
    whole = noise.draw_noise(1, 0, (start + count, 3, 2, 2))
    assert torch.equal(whole[start:], noise.draw_noise(1, start, (count, 3, 2, 2)))
    t = noise.draw_timesteps(1, 0, start + count)
    assert torch.equal(t[start:], noise.draw_timesteps(1, start, count))
    assert 0 <= int(t.min()) <= int(t.max()) < 1000
    drops = noise.draw_drops(1, 0, start + count, 0.3)
    assert torch.equal(drops[start:], noise.draw_drops(1, start, count, 0.3))
