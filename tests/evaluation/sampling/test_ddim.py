"""DDIM against diffusers' scheduler; independence of the batch size."""

from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from nas_t2i.evaluation.sampling import ddim as sampling
from nas_t2i.training.noise import Prediction, draw_noise, ldm_schedule

SCHEDULE = ldm_schedule()
NAMES = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}
SHAPE = (3, 4, 4)


def denoiser(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """Any smooth function of all three inputs that treats the rows of a batch alike."""
    shift = text.mean(dim=(1, 2)).view(-1, 1, 1, 1)
    return torch.tanh(x * 0.7 + shift) * (1 - t.view(-1, 1, 1, 1) / 2000)


@pytest.mark.parametrize("prediction", get_args(Prediction))
@pytest.mark.parametrize("steps", [4, 7, 10, 50])
@pytest.mark.parametrize("guidance", [1.0, 2.5, 7.5])
def test_every_step_is_diffusers(prediction: Prediction, steps: int, guidance: float) -> None:
    theirs = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type=NAMES[prediction],
    )
    theirs.set_timesteps(steps)
    assert sampling.ddim_timesteps(1000, steps) == theirs.timesteps.tolist()
    text, null = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(5, 6)
    x = draw_noise(0, 0, (2, *SHAPE), "sampling")
    expected_at = []
    for t in theirs.timesteps.tolist():
        expected_at.append(x)
        times = torch.full((2,), t)
        without = denoiser(x, times, null.expand(2, 5, 6))
        output = without + guidance * (denoiser(x, times, text) - without)
        expected = theirs.step(output, t, x).prev_sample
        actual = sampling.ddim_step(SCHEDULE, prediction, output, x, t, steps)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
        x = expected
    seen_at = []

    def watched(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        seen_at.append(x[:2])
        return denoiser(x, t, text)

    whole = sampling.sample(
        watched,
        text,
        null,
        latent_shape=SHAPE,
        schedule=SCHEDULE,
        prediction=prediction,
        steps=steps,
        guidance=guidance,
        seed=0,
    )
    # Rounding grows along the chain where a prediction is divided by a small signal.
    for seen, expected in zip([*seen_at, whole], [*expected_at, x], strict=True):
        torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-3)


def draw(batch: int, start: int = 0, rows: slice = slice(None)) -> Tensor:
    text = torch.randn(11, 5, 6, generator=torch.Generator().manual_seed(1))
    return sampling.sample(
        denoiser,
        text[rows],
        torch.zeros(5, 6),
        latent_shape=SHAPE,
        schedule=SCHEDULE,
        prediction="sample",
        steps=5,
        guidance=2.0,
        seed=3,
        batch=batch,
        start=start,
    )


def test_the_batch_size_does_not_matter() -> None:
    whole = draw(11)
    for batch in (1, 2, 3, 64):
        torch.testing.assert_close(draw(batch), whole)
    torch.testing.assert_close(draw(4, start=6, rows=slice(6, None)), whole[6:])


def test_no_prompts_no_images() -> None:
    assert draw(4, rows=slice(0, 0)).shape == (0, *SHAPE)


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="sampling steps"):
        sampling.ddim_timesteps(1000, 1000)
