"""VQA models answer on a GPU what they answer on the CPU."""

import pytest
import torch

from tests.evaluation.vqa.test_transformers_vqa import QUESTIONS, WRITERS, load, make_image

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("name", WRITERS)
def test_answers_and_likelihoods_are_those_of_the_cpu(name, tmp_path, monkeypatch):
    # Random weights: among words that are about as likely, rounding to TF32 decides.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    folder = WRITERS[name](tmp_path / name)
    on_cpu, on_gpu = (
        load(name, folder, device=device, likelihood="sum") for device in ("cpu", "cuda")
    )
    image = make_image(1)
    for one, other in zip(
        on_cpu.answer(image, QUESTIONS), on_gpu.answer(image, QUESTIONS), strict=True
    ):
        assert other.text == one.text
        assert other.likelihoods == pytest.approx(one.likelihoods, rel=1e-3, abs=1e-3)
