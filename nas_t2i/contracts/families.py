"""What an architecture family keeps to."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nas_t2i.arch.profile import count
from nas_t2i.arch.spec import Arch
from nas_t2i.contracts import Check

_LATENT = 32  # side
_TOKENS = 7


def checks(arch: Arch) -> Iterator[Check]:
    """Check an architecture of the family."""
    canonical = arch.canonical()
    named = canonical.get("family") == type(arch).FAMILY
    yield Check("its canonical form names the family", "" if named else f"got {canonical!r:.80}")
    parameters = {key: value for key, value in canonical.items() if key != "family"}
    again = type(arch).from_data(parameters)
    same = again.arch_id == arch.arch_id
    yield Check("its canonical form reads back to the same id", "" if same else again.arch_id)
    label = arch.label()
    fine = isinstance(label, str) and label and "\n" not in label
    yield Check("its label is one line", "" if fine else f"got {label!r:.60}")
    counted = count(arch, latent_size=_LATENT, text_tokens=_TOKENS)
    macs = counted.total()
    yield Check("it builds, and has multiply-adds to count", "" if macs > 0 else "got none")
    yield Check("its call returns the latents' shape", _shape_problem(arch))


def _shape_problem(arch: Arch) -> str:
    data = arch.model_dump(include={"latent_channels", "text_dim"})
    channels, width = data["latent_channels"], data["text_dim"]
    with torch.no_grad(), torch.device("meta"):
        model = arch.build(_LATENT).eval()
        latents = torch.empty(2, channels, _LATENT, _LATENT)
        out = arch.call(model, latents, torch.empty(2), torch.empty(2, _TOKENS, width))
    wanted = (2, channels, _LATENT, _LATENT)
    shape = tuple(out.shape)
    fits = shape[:1] + shape[2:] == wanted[:1] + wanted[2:] and shape[1] >= channels
    return "" if fits else f"got {shape}, expected {wanted} or more channels"
