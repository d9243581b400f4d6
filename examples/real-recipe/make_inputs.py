"""Makes everything that budget.yaml names, small and without downloads, in the working directory.

    python make_inputs.py

240 images of shapes as PNG files, served on loopback and fetched by img2dataset into tar shards
with a caption, synthetic captions and scores; an OpenCLIP text tower and an AutoencoderKL, small,
randomly initialised, in the formats of the real ones. Needs img2dataset (pip install img2dataset).
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import open_clip
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file

from nas_t2i.data.embedded import shapes
from nas_t2i.streams import uniform_rows

IMAGES = 240
SIDE = 64
TOWER = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 32, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}


def make_images(folder: Path, address: str) -> list[dict[str, object]]:
    """Write the images; return a row for img2dataset for each."""
    folder.mkdir(exist_ok=True)
    scenes = shapes.sample_scenes(0, "real recipe", IMAGES)
    scores = uniform_rows(0, "real recipe scores", 0, IMAGES, 2)
    rows: list[dict[str, object]] = []
    for number, (pixels, caption) in enumerate(
        zip(shapes.render(scenes), shapes.captions(scenes), strict=True)
    ):
        name = f"{number:04d}.png"
        large = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        large.save(folder / name)
        rows.append(
            {
                "url": f"{address}/{name}",
                "caption": caption,
                "synthetic": [f"an image of {caption}", f"{caption} on a dark background"],
                "aesthetic": round(4 + 3 * float(scores[number, 0]), 2),
                "punsafe": round(float(scores[number, 1]), 2),
            }
        )
    return rows


def fetch_shards(images: Path, shards: Path) -> None:
    """Have img2dataset fetch the images from this machine into shards of 60."""
    handler = functools.partial(_Quiet, directory=str(images))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rows = make_images(images, f"http://127.0.0.1:{server.server_port}")
    listing = images / "urls.json"
    listing.write_text(json.dumps(rows))
    settings = {
        "url_list": str(listing),
        "input_format": "json",
        "url_col": "url",
        "caption_col": "caption",
        "save_additional_columns": ["synthetic", "aesthetic", "punsafe"],
        "output_format": "webdataset",
        "output_folder": str(shards),
        "image_size": SIDE,
        "resize_mode": "keep_ratio",  # its default draws white borders
        "number_sample_per_shard": 60,
        "processes_count": 1,
        "thread_count": 8,
        "enable_wandb": False,
    }
    code = "import json, sys, img2dataset; img2dataset.download(**json.loads(sys.argv[1]))"
    quiet = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, json.dumps(settings)],
        check=True,
        env=os.environ | quiet,
    )
    server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Say nothing."""


def make_text_tower(folder: Path) -> None:
    """Write a whole CLIP model as OpenCLIP saves it: a config and its weights."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = open_clip.CLIP(**TOWER)
    (folder / "tower.json").write_text(json.dumps(TOWER, indent=1))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "tower.safetensors",
    )


def make_autoencoder(folder: Path) -> None:
    """Write an autoencoder like SDXL's, with fewer channels: 8 x down-sampling, 4 channels."""
    torch.manual_seed(1)
    AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.13025,
        force_upcast=True,
    ).save_pretrained(folder)


if __name__ == "__main__":
    fetch_shards(Path("images"), Path("shards"))
    make_text_tower(Path("text"))
    make_autoencoder(Path("vae"))
