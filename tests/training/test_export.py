import json

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from nas_t2i.errors import ConfigError, StorageError
from nas_t2i.evaluation.sampling.ddim import sample
from nas_t2i.training.checkpoint import Checkpoints, newest_checkpoint
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.export import export_weights
from nas_t2i.training.initial import load_initial_weights
from nas_t2i.training.noise import draw_noise, ldm_schedule
from nas_t2i.training.ranks import join_ranks
from tests.training.tiny import NoiseFeed, tiny_arch, tiny_budget, trainer_on


def trained_and_saved(folder, family="unet", **training):
    """Two steps of training, and a checkpoint of them."""
    budget = tiny_budget(2, **training)
    ranks = join_ranks("cpu")
    trainer = trainer_on(NoiseFeed(0), budget, ranks, family=family)
    trainer.train_to(2, lambda *_: None)
    Checkpoints(folder / "checkpoints", 1, ranks).save(2, {"trainer": trainer.state_dict()})
    return trainer


def exported(folder, family="unet", **training):
    trainer = trained_and_saved(folder, family, **training)
    checkpoint = newest_checkpoint(folder / "checkpoints")
    arch, objective = tiny_arch(family), trainer.budget.objective
    export_weights(checkpoint, arch, objective, 8, folder / "out", {"step": 2})
    return trainer, folder / "out"


@pytest.mark.parametrize("family, kind", [
    ("unet", UNet2DConditionModel), ("pixart", PixArtTransformer2DModel),
])  # fmt: skip
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_diffusers_loads_what_was_evaluated(family, kind, ema_decay, tmp_path):
    trainer, out = exported(tmp_path, family, ema_decay=ema_decay)
    model = kind.from_pretrained(out).eval()
    assert sorted(file.name for file in out.iterdir()) == [
        "config.json", "diffusion_pytorch_model.safetensors", "nas-t2i.json", "scheduler",
    ]  # fmt: skip
    x, text = torch.randn(2, 12, 8, 8), torch.randn(2, 12, 64)
    t = torch.tensor([3, 700])
    with trainer.averaged_weights() as averaged, torch.inference_mode():
        ours = averaged(x, t, text)
        theirs = model(x, timestep=t, encoder_hidden_states=text, return_dict=False)[0][:, :12]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert json.loads((out / "nas-t2i.json").read_text()) == {"step": 2}


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_stable_diffusion_pipeline_draws_the_latents_that_our_sampler_draws(guidance, tmp_path):
    trainer, out = exported(tmp_path)
    text, null = torch.randn(3, 12, 64), torch.zeros(12, 64)
    with trainer.averaged_weights() as averaged:
        ours = sample(
            averaged,
            text,
            null,
            latent_shape=(12, 8, 8),
            schedule=ldm_schedule(),
            prediction=trainer.budget.objective.prediction,
            steps=5,
            guidance=guidance,
            seed=3,
        )
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(32,)),
        text_encoder=None,
        tokenizer=None,
        unet=UNet2DConditionModel.from_pretrained(out),
        scheduler=DDIMScheduler.from_pretrained(out, subfolder="scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt_embeds=text,
        negative_prompt_embeds=null.expand_as(text),
        latents=draw_noise(3, 0, (3, 12, 8, 8), "sampling"),
        height=8,
        width=8,
        num_inference_steps=5,
        guidance_scale=guidance,
        output_type="latent",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_nothing_is_written_over(tmp_path):
    _, out = exported(tmp_path)
    with pytest.raises(StorageError, match="exists already"):
        exported(tmp_path)
    assert out.exists()


@pytest.mark.parametrize("layout", ["trial", "diffusers", "pipeline", "study"])
def test_training_goes_on_from_a_trial_a_study_or_a_diffusers_folder(layout, tmp_path):
    trainer, out = exported(tmp_path / "trials/key")
    source = {"trial": tmp_path / "trials/key", "diffusers": out, "study": tmp_path}.get(layout)
    if layout == "study":
        (tmp_path / "study.json").write_text("{}")
    if layout == "pipeline":
        source = tmp_path / "pipeline"
        source.mkdir()
        out.rename(source / "unet")
    # another resolution, another seed: the weights are taken all the same
    fresh = build_denoiser(tiny_arch(), latent_size=16, latent_channels=12, seed=5)
    load_initial_weights(fresh, str(source), "key")
    with trainer.averaged_weights() as averaged:
        for one, other in zip(fresh.parameters(), averaged.parameters(), strict=True):
            assert torch.equal(one, other)


def test_weights_of_another_architecture_or_none_at_all_are_refused(tmp_path):
    trained_and_saved(tmp_path)
    other = build_denoiser(tiny_arch("pixart"), latent_size=8, latent_channels=12, seed=0)
    with pytest.raises(ConfigError, match=r"init_from: .* lacks .* same architecture"):
        load_initial_weights(other, str(tmp_path), "key")
    with pytest.raises(ConfigError, match="no weights in"):
        load_initial_weights(other, str(tmp_path / "nowhere"), "key")
