"""What a text encoder keeps to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from nas_t2i.contracts import Check
from nas_t2i.protocol.conditioning import TextEncoderSettings

_TEXTS = ["a red circle", "two blue squares", "", "a red circle"]  # the embedded encoder's words


def checks(settings: TextEncoderSettings) -> Iterator[Check]:
    """Check an encoder by its settings; it is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = settings.load(Path(folder))
        loaded, stated = (encoder.tokens, encoder.width), settings.geometry()
        yield Check(
            "geometry() is the loaded encoder's",
            "" if loaded == stated else f"got {stated}, loaded {loaded}",
        )
        same = encoder.fingerprint == settings.fingerprint()
        yield Check("fingerprint() is the loaded encoder's", "" if same else "they differ")
        features = encoder.encode(_TEXTS)
        wanted = (len(_TEXTS), *loaded)
        fits = tuple(features.shape) == wanted and features.dtype == torch.float32
        problem = f"got {tuple(features.shape)} {features.dtype}, expected {wanted} float32"
        yield Check("features are (N, tokens, width) float32", "" if fits else problem)
        finite = bool(torch.isfinite(features).all())
        yield Check("features are finite", "" if finite else "some are not")
        equal = torch.allclose(features[0], features[3], atol=1e-5)
        yield Check("equal texts have equal features", "" if equal else "they differ")
        alone = encoder.encode(_TEXTS[:1])
        close = torch.allclose(features[:1], alone, atol=1e-4)
        yield Check("a text's features do not depend on the others", "" if close else "they do")
        lengths = encoder.lengths(_TEXTS)
        within = len(lengths) == len(_TEXTS) and all(0 <= n <= encoder.tokens for n in lengths)
        yield Check("lengths are within the tokens", "" if within else f"got {lengths}")
