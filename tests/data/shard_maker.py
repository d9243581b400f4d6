"""Makes small tar shards: written by hand, or by img2dataset from images served on loopback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nas_t2i.protocol.data import PairsData

# One sample: its key and its members by extension, for example {"jpg": ..., "txt": ...}.
Sample = tuple[str, Mapping[str, bytes]]


def make_image(number: int, size: tuple[int, int] = (40, 32), kind: str = "PNG") -> bytes:
    """An encoded image of (width, height), smooth and different for every number."""
    return encoded(pixels(number, size), kind)


def pixels(number: int, size: tuple[int, int] = (40, 32)) -> np.ndarray:
    """The pixels of `image`, (height, width, 3) uint8: blobs at places drawn from the number."""
    width, height = size
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width]
    whole = np.tile(rng.uniform(0, 255, 3), (height, width, 1))
    for _ in range(4):
        centre = rng.uniform(0, 1, 2) * (height, width)
        distance = np.hypot(y - centre[0], x - centre[1]) / (0.25 * min(size))
        weight = np.exp(-(distance**2))[..., None]
        whole = whole * (1 - weight) + rng.uniform(0, 255, 3) * weight
    return whole.round().astype(np.uint8)


def encoded(pixel_values: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """The pixels as the bytes of an image file."""
    stream = io.BytesIO()
    Image.fromarray(pixel_values).save(stream, kind, **options)
    return stream.getvalue()


def pair(
    number: int,
    caption: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    size: tuple[int, int] = (40, 32),
    kind: str = "PNG",
) -> Sample:
    """One good sample, with the key and the members that img2dataset would give it."""
    members = {"png" if kind == "PNG" else "jpg": make_image(number, size, kind)}
    members["txt"] = (f"image number {number}" if caption is None else caption).encode()
    if metadata is not None:
        members["json"] = json.dumps(metadata).encode()
    return f"{number:09d}", members


def write_shard(path: str | Path, samples: Iterable[Sample]) -> Path:
    """Write a tar shard; a sample's members lie next to each other, in the given order."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, members in samples:
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on loopback; gives the address, "http://127.0.0.1:PORT"."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def img2dataset_shards(
    folder: Path,
    pairs: Mapping[str, str],
    *,
    images: Path,
    image_size: int = 64,
    resize_mode: str = "keep_ratio",
    samples_per_shard: int = 4,
) -> list[Path]:
    """Shards that img2dataset makes of the files `pairs` names in `images`, with their captions.

    A file that is not there is a download that fails. Needs the package img2dataset.
    """
    folder.mkdir(parents=True)
    with served(images) as address:
        rows = [{"url": f"{address}/{name}", "caption": text} for name, text in pairs.items()]
        listing = folder / "urls.json"
        listing.write_text(json.dumps(rows))
        settings = {
            "url_list": str(listing),
            "input_format": "json",
            "url_col": "url",
            "caption_col": "caption",
            "output_format": "webdataset",
            "output_folder": str(folder / "shards"),
            "image_size": image_size,
            "resize_mode": resize_mode,
            "number_sample_per_shard": samples_per_shard,
            "processes_count": 1,
            "thread_count": 4,
            "timeout": 5,
            "enable_wandb": False,
        }
        code = "import json, sys, img2dataset; img2dataset.download(**json.loads(sys.argv[1]))"
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, json.dumps(settings)],
            check=True,
            capture_output=True,
            timeout=120,
            # Neither package may look for updates of itself.
            env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"},
        )
    return sorted((folder / "shards").glob("*.tar"))


def pairs_data(*sources: Mapping[str, Any] | str | Path, **changes: Any) -> PairsData:
    """Settings of a data set; a path stands for a source of shards. Captions are the texts."""
    listed = [
        {"source": "shards", "urls": str(source)} if isinstance(source, (str, Path)) else source
        for source in sources
    ]
    settings = {
        "source": "pairs",
        "sources": listed,
        "resolution": 16,
        "captions": [{"field": "txt", "probability": 1.0}],
        "bad_share": 0.5,
        "cache": None,
    }
    return PairsData.model_validate(settings | changes)
