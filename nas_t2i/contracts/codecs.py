"""What a latent codec keeps to."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nas_t2i.contracts import Check
from nas_t2i.protocol.conditioning import CodecSettings


def checks(settings: CodecSettings) -> Iterator[Check]:
    """Check a codec by its settings; it is loaded."""
    codec = settings.load()
    loaded, stated = (codec.channels, codec.downsampling), settings.geometry()
    yield Check(
        "geometry() is the loaded codec's",
        "" if loaded == stated else f"got {stated}, loaded {loaded}",
    )
    same = codec.fingerprint == settings.fingerprint()
    yield Check("fingerprint() is the loaded codec's", "" if same else "they differ")
    side = 8 * codec.downsampling
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, side, side), generator=generator, dtype=torch.uint8)
    mean, std = codec.moments(images)
    wanted = (2, codec.channels, 8, 8)
    shape = tuple(mean.shape)
    yield Check("latents are (N, channels, h, w)", "" if shape == wanted else f"got {shape}")
    floats = mean.dtype == torch.float32 and bool(torch.isfinite(mean).all())
    yield Check("latents are finite float32", "" if floats else f"got {mean.dtype}")
    drawn = (std is not None) == settings.draws
    yield Check("it has a deviation just if it draws", "" if drawn else f"draws {settings.draws}")
    decoded = codec.decode(mean)
    fits = tuple(decoded.shape) == tuple(images.shape) and decoded.dtype == torch.uint8
    problem = f"got {tuple(decoded.shape)} {decoded.dtype}"
    yield Check("decoded images are (N, 3, H, W) uint8", "" if fits else problem)
    again = codec.moments(images).mean
    yield Check("equal images have equal latents", "" if torch.equal(mean, again) else "differ")
