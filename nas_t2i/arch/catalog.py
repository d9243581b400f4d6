"""The paper's 21 backbones by name, and what the paper reports of them.

"On the Scalability of Diffusion-based Text-to-Image Generation", Li et al., 2024
(arXiv 2404.02883), Tables 1 and 2. All take 4-channel latents and, but for PixArt-XL/2, the 1024
wide tokens of OpenCLIP ViT-H/14.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from nas_t2i.arch.families.if_unet import IFUNet
from nas_t2i.arch.families.pixart import PixArt
from nas_t2i.arch.families.unet import UNet
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError, did_you_mean


def _sd2(channels: int) -> Arch:
    return UNet.from_data(
        {
            "channels": channels,
            "channel_mult": [1, 2, 4, 4],
            "transformer_depth": {1: 1, 2: 1, 4: 1},
        }
    )


def _sdxl(channels: int, depth_2x: int, depth_4x: int) -> Arch:
    return UNet.from_data(
        {
            "channels": channels,
            "channel_mult": [1, 2, 4],
            "transformer_depth": {2: depth_2x, 4: depth_4x},
        }
    )


def _if_xl(channels: int) -> Arch:
    return IFUNet.from_data(
        {
            "channels": channels,
            "channel_mult": [1, 2, 3, 4],
            "transformer_depth": {1: 1, 2: 1, 4: 1},
        }
    )


CATALOG: Mapping[str, Arch] = MappingProxyType(
    {
        "SD2-C320": _sd2(320),
        "SD2-C512": _sd2(512),
        "IF-XL-C512": _if_xl(512),
        "IF-XL-C704": _if_xl(704),
        "SDXL-C128": _sdxl(128, 2, 10),
        "SDXL-C192": _sdxl(192, 2, 10),
        "SDXL-C320": _sdxl(320, 2, 10),
        "SDXL-C384": _sdxl(384, 2, 10),
        "SDXL-TD2": _sdxl(320, 2, 2),
        "SDXL-TD4": _sdxl(320, 2, 4),
        "SDXL-TD12": _sdxl(320, 2, 12),
        "SDXL-TD14": _sdxl(320, 2, 14),
        "SDXL-TD4_4": _sdxl(320, 4, 4),
        "SDXL-TD4_8": _sdxl(320, 4, 8),
        "SDXL-TD4_12": _sdxl(320, 4, 12),
        "SDXL-C384-TD4_12": _sdxl(384, 4, 12),
        # The original: 120 tokens of a T5 text encoder, 4096 wide.
        "PixArt-XL/2": PixArt(hidden=1152, depth=28, text_dim=4096),
        "PixArt-h1152-d28": PixArt(hidden=1152, depth=28),
        "PixArt-h1536-d28": PixArt(hidden=1536, depth=28),
        "PixArt-h1024-d28": PixArt(hidden=1024, depth=28, caption_embedding=False),
        "PixArt-h1024-d56": PixArt(hidden=1024, depth=56, caption_embedding=False),
    }
)


def lookup(name: str) -> Arch:
    """Return the backbone of that name.

    Raises:
        ArchError: no such name; the message gives the nearest.
    """
    if name in CATALOG:
        return CATALOG[name]
    hint = did_you_mean(name, CATALOG) or f"the names are {', '.join(CATALOG)}"
    raise ArchError(f"got {name!r}; expected the name of a backbone of the paper; {hint}")


@cache
def _names() -> dict[str, str]:
    return {arch.arch_id: name for name, arch in CATALOG.items()}


def name_of(arch: Arch) -> str:
    """Return the paper's name of an architecture, or its label where the paper has none."""
    return _names().get(arch.arch_id, arch.label())


@dataclass(frozen=True, slots=True)
class Reported:
    """One row of Table 1 or 2 as printed, with the text length that it is compared at.

    GMACs are 1e9 multiply-adds, counted as fvcore does. ``does_not_fit`` names the column whose
    printed value can't be reproduced ("" where all can).
    """

    name: str
    text_tokens: int
    params_b: float
    gmacs: float
    attention_gmacs: float | None
    attention_percent: float | None
    does_not_fit: str


@cache
def reported() -> tuple[Reported, ...]:
    """Return the rows of Tables 1 and 2 as the paper prints them.

    PixArt-XL/2 stands there twice: at its own 120 tokens, where the printed GMACs do not fit, and
    at the 77 of every other row, where they do.
    """
    text = resources.files("nas_t2i.arch").joinpath("reported.csv").read_text(encoding="utf-8")
    return tuple(
        Reported(
            name=row["name"],
            text_tokens=int(row["text_tokens"]),
            params_b=float(row["params_b"]),
            gmacs=float(row["gmacs"]),
            attention_gmacs=_optional(row["attention_gmacs"]),
            attention_percent=_optional(row["attention_percent"]),
            does_not_fit=row["does_not_fit"],
        )
        for row in csv.DictReader(text.splitlines())
    )


@dataclass(frozen=True, slots=True)
class ReportedOrder:
    """Two backbones of which the paper says which aligns better at equal steps, and in what."""

    better: str
    worse: str
    said: str


@cache
def reported_orders() -> tuple[ReportedOrder, ...]:
    """Return the pairs that the paper's text puts in an order; its tables have no scores."""
    text = resources.files("nas_t2i.arch").joinpath("reported_orders.csv").read_text("utf-8")
    return tuple(ReportedOrder(**row) for row in csv.DictReader(text.splitlines()))


def _optional(text: str) -> float | None:
    return float(text) if text else None
