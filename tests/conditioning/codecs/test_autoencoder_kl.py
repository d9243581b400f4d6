"""The learned codec against diffusers' own autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL as Model
from safetensors.torch import load_file, save_file

from nas_t2i.conditioning.codecs.autoencoder_kl import (
    Autoencoder,
    AutoencoderKL,
    autoencoder_fingerprint,
    autoencoder_geometry,
)
from nas_t2i.errors import ConfigError
from tests.conditioning.checkpoints import edit_json, tiny_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"


def settings(model: object, **changes: Any) -> AutoencoderKL:
    keys = {"precision": "fp32", "posterior": "sample", **changes}
    return AutoencoderKL(codec="autoencoder_kl", model=str(model), **keys)


def make_images(count: int = 3, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


@torch.no_grad()
@pytest.mark.parametrize(("scale", "shift"), [(0.18215, None), (0.3611, 0.1159)])
def test_moments_are_the_posteriors(scale: float, shift: float | None, tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae", scale, shift_factor=shift)
    posterior = Model.from_pretrained(folder).eval().encode(make_images() / 127.5 - 1).latent_dist
    mean, std = Autoencoder(settings(folder)).moments(make_images())
    assert mean.shape == (3, 4, 8, 8)
    torch.testing.assert_close(mean, (posterior.mean - (shift or 0.0)) * scale)
    assert std is not None
    torch.testing.assert_close(std, posterior.std * scale)
    only_mean = Autoencoder(settings(folder, posterior="mean")).moments(make_images())
    assert torch.equal(only_mean.mean, mean)
    assert only_mean.std is None


def test_the_scale_of_a_release_is_applied_once(tmp_path: Path) -> None:
    sd2, sdxl = (tiny_vae(tmp_path / str(s), s) for s in (0.18215, 0.13025))
    first, second = (Autoencoder(settings(f)).moments(make_images()) for f in (sd2, sdxl))
    torch.testing.assert_close(second.mean, first.mean * (0.13025 / 0.18215))
    assert first.std is not None
    assert second.std is not None
    torch.testing.assert_close(second.std, first.std * (0.13025 / 0.18215))


def test_a_config_without_a_scale_is_from_before_there_was_another(tmp_path: Path) -> None:
    plain, old = tiny_vae(tmp_path / "plain"), tiny_vae(tmp_path / "old", None)
    assert "scaling_factor" not in (old / "config.json").read_text()
    first, second = (Autoencoder(settings(f)).moments(make_images()).mean for f in (plain, old))
    assert torch.equal(first, second)


def test_the_keys_of_older_releases(tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae")
    expected = Autoencoder(settings(folder)).moments(make_images()).mean
    # Stable Diffusion 1's and 2's name the attention of the middle block in this way.
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(folder / WEIGHTS)
    for new, old in older.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    assert "decoder.mid_block.attentions.0.proj_attn.bias" in state
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    assert torch.equal(Autoencoder(settings(folder)).moments(make_images()).mean, expected)


@torch.no_grad()
@pytest.mark.parametrize("shift", [None, 0.5])
def test_decoding_is_the_autoencoders_round_trip(shift: float | None, tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae", 0.13025, shift_factor=shift)
    codec = Autoencoder(settings(folder))
    decoded = codec.decode(codec.moments(make_images()).mean)
    model = Model.from_pretrained(folder).eval()
    whole = model.decode(model.encode(make_images() / 127.5 - 1).latent_dist.mean).sample
    expected = ((whole + 1) * 127.5).round().clamp(0, 255)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == make_images().shape
    # One grey level, where rounding falls the other way.
    assert (decoded.int() - expected.int()).abs().max() <= 1
    assert decoded.float().std() > 1


def test_what_decodes_out_of_range_is_clipped(tmp_path: Path) -> None:
    codec = Autoencoder(settings(tiny_vae(tmp_path / "vae")))
    bias = codec._model.decoder.conv_out.bias
    for value, expected in ((50.0, 255), (-50.0, 0)):
        bias.fill_(value)
        assert codec.decode(torch.zeros(1, 4, 4, 4)).unique().tolist() == [expected]


def test_a_image_is_the_same_whatever_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Autoencoder(settings(tiny_vae(tmp_path / "vae")))
    together = codec.moments(make_images(5))
    decoded = codec.decode(together.mean)
    monkeypatch.setattr("nas_t2i.conditioning.codecs.autoencoder_kl._PIXELS_AT_ONCE", 2 * 32 * 32)
    in_twos = codec.moments(make_images(5))
    torch.testing.assert_close(in_twos.mean, together.mean)
    torch.testing.assert_close(in_twos.std, together.std)
    assert (codec.decode(together.mean).int() - decoded.int()).abs().max() <= 1
    assert codec.moments(make_images(0)).mean.shape == (0, 4, 8, 8)
    assert codec.decode(torch.zeros(0, 4, 8, 8)).shape == (0, 3, 32, 32)


def test_bf16_is_close_and_comes_out_as_float32(tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae")
    exact = Autoencoder(settings(folder)).moments(make_images())
    rounded = Autoencoder(settings(folder, precision="bf16")).moments(make_images())
    for one, other in zip(rounded, exact, strict=True):
        assert one is not None
        assert other is not None
        assert one.dtype == torch.float32
        assert not torch.equal(one, other)
    assert float((rounded.mean - exact.mean).std() / exact.mean.std()) < 0.05


@pytest.mark.parametrize(("levels", "downsampling"), [(1, 1), (2, 2), (4, 8)])
def test_geometry_is_the_configs(levels: int, downsampling: int, tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae", levels=levels, latent_channels=6)
    (folder / WEIGHTS).unlink()
    assert autoencoder_geometry(settings(folder)) == (6, downsampling)


def test_a_pipelines_autoencoder_lies_in_a_subfolder(tmp_path: Path) -> None:
    tiny_vae(tmp_path / "pipeline" / "vae")
    (tmp_path / "pipeline" / "config.json").write_text("{}")
    one = settings(tmp_path / "pipeline", subfolder="vae")
    assert Autoencoder(one).fingerprint == autoencoder_fingerprint(
        settings(tmp_path / "pipeline" / "vae")
    )
    with pytest.raises(ConfigError, match="subfolder 'vae'"):
        Autoencoder(settings(tmp_path / "pipeline"))


def test_the_fingerprint_follows_what_the_latents_depend_on(tmp_path: Path) -> None:
    here, there = (autoencoder_fingerprint(settings(tiny_vae(tmp_path / n))) for n in "ab")
    assert here == there
    folder = tmp_path / "a"
    others = [
        autoencoder_fingerprint(settings(folder, precision="bf16")),
        autoencoder_fingerprint(settings(folder, posterior="mean")),
        autoencoder_fingerprint(settings(tiny_vae(tmp_path / "scale", 0.13025))),
        autoencoder_fingerprint(settings(tiny_vae(tmp_path / "seed", seed=1))),
    ]
    assert len({here, *others}) == 5
    edit_json(folder / "config.json", _diffusers_version="0.1", force_upcast=True)
    assert autoencoder_fingerprint(settings(folder)) == here


def refused(folder: Path, message: str, **changes: Any) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Autoencoder(settings(folder, **changes))
    assert "\n" not in str(caught.value)


def test_folders_that_hold_no_autoencoder(tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae")
    refused(tmp_path / "vea", "latents.model: no folder '.*vea'; .*; did you mean 'vae'")
    refused(folder / "config.json", "config.json' is a file; expected a local folder or a hub id")
    refused(folder, "vae/config.json: no such file", subfolder="vae")
    refused(folder, "expected a revision of hub ids only", revision="main")
    edit_json(folder / "config.json", scaling_factor=0)
    refused(folder, "got a scaling_factor of 0; expected a positive number")
    edit_json(folder / "config.json", scaling_factor=1, latents_mean=[0.0] * 4)
    refused(folder, "got latents_mean or latents_std")
    edit_json(folder / "config.json", latents_mean=None, block_out_channels=[])
    refused(folder, "no latent_channels or block_out_channels")
    edit_json(folder / "config.json", _class_name="AutoencoderTiny")
    refused(folder, "got a model of the class 'AutoencoderTiny'; expected AutoencoderKL")
    (folder / "config.json").unlink()
    refused(folder, "config.json: no such file")


def test_weights_that_are_missing_pickled_or_damaged(tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "vae")
    weights = folder / WEIGHTS
    state = load_file(weights)
    weights.write_bytes(weights.read_bytes()[:-10])
    refused(folder, f"{WEIGHTS}: not a whole safetensors file")
    lacking = {name: value for name, value in state.items() if name != "quant_conv.bias"}
    save_file(lacking, weights, metadata={"format": "pt"})
    refused(folder, "quant_conv.bias")
    save_file({**state, "quant_conv.bias": torch.zeros(3)}, weights, metadata={"format": "pt"})
    refused(folder, f"{WEIGHTS}: not weights of the AutoencoderKL of config.json")
    weights.rename(folder / "diffusion_pytorch_model.bin")
    refused(folder, "only diffusion_pytorch_model.bin, a pickle, which is not read")


def test_sides_that_do_not_divide(tmp_path: Path) -> None:
    codec = Autoencoder(settings(tiny_vae(tmp_path / "vae")))
    with pytest.raises(ConfigError, match="30 x 30 pixels; expected sides in multiples of 4"):
        codec.moments(make_images(side=30))
    with pytest.raises(ValueError, match="uint8"):
        codec.moments(torch.zeros(1, 3, 32, 32))
