"""Budgets over a handful of pairs, with encoders that are small and real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_t2i.protocol.budget import Budget, load_budget
from tests.conditioning.checkpoints import tiny_clip, tiny_vae
from tests.data.shard_maker import Sample, pair, write_shard

ROOT = Path(__file__).parents[2]
RESOLUTION = 16
SHAPES_TEXT = {"encoder": "shapes", "width": 16, "steps": 2, "seed": 0}
PIXELS = {"codec": "pixel_unshuffle", "factor": 2, "scale": 1.0}


def pairs_budget(
    folder: Path,
    sources: list[dict[str, Any]],
    *,
    text: dict[str, Any],
    latents: dict[str, Any],
    held_out: int = 2,
    workers: int = 2,
    **data: Any,
) -> Budget:
    """A budget whose cache is ``folder/cache``; other keys override those of `data`."""
    whole = load_budget(ROOT / "budgets/embedded_v1.yaml").model_dump()
    whole["data"] = {
        "source": "pairs",
        "sources": sources,
        "resolution": RESOLUTION,
        "captions": [{"field": "txt", "probability": 1.0}],
        "bad_share": 0.0,
        "cache": str(folder / "cache"),
        **data,
    }
    sampler = whole["evaluation"]["sampler"]
    whole["evaluation"] = {
        "metric": "heldout_r2",
        "prompts": held_out,
        "seed": 0,
        "pictures": 0,
        "sampler": sampler,
    }
    whole |= {"text": text, "latents": latents, "execution": {"workers": workers}}
    return Budget.model_validate(whole)


def shapes_budget(folder: Path, scenes: int = 40, **changes: Any) -> Budget:
    """Over the embedded images: nothing to import but torch."""
    source = {"source": "shapes", "scenes": scenes, "two_objects": 0.5, "two_groups": 0.1}
    return pairs_budget(folder, [source], **{"text": SHAPES_TEXT, "latents": PIXELS} | changes)


def shards_budget(folder: Path, samples: Sequence[Sample] | None = None, **changes: Any) -> Budget:
    """Over a shard, with a CLIP text encoder and an autoencoder whose latents are drawn."""
    shard = folder / "00000.tar"
    if not shard.exists():  # a file that is written again is another one to the index
        write_shard(shard, samples or [pair(n, f"number {n % 7}") for n in range(20)])
    if "text" not in changes:
        changes["text"] = clip_text(folder)
    if "latents" not in changes:
        changes["latents"] = autoencoder(folder)
    return pairs_budget(folder, [{"source": "shards", "urls": [str(shard)]}], **changes)


def clip_text(folder: Path, *, padding: str = "zero", seed: int = 0) -> dict[str, Any]:
    """Settings of a small CLIP text encoder, saved beside."""
    return {
        "encoder": "transformers",
        "model": str(tiny_clip(folder / f"clip-{seed}", layers=2, seed=seed)),
        "tokens": 20,
        "layer": "last",
        "padding": padding,
        "precision": "fp32",
    }


def autoencoder(
    folder: Path, *, posterior: str = "sample", scale: float = 0.18215
) -> dict[str, Any]:
    """Settings of a small autoencoder, saved beside."""
    return {
        "codec": "autoencoder_kl",
        "model": str(tiny_vae(folder / f"vae-{scale}", scale)),
        "precision": "fp32",
        "posterior": posterior,
    }


def broken(number: int) -> Sample:
    """A sample whose image has a sound header and is cut short."""
    key, members = pair(number, size=(96, 96))
    return key, {**members, "png": members["png"][: len(members["png"]) // 2]}
