"""What every codec keeps to, and the lossless one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas_t2i.conditioning.codecs.autoencoder_kl import AutoencoderKL
from nas_t2i.conditioning.codecs.pixel_unshuffle import PixelUnshuffle, PixelUnshuffleCodec
from nas_t2i.data.embedded.shapes import BACKGROUND
from nas_t2i.errors import ConfigError
from nas_t2i.protocol.conditioning import CodecSettings
from tests.conditioning.checkpoints import tiny_vae


def make_images(count: int = 5, side: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def unshuffle(_folder: Path) -> PixelUnshuffle:
    return PixelUnshuffle(codec="pixel_unshuffle", factor=4, scale=0.7)


def sampled(folder: Path) -> AutoencoderKL:
    return AutoencoderKL(
        codec="autoencoder_kl",
        model=str(tiny_vae(folder, 0.13025)),
        precision="fp32",
        posterior="sample",
    )


def mean_only(folder: Path) -> AutoencoderKL:
    return sampled(folder).model_copy(update={"posterior": "mean"})


CODECS: dict[str, Callable[[Path], CodecSettings]] = {
    "pixel_unshuffle": unshuffle,
    "sampled": sampled,
    "mean": mean_only,
}


@pytest.mark.parametrize("kind", CODECS)
def test_the_contract(kind: str, tmp_path: Path) -> None:
    settings = CODECS[kind](tmp_path / "model")
    state = torch.get_rng_state()
    codec = settings.load()
    mean, std = codec.moments(make_images())

    assert (codec.channels, codec.downsampling) == settings.geometry()
    assert mean.shape == (5, codec.channels, 4, 4)
    assert mean.dtype == torch.float32
    assert not mean.requires_grad
    assert not mean.is_inference()
    assert (std is not None) == (kind == "sampled")
    if std is not None:
        assert std.shape == mean.shape
        assert std.dtype == torch.float32
        assert (std > 0).all()
    decoded = codec.decode(mean)
    assert decoded.shape == (5, 3, 16, 16)
    assert decoded.dtype == torch.uint8
    for row in range(5):
        alone = codec.moments(make_images()[row : row + 1]).mean[0]
        torch.testing.assert_close(alone, mean[row], rtol=1e-5, atol=1e-5)
    assert codec.fingerprint == settings.fingerprint()
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ConfigError, match=r"14 x 14 pixels; expected sides in multiples of 4"):
        codec.moments(make_images(side=14))


def test_the_budgets_lossless_codec_has_the_embedded_background(tmp_path: Path) -> None:
    codec = unshuffle(tmp_path).load()
    expected = PixelUnshuffleCodec(4, BACKGROUND, 0.7)
    assert torch.equal(codec.moments(make_images()).mean, expected.encode(make_images()))
    assert torch.equal(codec.decode(codec.moments(make_images()).mean), make_images())


def test_the_fingerprint_of_the_lossless_codec_is_all_it_depends_on() -> None:
    codecs = [
        PixelUnshuffleCodec(),
        PixelUnshuffleCodec(4),
        PixelUnshuffleCodec(2, scale=0.1 + 0.2),
    ]
    codecs += [PixelUnshuffleCodec(2, scale=0.3), PixelUnshuffleCodec(2, (0, 0, 1))]
    assert len({codec.fingerprint for codec in codecs}) == len(codecs)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("scale", [1.0, 0.37, 2.5])
def test_round_trip_loses_nothing(factor: int, scale: float) -> None:
    codec = PixelUnshuffleCodec(factor, (48, 50, 7), scale)
    latents = codec.encode(make_images())
    side = 16 // factor
    assert latents.shape == (5, codec.channels, side, side)
    assert codec.downsampling == factor
    assert torch.equal(codec.decode(latents), make_images())


def test_background_is_zero_and_excess_is_clipped() -> None:
    codec = PixelUnshuffleCodec(2, (48, 48, 48))
    assert not codec.encode(torch.full((1, 3, 4, 4), 48, dtype=torch.uint8)).any()
    assert int(codec.decode(torch.full((1, 12, 2, 2), 9.0)).min()) == 255


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        PixelUnshuffleCodec().encode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="factor"):
        PixelUnshuffleCodec(0)
