"""How much faster is training fed from a cache of encoded pairs than by encoding on line?

    python benchmarks/cached_against_online.py [--images 64] [--resolution 128] [--rounds 3]
        [--vae-channels 32 64 64 64] [--text-width 256] [--text-layers 6] [--batch 16]
        [--device cpu] [--workers 2] [--threads 1]

Makes a shard of images with captions, an autoencoder and an OpenCLIP text tower of the given
sizes with random weights (what they cost does not depend on the weights), and prepares a cache.
Then both feeds give the same samples in turn, in one process; the ratio is of samples per second.
The images are in the page cache; the decoder's part is in the figure on line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from nas_t2i.conditioning.prepare import prepare
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.shipped import find_file
from nas_t2i.training.feeds.pairs import PairsInputs
from nas_t2i.training.feeds.samples import Feed

_WORDS = ("a", "photo", "of", "the", "red", "old", "house", "near", "water", "with", "trees")


def write_shard(file: Path, images: int, side: int) -> None:
    """Write a tar of JPEGs, half as large again as needed, with captions of 4 to 16 words."""
    rng = np.random.default_rng(0)
    with tarfile.open(file, "w") as tar:
        for number in range(images):
            rough = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            stream = io.BytesIO()
            large = (side * 3 // 2, side * 3 // 2)
            Image.fromarray(rough).resize(large, Image.Resampling.BICUBIC).save(stream, "JPEG")
            words = rng.choice(_WORDS, size=rng.integers(4, 17))
            for suffix, data in (("jpg", stream.getvalue()), ("txt", " ".join(words).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def save_autoencoder(folder: Path, channels: list[int]) -> None:
    """Save an AutoencoderKL with these channels, a level each."""
    from diffusers import AutoencoderKL

    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=tuple(channels),
        layers_per_block=2,
    ).save_pretrained(folder)


def save_tower(folder: Path, width: int, layers: int) -> tuple[Path, Path]:
    """Save an OpenCLIP model with this text tower and next to no image tower."""
    import open_clip

    config = {
        "embed_dim": 16,
        "vision_cfg": {"layers": 1, "width": 64, "patch_size": 32, "image_size": 32},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": width,
            "heads": max(1, width // 64),
            "layers": layers,
        },
    }
    config_file, weights = folder / "tower.json", folder / "tower.safetensors"
    config_file.write_text(json.dumps(config))
    model = open_clip.CLIP(**config)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    return config_file, weights


def make_budget(folder: Path, options: argparse.Namespace) -> Budget:
    """Write pairs and models, and return a budget over them with a cache."""
    write_shard(folder / "pairs.tar", options.images, options.resolution)
    save_autoencoder(folder / "vae", options.vae_channels)
    config_file, weights = save_tower(folder, options.text_width, options.text_layers)
    budget = load_budget(find_file("embedded", "budgets")).model_dump()
    budget["data"] = {
        "source": "pairs",
        "sources": [{"source": "shards", "urls": [str(folder / "pairs.tar")]}],
        "resolution": options.resolution,
        "captions": [{"field": "txt", "probability": 1.0}],
        "bad_share": 0.0,
        "cache": str(folder / "cache"),
    }
    budget["text"] = {
        "encoder": "openclip",
        "model": str(config_file),
        "checkpoint": str(weights),
        "layer": "penultimate",
        "padding": "zero",
        "precision": "fp32",
    }
    budget["latents"] = {
        "codec": "autoencoder_kl",
        "model": str(folder / "vae"),
        "precision": "fp32",
        "posterior": "sample",
    }
    budget["execution"] = {"workers": options.workers}
    return Budget.model_validate(budget)


def samples_per_second(feed: Feed, first: int, batch: int, batches: int) -> float:
    """Take so many batches from a feed and return samples per second."""
    begin = time.perf_counter()
    for number in range(batches):
        feed.samples(first + number * batch, batch)
    return batch * batches / (time.perf_counter() - begin)


def main() -> None:
    """Prepare, take turns, print medians and the ratio of each round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--vae-channels", type=int, nargs="+", default=[32, 64, 64, 64])
    parser.add_argument("--text-width", type=int, default=256)
    parser.add_argument("--text-layers", type=int, default=6)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=4, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["NAS_T2I_CACHE"] = str(folder / "nas-t2i")
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars of the libraries
            budget = make_budget(folder, options)
            begin = time.perf_counter()
            prepare(budget, device=options.device)
        prepared = time.perf_counter() - begin
        encoder = budget.text.load(folder, options.device)
        codec = budget.latents.load(options.device)
        on_line = budget.model_copy(update={"data": budget.data.model_copy(update={"cache": None})})
        cached, online = (
            PairsInputs(b, folder, lambda: encoder, lambda: codec).make_feed(0)
            for b in (budget, on_line)
        )
        rates: dict[str, list[float]] = {"cached": [], "online": []}
        for number in range(options.rounds + 1):
            first = number * options.batches * options.batch
            for kind, feed in (("cached", cached), ("online", online)):
                rate = samples_per_second(feed, first, options.batch, options.batches)
                if number:  # the first round warms up
                    rates[kind].append(rate)
    print(
        f"{options.images} images of {options.resolution} pixels on {options.device}, "
        f"{options.threads} threads, batches of {options.batch}, {options.rounds} rounds; "
        f"prepared in {prepared:.1f} s"
    )
    for kind, found in rates.items():
        print(f"{kind}: {statistics.median(found):9.1f} samples/s (median)")
    ratios = [a / b for a, b in zip(rates["cached"], rates["online"], strict=True)]
    print("ratio by round:", " ".join(f"{ratio:.0f}" for ratio in ratios))


if __name__ == "__main__":
    main()
