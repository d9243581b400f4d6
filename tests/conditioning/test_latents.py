"""The lossless codec."""

import pytest
import torch

from nas_t2i.conditioning.latents import PixelUnshuffle


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("scale", [1.0, 0.37, 2.5])
def test_round_trip_loses_nothing(factor: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 3, 16, 16), generator=generator, dtype=torch.uint8)
    codec = PixelUnshuffle(factor, (48, 50, 7), scale)
    latents = codec.encode(images)
    side = 16 // factor
    assert latents.shape == (5, codec.channels, side, side)
    assert codec.downsampling == factor
    assert torch.equal(codec.decode(latents), images)


def test_background_is_zero_and_excess_is_clipped() -> None:
    codec = PixelUnshuffle(2, (48, 48, 48))
    assert not codec.encode(torch.full((1, 3, 4, 4), 48, dtype=torch.uint8)).any()
    assert int(codec.decode(torch.full((1, 12, 2, 2), 9.0)).min()) == 255


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        PixelUnshuffle().encode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="factor"):
        PixelUnshuffle(0)
